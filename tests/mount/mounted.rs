//! A mount that always ends with its test, even if the test fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::home::{ATLASFS, Home};
use super::program::{Ran, Running, bash, run, start, until};
use super::support::output;

/// After this time the test counts as hung. Killing the mount's process then ends every wait.
const HANG_TIMEOUT: Duration = Duration::from_secs(240);

/// A mount.
#[derive(Debug)]
pub struct Mounted {
    home: Home,
    dir: PathBuf,
    pid: u32,
    /// The process, if it is the test's own child.
    foreground: Option<Running>,
    _watchdog: mpsc::Sender<()>,
}

impl Mounted {
    /// Takes charge of an existing mount.
    #[track_caller]
    pub fn at(home: Home, dir: &Path) -> Self {
        // A machine that stands still for some seconds is not a hung mount.
        let status: Value = until("the mount tells its status", || {
            let ran = run(home.atlasfs(["status", "--json"]).arg(dir));
            serde_json::from_slice(&ran.stdout).ok()
        });
        let pid = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
        for name in ["cmdline", "comm"] {
            output::keep_file("processes", Path::new(&format!("/proc/{pid}/{name}")));
        }
        let (watchdog, bone) = mpsc::channel();
        std::thread::spawn(move || {
            if bone.recv_timeout(HANG_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = signal(pid, Signal::SIGKILL);
            }
        });
        Self {
            home,
            dir: dir.to_owned(),
            pid,
            foreground: None,
            _watchdog: watchdog,
        }
    }

    /// Mounts in the foreground.
    #[track_caller]
    pub fn in_foreground(home: &Home, name: &str, args: &[&str]) -> Self {
        let dir = home.folder(name);
        let mut command = home.atlasfs(["mount", "-f"]);
        let mut process = start(command.args(args).arg(&dir));
        until("the mount answers", || {
            if process.has_ended() {
                panic!("the mount ended at once");
            }
            let status = run(home.atlasfs(["status"]).arg(&dir));
            (status.code != Some(1)).then_some(())
        });
        let mut mounted = Self::at(home.clone(), &dir);
        mounted.foreground = Some(process);
        mounted
    }

    /// Removes the test's time limit.
    #[must_use]
    pub fn unwatched(mut self) -> Self {
        (self._watchdog, _) = mpsc::channel();
        self
    }

    /// Takes the process of a mount in the foreground, to wait for it.
    pub fn process(&mut self) -> Running {
        self.foreground.take().expect("a mount in the foreground")
    }

