//! The process behind a mount, as other processes see it in /proc.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::fuse;

/// The longest search for a process: it only reads /proc.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(300);

/// A process. Its start time tells it from a later process with the same number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u64,
    started: u64,
}

impl Process {
    /// Finds a process by its number.
    pub(super) fn find(pid: u64) -> Option<Self> {
        let (_, started) = state(pid)?;
        Some(Self { pid, started })
    }

    /// Finds the process behind the mount on a directory without a request to the mount, which may
    /// hang: the process has the directory on its command line.
    pub(super) fn behind(dir: &Path) -> Option<Self> {
        let dir = dir.to_owned();
        // A path on a command line may lead through a hung mount.
        fuse::within(SEARCH_TIMEOUT, move || Self::search(&dir)).flatten()
    }

    fn search(dir: &Path) -> Option<Self> {
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found = numbers.filter_map(|pid| {
            let found = Self::find(pid)?;
            (found.is_ours() && found.sees_our_mounts() && found.serves(dir)).then_some(found)
        });
        // An earlier, detached mount may still have its process.
        found.max_by_key(|process| process.started)
    }

    /// Tells whether the process is that of a mount. A daemon in another pid namespace reports a
    /// number that belongs to another process here, so this command can't wait for it.
    pub(super) fn is_ours(&self) -> bool {
        let name = |pid: &str| std::fs::read(format!("/proc/{pid}/comm")).ok();
        let theirs = name(&self.pid.to_string());
        // A background process has this name, however its program file is called.
        theirs.as_deref() == Some(b"atlasfs\n") || (theirs.is_some() && theirs == name("self"))
    }

    fn sees_our_mounts(&self) -> bool {
        let mounts = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let theirs = mounts(&self.pid.to_string());
        theirs.is_some() && theirs == mounts("self")
    }

    /// Tells whether a process serves the mount on a directory, by its command line: `daemon DIR`
    /// in the background, `mount … DIR …` otherwise.
    fn serves(&self, dir: &Path) -> bool {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let cwd = std::fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        matches!(words.next(), Some(b"daemon" | b"mount"))
            && words.any(|word| {
                let path = cwd.join(OsStr::from_bytes(word));
                !word.is_empty() && fuse::resolve(&path).is_ok_and(|path| path == dir)
            })
    }

    pub(super) fn lives(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Returns the advice to continue or end a stopped process.
    pub(super) fn halted(&self) -> String {
        let pid = self.pid;
        format!(
            "{pid} is stopped (SIGSTOP): continue it with kill -CONT {pid}, or end it with kill \
             -KILL {pid}"
        )
    }

    /// Tells whether the process is stopped, so that it can't answer.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(state(self.pid), Some(('T', started)) if started == self.started)
    }
}

/// Returns a process's state and start time; `None` if it has ended.
fn state(pid: u64) -> Option<(char, u64)> {
    parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses /proc/PID/stat; `None` for a zombie, a process that has ended and only waits for its
/// parent.
fn parse(stat: &[u8]) -> Option<(char, u64)> {
    // The name is in parentheses, and may contain some itself.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // The 22nd field of the line; the state is the 3rd.
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, 'Z' | 'X')).then_some((state, started))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_started() {
        let stat = b"42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse(stat), Some(('S', 777)));
        let stat = b"42 (a) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse(stat), None);
        assert_eq!(parse(b"nonsense"), None);
        let own = Process::find(std::process::id().into()).unwrap();
        assert!(own.lives());
        let earlier = Process {
            started: own.started + 1,
            ..own
        };
        assert!(!earlier.lives());
    }

    #[test]
    fn a_stopped_process_is_told_from_a_running_one() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::find(child.id().into()).unwrap();
        let running = process.is_stopped();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        let stopped = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            process.is_stopped()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!running && stopped && !process.is_stopped());
    }
}
