//! This machine's disk is full, or becomes full: reads still work, the cache shrinks, and a push
//! without space fails with the reason and is never made later.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use super::home::Home;
use super::mounted::Mounted;
use super::program::until;
use super::store::{Store, all_hold, flags, folders, none_holds, schema};

/// Mounts a small disk as a state directory, or as a part of it.
fn disk(home: &Home, name: &str, options: &str) -> PathBuf {
    let dir = home.folder(name);
    let none: Option<&str> = None;
    let options = format!("{options},mode=700");
    mount(none, &dir, Some("tmpfs"), MsFlags::empty(), Some(&*options)).expect("a tmpfs");
    dir
}

/// Mounts a small disk as the journal of the stores' mounts, and returns its path.
fn journal_disk(home: &Home, stores: &[Store], state: &Path, options: &str) -> PathBuf {
    home.mount("mnt", args(stores, state)).unmount();
    let registries = std::fs::read_dir(state.join("registries")).unwrap();
    let registry = registries
        .map(|entry| entry.unwrap().path())
        .next()
        .unwrap();
    let journal = registry.join("1/journal");
    let name = journal.strip_prefix(home.dir()).unwrap();
    std::fs::remove_dir_all(&journal).unwrap();
    disk(home, name.to_str().unwrap(), options)
}

/// Fills the rest of a disk with a file.
fn fill(dir: &Path) -> PathBuf {
    // The only foreign name that a state directory may contain.
    let others = dir.join("lost+found");
    std::fs::create_dir(&others).expect("a directory");
    let filler = others.join("filler");
    let filled = std::fs::write(&filler, vec![0; 1 << 20]);
    assert_eq!(
        filled.unwrap_err().kind(),
        std::io::ErrorKind::StorageFull,
        "the disk is smaller than that"
    );
    filler
}

fn args(stores: &[Store], state: &Path) -> Vec<String> {
    let mut args = flags(stores);
    args.extend(["--state-dir".into(), state.display().to_string()]);
    args.extend(["--repair-interval", "0"].map(String::from));
    args
}

fn large(mark: &str, size: usize) -> String {
    format!("{}# {}\n", schema(mark), "x".repeat(size))
}

fn error_of(mounted: &Mounted) -> String {
    let status = mounted.status();
    status["errors"][0]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn the_cache_on_disk_makes_room_for_pushes() {
    let home = Home::new();
    let stores = folders(&home);
    let state = disk(&home, "state-dir", "size=8m");
    let names: Vec<String> = (0..20).map(|n| format!("r{n}/schema")).collect();
    for name in &names {
        stores[0].put(name, large(name, 500_000));
    }
    let mounted = home.mount("mnt", args(&stores, &state));
    for name in &names {
        mounted.cat(name).ok();
    }
    until("the cache holds something", || {
        (mounted.status()["disk_cache"]["bytes"].as_u64() > Some(1 << 20)).then_some(())
    });
    std::fs::create_dir(mounted.path("app")).unwrap();
    // The larger content needs twice its size, and more than the cache leaves free.
    for (mark, size) in [("one", 200_000), ("two", 3_000_000)] {
        let content = large(mark, size);
        mounted.cp("app/schema", &content).ok();
        all_hold(&stores, "app/schema", content.as_bytes());
    }
    mounted.unmount();
}

#[test]
fn a_mount_with_a_full_disk_comes_up_to_read() {
    for (options, filled) in [("size=64k", true), ("nr_inodes=1", false)] {
        let home = Home::new();
        let stores = folders(&home);
        stores[0].put("app/schema", schema("before"));
        let state = disk(&home, "state-dir", options);
        if filled {
            fill(&state);
        }
        let mounted = home.mount("mnt", args(&stores, &state));
        assert_eq!(mounted.read("app/schema"), schema("before").as_bytes());
        let content = schema("after");
        mounted
            .cp("app/schema", &content)
            .fails_with("No space left");
        assert_eq!(
            stores[0].get("app/schema").unwrap(),
            schema("before").as_bytes()
        );
        mounted.unmount();
    }
}

#[test]
fn a_push_the_full_journal_refuses_says_its_bytes_are_not_kept() {
    let home = Home::new();
    let stores = folders(&home);
    let state = home.folder("state-dir");
    let journal = journal_disk(&home, &stores, &state, "size=64k");
    let mounted = home.mount("mnt", args(&stores, &state));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("before")).ok();
    let filler = fill(&journal);
    mounted
        .cp("app/schema", schema("after"))
        .fails_with("No space left");
    let error = error_of(&mounted);
    assert!(error.contains("its bytes could not be kept"), "{error}");
    assert_eq!(mounted.status()["pending"], serde_json::json!([]));
    std::fs::remove_file(filler).unwrap();
    mounted.cp("app/schema", schema("after")).ok();
    all_hold(&stores, "app/schema", schema("after").as_bytes());
    mounted.unmount();
}

#[test]
fn a_push_that_a_full_disk_lost_is_reported_after_restarts() {
    let home = Home::new();
    let stores = folders(&home);
    let state = disk(&home, "state-dir", "size=1m");
    let args = args(&stores, &state);
    let mounted = home.mount("mnt", &args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("before")).ok();
    let filler = fill(&state);
    let content = large("after", 100_000);
    mounted
        .cp("app/schema", &content)
        .fails_with("No space left");
    until("the failure is told", || {
        (!mounted.status()["errors"][0].is_null()).then_some(())
    });
    let error = error_of(&mounted);
    mounted.unmount();
    let again = home.mount("mnt", &args);
    assert_eq!(error_of(&again), error);
    std::fs::remove_file(filler).unwrap();
    again.cp("app/schema", &content).ok();
    again.unmount();
    let last = home.mount("mnt", &args);
    assert_eq!(last.status()["errors"], serde_json::json!([]));
    last.unmount();
}

#[test]
fn a_failure_on_a_disk_filled_to_the_byte_holds_through_a_kill() {
    // The record's lines take some 850 bytes, so one of these sizes leaves a few bytes of the last
    // page.
    for size in [3_180, 3_200, 3_220, 3_240, 3_260] {
        let home = Home::new();
        let stores = folders(&home);
        let state = home.folder("state-dir");
        journal_disk(&home, &stores, &state, "size=4k");
        let args = args(&stores, &state);
        let mounted = home.mount("mnt", &args);
        std::fs::create_dir(mounted.path("app")).unwrap();
        let away = |name: &str| home.path(&format!("{name}-away"));
        let names = ["registry", "backup-1", "backup-2"];
        for name in names {
            std::fs::rename(home.path(name), away(name)).unwrap();
        }
        let content = large("lost", size - schema("lost").len());
        let ran = mounted.cp("app/schema", &content);
        assert_eq!(ran.code, Some(1), "{ran}");
        mounted.signal(Signal::SIGKILL);
        until("the process ends", || (!mounted.lives()).then_some(()));
        for name in names {
            std::fs::rename(away(name), home.path(name)).unwrap();
        }
        let again = home.mount("mnt", &args);
        assert_eq!(again.status()["pending"], serde_json::json!([]));
        none_holds(&stores, "app/schema");
        again.unmount();
    }
}