    /// Returns the id of the process behind the mount.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn signal(&self, what: Signal) {
        signal(self.pid, what).expect("the mount's process");
    }

    /// Returns whether the process behind the mount still exists.
    pub fn lives(&self) -> bool {
        lives(self.pid)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of a name in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file with cp, from a file outside.
    #[track_caller]
    pub fn cp(&self, name: &str, content: impl AsRef<[u8]>) -> Ran {
        let source = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(source.path(), content).unwrap();
        run(&mut bash(
            "exec cp -- \"$1\" \"$2\"",
            [source.path(), &self.path(name)],
        ))
    }

    /// Reads a file with cat.
    #[track_caller]
    pub fn cat(&self, name: &str) -> Ran {
        run(Command::new("cat").arg(self.path(name)))
    }

    /// Reads an existing file.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        self.cat(name).ok().stdout
    }

    /// Lists a directory, sorted.
    #[track_caller]
    pub fn ls(&self, name: &str) -> Vec<String> {
        let ran = run(Command::new("ls").arg("-A").arg(self.path(name))).ok();
        ran.text().lines().map(str::to_owned).collect()
    }

    /// Returns an extended attribute, without its prefix `user.atlas.`.
    #[track_caller]
    pub fn xattr(&self, name: &str, attribute: &str) -> Option<String> {
        let mut command = Command::new("getfattr");
        let attribute = format!("user.atlas.{attribute}");
        command.args(["--only-values", "-n", &attribute]);
        let ran = run(command.arg(self.path(name)));
        (ran.code == Some(0)).then(|| ran.text())
    }

    /// Reads the status.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.read(".atlasfs/status")).unwrap()
    }

    /// Returns the events of a kind.
    #[track_caller]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let events = String::from_utf8(self.read(".atlasfs/events")).unwrap();
        let events = events.lines().map(serde_json::from_str);
        events
            .map(|event: Result<Value, _>| event.unwrap())
            .filter(|event| event["event"] == kind)
            .collect()
    }

    /// Returns a metric; the name includes the labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = String::from_utf8(self.read(".atlasfs/metrics")).unwrap();
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        value.parse().unwrap()
    }

    /// Copies the mount's control files to the suite's output folder.
    fn keep_control_files(&self) {
        if output::folder().is_none() || !self.lives() {
            return;
        }
        // A hung mount must not stop the test here.
        let mut command = Command::new("timeout");
        command.args(["--signal", "KILL", "5", "cat"]);
        let names = ["status", "events", "metrics", "jobs"];
        command.args(names.map(|name| self.path(&format!(".atlasfs/{name}"))));
        if let Ok(said) = command.output() {
            output::keep("control", &self.dir.display().to_string(), &said.stdout);
        }
    }

    /// Unmounts as a user does.
    #[track_caller]
    pub fn unmount(self) {
        self.keep_control_files();
        // A process that another test starts may hold a descriptor for a moment.
        until("the mount is not in use", || {
            let ran = run(self.home.atlasfs(["unmount"]).arg(&self.dir));
            let busy = ran.code == Some(1) && ran.stderr.contains("is in use");
            (!busy).then(|| ran.ok())
        });
        assert!(!is_mounted(&self.dir));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A stopped process must continue, so that it can end.
        let _ = signal(self.pid, Signal::SIGCONT);
        if is_mounted(&self.dir) {
            self.keep_control_files();
        }
        // Mounts can lie on top of each other.
        for _ in 0..3 {
            if is_mounted(&self.dir) && umount2(&self.dir, MntFlags::MNT_DETACH).is_err() {
                // Without root, only the program may unmount.
                let mut unmount = self.home.atlasfs(["unmount", "--lazy"]);
                let _ = unmount.arg(&self.dir).output();
            }
        }
        // In the foreground, the process is a child of the test, and dropping `Running` ends it.
        for _ in 0..500 {
            if !lives(self.pid) || !is_of(self.pid, &self.dir) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = signal(self.pid, Signal::SIGKILL);
    }
}

pub fn is_mounted(dir: &Path) -> bool {
    mount_points().any(|mounted| mounted == dir)
}

fn mount_points() -> impl Iterator<Item = PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points: Vec<_> = points.map(PathBuf::from).collect();
    points.into_iter()
}

/// Unmounts everything below a directory, and ends the processes behind it.
pub fn end_all_below(dir: &Path) {
    for left in mount_points().filter(|mounted| mounted.starts_with(dir)) {
        if umount2(&left, MntFlags::MNT_DETACH).is_err() {
            let mut unmount = Command::new(ATLASFS);
            let _ = unmount.args(["unmount", "--lazy"]).arg(&left).output();
        }
    }
    for pid in holders(dir) {
        if is_of(pid, dir) {
            let _ = signal(pid, Signal::SIGKILL);
        }
    }
}

/// Returns the processes that hold or held the locks of state directories below a directory. A scan
/// of all processes would be simpler. But many scans while other processes end made Linux 6.18
/// stand still for a minute (`proc_invalidate_siblings_dcache`).
fn holders(dir: &Path) -> Vec<u32> {
    let holder = |lock: &Path| {
        let text = std::fs::read_to_string(lock).ok()?;
        let pid = text.trim().rsplit_once("(process ")?.1;
        pid.trim_end_matches(')').parse().ok()
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => holders(&entry.path()),
            Ok(kind) if kind.is_file() && entry.file_name() == "lock" => {
                holder(&entry.path()).into_iter().collect()
            }
            _ => Vec::new(),
        })
        .collect()
}

/// Returns whether a process is behind a mount on this directory, or on one below it.
fn is_of(pid: u32, dir: &Path) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    words.starts_with("atlasfs\0daemon\0") && words.contains(&*dir.to_string_lossy())
}

/// Returns whether a process exists and has not ended.
pub fn lives(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Returns a process's state: `R`, `S`, `D`, `Z` and so on.
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub fn signal(pid: u32, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal)
}
