//! The working folder of a run, the programs that it uses, and the list of processes to end.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::behind::KEYS;

/// An address without a server: connections are refused at once.
const NOWHERE: &str = "127.0.0.1:9";

/// The programs that are mounted.
#[derive(Debug, Clone)]
pub struct Programs {
    /// atlasfs itself.
    pub atlasfs: PathBuf,
    /// The floor.
    pub noop: PathBuf,
    /// PyPI's rclone, if it is there.
    pub rclone: Option<PathBuf>,
    /// mount-s3, if it is installed.
    pub mount_s3: Option<PathBuf>,
}

/// The working folder. scripts/bench makes it, and if this process can't any more, ends and
/// unmounts everything in it.
#[derive(Debug)]
pub struct Space {
    /// The programs.
    pub programs: Programs,
    dir: PathBuf,
    pids: RefCell<File>,
    made: Cell<usize>,
}

impl Space {
    /// Uses an existing folder.
    pub fn new(dir: &Path, programs: Programs) -> Self {
        let dir = dir.canonicalize().expect("the folder to work in");
        let pids = File::create(dir.join("pids")).expect("a list of processes");
        Self {
            programs,
            dir,
            pids: RefCell::new(pids),
            made: Cell::new(0),
        }
    }

    /// Returns the folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a new folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.made.set(self.made.get() + 1);
        let dir = self.dir.join(format!("{name}-{}", self.made.get()));
        std::fs::create_dir(&dir).expect("a folder");
        dir
    }

    /// Writes a file that only this user can read.
    pub fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.join(name);
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(content.as_bytes()))
            .expect("a file");
        path
    }

    /// Makes a command whose environment leads to no other place.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .env("NO_COLOR", "1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_REGION", "us-east-1")
            .envs(KEYS);
        for variable in ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"] {
            command.env(variable, NOWHERE);
        }
        command
    }

    /// Records a process with its start time: process ids are used again.
    pub fn note(&self, pid: i32) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let started = rest.split(' ').nth(19).unwrap_or_default();
        let mut pids = self.pids.borrow_mut();
        writeln!(pids, "{pid} {started}").expect("a list of processes");
    }
}
