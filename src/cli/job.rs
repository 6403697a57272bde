//! `atlasfs verify` and `atlasfs sync`: the mount compares its targets, and this command shows the
//! progress.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::args::JobArgs;
use super::exit::Exit;
use super::status::mounted;
use super::{complain, print, table};
use crate::fuse;

/// The longest wait for an answer of the mount, which is busy with the job.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause between two queries for progress. 100 ms: the progress looks alive.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The pause between two lines of progress if stderr is not a terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Makes the mount run a job, shows its progress on stderr, and prints the result.
pub(super) fn run(task: &str, args: &JobArgs) -> Exit {
    match carry_out(task, args) {
        Ok(report) => {
            if args.json {
                print(&format!("{report:#}"));
            } else {
                print(summary(&report).trim_end());
            }
            verdict(&report)
        }
        Err(why) => {
            complain(&why);
            Exit::Failure
        }
    }
}

fn carry_out(task: &str, args: &JobArgs) -> Result<Value, String> {
    let shown = args.dir.display();
    let path = mounted(&args.dir)?.join(".atlasfs/jobs");
    let order = match args.quick {
        true => format!("{task} quick\n"),
        false => format!("{task}\n"),
    };
    // From here on an interrupt stops the job, and this command reports the result.
    let interrupts = Interrupts::catch()?;
    send_order(&path, order).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => format!(
            "cannot {task} {shown}: a verify or sync is under way; wait for it, or stop it with \
             echo stop > {}",
            path.display()
        ),
        Some(libc::EROFS) => {
            format!("cannot {task} {shown}: it is read-only; mount without --read-only")
        }
        _ => format!("cannot {task} {shown}: {error}"),
    })?;
    let mut progress = Progress::new(task, args.json);
    loop {
        std::thread::sleep(POLL_INTERVAL);
        let report = read(&path).map_err(|why| format!("cannot {task} {shown}: {why}"))?;
        let state = report.get("state").and_then(Value::as_str);
        progress.show(&report, state != Some("running"));
        if state != Some("running") {
            return Ok(report);
        }
        if interrupts.came() {
            send_order(&path, "stop\n".into())
                .map_err(|error| format!("cannot stop the {task} of {shown}: {error}"))?;
        }
    }
}

/// Writes a job request to the mount, which may be hung.
pub(super) fn send_order(path: &Path, order: String) -> std::io::Result<()> {
    let path = path.to_owned();
    let write = move || {
        let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(order.as_bytes())
    };
    fuse::within(ANSWER_TIMEOUT, write).unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()))
}

fn read(path: &Path) -> Result<Value, String> {
    let path = path.to_owned();
    let text = fuse::within(ANSWER_TIMEOUT, move || std::fs::read_to_string(path));
    let text = text.ok_or("it no longer answers")?;
    let text = text.map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("its report is not JSON: {error}"))
}

/// Catches SIGINT and SIGTERM.
struct Interrupts {
    runtime: tokio::runtime::Runtime,
    came: tokio::sync::watch::Receiver<bool>,
}

impl Interrupts {
    fn catch() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot catch signals: {error}");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let (sender, came) = tokio::sync::watch::channel(false);
        let _inside = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                sender.send_replace(true);
            }
        });
        drop(_inside);
        Ok(Self { runtime, came })
    }

    fn came(&self) -> bool {
        let _ = &self.runtime;
        *self.came.borrow()
    }
}

/// Shows progress on stderr: one changing line on a terminal, otherwise a new line at intervals.
struct Progress {
    task: String,
    quiet: bool,
    on_terminal: bool,
    shown: Instant,
}

impl Progress {
    fn new(task: &str, quiet: bool) -> Self {
        Self {
            task: task.into(),
            quiet,
            on_terminal: std::io::stderr().is_terminal(),
            shown: Instant::now(),
        }
    }

