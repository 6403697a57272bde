//! The promises about names, attributes and options, as programs see them.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::home::Home;
use super::program::{as_nobody, bash, run, until};
use super::store::{LISTED, Store, all_hold, flags, folders, none_holds, plan, schema};

/// Returns the flags of stores, and more.
pub fn with(stores: &[Store], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|word| (*word).to_owned());
    flags(stores).into_iter().chain(more).collect()
}

#[test]
fn schemas_are_listed_by_both_names_plans_by_one() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema.hcl", schema("a")).ok();
    mounted.cp("app/plans/p1.plan.hcl", plan("p1", "a")).ok();
    assert_eq!(mounted.ls("app"), LISTED);
    assert_eq!(mounted.ls("app/plans"), ["p1"]);
    for (name, alias) in [
        ("app/schema", "app/schema.hcl"),
        ("app/plans/p1", "app/plans/p1.plan.hcl"),
    ] {
        assert_eq!(mounted.read(alias), mounted.read(name));
        let [one, other] = [name, alias].map(|name| mounted.path(name).metadata().unwrap());
        assert_eq!((one.ino(), one.size()), (other.ino(), other.size()));
        assert_eq!((one.nlink(), other.nlink()), (1, 1));
        assert_eq!(
            (one.mtime(), one.mtime_nsec()),
            (other.mtime(), other.mtime_nsec())
        );
        run(&mut bash(
            r#"test "$1" -ef "$2""#,
            [mounted.path(name), mounted.path(alias)],
        ))
        .ok();
    }
    mounted
        .cat("app/schema.sql")
        .fails(1, "No such file or directory");
    // A SQL state has the other suffix.
    mounted
        .cp("app/schema.sql", "CREATE TABLE t (id int);")
        .ok();
    mounted
        .cat("app/schema.hcl")
        .fails(1, "No such file or directory");
    assert_eq!(mounted.read("app/schema.sql"), mounted.read("app/schema"));
    let found = run(&mut bash(
        r#"cd "$1"; grep -rl --exclude-dir=versions -e main -e CREATE . | sort"#,
        [mounted.dir()],
    ));
    let names = "./app/plans/p1\n./app/schema\n./app/schema.sql\n";
    assert_eq!(found.text(), names);
}

#[test]
fn extended_attributes_name_the_url_and_the_source_of_an_artifact() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    let content = plan("p1", "a");
    mounted.cp("app/plans/p1", &content).ok();
    mounted.cp("app/schema", schema("a")).ok();
    let name = "app/plans/p1";
    let sum = run(&mut bash(
        r#"sha256sum < "$1""#,
        [home.file("p1", &content)],
    ))
    .text();
    assert_eq!(
        mounted.xattr(name, "sha256").as_deref(),
        sum.split(' ').next()
    );
    assert_eq!(
        mounted.xattr(name, "url").as_deref(),
        Some("atlas://app/plans/p1")
    );
    assert_eq!(
        mounted.xattr("app/schema", "url").as_deref(),
        Some("atlas://app")
    );
    let version = mounted.xattr(name, "version").unwrap();
    let (time, hash) = version.split_once('-').unwrap();
    assert!(
        time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()),
        "{version}"
    );
    assert_eq!(hash, &sum[..8]);
    let receipt: serde_json::Value =
        serde_json::from_str(&mounted.xattr(name, "push").unwrap()).unwrap();
    let backups = [1, 2].map(|place: usize| serde_json::json!({ "URL": stores[place].url() }));
    assert_eq!(
        receipt,
        serde_json::json!({
            "File": { "URL": "atlas://app/plans/p1", "Status": "APPROVED" },
            "Backups": backups,
        })
    );
    for absent in ["error", "stale", "pending", "nonsense"] {
        assert_eq!(mounted.xattr(name, absent), None, "{absent}");
    }
    mounted.read(name);
    assert_eq!(mounted.xattr(name, "source").as_deref(), Some("cache"));
    let fresh = home.mount("fresh", flags(&stores));
    fresh.read(name);
    assert_eq!(fresh.xattr(name, "source").as_deref(), Some("registry"));
    let dump = run(Command::new("getfattr")
        .args(["-d", "-m", "user.atlas"])
        .arg(mounted.path(name)));
    assert!(dump.ok().text().contains("user.atlas.sha256="));

    // A push that some target misses is a success, and is reported.
    std::fs::rename(home.path("backup-2"), home.path("gone")).unwrap();
    mounted.cp(name, plan("p1", "b")).ok();
    all_hold(&stores[..2], name, plan("p1", "b").as_bytes());
    assert_eq!(mounted.xattr(name, "pending"), Some(stores[2].url()));
    let receipt = mounted.xattr(name, "push").unwrap();
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert!(receipt["Backups"][1]["Error"].is_string(), "{receipt:#}");
    assert!(receipt["Backups"][0]["Error"].is_null(), "{receipt:#}");
    assert_eq!(mounted.events("push-degraded").len(), 1);
    assert_eq!(mounted.metric("atlasfs_pending"), 1);
}

