//! The identity of registries: a mount reaches the stores that it means, and no others.

use std::path::Path;

use serde_json::json;

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, run, until};
use super::store::schema;

/// Mounts a registry with backups, all folders of the home.
fn mount(home: &Home, name: &str, registry: &str, backups: &[&str], more: &[&str]) -> Mounted {
    let mut args = vec!["--registry".to_owned(), home.url(registry)];
    for backup in backups {
        args.extend(["--backup".to_owned(), home.url(backup)]);
    }
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    home.mount(name, args)
}

/// Asserts the exit code, and a part of the standard output.
#[track_caller]
fn shows(ran: Ran, code: i32, part: &str) -> String {
    assert_eq!(ran.code, Some(code), "{ran}");
    assert!(ran.text().contains(part), "{ran}");
    ran.text()
}

fn push(mounted: &Mounted, tag: &str) {
    let _ = std::fs::create_dir(mounted.path("app"));
    mounted.cp("app/schema.hcl", schema(tag)).ok();
}

fn held(home: &Home, store: &str) -> Option<Vec<u8>> {
    std::fs::read(home.path(store).join("app/schema")).ok()
}

fn take_away(home: &Home, store: &str) {
    std::fs::rename(home.path(store), home.path("away")).unwrap();
}

fn bring_back(home: &Home, store: &str) {
    let _ = std::fs::remove_dir(home.path(store));
    std::fs::rename(home.path("away"), home.path(store)).unwrap();
}

/// Waits until nothing is pending, and the background has had its first round.
fn settle(home: &Home, mounted: &Mounted) {
    until("nothing is pending", || {
        (mounted.status()["pending"] == json!([])).then_some(())
    });
    run(home.atlasfs(["sync"]).arg(mounted.dir())).ok();
}

