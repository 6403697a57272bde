//! `atlasfs unmount`: removes a mount, and waits until everything is pushed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::UnmountArgs;
use super::exit::Exit;
use super::process::Process;
use super::{complain, print, status};
use crate::fuse::{self, UnmountError};

/// The longest wait for the process to finish its pushes: longer than any sensible deadline of a
/// push.
const PUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time of the whole command if the mount doesn't answer.
const HUNG_MOUNT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// The pause between two checks whether the process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The longest search for programs that use a mount: it only reads /proc.
const USER_SEARCH_TIMEOUT: Duration = Duration::from_secs(1);

/// The most programs that a message names.
const MAX_NAMED_USERS: usize = 5;

/// Unmounts, and waits until the process behind the mount has ended.
pub(super) fn unmount(args: &UnmountArgs) -> Exit {
    let dir = match fuse::resolve(&args.dir) {
        Ok(dir) => dir,
        Err(error) => {
            complain(&format!("cannot access {}: {error}", args.dir.display()));
            return Exit::Failure;
        }
    };
    let begun = Instant::now();
    // The mount's own answer has priority: an earlier, detached mount may have been on this
    // directory.
    let answer = ask_for_process(&dir);
    let answers = answer.is_some();
    let process = answer.or_else(|| Process::behind(&dir));
    let stopped = process.as_ref().filter(|process| process.is_stopped());
    if let Err(error) = fuse::unmount(&dir, args.lazy) {
        let why = match error {
            // The request to the mount still waits in the kernel, and keeps the mount busy.
            UnmountError::Busy(dir) if !answers && stopped.is_none() => {
                status::silent(&dir, process.as_ref())
            }
            UnmountError::Busy(dir) => busy(&dir),
            error => error.to_string(),
        };
        complain(&match stopped {
            Some(process) => format!("{why}; its process {}", process.halted()),
            None => why,
        });
        return Exit::Failure;
    }
    match process {
        None => Exit::Success,
        Some(process) if args.lazy && answers => {
            print(&format!(
                "detached; process {} ends when the last file is closed",
                process.pid
            ));
            Exit::Success
        }
        Some(process) if answers => wait_for(&process, begun + PUSH_TIMEOUT),
        Some(process) => wait_for(&process, begun + HUNG_MOUNT_TIMEOUT),
    }
}

/// Asks the mount for its process.
fn ask_for_process(dir: &Path) -> Option<Process> {
    let (_, status) = status::fetch(dir, status::STATUS_TIMEOUT).ok()?;
    let pid = status.get("pid").and_then(Value::as_u64)?;
    Process::find(pid).filter(Process::is_ours)
}

fn wait_for(process: &Process, until: Instant) -> Exit {
    let pid = process.pid;
    while process.lives() {
        let why = match (process.is_stopped(), Instant::now() >= until) {
            (true, _) => process.halted(),
            (false, true) => {
                format!("{pid} is still running: see its log; end it with kill -KILL {pid}")
            }
            (false, false) => {
                std::thread::sleep(POLL_INTERVAL);
                continue;
            }
        };
        complain(&format!(
            "unmounted, but its process {why}; its journal keeps pending pushes until then, or \
             until the next mount with the same state directory"
        ));
        return Exit::Failure;
    }
    Exit::Success
}

fn busy(dir: &Path) -> String {
    let under = dir.to_owned();
    // Reading /proc of a process that waits for the mount may hang.
    let users = fuse::within(USER_SEARCH_TIMEOUT, move || users(&under)).unwrap_or_default();
    let dir = dir.display();
    let by = match users.as_slice() {
        [] => String::new(),
        users => format!(" by {}", users.join(", ")),
    };
    format!(
        "{dir} is in use{by}; close those files and leave the directory, or use --lazy: atlasfs unmount --lazy {dir}"
    )
}

/// Returns the programs that use files below a directory, as far as they are visible to this user.
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
    if users.len() > MAX_NAMED_USERS {
        let more = users.len() - MAX_NAMED_USERS;
        users.truncate(MAX_NAMED_USERS);
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
        // The link's text is enough: following the link could hang.
        .filter_map(|link| std::fs::read_link(link).ok())
        .any(|target| target.starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_holds_a_file_open_is_named() {
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