#[test]
fn every_durability_means_what_it_says() {
    for (durability, missing, ok) in [
        ("any", "registry", true),
        ("any", "backup-1", true),
        ("registry", "registry", false),
        ("registry", "backup-1", true),
        ("all", "backup-1", false),
        ("all", "registry", false),
    ] {
        let home = Home::new();
        let stores = folders(&home);
        let mounted = home.mount("mnt", with(&stores, &["--durability", durability]));
        std::fs::create_dir(mounted.path("app")).unwrap();
        mounted.cp("app/schema", schema("before")).ok();
        std::fs::rename(home.path(missing), home.path("gone")).unwrap();
        let ran = mounted.cp("app/schema", schema("after"));
        assert_eq!(
            ran.code == Some(0),
            ok,
            "{durability} without {missing}: {ran}"
        );
        if !ok {
            ran.says("Input/output error");
            assert_eq!(mounted.status()["unpushed"].as_array().unwrap().len(), 1);
        }
        run(home.atlasfs(["status"]).arg(mounted.dir())).fails(3, "");
    }
}

#[test]
fn a_repository_is_made_by_mkdir_removed_while_empty_and_kept_by_its_first_push() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    let sh = |script: &str| run(&mut bash(script, [mounted.dir()]));
    sh(r#"cd "$1"; mkdir a b; ls a; rmdir b; test ! -e b; mkdir b"#).ok();
    assert_eq!(mounted.ls(""), ["a", "b"]);
    assert_eq!(mounted.ls("a"), ["migrations", "plans", "tags", "versions"]);
    none_holds(&stores, "a");
    mounted.cp("a/schema", schema("a")).ok();
    sh(r#"rmdir "$1/a""#).fails(1, "not empty");
    mounted.unmount();
    let again = home.mount("mnt", flags(&stores));
    assert_eq!(again.ls(""), ["a"]);
}

#[test]
fn modes_owners_and_times_are_taken_and_change_nothing() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    let show = || {
        run(&mut bash(
            r#"stat -c '%a %u %g %y' "$1""#,
            [mounted.path("app/schema")],
        ))
        .ok()
        .text()
    };
    let before = show();
    let script =
        r#"chmod 600 "$1"; chown "$(id -u):$(id -g)" "$1"; touch -d 2001-01-01 "$1"; touch "$1""#;
    run(&mut bash(script, [mounted.path("app/schema")])).ok();
    assert_eq!(show(), before);
    assert_eq!(mounted.status()["pushes"]["complete"], 1);
    // Every content has its own time.
    mounted.cp("app/schema", schema("b")).ok();
    let second = show();
    mounted.cp("app/schema", schema("c")).ok();
    assert!(
        show() > second && second > before,
        "{before}{second}{}",
        show()
    );
    let df = run(Command::new("df").arg(mounted.dir())).ok();
    assert!(df.text().contains("mnt"), "{df}");
}

#[test]
fn control_files_are_there_and_not_listed() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    let ls = run(&mut bash(
        r#"ls -A "$1"; find "$1" -mindepth 1"#,
        [mounted.dir()],
    ))
    .ok();
    assert_eq!(ls.text(), "");
    assert_eq!(
        mounted.ls(".atlasfs"),
        ["events", "jobs", "metrics", "status", "unpushed"]
    );
    let json = run(&mut bash(
        r#"python3 -m json.tool "$1/.atlasfs/status""#,
        [mounted.dir()],
    ));
    assert!(json.ok().text().contains("\"targets\""));
    let metrics = String::from_utf8(mounted.read(".atlasfs/metrics")).unwrap();
    for line in metrics.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            name.starts_with("atlasfs_") && value.parse::<f64>().is_ok(),
            "{line}"
        );
    }
    // Like tail, less and grep: the size is right, and reads reach the end.
    for name in ["status", "metrics", "events"] {
        let path = mounted.path(&format!(".atlasfs/{name}"));
        run(&mut bash(
            r#"tail -n 1 "$1"; grep -c . "$1"; test -s "$1""#,
            [path],
        ))
        .ok();
    }
}

