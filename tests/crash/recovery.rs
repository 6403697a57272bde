//! The expectations after a kill of the daemon: before the next start, and after it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::history::History;
use super::home::Home;
use super::mounted::Mounted;
use super::program::until;
use super::store::{Store, all_hold, none_holds, plan, schema};

/// The most half-written files that a kill may leave in the cache on disk, one for each thread that
/// writes there. They stay for an hour.
const TORN: usize = 2;

/// Asserts that every target holds whole contents only, and only contents that a program wrote.
#[track_caller]
pub fn nothing_is_half_visible(stores: &[Store], history: &History) {
    for (name, line) in history.lines() {
        for store in stores {
            line.place_of(&store.get(name), &format!("{name} on {}", store.url()));
        }
    }
}

/// Asserts that a new mount has everything acknowledged, and that the targets become equal.
#[track_caller]
pub fn recovers(home: &Home, mounted: &Mounted, stores: &[Store], history: &History) {
    for (name, line) in history.lines() {
        let place = line.expect(
            &read(mounted, name),
            &format!("{name} right after the start"),
        );
        until("nothing is owed any more", || {
            owes_nothing(mounted).then_some(())
        });
        let settled = read(mounted, name);
        let now = line.expect(&settled, &format!("{name} when nothing is owed"));
        assert!(now >= place, "{name} goes back in time");
        match &settled {
            Some(content) => all_hold(stores, name, content),
            None => none_holds(stores, name),
        }
    }
    unpushed_is_unanswered(mounted, history);
    assert_eq!(mounted.events("journal-damaged").len(), 0);
    goes_on(mounted, stores);
    nothing_is_left(home, stores);
}

fn read(mounted: &Mounted, name: &str) -> Option<Vec<u8>> {
    let ran = mounted.cat(name);
    match ran.code {
        Some(0) => Some(ran.stdout),
        _ => {
            ran.fails(1, "No such file");
            None
        }
    }
}

fn owes_nothing(mounted: &Mounted) -> bool {
    let status = mounted.status();
    let unpushed = status["unpushed"].as_array().unwrap();
    let in_doubt = |push: &Value| {
        push["reason"]
            .as_str()
            .unwrap()
            .contains("asking the targets")
    };
    let failed: u64 = unpushed
        .iter()
        .map(|push| push["size"].as_u64().unwrap())
        .sum();
    status["pending"].as_array().unwrap().is_empty()
        && !unpushed.iter().any(in_doubt)
        && status["journal"]["bytes"] == failed
}

/// Asserts that the only failed push is the one that the kill has left without an answer, and that
/// no target got it. Removes it.
#[track_caller]
fn unpushed_is_unanswered(mounted: &Mounted, history: &History) {
    let status = mounted.status();
    let unpushed = status["unpushed"].as_array().unwrap();
    assert!(unpushed.len() <= 1, "{status:#}");
    for push in unpushed {
        let (name, path) = (
            push["artifact"].as_str().unwrap(),
            push["path"].as_str().unwrap(),
        );
        let line = history.line(name);
        let kept = Some(mounted.read(path));
        assert!(line.is_unanswered(&kept), "{status:#}");
        assert_ne!(read(mounted, name), kept);
        std::fs::remove_file(mounted.path(path)).unwrap();
    }
}

/// Asserts that the crash leaves no files that would accumulate.
#[track_caller]
fn nothing_is_left(home: &Home, stores: &[Store]) {
    let folders = stores.iter().filter_map(|store| match store {
        Store::Folder(folder) => Some(folder.join(".atlasfs/tmp")),
        Store::Bucket { .. } => None,
    });
    let temporary: Vec<PathBuf> = folders.collect();
    // The next write of the index overwrites its file, in the background.
    until("what a crash has left is swept", || {
        let in_state = below(&home.path("state"));
        let mut left = in_state.iter().filter(|path| is_left(path));
        let is_swept = left.next().is_none() && temporary.iter().all(|dir| below(dir).is_empty());
        is_swept.then_some(())
    });
    let torn = below(&home.path("state")).into_iter();
    let torn = torn.filter(|path| name_of(path).starts_with("tmp-"));
    assert!(torn.count() <= TORN);
}

/// Returns whether a file in a state directory is one that no mount needs any more.
fn is_left(path: &Path) -> bool {
    let rooms = ["journal", "damaged", "staging"];
    let parent = path.parent().unwrap();
    name_of(path).ends_with(".tmp") || rooms.iter().any(|room| parent.ends_with(room))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Lists all files below a folder.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Asserts that the mount can be used as before.
#[track_caller]
fn goes_on(mounted: &Mounted, stores: &[Store]) {
    let _ = std::fs::create_dir(mounted.path("app"));
    for (name, content) in [
        ("app/schema", schema("after")),
        ("app/plans/p", plan("p", "after")),
    ] {
        mounted.cp(name, &content).ok();
        all_hold(stores, name, content.as_bytes());
        assert_eq!(mounted.read(name), content.as_bytes());
    }
}
