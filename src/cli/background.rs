//! Mounting in the background: the process that the user started waits until the process behind the
//! mount is ready.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{self, Request};
use super::exit::Exit;
use super::mount::{self, MountReport};
use super::settings::MountSettings;
use super::{complain, log};
use crate::fuse;

/// The longest start of a mount. Requests to the targets have deadlines of their own, so a start
/// that works is faster.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the process behind the mount, and waits until the mount answers or has failed.
pub(super) fn launch(settings: &MountSettings, argv: &[OsString]) -> Exit {
    let outcome = spawn(&settings.dir, argv).and_then(|mut child| {
        let outcome = wait_for(&mut child)?;
        if outcome.is_none() {
            undo(&mut child, &settings.dir);
        }
        Ok(outcome)
    });
    match outcome {
        Ok(Some(exit)) => exit,
        Ok(None) => {
            complain(&format!(
                "the process behind the mount was not ready within {} s; killed it",
                START_TIMEOUT.as_secs()
            ));
            Exit::Failure
        }
        Err(error) => {
            complain(&format!(
                "cannot start the process behind the mount: {error}"
            ));
            Exit::Failure
        }
    }
}

/// glibc gives every thread of a pool an arena of its own, and each arena keeps its largest size.
/// Two arenas are enough for two cores' worth of small files, and keep the memory of a mount at its
/// initial size.
const MALLOC_ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

/// Starts this program once more. The arguments go through its stdin, not its command line: a
/// variable's value may be a secret.
fn spawn(dir: &Path, argv: &[OsString]) -> io::Result<Child> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("atlasfs")
        .arg("daemon")
        .arg(std::path::absolute(dir)?)
        .env(
            MALLOC_ARENAS.0,
            std::env::var_os(MALLOC_ARENAS.0).unwrap_or_else(|| MALLOC_ARENAS.1.into()),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let words: Vec<Value> = argv.iter().map(|word| json!(word.as_bytes())).collect();
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(json!({ "argv": words }).to_string().as_bytes())?;
    }
    Ok(child)
}

/// Forwards the reports of the process until it is ready or has failed; `None` if it takes too
/// long.
fn wait_for(child: &mut Child) -> io::Result<Option<Exit>> {
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, reports) = mpsc::channel();
    std::thread::Builder::new()
        .name("reports".to_owned())
        .spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(MountReport::read(&line)).is_err() {
                    break;
                }
            }
        })?;
    let until = Instant::now() + START_TIMEOUT;
    loop {
        match reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Some(MountReport::Warning(text))) => complain(&format!("warning: {text}")),
            Ok(Some(MountReport::Ready)) => return Ok(Some(Exit::Success)),
            Ok(Some(MountReport::Failed(text, exit))) => {
                complain(&text);
                child.wait()?;
                return Ok(Some(exit));
            }
            Ok(None) => {}
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait()?;
                complain(&format!(
                    "the process behind the mount ended before it was ready: {status}"
                ));
                return Ok(Some(Exit::Failure));
            }
        }
    }
}

fn undo(child: &mut Child, dir: &Path) {
    // The process may have ended by itself in the meantime.
    let _ = child.kill();
    let _ = child.wait();
    let cleared = fuse::resolve(dir)
        .map_err(|error| error.to_string())
        .and_then(|dir| fuse::clear_dead(&dir).map_err(|error| error.to_string()));
    if let Err(error) = cleared {
        complain(&error);
    }
}

/// Runs the process behind the mount.
pub(super) fn daemon() -> Exit {
    mount::adjust_limits();
    let send = |report: &MountReport| report.send(io::stdout());
    let fail = |why: String, exit| {
        let _ = send(&MountReport::Failed(why, exit));
        exit
    };
    // For the list of processes: a program started through /proc is called `exe`.
    let _ = std::fs::write("/proc/self/comm", "atlasfs");
    // setsid(2) fails only for the leader of a group, and a new process leads none.
    let _ = nix::unistd::setsid();
    let settings = match arguments(io::stdin()).map(args::parse) {
        Ok(Ok(Request::Mount(settings))) => settings,
        Ok(_) => {
            return fail(
                "these arguments are not a `mount` command line".to_owned(),
                Exit::Usage,
            );
        }
        Err(error) => {
            let why = format!("`daemon` is internal to `mount`: no arguments on stdin: {error}");
            return fail(why, Exit::Usage);
        }
    };
    let place = log::LogDestination::Background;
    if let Err(error) = log::start(&settings.log, place, &settings.state_dir) {
        return fail(error.to_string(), Exit::Failure);
    }
    mount::mount(&settings, |report| {
        report.send(io::stdout())?;
        match report {
            MountReport::Ready => leave(),
            MountReport::Warning(text) => {
                tracing::warn!("{text}");
                Ok(())
            }
            MountReport::Failed(..) => Ok(()),
        }
    })
}

/// Reads the arguments that the starting process hands over.
fn arguments(mut from: impl Read) -> io::Result<Vec<OsString>> {
    let mut text = String::new();
    from.read_to_string(&mut text)?;
    let value: Value = serde_json::from_str(&text)?;
    let words = value.get("argv").and_then(Value::as_array);
    let words = words.ok_or(io::ErrorKind::InvalidData)?;
    words.iter().map(word).collect()
}

/// A word is a list of bytes, because paths need not be UTF-8.
fn word(value: &Value) -> io::Result<OsString> {
    let bytes = value.as_array().ok_or(io::ErrorKind::InvalidData)?;
    let bytes: Option<Vec<u8>> = bytes
        .iter()
        .map(|byte| u8::try_from(byte.as_u64()?).ok())
        .collect();
    Ok(OsString::from_vec(bytes.ok_or(io::ErrorKind::InvalidData)?))
}

/// Detaches from the terminal and the working directory of the starting process.
fn leave() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_through_byte_for_byte() {
        let argv = [
            OsString::from("atlasfs"),
            OsString::from_vec(vec![0xff, b'"', b'\n', 0x80]),
            OsString::new(),
        ];
        let words: Vec<Value> = argv.iter().map(|word| json!(word.as_bytes())).collect();
        let text = json!({ "argv": words }).to_string();
        assert_eq!(arguments(text.as_bytes()).unwrap(), argv);
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for text in ["", "{}", "{\"argv\":[1]}", "{\"argv\":[[256]]}", "[]"] {
            assert!(arguments(text.as_bytes()).is_err(), "{text}");
        }
    }
}
