//! The process behind a mount, from the first check to the last push, and its messages to the
//! process that the user started.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;
use super::log;
use super::settings::MountSettings;
use super::start::start;
use crate::fs::Fs;
use crate::fuse::{self, Deadlines, MountRequest, Served};

/// The time of a mount's first answer beyond the deadline of metadata. The answer comes from
/// memory, so only an overloaded machine takes longer.
const FIRST_ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// The time of the shutdown beyond the deadline of a push, for the steps after the push.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(1);

/// The number of runtime threads. The runtime mostly waits for networks; with two threads, hashing
/// a large artifact does not delay a small one.
const WORKER_THREADS: usize = 2;

/// Mounts and serves in this process; errors go to stderr.
pub(super) fn in_foreground(settings: &MountSettings) -> Exit {
    let place = log::LogDestination::Stderr;
    if let Err(error) = log::start(&settings.log, place, &settings.state_dir) {
        super::complain(&error.to_string());
        return Exit::Failure;
    }
    let tell = |report: &MountReport| {
        match report {
            MountReport::Warning(text) => tracing::warn!("{text}"),
            MountReport::Ready => {}
            MountReport::Failed(text, _) => super::complain(text),
        }
        Ok(())
    };
    mount(settings, tell)
}

/// Mounts, reports the outcome, and serves until the end.
pub(super) fn mount(
    settings: &MountSettings,
    mut tell: impl FnMut(&MountReport) -> io::Result<()>,
) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&mut tell, format!("cannot start threads: {error}"));
        }
    };
    let exit = runtime.block_on(async {
        match Signals::new() {
            Ok(mut signals) => live(settings, &mut signals, &mut tell).await,
            Err(error) => fail(&mut tell, format!("cannot listen for signals: {error}")),
        }
    });
    // Threads that still wait for a network or a disk must not keep the process alive.
    runtime.shutdown_background();
    exit
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("atlasfs")
        .enable_all()
        .build()
}

fn fail(tell: &mut impl FnMut(&MountReport) -> io::Result<()>, why: String) -> Exit {
    tracing::error!("{why}");
    // The process that waits for the report may be gone.
    let _ = tell(&MountReport::Failed(why, Exit::Failure));
    Exit::Failure
}

async fn live(
    settings: &MountSettings,
    signals: &mut Signals,
    tell: &mut impl FnMut(&MountReport) -> io::Result<()>,
) -> Exit {
    let mut request = MountRequest {
        dir: settings.dir.clone(),
        source: String::new(),
        read_only: settings.fs.read_only,
        allow_other: settings.allow_other,
    };
    // Before any request to a target, so that a wrong mount point fails at once.
    let dir = match fuse::preflight(&request) {
        Ok(dir) => dir,
        Err(error) => return fail(tell, error.to_string()),
    };
    let settings = &MountSettings {
        dir,
        ..settings.clone()
    };
    let started = tokio::select! {
        started = start(settings) => started,
        name = signals.next() => return fail(tell, format!("{name} interrupted the mount")),
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => return fail(tell, error.to_string()),
    };
    for warning in started.warnings {
        // The waiting process may be gone: sending Ready shows that.
        let _ = tell(&MountReport::Warning(warning));
    }
    request.source = started.source;
    request.read_only = started.read_only;
    let runtime = tokio::runtime::Handle::current();
    let fs = started.fs;
    let deadlines = Deadlines {
        metadata: settings.registry.metadata,
        read: settings.registry.read,
        push: settings.registry.push,
    };
    let served = match fuse::serve(fs.clone(), runtime, &request, deadlines, settings.owner) {
        Ok(served) => served,
        Err(error) => return fail(tell, error.to_string()),
    };
    let timeout = deadlines.metadata + FIRST_ANSWER_MARGIN;
    let dir = served.mount.dir().to_owned();
    let mount = served.mount.clone();
    let proof = tokio::task::spawn_blocking(move || mount.prove(timeout)).await;
    let failed = match proof {
        Ok(Ok(())) => {
            tracing::info!(dir = %dir.display(), source = request.source, "mounted");
            match tell(&MountReport::Ready) {
                Ok(()) => None,
                Err(error) => Some(format!(
                    "the command that started the mount is gone: {error}"
                )),
            }
        }
        Ok(Err(error)) => Some(format!(
            "the mount on {} does not answer: {error}",
            dir.display()
        )),
        Err(error) => Some(format!("cannot test the mount: {error}")),
    };
    if let Some(why) = failed {
        detach(&served).await;
        return fail(tell, why);
    }
    serve_until_the_end(served, &fs, deadlines.push, signals).await
}

