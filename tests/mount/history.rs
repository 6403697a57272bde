//! History, tags and differences of a repository, as a user asks for them.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::contract::with;
use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, bash, run};
use super::store::{Store, all_hold, flags, folders, schema};

/// A mount with a repository of three versions, oldest first.
struct Site {
    home: Home,
    stores: Vec<Store>,
    mounted: Mounted,
    versions: Vec<String>,
}

impl Site {
    fn new() -> Self {
        Self::with_pause(Duration::ZERO)
    }

    /// Pushes the versions with a pause between each two.
    fn with_pause(pause: Duration) -> Self {
        let home = Home::new();
        let stores = folders(&home);
        let mounted = home.mount("mnt", with(&stores, &["--author", "Zoë <z@x.org>"]));
        std::fs::create_dir(mounted.path("app")).unwrap();
        let mut versions = Vec::new();
        for mark in ["one", "two", "three"] {
            mounted.cp("app/schema.hcl", schema(mark)).ok();
            versions.push(mounted.xattr("app/schema", "version").unwrap());
            std::thread::sleep(pause);
        }
        Self {
            home,
            stores,
            mounted,
            versions,
        }
    }

    fn ask(&self, command: &str, args: &[&str]) -> Ran {
        self.ask_in(&self.mounted.path("app"), command, args)
    }

    fn ask_in(&self, dir: &Path, command: &str, args: &[&str]) -> Ran {
        run(self.home.atlasfs([command]).arg(dir).args(args))
    }

    fn json(&self, args: &[&str]) -> Value {
        let args = [&["--json"], args].concat();
        serde_json::from_slice(&self.ask("history", &args).ok().stdout).unwrap()
    }
}

