//! Names, inodes and handles: POSIX semantics, async and testable without a mount.
//!
//! [`Fs`] is the file system; its operations are spread over the files. `namespace` looks up, makes
//! and removes names, `removal` knows the programs that take an artifact's two names for two files,
//! `directory` lists names, `file` opens, reads and writes, `close` pushes, `attribute` answers for
//! an inode; `temporary` has the files that tools make for themselves, and `rename` turns them into
//! artifacts. `node`, `handle`, `staged_file`, `staging`, `name` and `threads` hold the state.

mod archived_file;
mod attribute;
mod author;
mod close;
mod control;
mod directory;
mod file;
mod handle;
mod history;
mod migrations;
mod name;
mod namespace;
mod node;
mod outdated;
mod plan_status;
mod removal;
mod rename;
mod staged_file;
mod staging;
mod temporary;
mod threads;
mod types;

#[cfg(test)]
mod tests;

pub use author::AuthorSetting;
pub use handle::{DirListing, Processes};
pub use name::is_tag;
pub use types::{
    Attr, Caller, CreateAttrs, DirEntry, Error, FileKind, LookupEntry, OpenMode, Opened, ROOT,
    Result, SetAttr, Statfs, XattrFlag,
};

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::registry::{self, Registry};

use author::Authors;
use handle::Handles;
use name::LocalNames;
use node::{KernelNotifier, Node, Nodes};
use removal::Removals;
use staging::Quota;
use temporary::TemporaryTree;
use threads::{Reads, StaleRetries};
use types::lock;

/// The time that the kernel may keep constant attributes: those of a content, which has an inode of
/// its own, and of the fixed directories. One hour: practically for ever, yet a wrong entry expires
/// by itself.
const FOR_EVER: Duration = Duration::from_secs(60 * 60);

/// The settings of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsSettings {
    /// Whether the mount refuses every change.
    pub read_only: bool,
    /// Whether programs may delete artifacts.
    pub allow_delete: bool,
    /// The most handles that are open for writing, or on temporary files, at once.
    pub max_writers: usize,
    /// The most bytes of all temporary files together.
    pub temporary_bytes: u64,
    /// The most bytes of all staged files together.
    pub staged_bytes: u64,
    /// The author that pushes name.
    pub author: AuthorSetting,
}

/// The file system.
///
/// Every operation is a future that answers from memory at its first poll if it can. So a caller
/// can poll it once on its own thread, and move it to a runtime only if it is pending. `pid` is the
/// calling thread, from FUSE; a [`Caller`] also names its user.
#[derive(Debug)]
pub struct Fs {
    registry: Arc<Registry>,
    settings: FsSettings,
    authors: Authors,
    /// The mount, as the status shows it.
    mount: registry::Mount,
    nodes: Mutex<Nodes>,
    handles: Mutex<Handles>,
    local: Mutex<LocalNames>,
    stale_retries: Mutex<StaleRetries>,
    reads: Mutex<Reads>,
    removals: Mutex<Removals>,
    temporary: Mutex<TemporaryTree>,
    kernel: KernelNotifier,
    /// The quota of staged files.
    staged: Arc<Quota>,
    /// Pushes and deletions, which the process waits for before it ends.
    pushes: InFlight,
    /// Decides whether a close is a save; without it, every close is.
    processes: OnceLock<Arc<dyn Processes>>,
}

impl Fs {
    /// Makes the file system of a registry.
    pub fn new(registry: Arc<Registry>, settings: FsSettings, mount: registry::Mount) -> Arc<Self> {
        let staged = Arc::new(Quota::new(settings.staged_bytes));
        let temporary = TemporaryTree::new(settings.temporary_bytes, registry.staging_dir());
        Arc::new(Self {
            authors: Authors::new(settings.author),
            registry,
            settings,
            mount,
            temporary: Mutex::new(temporary),
            staged,
            reads: Mutex::default(),
            removals: Mutex::default(),
            kernel: KernelNotifier::default(),
            nodes: Mutex::new(Nodes::new()),
            handles: Mutex::default(),
            local: Mutex::default(),
            stale_retries: Mutex::default(),
            pushes: InFlight::default(),
            processes: OnceLock::new(),
        })
    }

    /// Sets the function that makes the kernel forget the attributes of an inode. It must not wait
    /// for an answer of this file system.
    pub fn connect(&self, forget: impl Fn(u64) + Send + Sync + 'static) {
        self.kernel.connect(forget);
    }

    /// Stops all notifications to the kernel: the mount ends.
    pub fn disconnect(&self) {
        self.kernel.disconnect();
    }

    /// Sets the source of process information; only the first call counts.
    pub fn set_processes(&self, processes: Arc<dyn Processes>) {
        self.processes.get_or_init(|| processes);
    }

    /// Drops `count` references on an inode.
    pub fn forget(&self, ino: u64, count: u64) {
        lock(&self.nodes).forget(ino, count);
    }

    /// Adds a reference on an inode.
    fn remember(&self, ino: u64) {
        lock(&self.nodes).remember(ino);
    }

    /// Waits for the pushes in flight, at most as long as `within`; returns the number left.
    pub async fn shut_down(&self, within: Duration) -> usize {
        let mut pushes = self.pushes.count();
        let done = pushes.wait_for(|pushes| *pushes == 0);
        let _ = tokio::time::timeout(within, done).await;
        *pushes.borrow()
    }

    /// Returns the node of an inode.
    fn node(&self, ino: u64) -> Result<Node> {
        lock(&self.nodes).get(ino).cloned().ok_or(Error::Stale)
    }

    /// Returns a node's inode and attributes, with a reference for the caller.
    fn lookup_entry(&self, node: Node) -> LookupEntry {
        let mut nodes = lock(&self.nodes);
        let ino = nodes.intern(node.clone());
        nodes.remember(ino);
        drop(nodes);
        self.entry(ino, &node)
    }

    fn writable(&self) -> Result<()> {
        match self.settings.read_only {
            true => Err(Error::ReadOnly),
            false => Ok(()),
        }
    }

    fn staging_dir(&self) -> std::path::PathBuf {
        self.registry.staging_dir()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

impl From<registry::RegistryError> for Error {
    fn from(error: registry::RegistryError) -> Self {
        use registry::ErrorKind;
        match error.kind {
            ErrorKind::NotFound => Error::NotFound,
            ErrorKind::Denied => Error::Denied,
            ErrorKind::Conflict => Error::Stale,
            ErrorKind::Invalid => Error::Invalid,
            ErrorKind::NoSpace => Error::NoSpace,
            ErrorKind::Outage | ErrorKind::Torn => Error::Io,
        }
    }
}

/// Counts operations in flight, so that the process can wait for them before it ends.
#[derive(Debug, Clone)]
pub struct InFlight(watch::Sender<usize>);

/// One operation in flight, until this is dropped.
#[derive(Debug)]
pub struct InFlightGuard(InFlight);

impl Default for InFlight {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl InFlight {
    /// Counts one more operation.
    #[must_use]
    pub fn begin(&self) -> InFlightGuard {
        self.0.send_modify(|count| *count += 1);
        InFlightGuard(self.clone())
    }

    /// Returns the count, as a watch.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let end = |count: &mut usize| *count = count.saturating_sub(1);
        self.0.0.send_modify(end);
    }
}
