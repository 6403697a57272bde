//! The process that saves on two mounts at the same moment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// More than all deadlines of a race's steps together.
const RACE_TIMEOUT: Duration = Duration::from_secs(150);

/// The way a program saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The program writes in place, and its close is the push.
    Close,
    /// The program writes a temporary file, and its rename over the artifact is the push.
    Rename,
}

/// One race: two contents for one key, saved at once.
#[derive(Debug, Clone)]
pub struct Race {
    /// The artifact.
    pub key: String,
    /// The content that each mount saves.
    pub contents: [String; 2],
    /// The way each mount saves.
    pub ways: [Way; 2],
    /// Whether the loser's bytes are copied over the winner's at the end.
    pub resolves: bool,
}

/// The process. Dropping it ends the process.
#[derive(Debug)]
pub struct Racer {
    child: Child,
    to: ChildStdin,
    from: Receiver<String>,
}

impl Racer {
    /// Starts the process.
    pub fn start(mounts: [&Path; 2]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/races/racer.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(mounts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3: scripts/test installs it");
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (send, from) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, to, from }
    }

    /// Runs a race.
    #[track_caller]
    pub fn run(&mut self, race: &Race) -> Value {
        let ways = race.ways.map(|way| format!("{way:?}").to_lowercase());
        let line = json!({
            "key": race.key,
            "contents": race.contents,
            "ways": ways,
            "resolves": race.resolves,
        });
        writeln!(self.to, "{line}").expect("the racer reads");
        let line = self.from.recv_timeout(RACE_TIMEOUT);
        let line = line.unwrap_or_else(|error| panic!("{race:?}: the racer says nothing: {error}"));
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // In state D it ends only when the mount does.
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
