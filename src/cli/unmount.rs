//! `atlasfs unmount`: takes a mount away, and waits until everything is pushed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::UnmountArgs;
use super::exit::Exit;
use super::{complain, print, status};
use crate::fuse::{self, UnmountError};

/// How long the process may take to push what it has: longer than any sensible deadline of a push.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether the process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How many programs that use a mount are named.
const NAMED: usize = 5;

/// Unmounts, and waits until the process behind the mount has ended.
pub(super) fn unmount(args: &UnmountArgs) -> Exit {
    let dir = match fuse::resolve(&args.dir) {
        Ok(dir) => dir,
        Err(error) => {
            complain(&format!("cannot look at {}: {error}", args.dir.display()));
            return Exit::Failure;
        }
    };
    // A mount that does not answer can't tell, and is unmounted all the same.
    let process = status::fetch(&dir)
        .ok()
        .and_then(|(_, status)| status.get("pid").and_then(Value::as_u64))
        .and_then(Process::find)
        .filter(Process::is_ours);
    if let Err(error) = fuse::unmount(&dir, args.lazy) {
        complain(&match error {
            UnmountError::Busy(dir) => busy(&dir),
            error => error.to_string(),
        });
        return Exit::Failure;
    }
    match process {
        None => Exit::Success,
        Some(process) if args.lazy => {
            print(&format!(
                "detached; process {} ends when the last file is closed",
                process.pid
            ));
            Exit::Success
        }
        Some(process) => wait_for(&process),
    }
}

fn wait_for(process: &Process) -> Exit {
    let until = Instant::now() + PATIENCE;
    while process.lives() {
        if Instant::now() >= until {
            complain(&format!(
                "unmounted, but process {} has not ended within {} s: its log says why",
                process.pid,
                PATIENCE.as_secs()
            ));
            return Exit::Failure;
        }
        std::thread::sleep(LOOK);
    }
    Exit::Success
}

/// A process, told from a later one of the same number by when it started.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: u64,
    started: u64,
}

impl Process {
    fn find(pid: u64) -> Option<Self> {
        let started = started(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, started })
    }

    /// Tells whether the process is a mount's: a daemon in another pid namespace gives a number
    /// that is somebody else's here, and can't be waited for.
    fn is_ours(&self) -> bool {
        let name = |pid: &str| std::fs::read(format!("/proc/{pid}/comm")).ok();
        name(&self.pid.to_string()) == name("self")
    }

    fn lives(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }
}

/// Returns when a process started, from its /proc/PID/stat; nothing if it has ended already and
/// only waits for its parent.
fn started(stat: &[u8]) -> Option<u64> {
    // The name stands in parentheses, and may hold some itself.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // The 22nd field of all, the state being the 3rd.
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

fn busy(dir: &Path) -> String {
    let users = users(dir);
    let dir = dir.display();
    let by = match users.as_slice() {
        [] => String::new(),
        users => format!(" by {}", users.join(", ")),
    };
    format!(
        "{dir} is in use{by}; close those files and leave the directory, or use --lazy: atlasfs unmount --lazy {dir}"
    )
}

/// Returns which programs use what lies under a directory, as far as this user may see it.
fn users(dir: &Path) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut users: Vec<_> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok())
        .filter(|pid| *pid != u64::from(std::process::id()) && uses(*pid, dir))
        .map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (process {pid})", name.trim())
        })
        .collect();
    if users.len() > NAMED {
        let more = users.len() - NAMED;
        users.truncate(NAMED);
        users.push(format!("{more} more"));
    }
    users
}

fn uses(pid: u64, dir: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let descriptors = std::fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    ["cwd", "root", "exe"]
        .map(|link| process.join(link))
        .into_iter()
        .chain(descriptors)
        // The link's text is enough: following it could hang.
        .filter_map(|link| std::fs::read_link(link).ok())
        .any(|target| target.starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_started() {
        let stat = b"42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(started(stat), Some(777));
        let stat = b"42 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(started(stat), None);
        assert_eq!(started(b"nonsense"), None);
        let own = Process::find(std::process::id().into()).unwrap();
        assert!(own.lives());
        let earlier = Process {
            started: own.started + 1,
            ..own
        };
        assert!(!earlier.lives());
    }

    #[test]
    fn whoever_holds_a_file_open_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        assert!(users(&path).is_empty());
        let open = std::fs::File::create(path.join("x")).unwrap();
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .stdin(open)
            .spawn()
            .unwrap();
        let text = busy(&path);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(
            text.contains(&format!("(process {})", other.id())),
            "{text}"
        );
    }
}
