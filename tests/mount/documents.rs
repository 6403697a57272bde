//! Refused documents and names: the program gets an errno and a message with the position, and no
//! target changes.

use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run};
use super::store::{Store, all_hold, flags, folders, none_holds, plan, schema};

fn mounted(home: &Home, stores: &[Store], more: &[&str]) -> Mounted {
    let mut args = flags(stores);
    args.extend(more.iter().map(|word| (*word).to_owned()));
    let mounted = home.mount("mnt", args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted
}

#[test]
fn a_document_that_is_wrong_is_refused_with_line_and_column_and_changes_nothing() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = mounted(&home, &stores, &["--max-size", "4KiB"]);
    let (good_state, good_plan) = (schema("good"), plan("p1", "good"));
    mounted.cp("app/schema", &good_state).ok();
    mounted.cp("app/plans/p1", &good_plan).ok();
    let broken_hcl = "schema \"main\" {\n  comment = \n}\n".to_owned();
    let no_to = "plan \"p1\" {\n  from = \"a\"\n  migration = \"b\"\n}\n".to_owned();
    let too_much = good_plan.replace("  from ", "  status = \"APPROVED\"\n  from ");
    let large = schema(&"x".repeat(5_000));
    for (name, content, errno, reason) in [
        (
            "app/schema.hcl",
            &broken_hcl,
            "Invalid argument",
            "line 2, column",
        ),
        ("app/schema", &broken_hcl, "Invalid argument", "schema.sql"),
        (
            "app/schema",
            &"SELECT 1;\n".to_owned(),
            "Invalid argument",
            "schema.sql",
        ),
        ("app/schema", &String::new(), "Invalid argument", "empty"),
        (
            "app/schema",
            &"# nothing\n".to_owned(),
            "Invalid argument",
            "empty",
        ),
        ("app/schema", &large, "File too large", ""),
        (
            "app/plans/p1",
            &broken_hcl,
            "Invalid argument",
            "line 2, column",
        ),
        (
            "app/plans/p1.plan.hcl",
            &plan("p2", "other"),
            "Invalid argument",
            "p2",
        ),
        ("app/plans/p1", &no_to, "Invalid argument", "to"),
        ("app/plans/p1", &too_much, "Invalid argument", "status"),
        ("app/plans/p1", &good_state, "Invalid argument", "plan"),
        ("app/plans/p1", &large, "File too large", ""),
        ("app/plans/p1", &String::new(), "Invalid argument", "empty"),
    ] {
        // cp closes an emptied file without a write, so truncate gets the error.
        let ran = match content.is_empty() {
            true => run(&mut bash(r#"truncate -s 0 "$1""#, [mounted.path(name)])),
            false => mounted.cp(name, content),
        };
        ran.fails_with(errno);
        if !reason.is_empty() {
            let error = mounted.xattr(name, "error").unwrap_or_default();
            assert!(error.contains(reason), "{name}: no {reason:?} in {error:?}");
            let events = mounted.events("push-refused");
            let newest = events.last().expect("an event");
            assert_eq!(newest["message"], error.as_str());
        }
        all_hold(&stores, "app/schema", good_state.as_bytes());
        all_hold(&stores, "app/plans/p1", good_plan.as_bytes());
        assert_eq!(mounted.read("app/schema"), good_state.as_bytes(), "{name}");
        assert_eq!(mounted.read("app/plans/p1"), good_plan.as_bytes(), "{name}");
    }
    assert!(mounted.metric("atlasfs_pushes_total{verdict=\"refused\"}") > 9);
    // A good push ends the alarm.
    mounted.cp("app/schema", schema("better")).ok();
    assert_eq!(mounted.xattr("app/schema", "error"), None);
}

#[test]
fn a_new_document_that_is_wrong_does_not_come_to_be() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = mounted(&home, &stores, &[]);
    let broken = "plan \"p\" {\n";
    for name in ["app/schema.hcl", "app/plans/p"] {
        mounted.cp(name, broken).fails(1, "Invalid argument");
        assert!(mounted.xattr(name, "error").unwrap().contains("line "));
        mounted.cat(name).fails(1, "Input/output error");
        none_holds(&stores, name.trim_end_matches(".hcl"));
    }
    // rm removes the failed file, although nothing else may be removed.
    for name in ["app/schema", "app/plans/p"] {
        run(&mut bash(r#"rm "$1""#, [mounted.path(name)])).ok();
        mounted.cat(name).fails(1, "No such file or directory");
    }
    assert_eq!(mounted.status()["unpushed"].as_array().unwrap().len(), 2);
}

#[test]
fn without_validation_any_document_is_pushed_but_an_empty_one() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = mounted(&home, &stores, &["--no-validate"]);
    for (name, key) in [
        ("app/schema.hcl", "app/schema"),
        ("app/plans/p", "app/plans/p"),
    ] {
        mounted.cp(name, "plan \"p\" {\n").ok();
        all_hold(&stores, key, b"plan \"p\" {\n");
        run(&mut bash(r#"truncate -s 0 "$1""#, [mounted.path(name)]))
            .fails_with("Invalid argument");
        all_hold(&stores, key, b"plan \"p\" {\n");
    }
}

#[test]
fn an_error_that_a_shell_ignores_is_reported_elsewhere_within_a_second() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = mounted(&home, &stores, &[]);
    mounted.cp("app/schema", schema("good")).ok();
    for (number, shell) in (1..).zip(["bash", "dash"]) {
        let broken = format!("schema \"{shell}\" {{");
        let script = r#""$2" -c "echo '$3' > \"\$1\"" x "$1"; sleep 1"#;
        let path = mounted.path("app/schema").display().to_string();
        run(&mut bash(script, [path.as_str(), shell, &broken]));
        let status = mounted.status();
        assert_eq!(status["pushes"]["refused"], number, "{status:#}");
        assert!(
            mounted
                .xattr("app/schema", "error")
                .unwrap()
                .contains("line 1")
        );
        assert_eq!(mounted.events("push-refused").len(), number);
        let newest = status["unpushed"].as_array().unwrap().last().unwrap();
        let kept = mounted.read(newest["path"].as_str().unwrap());
        assert_eq!(kept, format!("{broken}\n").into_bytes());
        let shown = run(home.atlasfs(["status"]).arg(mounted.dir())).fails(3, "");
        assert!(shown.text().contains("app/schema@"), "{shown}");
    }
    all_hold(&stores, "app/schema", schema("good").as_bytes());
}

#[test]
fn a_name_outside_the_contract_is_refused_at_once() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = mounted(&home, &stores, &["--allow-delete"]);
    mounted.cp("app/schema", schema("a")).ok();
    for (script, complaint) in [
        (r#"echo x > "$1/file""#, "Operation not permitted"),
        (r#"echo x > "$1/app/other""#, "Operation not permitted"),
        (r#"echo x > "$1/app/schema.txt""#, "Operation not permitted"),
        (r#"echo x > "$1/app/plans/-p""#, "Operation not permitted"),
        (r#"echo x > "$1/app/plans/a b""#, "Operation not permitted"),
        (
            r#"echo x > "$1/app/plans/"$'\xff\xfe'"#,
            "Operation not permitted",
        ),
        (
            r#"echo x > "$1/.atlasfs/status""#,
            "Operation not permitted",
        ),
        (r#"echo x > "$1/.atlasfs/new""#, "Operation not permitted"),
        (r#"mkdir "$1/"$'\xff'"#, "Operation not permitted"),
        (r#"mkdir "$1/-repo""#, "Operation not permitted"),
        (r#"mkdir "$1/app/dir""#, "Operation not permitted"),
        (r#"mkdir "$1/app/plans/dir""#, "Operation not permitted"),
        (r#"mkdir "$1/.atlasfs/dir""#, "Operation not permitted"),
        (r#"mkdir "$1/app""#, "File exists"),
        (r#"ln -s x "$1/app/schema.sql""#, "Operation not permitted"),
        (
            r#"ln "$1/app/schema" "$1/app/plans/p""#,
            "Operation not permitted",
        ),
        (r#"mkfifo "$1/app/plans/p""#, "Operation not permitted"),
        (
            r#"mv "$1/app/schema" "$1/app/schema~""#,
            "Operation not permitted",
        ),
        (r#"mv "$1/app" "$1/new""#, "Operation not permitted"),
        (
            r#"setfattr -n user.x -v y "$1/app/schema""#,
            "not supported",
        ),
        (r#"cat "$1/app/plans/"$'\xff'"#, "No such file or directory"),
        (r#"cat "$1/app/../nothing""#, "No such file or directory"),
        (
            r#"cat "$1/app/"$(printf 'n%.0s' {1..256})"#,
            "File name too long",
        ),
        (
            r#"mkdir "$1/"$(printf 'n%.0s' {1..256})"#,
            "File name too long",
        ),
        (r#"rmdir "$1/app""#, "not empty"),
        (r#"rmdir "$1/app/plans""#, "Operation not permitted"),
        (r#"rm "$1/.atlasfs/status""#, "Operation not permitted"),
    ] {
        let ran = run(&mut bash(script, [mounted.dir()]));
        assert_ne!(ran.code, Some(0), "{script}: {ran}");
        assert!(ran.stderr.contains(complaint), "{script}: {ran}");
    }
    assert!(!mounted.events("refused").is_empty());
    for store in &stores {
        let Store::Folder(path) = store else { continue };
        let files = run(&mut bash(
            r#"cd "$1"; find . -path ./.atlasfs -prune -o -name versions -prune -o -type f -print"#,
            [path],
        ));
        assert_eq!(files.text(), "./app/schema\n");
    }
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
}
