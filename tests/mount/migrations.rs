//! Migration directories, as users copy them in and read them.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run};
use super::store::{Store, all_hold, flags, folders, none_holds, schema};

/// Makes the content of `atlas.sum`.
fn sum(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(Sha256::digest(bytes));
    let (mut before, mut all, mut lines) = (Vec::new(), String::new(), String::new());
    for (name, content) in files {
        before.extend_from_slice(name.as_bytes());
        before.extend_from_slice(content);
        let hash = base64(&before);
        all += &format!("{name}{hash}");
        lines += &format!("{name} h1:{hash}\n");
    }
    format!("h1:{}\n{lines}", base64(all.as_bytes())).into_bytes()
}

/// Makes a directory `migrations` of many files in a home; returns its files.
fn write(home: &Home, mark: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = home.folder("work/migrations");
    let file = |number: usize| {
        let content = match number {
            0 => String::new(),
            n => format!("CREATE TABLE {mark}_{n} (id int);\r\n").repeat(n),
        };
        (
            format!("20241018{number:06}_{mark}.sql"),
            content.into_bytes(),
        )
    };
    let mut files: BTreeMap<String, Vec<u8>> = (0..20).map(file).collect();
    files.insert("atlas.sum".into(), sum(&files));
    for (name, content) in &files {
        std::fs::write(dir.join(name), content).unwrap();
    }
    files
}

/// Runs a script with the work directory as `$1`, and the repository in the mount as `$2`.
#[track_caller]
fn copy(home: &Home, mounted: &Mounted, script: &str) -> String {
    let (work, app) = (home.folder("work"), mounted.path("app"));
    run(&mut bash(
        &format!("set -eo pipefail\n{script}"),
        [&work, &app],
    ))
    .ok()
    .text()
}

/// Returns the only version.
#[track_caller]
fn version(mounted: &Mounted) -> String {
    let versions = mounted.ls("app/versions");
    assert_eq!(versions.len(), 1, "{versions:?}");
    versions[0].clone()
}

#[test]
fn a_migration_directory_is_copied_in_and_kept_as_a_version() {
    for script in [
        r#"cp -r "$1/migrations" "$2/""#,
        r#"cp -a "$1/migrations/." "$2/migrations/""#,
        r#"rsync -a "$1/migrations/" "$2/migrations/""#,
        r#"rsync -a "$1/migrations" "$2/""#,
        r#"tar c -C "$1" migrations | tar x --overwrite -C "$2""#,
        r#"cd "$1" && git init -q . && git add . &&
git -c user.name=n -c user.email=e commit -qm x && git clone -q . clone &&
cp -r clone/migrations "$2/""#,
        r#"cp "$1/migrations/atlas.sum" "$2/migrations/" && cp "$1"/migrations/*.sql "$2/migrations/""#,
    ] {
        let home = Home::new();
        let stores = folders(&home);
        let mounted = home.mount("mnt", flags(&stores));
        std::fs::create_dir(mounted.path("app")).unwrap();
        let files = write(&home, "a");
        copy(&home, &mounted, script);
        for (name, content) in &files {
            all_hold(&stores, &format!("app/migrations/{name}"), content);
        }
        assert_eq!(
            mounted.xattr("app/migrations", "sum").unwrap(),
            "ok",
            "{script}"
        );
        assert_eq!(mounted.status()["sums"], json!([]));
        assert_eq!(mounted.status()["pending"], json!([]));
        let version = version(&mounted);
        assert_eq!(
            mounted.ls(&format!("app/versions/{version}")),
            ["migrations"]
        );
        copy(
            &home,
            &mounted,
            &format!(r#"diff -r "$1/migrations" "$2/versions/{version}/migrations""#),
        );
        let read = format!(
            r#"mkdir "$1/out" && tar c -C "$2/versions/{version}" migrations | tar x -C "$1/out" &&
diff -r "$1/migrations" "$1/out/migrations""#
        );
        copy(&home, &mounted, &read);
    }
}

/// Reads an archive with tar(1).
fn archive(home: &Home, store: &Store, version: &str) -> String {
    let key = format!("app/versions/{version}/migrations.tar");
    let tar = home.file("archive.tar", store.get(&key).unwrap());
    let script = r#"mkdir -p "$2/unpacked" && tar xf "$1" -C "$2/unpacked" &&
TZ=UTC tar tvf "$1" && diff -r "$2/unpacked" "$2/migrations""#;
    run(&mut bash(script, [&tar, &home.folder("work")]))
        .ok()
        .text()
}

#[test]
fn tar_reads_the_archive_of_a_version() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    write(&home, "a");
    copy(&home, &mounted, r#"cp -r "$1/migrations" "$2/""#);
    let version = version(&mounted);
    for store in &stores {
        let listed = archive(&home, store, &version);
        let lines: Vec<Vec<&str>> = listed
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 21);
        assert_eq!(lines[0][5], "atlas.sum");
        assert_eq!(lines[1][5], "20241018000000_a.sql");
        for line in lines {
            assert_eq!(line[..2], ["-rw-------", "0/0"]);
            assert_eq!(line[3..5], ["1970-01-01", "00:00"]);
        }
    }
}