#[test]
fn the_status_is_a_table_json_and_an_exit_code() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    let status = |more: &[&str]| run(home.atlasfs(["status"]).args(more).arg(mounted.dir()));
    let table = status(&[]).ok().text();
    let mut wanted = vec![
        "healthy".to_owned(),
        "nothing is pending".into(),
        "STATE".into(),
    ];
    wanted.extend(stores.iter().map(Store::url));
    for part in wanted {
        assert!(table.contains(&part), "no {part:?} in {table}");
    }
    let json: serde_json::Value = serde_json::from_slice(&status(&["--json"]).ok().stdout).unwrap();
    assert_eq!(json["pid"], mounted.pid());
    assert_eq!(json["targets"].as_array().unwrap().len(), 3);
    std::fs::rename(home.path("backup-1"), home.path("gone")).unwrap();
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    let table = status(&[]).fails(3, "").text();
    for part in ["degraded", "outage", "store-missing", "app/schema"] {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&status(&["--json"]).fails(3, "").stdout).unwrap();
    assert_eq!(json["pending"][0]["targets"][0], stores[1].url());
}

#[test]
fn a_read_only_mount_refuses_every_write() {
    let home = Home::new();
    let stores = folders(&home);
    stores[0].put("app/schema", schema("a"));
    let mounted = home.mount("mnt", with(&stores, &["--read-only", "--allow-delete"]));
    for script in [
        r#"echo x > "$1/app/schema""#,
        r#"echo x >> "$1/app/schema""#,
        r#"echo x > "$1/app/plans/p""#,
        r#"mkdir "$1/new""#,
        r#"rmdir "$1/app""#,
        r#"rm -f "$1/app/schema""#,
        r#"truncate -s 0 "$1/app/schema""#,
        r#"mv "$1/app/schema" "$1/app/x""#,
        r#"chmod 600 "$1/app/schema""#,
        r#"touch "$1/app/schema""#,
    ] {
        let ran = run(&mut bash(script, [mounted.dir()]));
        assert!(ran.code != Some(0), "{script}: {ran}");
        assert!(
            ran.stderr.contains("Read-only file system"),
            "{script}: {ran}"
        );
    }
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
    all_hold(&stores[..1], "app/schema", schema("a").as_bytes());
    none_holds(&stores[1..], "app/schema");
}

#[test]
fn deleting_is_refused_unless_the_mount_allows_it() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    mounted.cp("app/plans/p", plan("p", "a")).ok();
    for name in ["app/schema", "app/schema.hcl", "app/plans/p"] {
        run(Command::new("rm").arg("-f").arg(mounted.path(name)))
            .fails(1, "Operation not permitted");
    }
    assert!(
        mounted.events("refused")[0]["message"]
            .as_str()
            .unwrap()
            .contains("--allow-delete")
    );
    all_hold(&stores, "app/schema", schema("a").as_bytes());
    mounted.unmount();
    let mounted = home.mount("mnt", with(&stores, &["--allow-delete"]));
    run(Command::new("rm").arg(mounted.path("app/schema.hcl"))).ok();
    none_holds(&stores, "app/schema");
    run(Command::new("rm")
        .arg("-r")
        .arg(mounted.path("app/plans/p")))
    .ok();
    none_holds(&stores, "app/plans/p");
    mounted
        .cat("app/schema")
        .fails(1, "No such file or directory");
    // A deleted artifact can be pushed again.
    let _ = std::fs::create_dir(mounted.path("app"));
    mounted.cp("app/schema", schema("b")).ok();
    all_hold(&stores, "app/schema", schema("b").as_bytes());
}

#[test]
fn other_users_are_let_in_only_if_the_mount_says_so() {
    let home = Home::new();
    let stores = folders(&home);
    stores[0].put("app/schema", schema("a"));
    let mounted = home.mount("mnt", flags(&stores));
    as_nobody(mounted.dir(), r#"cat "$1/app/schema""#).fails(1, "Permission denied");
    mounted.unmount();
    let mounted = home.mount("mnt", with(&stores, &["--allow-other"]));
    let ran = as_nobody(mounted.dir(), r#"cat "$1/app/schema""#).ok();
    assert_eq!(ran.text(), schema("a"));
    as_nobody(mounted.dir(), r#"echo x > "$1/app/schema""#).fails_with("Permission denied");
    as_nobody(mounted.dir(), r#"mkdir "$1/new""#).fails_with("Permission denied");
    mounted.unmount();
    let args = with(
        &stores,
        &["--allow-other", "--uid", "65534", "--gid", "65534"],
    );
    let mounted = home.mount("mnt", args);
    let script = r#"printf 'schema "nobody" {}' > "$1/app/schema"; stat -c %U "$1/app/schema""#;
    assert_eq!(as_nobody(mounted.dir(), script).ok().text(), "nobody\n");
    until("the push shows", || {
        (stores[2].get("app/schema")? == b"schema \"nobody\" {}").then_some(())
    });
}
