//! The process behind a mount, from the first check to the last push.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;
use super::log;
use super::report::Report;
use super::settings::MountSettings;
use super::start::start;
use crate::fs::Fs;
use crate::fuse::{self, MountRequest, Served};

/// How long the first answer of a mount may take beyond the deadline of metadata. It comes from
/// memory, so this only ever passes on a machine in trouble.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// How much longer than the deadline of a push the end may take, for what comes after the push.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Threads of the runtime. What it does is wait for networks, and two are there so that hashing a
/// large artifact does not hold up a small one.
const THREADS: usize = 2;

/// Mounts and serves in this process; errors go to stderr.
pub(super) fn in_foreground(settings: &MountSettings) -> Exit {
    let place = log::Place::Stderr;
    if let Err(error) = log::start(&settings.log, place, &settings.state_dir) {
        super::complain(&error.to_string());
        return Exit::Failure;
    }
    let tell = |report: &Report| {
        match report {
            Report::Warning(text) => tracing::warn!("{text}"),
            Report::Ready => {}
            Report::Failed(text, _) => super::complain(text),
        }
        Ok(())
    };
    mount(settings, tell)
}

/// Mounts, tells how that went, and serves until the end.
pub(super) fn mount(
    settings: &MountSettings,
    mut tell: impl FnMut(&Report) -> io::Result<()>,
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
            Err(error) => fail(&mut tell, format!("cannot listen to signals: {error}")),
        }
    });
    // Threads that still wait for a network or a disk must not keep the process.
    runtime.shutdown_background();
    exit
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("atlasfs")
        .enable_all()
        .build()
}

fn fail(tell: &mut impl FnMut(&Report) -> io::Result<()>, why: String) -> Exit {
    tracing::error!("{why}");
    // Whoever started it may be gone.
    let _ = tell(&Report::Failed(why, Exit::Failure));
    Exit::Failure
}

async fn live(
    settings: &MountSettings,
    signals: &mut Signals,
    tell: &mut impl FnMut(&Report) -> io::Result<()>,
) -> Exit {
    let mut request = MountRequest {
        dir: settings.dir.clone(),
        source: String::new(),
        read_only: settings.read_only,
        allow_other: settings.allow_other,
    };
    // Before targets are asked: what is wrong here is told at once.
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
        name = signals.next() => return fail(tell, format!("{name} came before the mount")),
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => return fail(tell, error.to_string()),
    };
    for warning in started.warnings {
        // Whoever started it may be gone; sending Ready tells.
        let _ = tell(&Report::Warning(warning));
    }
    request.source = started.source;
    let runtime = tokio::runtime::Handle::current();
    let fs = started.fs;
    let served = match fuse::serve(
        fs.clone(),
        runtime,
        &request,
        settings.deadlines,
        settings.owner,
    ) {
        Ok(served) => served,
        Err(error) => return fail(tell, error.to_string()),
    };
    let patience = settings.deadlines.metadata + FIRST_ANSWER;
    let dir = served.mount.dir().to_owned();
    let mount = served.mount.clone();
    let proof = tokio::task::spawn_blocking(move || mount.prove(patience)).await;
    let failed = match proof {
        Ok(Ok(())) => {
            tracing::info!(dir = %dir.display(), source = request.source, "mounted");
            match tell(&Report::Ready) {
                Ok(()) => None,
                Err(error) => Some(format!("nobody waits for the mount any more: {error}")),
            }
        }
        Ok(Err(error)) => Some(format!(
            "the mount on {} does not answer: {error}",
            dir.display()
        )),
        Err(error) => Some(format!("the mount could not be tried: {error}")),
    };
    if let Some(why) = failed {
        detach(&served).await;
        return fail(tell, why);
    }
    serve_until_the_end(served, &fs, settings.deadlines.push, signals).await
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
        left = tokio::time::timeout(push_deadline + LAST_WORDS, end) => left.ok(),
        name = signals.next() => {
            tracing::warn!("{name} again: ending at once");
            None
        }
    };
    if left == Some(0) {
        // A push is done before its close is answered: an end in between makes it look failed.
        let answered = served.unanswered.wait_for(|unanswered| *unanswered == 0);
        let _ = tokio::time::timeout(LAST_WORDS, answered).await;
    }
    match left {
        Some(0) => tracing::info!(dir = %dir.display(), "ended"),
        Some(left) => {
            tracing::warn!(
                left,
                "ended with pushes under way; their closes were not answered with success"
            );
            exit = worse(exit, Exit::Degraded);
        }
        None => {
            tracing::warn!(
                "ended before all pushes were done; their closes were not answered with success"
            );
            exit = worse(exit, Exit::Degraded);
        }
    }
    exit
}

fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Success { other } else { one }
}

/// Finds out why the session has ended, and clears up.
fn after_session<E>(served: &Served, ended: Result<io::Result<()>, E>, dir: &Path) -> Exit {
    let dir = dir.display();
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%dir, "the session failed: {error}"),
        Err(_) => tracing::error!(%dir, "the session's thread is gone"),
    }
    match served.mount.clear() {
        Ok(false) => {
            tracing::info!(%dir, "unmounted");
            Exit::Success
        }
        Ok(true) => {
            tracing::error!(%dir, "the kernel's connection was broken from outside; the mount is removed");
            Exit::Aborted
        }
        Err(error) => {
            tracing::error!(%dir, "cannot remove what is left of the mount: {error}");
            Exit::Aborted
        }
    }
}

async fn detach(served: &Served) {
    let mount = served.mount.clone();
    // The helper for users other than root is a process to wait for.
    match tokio::task::spawn_blocking(move || mount.detach()).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => tracing::warn!("the mount is not where it was made; it is left alone"),
        Ok(Err(error)) => tracing::error!("cannot unmount: {error}"),
        Err(error) => tracing::error!("cannot unmount: {error}"),
    }
}

/// Signals that would end the process and tell it nothing. They are listened to, not ignored: what
/// is ignored stays so in the programs that are run for credentials. A write beyond the limit of
/// file sizes then fails with EFBIG.
const HARMLESS: [libc::c_int; 13] = [
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
        for harmless in HARMLESS {
            // The listener stays when its receiver is gone.
            let _ = signal(SignalKind::from_raw(harmless))?;
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one, and returns its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