#[test]
fn a_user_sees_what_is_wrong_with_a_directory() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    assert_eq!(mounted.xattr("app/migrations", "sum").unwrap(), "absent");
    write(&home, "a");
    copy(&home, &mounted, r#"cp -r "$1/migrations" "$2/""#);
    let name = "app/migrations/20241018000003_a.sql";
    // Users' most frequent trouble: another line end.
    copy(
        &home,
        &mounted,
        r#"sed -i 's/\r$//' "$2/migrations/20241018000003_a.sql""#,
    );
    let wrong = "L5: 20241018000003_a.sql was edited";
    assert_eq!(mounted.xattr("app/migrations", "sum").unwrap(), wrong);
    assert_eq!(
        mounted.status()["sums"],
        json!([{ "repo": "app", "sum": wrong }])
    );
    assert_eq!(mounted.ls("app/versions").len(), 1);
    copy(
        &home,
        &mounted,
        r#"cp "$1/migrations/20241018000003_a.sql" "$2/migrations/""#,
    );
    assert_eq!(mounted.xattr("app/migrations", "sum").unwrap(), "ok");
    mounted
        .cp("app/migrations/atlas.sum", "h1:x\n")
        .fails(1, "Invalid argument");
    mounted
        .cp("app/migrations/README.md", "x")
        .fails(1, "Operation not permitted");
    let told = mounted.xattr("app/migrations/atlas.sum", "error").unwrap();
    assert!(
        told.contains("not a valid atlas.sum: line 1 is not the hash"),
        "{told}"
    );
    // `atlas migrate new` makes an empty file.
    for script in [
        r#": > "$2/migrations/9.sql""#,
        r#"touch "$2/migrations/10.sql""#,
    ] {
        copy(&home, &mounted, script);
    }
    for name in ["9.sql", "10.sql"] {
        all_hold(&stores, &format!("app/migrations/{name}"), b"");
    }
    mounted.cp(name, "").ok();
    all_hold(&stores, name, b"");
    // A shell's redirection is one push, and no reader sees it empty.
    copy(
        &home,
        &mounted,
        r#"cat "$1"/migrations/*5_a.sql > "$2/migrations/11.sql""#,
    );
    assert!(!mounted.read("app/migrations/11.sql").is_empty());
}

#[test]
fn history_shows_the_versions_of_migrations_too() {
    let home = Home::new();
    let mounted = home.mount("mnt", flags(&folders(&home)));
    std::fs::create_dir(mounted.path("app")).unwrap();
    let files = write(&home, "a");
    copy(&home, &mounted, r#"cp -r "$1/migrations" "$2/""#);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let size: usize = files.values().map(Vec::len).sum();
    let formats = || {
        let ran = run(home.atlasfs(["history", "--json"]).arg(mounted.path("app")));
        let rows: serde_json::Value = serde_json::from_slice(&ran.ok().stdout).unwrap();
        let rows = rows.as_array().unwrap().clone().into_iter();
        rows.map(|row| {
            (
                row["format"].as_str().unwrap().to_owned(),
                row["size"].as_u64(),
            )
        })
        .collect::<Vec<_>>()
    };
    let migrations = ("migrations".to_owned(), Some(size as u64));
    assert_eq!(formats(), std::slice::from_ref(&migrations));
    mounted.cp("app/schema.hcl", schema("a")).ok();
    let schema = ("hcl".to_owned(), Some(schema("a").len() as u64));
    assert_eq!(formats(), [schema, migrations]);
}

#[test]
fn one_slug_has_two_kinds_with_targets_of_their_own() {
    let home = Home::new();
    let stores: Vec<Store> = ["registry", "schemas", "migrations"]
        .iter()
        .map(|name| Store::folder(&home, name))
        .collect();
    let [registry, schemas, migrations] = &stores[..] else {
        panic!("folders")
    };
    let repo = |backup: &Store| {
        format!(
            "repo {{\n name = \"app\"\n url = \"{}\"\n backup = [\"{}\"]\n }}\n",
            registry.url(),
            backup.url()
        )
    };
    let config = format!(
        "env \"prod\" {{\n schema {{\n {} }}\n migration {{\n dir = \"file://migrations\"\n {} }}\n}}\n",
        repo(schemas),
        repo(migrations)
    );
    let config = format!("file://{}", home.file("atlas.hcl", config).display());
    let args = ["--config", &config, "--env", "prod"].map(str::to_owned);
    let mounted = home.mount("mnt", args.to_vec());
    let files = write(&home, "a");
    copy(&home, &mounted, r#"cp -r "$1/migrations" "$2/""#);
    mounted.cp("app/schema.hcl", schema("a")).ok();
    let sum = &files["atlas.sum"];
    all_hold(
        &[registry.clone(), migrations.clone()],
        "app/migrations/atlas.sum",
        sum,
    );
    none_holds(std::slice::from_ref(schemas), "app/migrations/atlas.sum");
    all_hold(
        &[registry.clone(), schemas.clone()],
        "app/schema",
        schema("a").as_bytes(),
    );
    none_holds(std::slice::from_ref(migrations), "app/schema");
    let Store::Folder(path) = registry else {
        panic!("folders")
    };
    std::fs::rename(path, Path::new(path).with_extension("away")).unwrap();
    assert_eq!(mounted.read("app/migrations/atlas.sum"), *sum);
    assert_eq!(mounted.read("app/schema"), schema("a").as_bytes());
}
