//! The session: the threads that read the kernel's requests.

use std::io;
use std::sync::Arc;

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::convert::Owner;
use super::dispatch::Deadlines;
use super::error::MountError;
use super::filesystem::Bridge;
use super::mount::ActiveMount;
use super::preflight::MountRequest;
use super::process::Proc;
use crate::fs::Fs;

/// The number of session threads. A thread hands over every pending request to the runtime, so the
/// second one is only for a write to a slow local disk.
const THREADS: usize = 2;

/// The offset of a notification that invalidates an inode's attributes and keeps its pages.
const ATTRIBUTES_ONLY: i64 = -1;

/// A served mount.
#[derive(Debug)]
pub struct Served {
    /// The mount.
    pub mount: ActiveMount,
    /// The end of the session: by an unmount, or a broken connection.
    pub ended: oneshot::Receiver<io::Result<()>>,
    /// The number of requests without an answer.
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
    let (mount, connection) = ActiveMount::new(request)?;
    match Proc::new(mount.device()) {
        Some(processes) => fs.set_processes(Arc::new(processes)),
        None => tracing::warn!(
            "/proc doesn't show this process, so each close counts as a save, even by a killed \
             program or by part of a shell command; mount with the /proc of this pid namespace"
        ),
    }
    let bridge = Bridge::new(Arc::clone(&fs), runtime, deadlines, owner);
    let unanswered = bridge.unanswered();
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    // One descriptor for each thread: a request wakes one thread, not all.
    config.clone_fd = true;
    // The kernel checks access. fuser's own check would refuse the flush of a descriptor that
    // another user has passed on, and so prevent the push.
    let acl = SessionACL::All;
    let (sender, ended) = oneshot::channel();
    let started = Session::from_fd(bridge, connection, acl, config).and_then(|session| {
        connect(&fs, session.notifier());
        std::thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || {
                let ended = session.run();
                // The notifier holds the connection open.
                fs.disconnect();
                // The send fails while the process ends.
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
                tracing::warn!("cannot clean up the mount: {left}");
            }
            Err(MountError::Session(mount.dir().to_owned(), error))
        }
    }
}

/// Connects the file system to the kernel's cache of attributes.
///
/// A notification without a range touches no page and takes no lock of a directory. So, unlike all
/// other notifications, it never waits for an answer of this file system.
fn connect(fs: &Fs, notifier: Notifier) {
    fs.connect(move |ino| {
        if let Err(error) = notifier.inval_inode(INodeNo(ino), ATTRIBUTES_ONLY, 0) {
            tracing::debug!(ino, "can't notify the kernel of a push: {error}");
        }
    });
}
