//! `atlasfs status`: the health of a mount.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::args::StatusArgs;
use super::exit::Exit;
use super::process::Process;
use super::{complain, print, table};
use crate::fuse::{self, Occupant};

/// The longest wait for the mount's answer, which comes from memory within milliseconds. With the
/// start of this program and the search for the process, `status` takes a second at most.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_millis(800);

/// Prints the status of a mount.
pub(super) fn status(args: &StatusArgs) -> Exit {
    match fetch(&args.dir, STATUS_TIMEOUT) {
        Ok((text, status)) => {
            if args.json {
                print(text.trim_end());
            } else {
                print(table::table(&status).trim_end());
            }
            health(&status)
        }
        Err(why) => {
            complain(&why);
            Exit::Failure
        }
    }
}

/// Reads the status of the mount on a directory, as text and as JSON.
pub(super) fn fetch(dir: &Path, timeout: Duration) -> Result<(String, Value), String> {
    let shown = dir.display();
    let resolved = fuse::resolve(dir).map_err(|error| format!("cannot access {shown}: {error}"))?;
    let begun = Instant::now();
    let process = Process::behind(&resolved);
    if process.as_ref().is_some_and(Process::is_stopped) {
        // A request would wait in the kernel, and keep the mount busy.
        return Err(silent(dir, process.as_ref()));
    }
    let asked = dir.to_owned();
    let read = move || {
        let path = mounted(&asked)?.join(".atlasfs/status");
        Ok::<_, String>(std::fs::read_to_string(path))
    };
    let text = fuse::within(timeout.saturating_sub(begun.elapsed()), read)
        .ok_or_else(|| silent(dir, process.as_ref()))??
        .map_err(|error| format!("cannot read the status of {shown}: {error}"))?;
    let status = serde_json::from_str(&text)
        .map_err(|error| format!("the status of {shown} is not JSON: {error}"))?;
    Ok((text, status))
}

/// Explains, with advice, why a mount does not answer, as far as its process shows the reason.
pub(super) fn silent(dir: &Path, process: Option<&Process>) -> String {
    let shown = dir.display();
    let why = match process {
        Some(process) if process.is_stopped() => format!("its process {}", process.halted()),
        Some(process) => {
            let pid = process.pid;
            format!("its process {pid} hangs: end it with kill -KILL {pid}")
        }
        None => "its process can't be found".to_owned(),
    };
    format!("{shown} does not answer: {why}; to detach the mount: atlasfs unmount --lazy {shown}")
}

/// Returns the resolved path of a directory with a living mount of atlasfs.
pub(super) fn mounted(dir: &Path) -> Result<PathBuf, String> {
    let shown = dir.display();
    let unreadable = |error| format!("cannot access {shown}: {error}");
    let dir = fuse::resolve(dir).map_err(unreadable)?;
    match fuse::occupant(&dir).map_err(unreadable)? {
        Occupant::Nothing => Err(format!("{shown} is not mounted")),
        Occupant::Stranger(entry) => Err(format!(
            "{shown} is a mount of type {}, not of atlasfs",
            entry.fstype
        )),
        Occupant::DeadAtlasfs(_) => Err(format!(
            "{shown} is dead: its process has ended; clear it with atlasfs unmount {shown}"
        )),
        Occupant::Atlasfs(_) => Ok(dir),
    }
}

/// Returns the exit code for a status.
fn health(status: &Value) -> Exit {
    let unwell = |target: &&Value| {
        let state = target.get("state").and_then(Value::as_str);
        matches!(state, Some("outage" | "denied"))
    };
    let degraded = status.get("healthy").and_then(Value::as_bool) == Some(false)
        || table::list(status, "targets").iter().any(|t| unwell(&t))
        || !table::list(status, "pending").is_empty()
        || !table::list(status, "unpushed").is_empty();
    if degraded {
        Exit::Degraded
    } else {
        Exit::Success
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_exit_code_is_a_health_probe() {
        for (status, exit) in [
            (json!({}), Exit::Success),
            (
                json!({"healthy": true, "targets": [{"state": "ok"}, {"state": "unknown"}]}),
                Exit::Success,
            ),
            (json!({"healthy": false}), Exit::Degraded),
            (
                json!({"healthy": true, "targets": [{"state": "outage"}]}),
                Exit::Degraded,
            ),
            (
                json!({"targets": [{"state": "ok"}, {"state": "denied"}]}),
                Exit::Degraded,
            ),
            (json!({"pending": [{}]}), Exit::Degraded),
            (json!({"unpushed": [{}]}), Exit::Degraded),
            (
                json!({"pending": [], "unpushed": [], "targets": "?"}),
                Exit::Success,
            ),
        ] {
            assert_eq!(health(&status), exit, "{status}");
        }
    }

    #[test]
    fn a_directory_without_a_mount_is_a_failure_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = fetch(dir.path(), STATUS_TIMEOUT).unwrap_err();
        assert!(error.ends_with("is not mounted"), "{error}");
        let error = fetch(Path::new("/proc"), STATUS_TIMEOUT).unwrap_err();
        assert!(error.contains("of type proc"), "{error}");
        assert!(fetch(Path::new("/none/such"), STATUS_TIMEOUT).is_err());
    }
}
