//! What must hold when a daemon has been killed: before the next start, and after it.

use std::path::{Path, PathBuf};

use super::history::History;
use super::home::Home;
use super::mounted::Mounted;
use super::program::until;
use super::store::{Store, all_hold, none_holds, plan, schema};

/// How many half-written files a kill may leave in the cache on disk, where they wait for an hour:
/// one for each thread that writes there.
const TORN: usize = 2;

/// Demands that every target holds whole contents: nothing by halves, nothing that nobody wrote.
#[track_caller]
pub fn nothing_is_half_visible(stores: &[Store], history: &History) {
    for (name, line) in history.lines() {
        for store in stores {
            line.place_of(&store.get(name), &format!("{name} on {}", store.url()));
        }
    }
}

/// Demands that a new mount has all that was acknowledged, and that the targets become one.
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
            // Which targets a deletion had reached when it was cut off, nobody knows; it was not
            // acknowledged, and the next push makes them one.
            None if line.is_half_deleted() => {}
            None => none_holds(stores, name),
        }
    }
    let status = mounted.status();
    assert_eq!(
        status["unpushed"].as_array().unwrap().len(),
        0,
        "{status:#}"
    );
    assert_eq!(mounted.events("journal-damaged").len(), 0);
    nothing_is_left(home, stores);
    goes_on(mounted, stores);
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
    let pending = status["pending"].as_array().unwrap();
    pending.is_empty() && status["journal"]["bytes"] == 0
}

/// Demands that the crash has left nothing that would pile up.
#[track_caller]
fn nothing_is_left(home: &Home, stores: &[Store]) {
    for state in below(&home.path("state")) {
        let name = state.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.ends_with(".tmp"), "{} is left", state.display());
        let parent = state.parent().unwrap();
        let is_record = parent.ends_with("journal") || parent.ends_with("damaged");
        assert!(!is_record, "{} is left", state.display());
        assert!(!parent.ends_with("staging"), "{} is left", state.display());
    }
    let torn = below(&home.path("state")).into_iter();
    let torn = torn.filter(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("tmp-")
    });
    assert!(torn.count() <= TORN);
    for store in stores {
        if let Store::Folder(folder) = store {
            let left = below(&folder.join(".atlasfs/tmp"));
            assert!(left.is_empty(), "{left:?} are left");
        }
    }
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

/// Demands that the mount can be used as before.
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