async fn serve_until_the_end(
    mut served: Served,
    fs: &Arc<Fs>,
    push_deadline: Duration,
    signals: &mut Signals,
) -> Exit {
    let dir = served.mount.dir().to_owned();
    let mut exit = Exit::Success;
    tokio::select! {
        ended = &mut served.ended => exit = after_session(&served, ended, &dir),
        name = signals.next() => {
            tracing::info!(dir = %dir.display(), "{name}: unmounting");
            detach(&served).await;
        }
    }
    let end = fs.shut_down(push_deadline);
    let left = tokio::select! {
        left = tokio::time::timeout(push_deadline + SHUTDOWN_MARGIN, end) => left.ok(),
        name = signals.next() => {
            tracing::warn!("{name} again: ending at once");
            None
        }
    };
    if left == Some(0) {
        // A push ends before the answer to its close: without this wait, a finished push could look
        // failed.
        let answered = served.unanswered.wait_for(|unanswered| *unanswered == 0);
        let _ = tokio::time::timeout(SHUTDOWN_MARGIN, answered).await;
    }
    match left {
        Some(0) => tracing::info!(dir = %dir.display(), "ended"),
        Some(left) => {
            tracing::warn!(
                left,
                "ended with pushes under way; their closes did not succeed"
            );
            exit = worse(exit, Exit::Degraded);
        }
        None => {
            tracing::warn!("ended before all pushes finished; their closes did not succeed");
            exit = worse(exit, Exit::Degraded);
        }
    }
    exit
}

fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Success { other } else { one }
}

/// Logs why the session has ended, and cleans up.
fn after_session<E>(served: &Served, ended: Result<io::Result<()>, E>, dir: &Path) -> Exit {
    let dir = dir.display();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%dir, "the session failed: {error}"),
        Err(_) => tracing::error!(%dir, "the session thread has died"),
    }
    match served.mount.clear() {
        Ok(false) => {
            tracing::info!(%dir, "unmounted");
            Exit::Success
        }
        Ok(true) => {
            tracing::error!(%dir, "another process aborted the connection; removed the mount");
            Exit::Aborted
        }
        Err(error) => {
            tracing::error!(%dir, "cannot clean up the mount: {error}");
            Exit::Aborted
        }
    }
}

async fn detach(served: &Served) {
    let mount = served.mount.clone();
    // The unmount for users other than root waits for a helper process.
    match tokio::task::spawn_blocking(move || mount.detach()).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            tracing::warn!("the mount is no longer at its mount point; leaving it alone")
        }
        Ok(Err(error)) => tracing::error!("cannot unmount: {error}"),
        Err(error) => tracing::error!("cannot unmount: {error}"),
    }
}

/// Harmless signals whose default action would end the process. The mount catches them, and doesn't
/// ignore them: programs run for credentials would inherit an ignored signal. A write beyond the
/// limit of file sizes then fails with EFBIG.
const CAUGHT_SIGNALS: [libc::c_int; 13] = [
    libc::SIGHUP,
    libc::SIGXFSZ,
    libc::SIGXCPU,
    libc::SIGPIPE,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGQUIT,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

/// The signals that end a mount.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        for harmless in CAUGHT_SIGNALS {
            // The handler stays installed when its receiver is gone.
            let _ = signal(SignalKind::from_raw(harmless))?;
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal, and returns its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A message to the process that the user started: one JSON object per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MountReport {
    /// A warning for the user; the mount goes on.
    Warning(String),
    /// The mount answers.
    Ready,
    /// The mount failed; the text gives the reason.
    Failed(String, Exit),
}

impl MountReport {
    /// Writes the message as a line.
    pub(super) fn send(&self, mut to: impl Write) -> io::Result<()> {
        let value = match self {
            Self::Warning(text) => json!({ "warn": text }),
            Self::Ready => json!({ "ready": true }),
            Self::Failed(text, exit) => json!({ "error": text, "code": exit.code() }),
        };
        writeln!(to, "{value}")?;
        to.flush()
    }

    /// Reads a line; `None` if it is no message.
    pub(super) fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        if let Some(text) = value.get("warn").and_then(Value::as_str) {
            return Some(Self::Warning(text.to_owned()));
        }
        if let Some(text) = value.get("error").and_then(Value::as_str) {
            let code = value.get("code").and_then(Value::as_u64).unwrap_or(1);
            return Some(Self::Failed(text.to_owned(), Exit::from_code(code)));
        }
        let ready = value.get("ready").and_then(Value::as_bool);
        (ready == Some(true)).then_some(Self::Ready)
    }
}

/// The most descriptors that a mount needs: one for every handle of the default limits, and a
/// connection for each.
const MAX_DESCRIPTORS: u64 = 65_536;

/// Closes the caller's descriptors, which would keep its locks and pipes for as long as the mount
/// lives, and raises the limit of descriptors as far as allowed. Call it before opening anything.
pub(super) fn adjust_limits() {
    fuse::close_all();
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(MAX_DESCRIPTORS).max(soft);
        // If this fails, the mount keeps the caller's limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_through_as_one_line() {
        for report in [
            MountReport::Warning("a\n\"b\"".to_owned()),
            MountReport::Ready,
            MountReport::Failed("c".to_owned(), Exit::Usage),
        ] {
            let mut out = Vec::new();
            report.send(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches('\n').count(), 1);
            assert_eq!(MountReport::read(&text), Some(report));
        }
    }

    #[test]
    fn other_lines_are_no_messages() {
        for line in ["", "x", "{}", "[]", "{\"ready\":false}"] {
            assert_eq!(MountReport::read(line), None);
        }
    }
}
