//! The author of each push: the user whose process writes, or the text of `--author`.

use super::contract::with;
use super::home::Home;
use super::program::{as_nobody, run};
use super::store::{folders, schema};

#[test]
fn a_push_names_the_user_whose_process_writes() {
    let home = Home::new();
    let stores = folders(&home);
    let flags = ["--allow-other", "--uid", "65534", "--gid", "65534"];
    let mounted = home.mount("mnt", with(&stores, &flags));
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let script = r#"mkdir "$1/app"; printf 'schema "nobody" {}' > "$1/app/schema""#;
    as_nobody(mounted.dir(), script).ok();
    let author = || mounted.xattr("app/schema", "author").unwrap();
    assert_eq!(author(), format!("nobody@{host}"));
    mounted.cp("app/schema", schema("root")).ok();
    assert_eq!(author(), format!("root@{host}"));
}

#[test]
fn an_option_sets_the_author_or_turns_it_off() {
    let home = Home::new();
    let stores = folders(&home);
    for (option, author) in [
        ("--author= CI run 7 ", Some("CI run 7")),
        ("--author=", None),
    ] {
        let mounted = home.mount("mnt", with(&stores, &[option]));
        let _ = std::fs::create_dir(mounted.path("app"));
        mounted.cp("app/schema", schema(option)).ok();
        assert_eq!(mounted.xattr("app/schema", "author").as_deref(), author);
        mounted.unmount();
    }
    for wrong in ["a\x1b[2Jb".to_owned(), "a\nb".to_owned(), "a".repeat(96)] {
        let option = format!("--author={wrong}");
        let ran = run(&mut home.mounting("mnt", with(&stores, &[&option])));
        ran.fails(
            2,
            "an author is 1 to 95 bytes of text without control characters",
        );
    }
}
