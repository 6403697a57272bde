//! Signed pushes: a key is needed to write, and not to read.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, bash, run, until};
use super::registries::tree;
use super::store::schema;
use super::support::secrets;

/// Writes a private key file.
fn key_file(home: &Home, name: &str, digits: &str) -> String {
    let key = digits.repeat(32);
    secrets::note(&key);
    let path = home.file(name, key);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// The arguments of a registry with one backup, and of a key.
fn flags(home: &Home, key: Option<&str>) -> Vec<String> {
    let mut flags = vec![
        "--registry".to_owned(),
        format!("file://{}", home.path("registry").display()),
        "--backup".to_owned(),
        format!("file://{}", home.path("backup").display()),
    ];
    flags.extend(key.map(|key| format!("--stamp-key={key}")));
    flags
}

/// Pushes through a mount with a key.
fn pushed(home: &Home, key: &str, tag: &str) -> Mounted {
    home.folder("registry");
    home.folder("backup");
    let mounted = home.mount("mnt", flags(home, Some(key)));
    let _ = std::fs::create_dir(mounted.path("app"));
    mounted.cp("app/schema", schema(tag)).ok();
    mounted
}

fn trees(home: &Home) -> [Vec<(String, Vec<u8>)>; 2] {
    ["registry", "backup"].map(|store| tree(&home.path(store)))
}

#[track_caller]
fn refuses_writes(mounted: &Mounted) {
    for script in [
        r#"echo x > "$1/app/schema""#,
        r#"echo x > "$1/app/plans/p""#,
        r#"mkdir "$1/new""#,
        r#"rm -f "$1/app/schema""#,
        r#"truncate -s 0 "$1/app/schema""#,
        r#"setfattr -n user.x -v y "$1/app/schema""#,
    ] {
        let ran = run(&mut bash(script, [mounted.dir()]));
        assert!(ran.code != Some(0), "{script}: {ran}");
        let told = ran.stderr.contains("Read-only file system");
        assert!(told, "{script}: {ran}");
    }
}

#[test]
fn a_mount_without_the_right_key_reads_and_refuses_to_write() {
    let home = Home::new();
    let key = key_file(&home, "key", "ab");
    let wrong = key_file(&home, "wrong", "cd");
    let mounted = pushed(&home, &key, "a");
    std::fs::rename(home.path("backup"), home.path("away")).unwrap();
    mounted.cp("app/schema", schema("b")).ok();
    mounted.unmount();
    std::fs::rename(home.path("away"), home.path("backup")).unwrap();
    let before = trees(&home);
    for (key, part) in [
        (None, "mount with --stamp-key FILE to write"),
        (Some(wrong.as_str()), "and this mount signs with key"),
    ] {
        let mut command = home.mounting("mnt", flags(&home, key));
        let (mounted, ran) = home.mount_by("mnt", command.arg("--allow-delete"));
        for told in ["the mount is read-only: ", part] {
            assert!(ran.stderr.contains(told), "{ran}");
        }
        assert_eq!(mounted.read("app/schema"), schema("b").as_bytes());
        refuses_writes(&mounted);
        let status = mounted.status();
        assert_eq!(status["read_only"], true);
        let reason = status["read_only_reason"].as_str().unwrap();
        assert!(reason.contains(part), "{reason}");
        let shown = run(home.atlasfs(["status"]).arg(mounted.dir()));
        assert!(shown.text().contains(part), "{shown}");
        assert!(!mounted.events("read-only").is_empty());
        let log = std::fs::read_to_string(home.log_of("mnt")).unwrap();
        assert!(log.contains(part), "{log}");
        let synced = run(home.atlasfs(["sync"]).arg(mounted.dir()));
        assert_eq!(synced.code, Some(1), "{synced}");
        // Long enough for replay, which begins at once.
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(mounted.status()["pending"][0]["artifact"], "app/schema");
        mounted.unmount();
        assert!(trees(&home) == before, "nothing was written");
    }
    let mounted = home.mount("mnt", flags(&home, Some(&key)));
    until("the backup has it", || {
        let held = std::fs::read(home.path("backup/app/schema")).ok()?;
        (held == schema("b").as_bytes()).then_some(())
    });
    run(home.atlasfs(["sync"]).arg(mounted.dir())).ok();
    mounted.cp("app/schema", schema("c")).ok();
}

#[test]
fn a_registry_that_returns_refuses_the_pushes_of_a_mount_without_its_key() {
    let home = Home::new();
    let key = key_file(&home, "key", "ab");
    pushed(&home, &key, "a").unmount();
    let before = trees(&home);
    std::fs::rename(home.path("registry"), home.path("away")).unwrap();
    let mounted = home.mount("mnt", flags(&home, None));
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
    let refused = |ran: Ran| {
        assert!(ran.stderr.contains("Permission denied"), "{ran}");
        let error = mounted.xattr("app/schema", "error").unwrap();
        assert!(
            error.contains("takes only pushes that are signed"),
            "{error}"
        );
    };
    refused(mounted.cp("app/schema", schema("b")));
    std::fs::rename(home.path("away"), home.path("registry")).unwrap();
    until("the registry is back", || {
        let status = mounted.status();
        (status["targets"][0]["state"] == "ok").then_some(())
    });
    refused(mounted.cp("app/schema", schema("c")));
    mounted.unmount();
    assert!(trees(&home) == before, "nothing was written");
}

#[test]
fn stores_that_are_adopted_take_unsigned_pushes_again() {
    let home = Home::new();
    let key = key_file(&home, "key", "ab");
    pushed(&home, &key, "a").unmount();
    for store in ["registry", "backup"] {
        run(home.atlasfs(["adopt"]).arg(home.url(store))).ok();
    }
    let mounted = home.mount("mnt", flags(&home, None));
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
    mounted.cp("app/schema", schema("b")).ok();
    for store in ["registry", "backup"] {
        let held = std::fs::read(home.path(store).join("app/schema")).unwrap();
        assert_eq!(held, schema("b").as_bytes());
    }
}

#[test]
fn check_tells_whether_the_key_fits() {
    let home = Home::new();
    let key = key_file(&home, "key", "ab");
    let wrong = key_file(&home, "wrong", "cd");
    pushed(&home, &key, "a").unmount();
    let check = |key: Option<&str>| {
        let ran = run(home.atlasfs(["check", "--json"]).args(flags(&home, key)));
        let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let of = |target: &Value| (target["writable"].clone(), target["fix"].clone());
        let targets = report["targets"].as_array().unwrap();
        (ran.code, targets.iter().map(of).collect::<Vec<_>>())
    };
    let fits = (Value::Null, Value::Null);
    assert_eq!(check(Some(&key)), (Some(0), vec![fits; 2]));
    for (key, part) in [(None, "--stamp-key FILE"), (Some(&*wrong), "with that key")] {
        let (code, targets) = check(key);
        assert_eq!((code, targets.len()), (Some(1), 2));
        for (writable, fix) in targets {
            assert_eq!(writable, false);
            assert!(fix.as_str().unwrap().contains(part), "{fix}");
        }
    }
}

#[test]
fn an_unusable_key_file_stops_the_mount_with_the_reason() {
    let home = Home::new();
    let public = home.file("public", "ab".repeat(32));
    let short = home.file("short", "ab");
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (file, why) in [
        (public.display().to_string(), "chmod 600"),
        (short.display().to_string(), "openssl rand -hex 32"),
        ("none".to_owned(), "No such file"),
    ] {
        home.folder("registry");
        home.folder("backup");
        // As in fstab; a relative path is one from here.
        let mut command = home.mounting("mnt", flags(&home, None));
        let ran = run(command.args(["-o", &format!("stamp-key={file}")]));
        assert_eq!(ran.code, Some(1), "{ran}");
        assert!(ran.stderr.contains(why), "{ran}");
        let full = home.path(&file).display().to_string();
        assert!(ran.stderr.contains(&full), "{ran}");
    }
}
