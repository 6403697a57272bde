//! A program that runs to its end, within a time limit.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::support::output;

/// The longest time of any program: more than all deadlines of a mount together.
const LIMIT: Duration = Duration::from_secs(90);

/// The result of a program.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` if a signal ended the program.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// The run time.
    pub took: Duration,
}

impl Ran {
    /// Demands success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Asserts the exit code, and a part of the standard error.
    #[track_caller]
    pub fn fails(self, code: i32, part: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self.says(part)
    }

    /// Asserts any failure, and a part of the standard error.
    #[track_caller]
    pub fn fails_with(self, part: &str) -> Self {
        assert!(self.code.is_none_or(|code| code != 0), "{self}");
        self.says(part)
    }

    /// Asserts a part of the standard error.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "no {part:?} in: {self}");
        self
    }

    /// Returns the standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ran { code, stderr, .. } = self;
        let text = self.text();
        write!(
            out,
            "exit {code:?}\n--- stdout\n{text}\n--- stderr\n{stderr}"
        )
    }
}

/// A running program. Dropping it kills the program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    shown: String,
    begun: Instant,
    out: File,
    err: File,
    is_kept: bool,
}

/// Starts a program.
#[track_caller]
pub fn start(command: &mut Command) -> Running {
    // Files instead of pipes: a process that the program leaves must not keep the test waiting.
    let (out, err) = (temporary(), temporary());
    // Leave out the variables, which contain keys.
    let args: Vec<_> = command.get_args().collect();
    let shown = format!("{:?} {args:?}", command.get_program());
    let child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(err.try_clone().unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}; scripts/test installs what is needed"));
    Running {
        child,
        name: command.get_program().to_string_lossy().into_owned(),
        shown,
        begun: Instant::now(),
        out,
        err,
        is_kept: false,
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    start(command).wait()
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.begun.elapsed() > LIMIT {
                let _ = self.child.kill();
                panic!("{} did not end within {LIMIT:?}", self.shown);
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        self.ran(status)
    }

    /// Copies the output to the suite's output folder.
    fn keep(&mut self) {
        if output::folder().is_some() && !std::mem::replace(&mut self.is_kept, true) {
            // Leave out the arguments, since one may be a secret.
            output::keep("programs", &self.name, &content(&mut self.out));
            output::keep("programs", "its stderr", &content(&mut self.err));
        }
    }

    #[track_caller]
    fn ran(&mut self, status: ExitStatus) -> Ran {
        let took = self.begun.elapsed();
        let stderr = String::from_utf8_lossy(&content(&mut self.err)).into_owned();
        assert!(
            status.code() != Some(127),
            "{}: {stderr}; scripts/test installs what is needed",
            self.shown
        );
        self.keep();
        Ran {
            code: status.code(),
            stdout: content(&mut self.out),
            stderr,
            took,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.keep();
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            // This doesn't end a process in state D; the end of the mount frees it.
            for _ in 0..100 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn temporary() -> File {
    tempfile::tempfile().expect("a temporary file")
}

fn content(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Makes the command of a bash script; the arguments are `$1` and so on.
pub fn bash<S: AsRef<OsStr>>(script: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "bash"]);
    command.args(args);
    command
}

/// Runs a bash script as another user; the path is `$1`.
pub fn as_nobody(path: &Path, script: &str) -> Ran {
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can be another user: run scripts/test as root"
    );
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    run(command.args(["bash", "-c", script, "x"]).arg(path))
}

/// Waits until a condition holds, for as long as a busy machine may need.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if let Some(value) = condition() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}