/// Returns everything in a folder, with its bytes.
pub fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            match path.is_dir() {
                true => {
                    found.push((name, Vec::new()));
                    left.push(path);
                }
                false => found.push((name, std::fs::read(&path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn pushes_that_wait_for_one_registry_reach_no_other() {
    let home = Home::new();
    let staging = mount(
        &home,
        "mnt",
        "staging",
        &["staging-backup"],
        &["--allow-delete"],
    );
    push(&staging, "staging");
    take_away(&home, "staging-backup");
    push(&staging, "staging-2");
    shows(
        run(home.atlasfs(["status"]).arg(staging.dir())),
        3,
        "PENDING",
    );
    std::fs::remove_file(staging.path("app/schema")).unwrap();
    staging.unmount();
    let prod = mount(&home, "mnt", "prod", &["prod-backup"], &[]);
    assert_eq!(
        prod.ls(""),
        Vec::<String>::new(),
        "nothing of staging is shown"
    );
    push(&prod, "prod");
    settle(&home, &prod);
    prod.unmount();
    for store in ["prod", "prod-backup"] {
        assert_eq!(held(&home, store), Some(schema("prod").into()), "{store}");
    }
    bring_back(&home, "staging-backup");
    // Another mount point, and no --allow-delete: the deletion was allowed when it was made.
    let staging = mount(&home, "elsewhere", "staging", &["staging-backup"], &[]);
    settle(&home, &staging);
    assert_eq!(held(&home, "staging-backup"), None);
}

#[test]
fn a_pending_push_follows_its_registry_to_any_mount_point() {
    let home = Home::new();
    let first = mount(&home, "one", "reg", &["backup"], &[]);
    let second = mount(&home, "two", "reg", &["backup"], &[]);
    push(&second, "a");
    take_away(&home, "backup");
    push(&second, "b");
    second.unmount();
    first.unmount();
    bring_back(&home, "backup");
    let third = mount(&home, "three", "reg", &["backup"], &[]);
    settle(&home, &third);
    assert_eq!(held(&home, "backup"), Some(schema("b").into()));
}

#[test]
fn a_push_for_a_store_that_the_mount_lacks_is_kept_until_it_is_forgotten() {
    let home = Home::new();
    let mounted = mount(&home, "mnt", "reg", &["backup"], &[]);
    push(&mounted, "a");
    take_away(&home, "backup");
    push(&mounted, "b");
    mounted.unmount();
    let mounted = mount(&home, "mnt", "reg", &[], &[]);
    push(&mounted, "c");
    let status = mounted.status();
    assert_eq!(status["pending"][0]["targets"], json!([]), "{status:#}");
    let backup = home.path("backup").display().to_string();
    let status = run(home.atlasfs(["status"]).arg(mounted.dir()));
    let shown = shows(status, 3, "which this mount does not have");
    assert!(shown.contains(&backup), "{shown}");
    let forget = |store: &str| run(home.atlasfs(["forget", store]).arg(mounted.dir()));
    forget("nobody").fails(1, "nothing of");
    forget(&home.url("reg")).fails(1, "is a target of");
    let lost = forget(&format!("file://{backup}"));
    let lost = shows(lost, 0, "will never get it");
    assert!(lost.contains("app/schema of "), "{lost}");
    settle(&home, &mounted);
    assert_eq!(held(&home, "reg"), Some(schema("c").into()));
}

#[test]
fn a_backup_of_another_registry_is_refused_and_adopted_on_a_persons_word() {
    let home = Home::new();
    for (registry, backup) in [("prod", "prod-backup"), ("staging", "staging-backup")] {
        let mounted = mount(&home, "mnt", registry, &[backup], &[]);
        push(&mounted, registry);
        mounted.unmount();
    }
    let before = tree(&home.path("prod-backup"));
    let args = [
        "--registry",
        &home.url("staging"),
        "--backup",
        &home.url("prod-backup"),
    ];
    let (mounted, ran) = home.mount_by("mnt", &mut home.mounting("mnt", args));
    let adopt = format!("atlasfs adopt {}", home.url("prod-backup"));
    ran.says("is a backup of registry").says(&adopt);
    push(&mounted, "staging-2");
    let wrong = "is a backup of registry";
    shows(run(home.atlasfs(["sync"]).arg(mounted.dir())), 3, wrong);
    mounted.unmount();
    shows(run(home.atlasfs(["check"]).args(args)), 3, wrong);
    assert_eq!(tree(&home.path("prod-backup")), before);
    let backup = ["--registry", &home.url("prod-backup")];
    run(&mut home.mounting("mnt", backup)).fails(1, "and no registry");

    let adopted = run(&mut home.atlasfs(["adopt", &home.url("prod-backup")]));
    shows(adopted, 0, "was a backup of registry");
    let mounted = mount(&home, "mnt", "staging", &["prod-backup"], &[]);
    settle(&home, &mounted);
    assert_eq!(held(&home, "prod-backup"), Some(schema("staging-2").into()));
}

#[test]
fn a_wiped_registry_is_out_until_a_person_says_what_it_is() {
    let home = Home::new();
    let mounted = mount(&home, "mnt", "reg", &["backup"], &[]);
    push(&mounted, "a");
    let wipe = || {
        std::fs::remove_dir_all(home.path("reg")).unwrap();
        home.folder("reg");
    };
    wipe();
    assert_eq!(mounted.read("app/schema"), schema("a").into_bytes());
    mounted.unmount();
    let mounted = mount(&home, "mnt", "reg", &["backup"], &["--ttl", "0s"]);
    assert_eq!(mounted.read("app/schema"), schema("a").into_bytes());
    shows(
        run(home.atlasfs(["status"]).arg(mounted.dir())),
        3,
        "sync --refill",
    );
    assert_eq!(held(&home, "reg"), None);
    run(home.atlasfs(["sync", "--refill"]).arg(mounted.dir())).ok();
    assert_eq!(held(&home, "reg"), Some(schema("a").into()));
    mounted.unmount();
    wipe();
    run(&mut home.atlasfs(["adopt", &home.url("reg")])).ok();
    let mounted = mount(&home, "mnt", "reg", &[], &[]);
    assert_eq!(mounted.ls(""), Vec::<String>::new());
}

#[test]
fn a_read_only_mount_writes_to_no_target() {
    let home = Home::new();
    home.file("reg/app/schema", schema("by hand"));
    home.folder("backup");
    let before = ["reg", "backup"].map(|store| tree(&home.path(store)));
    let mounted = mount(&home, "mnt", "reg", &["backup"], &["--read-only"]);
    assert_eq!(mounted.read("app/schema"), schema("by hand").into_bytes());
    mounted.unmount();
    assert_eq!(
        ["reg", "backup"].map(|store| tree(&home.path(store))),
        before
    );

    let mounted = mount(&home, "mnt", "other", &["other-backup"], &[]);
    push(&mounted, "a");
    take_away(&home, "other-backup");
    push(&mounted, "b");
    mounted.unmount();
    bring_back(&home, "other-backup");
    let before = tree(&home.path("other-backup"));
    let mounted = mount(&home, "mnt", "other", &["other-backup"], &["--read-only"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(mounted.status()["pending"][0]["artifact"], "app/schema");
    assert_eq!(tree(&home.path("other-backup")), before);
}