#[test]
fn a_user_finds_tags_compares_and_rolls_back_versions() {
    let site = Site::new();
    let [one, two, three] = site.versions.as_slice() else {
        panic!("{:?}", site.versions);
    };
    let said = site.ask("tag", &["prod"]).ok().text();
    assert_eq!(said, format!("prod names {three}\n"));
    let said = site.ask("tag", &["prod", two]).ok().text();
    assert_eq!(said, format!("prod names {two}, and no longer {three}\n"));
    let said = site.ask("tag", &["stable", "prod"]).ok().text();
    assert_eq!(said, format!("stable names {two}\n"));
    all_hold(&site.stores, "app/tags/prod", two.as_bytes());
    let tags = run(&mut bash(r#"ls -A "$1""#, [site.mounted.path("app/tags")]));
    assert_eq!(tags.ok().text(), "latest\nprod\nstable\n");

    let shown = site.ask("history", &[]).ok().text();
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let places = lines.iter().map(|line| line[0]);
    assert!(places.eq(["VERSION", three, two, "prod", one]), "{shown}");
    assert!(lines[1].ends_with(&["hcl", "latest"]), "{shown}");
    // Beside this author they would need 83 columns.
    assert!(lines[2].ends_with(&["hcl"]), "{shown}");
    assert_eq!(lines[3], ["prod", "stable"], "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80));
    assert!(shown.contains("Zoë <z@x.org>"), "{shown}");

    let differ = site.ask("diff", &["prod", "latest"]);
    assert_eq!((differ.code, differ.stderr.as_str()), (Some(1), ""));
    let patch = differ.text();
    let head =
        format!("--- app/versions/{two}/schema.hcl\n+++ app/versions/{three}/schema.hcl\n@@ ");
    assert!(patch.starts_with(&head), "{patch}");
    assert!(patch.contains("\"two\"") && patch.contains("\"three\""));
    let applied = r#"cd "$1"; cp app/versions/"$2"/schema "$4"; printf %s "$3" | patch -s "$4"
cmp "$4" app/schema"#;
    let work = site.home.path("work");
    let args = [site.mounted.dir().as_os_str(), two.as_ref(), patch.as_ref()];
    let args = args.into_iter().chain([work.as_os_str()]);
    run(&mut bash(applied, args)).ok();

    // Within one second, the version of the roll-back would be the first one.
    std::thread::sleep(Duration::from_secs(1));
    let back = r#"cp "$1/versions/$2/schema.hcl" "$1/schema.hcl""#;
    let app = site.mounted.path("app");
    run(&mut bash(back, [app.as_os_str(), one.as_ref()])).ok();
    all_hold(&site.stores, "app/schema", schema("one").as_bytes());
    let same = site.ask("diff", &[one, "latest"]).ok();
    assert_eq!((same.text().as_str(), same.stderr.as_str()), ("", ""));
    assert_eq!(site.json(&[]).as_array().unwrap().len(), 4);
}

#[test]
fn a_pinned_deployment_goes_on_without_the_registry_and_without_any_network() {
    let site = Site::with_pause(Duration::from_secs(1));
    let two = &site.versions[1];
    site.ask("tag", &["prod", two]).ok();
    let deploys = |mounted: &Mounted| {
        let deploy = r#"cat "$1/tags/prod/schema.hcl""#;
        let ran = run(&mut bash(deploy, [mounted.path("app")])).ok();
        assert_eq!(ran.text(), schema("two"));
    };
    deploys(&site.mounted);
    let Store::Folder(registry) = &site.stores[0] else {
        panic!("not a folder");
    };
    let state = |name: &str| {
        let dir = site.home.path(&format!("state-of-{name}"));
        ["--state-dir".to_owned(), dir.display().to_string()]
    };
    let fresh = |name: &str| {
        let flags = flags(&site.stores).into_iter().chain(state(name));
        site.home.mount(name, flags)
    };
    let reader = fresh("reader");
    deploys(&reader);
    reader.unmount();

    let away = registry.with_extension("away");
    std::fs::rename(registry, &away).unwrap();
    deploys(&site.mounted);
    let other = fresh("other");
    deploys(&other);
    other.unmount();
    for store in &site.stores[1..] {
        let Store::Folder(folder) = store else {
            continue;
        };
        std::fs::rename(folder, folder.with_extension("away")).unwrap();
    }
    let again = fresh("reader");
    deploys(&again);
    again.unmount();
    for store in &site.stores {
        let Store::Folder(folder) = store else {
            continue;
        };
        std::fs::rename(folder.with_extension("away"), folder).unwrap();
    }

    // Somebody empties the bucket.
    std::fs::remove_dir_all(registry.join("app")).unwrap();
    let emptied = fresh("emptied");
    deploys(&emptied);
    assert_eq!(emptied.read("app/schema"), schema("three").as_bytes());
    super::program::until("the registry has it again", || {
        (site.stores[0].get("app/schema") == Some(schema("three").into_bytes())).then_some(())
    });
    all_hold(&site.stores, "app/tags/prod", two.as_bytes());
}

#[test]
fn history_as_json_tells_the_facts_of_each_version() {
    let site = Site::new();
    let newest = site.versions.last().unwrap();
    let rows = site.json(&["-n", "1"]);
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let row = &rows[0];
    assert_eq!(row["version"], newest.as_str());
    assert_eq!(row["author"], "Zoë <z@x.org>");
    assert_eq!(row["size"], schema("three").len());
    assert_eq!(row["format"], "hcl");
    assert_eq!(row["tags"], serde_json::json!(["latest"]));
    let sha256 = site.mounted.xattr("app/schema", "sha256").unwrap();
    assert_eq!(row["sha256"], sha256.as_str());
    let digits = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let time = row["time"].as_str().unwrap();
    assert_eq!(digits(time), newest[..14]);
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");
}

#[test]
fn history_reads_only_the_versions_that_it_shows() {
    // Of one second, all are read: their names don't say which one is the newest.
    let site = Site::with_pause(Duration::from_secs(1));
    let fresh = site.home.mount("fresh", flags(&site.stores));
    let pulls = || fresh.status()["targets"][0]["pulls"].as_u64().unwrap();
    for (number, expected) in [("1", 1), ("2", 2), ("0", 3)] {
        let ran = site
            .ask_in(&fresh.path("app"), "history", &["-n", number])
            .ok();
        assert_eq!(pulls(), expected, "{ran}");
        let told = ran.stderr.contains("versions shown: -n 0 shows all");
        assert_eq!(told, number != "0", "{ran}");
    }
}

#[test]
fn a_wrong_directory_version_or_tag_is_refused_with_advice() {
    let site = Site::new();
    let two = &site.versions[1];
    for (command, args, advice) in [
        (
            "tag",
            &["prod", "2"][..],
            "has 3 versions that begin with \"2\"",
        ),
        ("tag", &["prod", "lates"], "(did you mean \"latest\"?)"),
        ("tag", &["prod", "x"], two),
        ("tag", &["latest", two], "always names the newest version"),
        ("tag", &["a/b", two], "can't be a tag"),
        ("tag", &["CuAbC123", two], "can't be a tag"),
    ] {
        let ran = site.ask(command, args).fails(1, advice);
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    }
    site.ask("diff", &["latest", "none"])
        .fails(2, "has no tag or version \"none\"");
    site.ask("diff", &["latest"]).fails(2, "<B>");
    let mnt = |name: &str| site.mounted.path(name);
    std::fs::create_dir(mnt("new")).unwrap();
    for (dir, advice) in [
        (
            site.mounted.dir().to_owned(),
            "name one of its repositories",
        ),
        (mnt("new"), "new has no version yet"),
        (mnt("ap"), "(did you mean \"app\"?)"),
        (mnt("app/versions"), "is not a repository's directory: use "),
        (mnt(".atlasfs"), "is not a repository"),
        (
            site.home.dir().to_owned(),
            "is not below a mount of atlasfs",
        ),
        (site.home.path("none"), "is the registry mounted?"),
    ] {
        let ran = site.ask_in(&dir, "history", &[]).fails(1, advice);
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    }
    let none = site.ask_in(&mnt("new"), "history", &["--json"]).ok();
    assert_eq!(none.text(), "[]\n");
}

#[test]
fn a_tag_that_can_not_be_pushed_says_why() {
    let site = Site::new();
    site.ask("tag", &["prod", &site.versions[0]]).ok();
    let reader = site
        .home
        .mount("reader", with(&site.stores, &["--read-only"]));
    let ran = site.ask_in(&reader.path("app"), "tag", &["prod"]);
    ran.fails(1, "mount without --read-only");
    for store in &site.stores {
        let Store::Folder(folder) = store else {
            continue;
        };
        std::fs::rename(folder, folder.with_extension("away")).unwrap();
    }
    // Not by default the newest: of versions of one second, the mount would have to read each.
    let ran = site
        .ask("tag", &["prod", &site.versions[1]])
        .fails(1, "cannot make app/tags/prod name ");
    ran.says("/backup-2 is gone").says("atlasfs status ");
    let tags = site.mounted.ls("app/tags");
    assert_eq!(tags, ["latest", "prod"]);
    for store in &site.stores {
        let Store::Folder(folder) = store else {
            continue;
        };
        std::fs::rename(folder.with_extension("away"), folder).unwrap();
    }
    all_hold(&site.stores, "app/tags/prod", site.versions[0].as_bytes());
}

#[test]
fn a_difference_has_colours_on_a_terminal_only() {
    let site = Site::new();
    for (env, is_coloured) in [("NO_COLOR=", true), ("NO_COLOR=1", false)] {
        let mut command = bash(
            r#"TERM=xterm exec env "$1" script -qec "$2 diff $3 ${4} latest" /dev/null"#,
            [
                env.as_ref(),
                super::home::ATLASFS.as_ref(),
                site.mounted.path("app").as_os_str(),
                site.versions[0].as_ref(),
            ],
        );
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(1), "{ran}");
        assert_eq!(ran.text().contains("\x1b[32m+"), is_coloured, "{ran}");
        assert_eq!(ran.text().contains('\x1b'), is_coloured, "{ran}");
    }
    let plain = site.ask("diff", &[&site.versions[0], "latest"]);
    assert!(!plain.text().contains('\x1b'), "{plain}");
}
