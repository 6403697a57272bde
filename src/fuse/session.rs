//! The session: the threads that read the kernel's requests.

use std::io;
use std::sync::Arc;

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::attr::Owner;
use super::dispatch::Deadlines;
use super::error::MountError;
use super::filesystem::Bridge;
use super::mount::{Mount, MountRequest};
use super::process::Proc;
use crate::fs::Fs;

/// Two threads: what a thread does is short (it hands over whatever waits), so the second is there
/// only for a write to a slow local disk not to hold up the rest.
const THREADS: usize = 2;

/// The offset by which the kernel forgets an inode's attributes alone, and keeps its pages.
const NO_RANGE: i64 = -1;

/// A mount that is being served.
#[derive(Debug)]
pub struct Served {
    /// The mount.
    pub mount: Mount,
    /// How the session ended: the mount was unmounted, or its connection broken.
    pub ended: oneshot::Receiver<io::Result<()>>,
    /// How many requests have no answer yet.
    pub unanswered: watch::Receiver<usize>,
}

/// Mounts a file system and serves it from threads of its own.
pub fn serve(
    fs: Arc<Fs>,
    runtime: Handle,
    request: &MountRequest,
    deadlines: Deadlines,
    owner: Owner,
) -> Result<Served, MountError> {
    let (mount, connection) = Mount::new(request)?;
    match Proc::new(mount.device()) {
        Some(processes) => fs.ask(Arc::new(processes)),
        None => tracing::warn!(
            "/proc doesn't show this process, so each close counts as a save: also one by a killed \
             program, or by a part of a shell's command; mount with the /proc of this pid namespace"
        ),
    }
    let bridge = Bridge::new(Arc::clone(&fs), runtime, deadlines, owner);
    let unanswered = bridge.unanswered();
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    // A descriptor for each thread: none wakes up for what another one takes.
    config.clone_fd = true;
    // The kernel checks who may come in, knowing about descriptors that were handed on; fuser's
    // own check would refuse the flush of such a one, and with it the push.
    let acl = SessionACL::All;
    let (sender, ended) = oneshot::channel();
    let started = Session::from_fd(bridge, connection, acl, config).and_then(|session| {
        connect(&fs, session.notifier());
        std::thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || {
                let ended = session.run();
                // The way to the kernel holds the connection open.
                fs.disconnect();
                // Nobody listens any more when the process is about to end.
                let _ = sender.send(ended);
            })
    });
    match started {
        Ok(_thread) => Ok(Served {
            mount,
            ended,
            unanswered,
        }),
        Err(error) => {
            if let Err(left) = mount.clear() {
                tracing::warn!("cannot remove what is left of the mount: {left}");
            }
            Err(MountError::Session(mount.dir().to_owned(), error))
        }
    }
}

/// Lets the file system have the kernel ask anew for attributes.
///
/// Without a range the notification touches no page, and it takes no lock of a directory. So it
/// never waits for an answer of this file system, unlike all other notifications.
fn connect(fs: &Fs, notifier: Notifier) {
    fs.connect(move |ino| {
        if let Err(error) = notifier.inval_inode(INodeNo(ino), NO_RANGE, 0) {
            tracing::debug!(ino, "the kernel was not told of a push: {error}");
        }
    });
}