    fn show(&mut self, report: &Value, is_last: bool) {
        if self.quiet || (!self.on_terminal && !is_last && self.shown.elapsed() < PROGRESS_INTERVAL)
        {
            return;
        }
        self.shown = Instant::now();
        let number = |key| table::number(report, key);
        let line = format!(
            "{}: {} of {} compared, {}",
            self.task,
            number("compared"),
            count(number("of"), "artifact"),
            count(number("differences"), "difference")
        );
        let mut stderr = std::io::stderr();
        let _ = match (self.on_terminal, is_last) {
            (true, false) => write!(stderr, "\r\x1b[K{line}"),
            (true, true) => writeln!(stderr, "\r\x1b[K{line}"),
            (false, _) => writeln!(stderr, "{line}"),
        };
    }
}

fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// Writes the result, one line for each difference.
fn summary(report: &Value) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let found = table::list(report, "found");
    for difference in found {
        let text = |key| table::text(difference, key);
        let outcome = match (table::is_set(difference, "repaired"), text("error")) {
            (true, _) => "repaired".to_owned(),
            (false, "-") => "not repaired".to_owned(),
            (false, error) => format!("not repaired: {error}"),
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            out,
            "{}: {} at {} ({outcome})",
            text("artifact"),
            text("problem"),
            text("target")
        );
    }
    let number = |key| table::number(report, key);
    let unnamed = number("differences").saturating_sub(found.len() as u64);
    if unnamed > 0 {
        let _ = writeln!(out, "and {unnamed} more");
    }
    for unheard in table::list(report, "unheard") {
        let _ = writeln!(
            out,
            "not compared: {}: {}",
            table::text(unheard, "target"),
            table::text(unheard, "reason")
        );
    }
    if number("unsure") > 0 {
        let _ = writeln!(
            out,
            "not compared: {}, possibly deleted (only the registry knows)",
            count(number("unsure"), "artifact")
        );
    }
    let stopped = match table::text(report, "state") {
        "stopped" => "stopped early; ",
        _ => "",
    };
    let _ = writeln!(
        out,
        "{stopped}{} compared, {}, {} repaired",
        count(number("compared"), "artifact"),
        count(number("differences"), "difference"),
        number("repaired")
    );
    out
}

/// Returns the exit code for a report: whether every target now holds the same content.
fn verdict(report: &Value) -> Exit {
    let number = |key| table::number(report, key);
    let all_done = table::text(report, "state") == "done"
        && number("differences") == number("repaired")
        && number("unsure") == 0
        && table::list(report, "unheard").is_empty();
    match all_done {
        true => Exit::Success,
        false => Exit::Degraded,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_exit_code_says_whether_every_target_holds_the_same_now() {
        for (report, exit) in [
            (json!({"state": "done"}), Exit::Success),
            (
                json!({"state": "done", "differences": 2, "repaired": 2}),
                Exit::Success,
            ),
            (
                json!({"state": "done", "differences": 2, "repaired": 1}),
                Exit::Degraded,
            ),
            (json!({"state": "stopped"}), Exit::Degraded),
            (json!({"state": "done", "unsure": 1}), Exit::Degraded),
            (json!({"state": "done", "unheard": [{}]}), Exit::Degraded),
            (json!({}), Exit::Degraded),
        ] {
            assert_eq!(verdict(&report), exit, "{report}");
        }
    }

    #[test]
    fn the_summary_names_every_difference_and_each_target_that_was_not_compared() {
        let report = json!({
            "state": "done", "compared": 7, "of": 7, "differences": 3, "repaired": 1, "unsure": 0,
            "found": [
                {"artifact": "app/schema", "target": "s3://b", "problem": "behind", "repaired": true},
                {"artifact": "app/plans/p", "target": "s3://b", "problem": "missing",
                 "repaired": false, "error": "denied"},
            ],
            "unheard": [{"target": "file:///b", "reason": "gone"}],
        });
        let text = summary(&report);
        let lines: Vec<_> = text.lines().collect();
        let expected = [
            "app/schema: behind at s3://b (repaired)",
            "app/plans/p: missing at s3://b (not repaired: denied)",
            "and 1 more",
            "not compared: file:///b: gone",
            "7 artifacts compared, 3 differences, 1 repaired",
        ];
        assert_eq!(lines, expected);
    }
}
