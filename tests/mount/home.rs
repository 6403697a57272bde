//! The home of a test's user: folders, environment, and the program to run in it.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::mounted::{Mounted, end_all_below};
use super::program::{Ran, run};
use super::support::behind::{AZURE_KEYS, KEYS};
use super::support::output;

/// The path of the program.
pub const ATLASFS: &str = env!("CARGO_BIN_EXE_atlasfs");

/// An address without a server: connections are refused at once.
const NOWHERE: &str = "127.0.0.1:9";

/// A folder for everything that a test needs. It is removed with the last clone.
#[derive(Debug, Clone)]
pub struct Home {
    dir: Arc<Rooms>,
}

#[derive(Debug)]
struct Rooms(TempDir);

impl Drop for Rooms {
    fn drop(&mut self) {
        // A test may fail before it takes charge of its mounts, and the mounts must end before the
        // folder is removed.
        end_all_below(self.0.path());
        let entries = std::fs::read_dir(self.0.path()).into_iter().flatten();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "log") {
                output::keep_file("logs", &path);
            }
        }
        output::keep_all_below("state", &self.0.path().join("state"));
    }
}

impl Home {
    /// Makes an empty home.
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Makes a home in memory, for tests with many pushes: no push waits for a disk.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Self::within(memory),
            false => Self::new(),
        }
    }

    fn within(parent: &Path) -> Self {
        let dir = TempDir::with_prefix_in("atlasfs-test-", parent).expect("a temporary folder");
        // Other users may look for mounts in the home.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        Self {
            dir: Arc::new(Rooms(dir)),
        }
    }

    /// Returns the path of a name, whether the file exists or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Makes a folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        match std::fs::create_dir_all(&path) {
            // A dead mount point exists, and can't be examined.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.expect("a folder"),
        }
        path
    }

    /// Makes a folder and returns its URL.
    pub fn url(&self, name: &str) -> String {
        format!("file://{}", self.folder(name).display())
    }

    /// Writes a file.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// Makes a command of the program in this home. Its environment leads to no other place.
    pub fn atlasfs<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(ATLASFS);
        self.enter(&mut command);
        command.args(args);
        command
    }

    /// Sets a command's environment.
    pub fn enter(&self, command: &mut Command) {
        command
            .current_dir(self.dir())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("NO_COLOR", "1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_REGION", "us-east-1")
            .envs(KEYS)
            .envs(AZURE_KEYS);
        for variable in ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"] {
            command.env(variable, NOWHERE);
        }
    }

    /// Mounts in the background, as a user does.
    #[track_caller]
    pub fn mount<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Mounted {
        let (mounted, _) = self.mount_by(name, &mut self.mounting(name, args));
        mounted
    }

    /// Mounts by a prepared command; returns its output too.
    #[track_caller]
    pub fn mount_by(&self, name: &str, command: &mut Command) -> (Mounted, Ran) {
        let ran = run(command).ok();
        (Mounted::at(self.clone(), &self.path(name)), ran)
    }

    /// Makes the command that mounts in the background. Its log is the file `NAME.log`.
    pub fn mounting<S: AsRef<OsStr>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = self.atlasfs(["mount", "--log-file"]);
        command.arg(self.log_of(name));
        if output::folder().is_some() {
            // The suite searches the output for secrets.
            command.args(["--log-level", "trace"]);
        }
        command.args(args);
        command.arg(self.folder(name));
        command
    }

    /// Returns the path of a mount's log.
    pub fn log_of(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    /// Returns the folder itself.
    pub fn dir(&self) -> &Path {
        self.dir.0.path()
    }
}
