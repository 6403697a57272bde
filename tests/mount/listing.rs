//! The mount hides foreign objects of a store, and lists all others completely.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::home::Home;
use super::program::{bash, run};
use super::store::{Store, flags, plan, schema};
use super::support::proxy::{Proxy, Request};
use super::support::server::{Kind, Server};

#[test]
fn names_that_no_directory_can_hold_are_hidden_and_break_nothing() {
    let home = Home::new();
    let store = Store::bucket(Kind::Moto);
    let Store::Bucket { server, bucket, .. } = &store else {
        panic!("a bucket")
    };
    store.put("app/schema", schema("a"));
    store.put("app/plans/p1", plan("p1", "a"));
    for key in [
        "app/plans/../p2",
        "app/../other/schema",
        "../outside/schema",
        "app//schema",
        "app/plans//p3",
        "app/plans/a\u{1}b",
        "app/plans/\u{202e}p",
        "app/schema/deeper",
        "app/plans/p1/deeper",
        "app/plans/.hidden",
        "app/plans/",
        "app/",
        "app/readme.md",
        "app/.",
        "/schema",
        "-x/schema",
        "loose",
    ] {
        server
            .inject(bucket, &format!("pre/fix/{key}"), b"junk")
            .unwrap_or_else(|error| panic!("{key:?}: {error}"));
    }
    let mounted = home.mount("mnt", flags(std::slice::from_ref(&store)));
    let ran = run(&mut bash(
        r#"cd "$1"; find . | sort; ls -lR > /dev/null; grep -rc schema ."#,
        [mounted.dir()],
    ));
    let ran = ran.ok();
    assert_eq!(ran.stderr, "");
    let found = ran.text();
    assert!(
        found
            .starts_with(".\n./app\n./app/migrations\n./app/plans\n./app/plans/p1\n./app/schema\n./app/schema.hcl\n"),
        "{found}"
    );
    assert!(
        !found.contains("other") && !found.contains("junk"),
        "{found}"
    );
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
    assert_eq!(mounted.read("app/plans/p1"), plan("p1", "a").as_bytes());
    assert!(
        mounted.status()["hidden_names"].as_u64() >= Some(12),
        "{:#}",
        mounted.status()
    );
    // Each name is logged once, even if it is listed often.
    let logged = mounted.events("hidden").len();
    assert!((1..=2).contains(&logged), "{logged}");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    mounted.ls("app");
    assert_eq!(mounted.events("hidden").len(), logged);
    // The artifacts beside them work as before.
    mounted.cp("app/schema", schema("b")).ok();
    assert_eq!(
        store.get("app/schema/deeper").as_deref(),
        Some(&b"junk"[..])
    );
}

#[test]
fn a_folder_with_strange_things_in_it_is_listed_without_them() {
    let home = Home::new();
    let store = Store::folder(&home, "registry");
    store.put("app/schema", schema("a"));
    store.put("app/plans/p1", plan("p1", "a"));
    store.put("app/plans/dir/file", "junk");
    store.put("other/schema/file", "junk");
    store.put("app/readme.md", "junk");
    store.put("loose", "junk");
    let dir = home.path("registry/app/plans");
    std::fs::write(dir.join(OsStr::from_bytes(b"not-utf8-\xff")), "junk").unwrap();
    std::fs::write(dir.join("new\nline"), "junk").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
    std::os::unix::fs::symlink("/", home.path("registry/linked")).unwrap();
    run(&mut bash(r#"mkfifo "$1/pipe""#, [&dir])).ok();
    let mounted = home.mount("mnt", flags(&[store]));
    let ran = run(&mut bash(
        r#"cd "$1"; find . -type f | sort; tar cf /dev/null ."#,
        [mounted.dir()],
    ))
    .ok();
    assert_eq!(
        ran.text(),
        "./app/plans/p1\n./app/schema\n./app/schema.hcl\n",
        "{ran}"
    );
    assert_eq!(ran.stderr, "");
    for name in [
        "app/plans/link",
        "app/plans/pipe",
        "linked/etc/passwd",
        "other/schema",
    ] {
        mounted.cat(name).fails(1, "No such file or directory");
    }
    mounted
        .cp("app/plans/link", plan("link", "x"))
        .fails_with("");
    assert!(
        std::fs::read_to_string("/etc/passwd")
            .unwrap()
            .contains("root:")
    );
}

#[test]
fn thousands_of_plans_are_listed_to_the_last_one() {
    let home = Home::new();
    let stores = [Store::folder(&home, "registry"), Store::bucket(Kind::Moto)];
    let count = 2_500;
    let name = |number: usize| format!("20240910{number:06}");
    for number in 0..count {
        let name = name(number);
        stores[0].put(&format!("app/plans/{name}"), plan(&name, "many"));
        if number < 1_100 {
            stores[1].put(&format!("app/plans/{name}"), plan(&name, "many"));
        }
    }
    for (store, count) in [(&stores[0], count), (&stores[1], 1_100)] {
        let mounted = home.mount("mnt", flags(std::slice::from_ref(store)));
        let listed = mounted.ls("app/plans");
        assert_eq!(listed, (0..count).map(name).collect::<Vec<_>>());
        let script = r#"cd "$1"; find . -type f | wc -l; ls -U | sort -u | wc -l; ls -U | wc -l"#;
        let ran = run(&mut bash(script, [mounted.path("app/plans")])).ok();
        assert_eq!(ran.text(), format!("{count}\n{count}\n{count}\n"));
        let last = name(count - 1);
        assert_eq!(
            mounted.read(&format!("app/plans/{last}")),
            plan(&last, "many").as_bytes()
        );
        mounted.unmount();
    }
    let mounted = home.mount("mnt", flags(&stores[..1]));
    let out = home.folder("out");
    let script = r#"tar cf - -C "$1" . | tar xf - -C "$2"; diff -r --exclude migrations --exclude tags --exclude versions "$2/app" "$3/app""#;
    let ran = run(&mut bash(
        script,
        [mounted.dir(), &out, &home.path("registry")],
    ))
    .ok();
    assert_eq!((ran.text(), ran.stderr), (String::new(), String::new()));
}

#[test]
fn azure_lists_the_true_times_and_no_object_is_asked_for_them() {
    let home = Home::new();
    let server = Server::shared(Kind::Azurite);
    let proxy = Proxy::start(server.addr());
    let stores = [Store::on(server, proxy.endpoint())];
    let first = home.mount("first", flags(&stores));
    std::fs::create_dir(first.path("app")).unwrap();
    first.cp("app/schema", schema("a")).ok();
    for number in 0..5 {
        let name = format!("p{number}");
        first
            .cp(&format!("app/plans/{name}"), plan(&name, "a"))
            .ok();
    }
    let times = |mounted: &super::mounted::Mounted| {
        let script =
            r#"cd "$1"; find app -name versions -prune -o -type f -printf '%p %s %T+\n' | sort"#;
        run(&mut bash(script, [mounted.dir()])).ok().text()
    };
    let expected = times(&first);
    assert_eq!(expected.lines().count(), 7, "{expected}");
    proxy.forget();
    let second = home.mount("second", flags(&stores));
    assert_eq!(times(&second), expected);
    let asked = proxy.requests();
    let objects = asked.iter().filter(|request| {
        !request.path.contains("comp=list") && !request.path.contains("/.atlasfs/")
    });
    assert_eq!(objects.collect::<Vec<_>>(), Vec::<&Request>::new());
}
