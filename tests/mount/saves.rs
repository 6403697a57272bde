//! The effect of a save on the targets and on a reader, watched while it happens.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, Running, bash, run, start, until};
use super::store::{Store, all_hold, flags, folders, schema};

/// Reads the file `$1` a thousand times a second until the file `$2` exists. Fails if `$1` was ever
/// missing, empty or incomplete.
const POLL: &str = r#"
import os, sys, time
path, stop = sys.argv[1:]
count = 0
while not os.path.exists(stop):
    text = open(path).read()
    if not (text.startswith('schema "main" {\n') and text.endswith('}\n')):
        sys.exit("after %d reads: %r" % (count, text))
    count += 1
    if count == 1:
        open(stop + ".begun", "w").close()
    time.sleep(0.001)
"#;

/// A mount with three folders as its targets, with a watch on every change.
#[derive(Debug)]
pub struct Replica {
    pub home: Home,
    pub mounted: Mounted,
    /// A second mount of the same targets, as on another machine.
    second: Mounted,
    pub stores: Vec<Store>,
    watches: Vec<Inotify>,
}

/// A program's way to save: a script whose `$1` is the live file, `$2` a file with the new content,
/// `$3` the mark of the old content, and `$4` the mark of the new one.
pub type Tool = (&'static str, &'static str);

impl Replica {
    /// Mounts, and pushes a first schema.
    #[track_caller]
    pub fn new() -> Self {
        let home = Home::new();
        let stores = folders(&home);
        let mounted = home.mount("mnt", flags(&stores));
        std::fs::create_dir(mounted.path("app")).unwrap();
        mounted.cp("app/schema", schema("mark-0")).ok();
        let mut args = flags(&stores);
        // A repair by this mount would look like a push.
        args.extend(["--repair-interval", "0"].map(str::to_owned));
        let second = home.mount("second", args);
        std::fs::create_dir(home.path("work")).unwrap();
        let watches = stores.iter().map(|store| match store {
            Store::Folder(folder) => watch(&folder.join("app")),
            Store::Bucket { .. } => panic!("only folders can be watched"),
        });
        let watches = watches.collect();
        Self {
            home,
            mounted,
            second,
            stores,
            watches,
        }
    }

    /// Returns the names that have appeared in each target since the last call, with repetitions.
    fn pushed(&self) -> Vec<Vec<String>> {
        let watches = self.watches.iter();
        watches.map(seen).collect()
    }

    /// Runs a tool in the directory of the live file.
    #[track_caller]
    pub fn run(&self, tool: Tool, name: &str, marks: [&str; 2]) -> Ran {
        let new = self.home.file("work/schema", schema(marks[1]));
        let live = self.mounted.path(&format!("app/{name}"));
        let paths = [live.as_os_str(), new.as_os_str()];
        let args = paths.into_iter().chain(marks.map(AsRef::as_ref));
        let mut command = bash(tool.1, args);
        self.home.enter(&mut command);
        command
            .current_dir(self.mounted.path("app"))
            .env("TERM", "xterm")
            .env(
                "TERMINAL",
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/terminal.py"),
            );
        run(&mut command)
    }

    /// Asserts for each tool that a save is one push to every target, that no other file reaches a
    /// target, and that readers of this and of another mount see only whole schemas.
    #[track_caller]
    pub fn one_save_is_one_push(&self, tools: &[Tool], name: &str) {
        let stops = ["stop", "stop-second"].map(|name| self.home.path(name));
        let mut readers = vec![
            reader(&self.mounted, &stops[0]),
            reader(&self.second, &stops[1]),
        ];
        until("the readers read", || {
            let begun = stops.iter().map(|stop| stop.with_extension("begun"));
            begun.into_iter().all(|begun| begun.exists()).then_some(())
        });
        for (n, tool) in tools.iter().enumerate() {
            let marks = [format!("mark-{n}"), format!("mark-{}", n + 1)];
            self.pushed();
            let ran = self.run(*tool, name, [&marks[0], &marks[1]]);
            assert_eq!(ran.code, Some(0), "{}: {ran}", tool.0);
            for names in self.pushed() {
                assert_eq!(names, ["schema"], "{}: one push", tool.0);
            }
            let held = self.stores[0].get("app/schema").unwrap();
            let held = String::from_utf8_lossy(&held).into_owned();
            assert!(held == schema(&marks[1]), "{}: {held}", tool.0);
            all_hold(&self.stores, "app/schema", held.as_bytes());
            assert_eq!(
                self.mounted.read("app/schema"),
                held.as_bytes(),
                "{}",
                tool.0
            );
            if let Some(ended) = readers.iter_mut().position(Running::has_ended) {
                panic!("{}: {}", tool.0, readers.remove(ended).wait());
            }
        }
        for (reader, stop) in readers.into_iter().zip(&stops) {
            std::fs::write(stop, "").unwrap();
            reader.wait().ok();
        }
        self.nothing_else_is_there();
    }

    /// Asserts that every target holds the schema and its versions alone.
    #[track_caller]
    pub fn nothing_else_is_there(&self) {
        for store in &self.stores {
            let Store::Folder(folder) = store else {
                continue;
            };
            let entries = std::fs::read_dir(folder.join("app")).unwrap();
            let names: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(
                names,
                BTreeSet::from(["schema", "versions"].map(Into::into))
            );
        }
    }

    /// Removes every target, or restores it.
    pub fn targets_are_there(&self, there: bool) {
        for store in &self.stores {
            let Store::Folder(folder) = store else {
                continue;
            };
            let away = folder.with_extension("away");
            match there {
                true => std::fs::rename(away, folder).unwrap(),
                false => std::fs::rename(folder, away).unwrap(),
            }
        }
    }
}

fn reader(mounted: &Mounted, stop: &Path) -> Running {
    let live = mounted.path("app/schema");
    let mut poll = Command::new("python3");
    start(poll.args(["-c", POLL]).args([&*live, stop]))
}

fn watch(folder: &Path) -> Inotify {
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    let changes = AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE;
    watch.add_watch(folder, changes).unwrap();
    watch
}

fn seen(watch: &Inotify) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        match watch.read_events() {
            Ok(events) => names.extend(
                events
                    .into_iter()
                    .filter_map(|event| event.name?.into_string().ok()),
            ),
            Err(Errno::EAGAIN) => return names,
            Err(error) => panic!("{error}"),
        }
    }
}
