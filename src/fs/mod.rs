//! Names, inodes and handles: what POSIX means here, async and testable without a mount.
//!
//! [`Fs`] is the whole of it. `namespace` finds and makes names, `directory` lists them, `file`
//! opens, reads and writes, `close` pushes (`process` tells whose close it is), `attribute` and `xattr` answer for an inode; `temporary` has what tools make
//! for themselves, and `rename` makes artifacts of that; `node`, `handle` and `staged` keep the
//! state that these share.

mod attribute;
mod close;
mod control;
mod directory;
mod error;
mod file;
mod handle;
mod in_flight;
mod kernel;
mod local;
mod name;
mod namespace;
mod node;
mod process;
mod quota;
mod reads;
mod rename;
mod staged_file;
mod stale_retry;
mod strays;
mod temporary;
mod types;
mod xattr;

#[cfg(test)]
mod tests;

pub use directory::Listing;
pub use error::Error;
pub use in_flight::InFlight;
pub use process::Processes;
pub use types::{
    Attr, CreateAttrs, DirEntry, Entry, FileKind, OpenMode, Opened, ROOT, SetAttr, Statfs,
    XattrFlag,
};

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::registry::{self, Registry};

use handle::Handles;
use kernel::Kernel;
use local::Local;
use node::{Node, Nodes};
use quota::Quota;
use reads::Reads;
use stale_retry::StaleRetries;
use strays::Strays;
use temporary::Tree;

/// What an operation of the file system answers.
pub type Result<T> = std::result::Result<T, Error>;

/// For how long the kernel may keep what never changes: the attributes of a content, which has
/// its inode for itself, and the fixed directories. An hour: as good as for ever, and short
/// enough that a surprise ends by itself.
const FOR_EVER: Duration = Duration::from_secs(60 * 60);

/// Locks a mutex; see the registry's own `lock` for why a poisoned one is used as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a mount may choose about its files.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether nothing can be changed.
    pub read_only: bool,
    /// Whether an artifact can be deleted.
    pub allow_delete: bool,
    /// How many handles may be open for writing, or on scratch files, at once.
    pub max_writers: usize,
    /// How many bytes scratch files may take, all together.
    pub temporary_bytes: u64,
    /// How many bytes artifacts may take that are being written, all together.
    pub staged_bytes: u64,
    /// What the status tells of the mount.
    pub mount: registry::Mount,
}

/// The file system.
///
/// Every operation is a future that answers from memory at its first poll whenever it can, so a
/// caller may poll it once where it stands and hand it to a runtime only if it is pending. `pid`
/// is the thread that asks, as FUSE tells it.
#[derive(Debug)]
pub struct Fs {
    registry: Arc<Registry>,
    settings: Settings,
    nodes: Mutex<Nodes>,
    handles: Mutex<Handles>,
    local: Mutex<Local>,
    stale_retries: Mutex<StaleRetries>,
    reads: Mutex<Reads>,
    strays: Mutex<Strays>,
    temporary: Mutex<Tree>,
    kernel: Kernel,
    /// What artifacts take that are being written.
    staged: Arc<Quota>,
    /// Pushes and deletions: the process is not to end before them.
    pushes: InFlight,
    /// Tells which close is a save; without it each one is.
    processes: OnceLock<Arc<dyn Processes>>,
}

impl Fs {
    /// Makes the file system of a registry.
    pub fn new(registry: Arc<Registry>, settings: Settings) -> Arc<Self> {
        let staged = Arc::new(Quota::new(settings.staged_bytes));
        let temporary = Tree::new(settings.temporary_bytes, registry.staging_dir());
        Arc::new(Self {
            registry,
            settings,
            temporary: Mutex::new(temporary),
            staged,
            reads: Mutex::default(),
            strays: Mutex::default(),
            kernel: Kernel::default(),
            nodes: Mutex::new(Nodes::new()),
            handles: Mutex::default(),
            local: Mutex::default(),
            stale_retries: Mutex::default(),
            pushes: InFlight::default(),
            processes: OnceLock::new(),
        })
    }

    /// Says how the kernel is made to forget the attributes of an inode. `forget` must not wait for
    /// an answer of this file system.
    pub fn connect(&self, forget: impl Fn(u64) + Send + Sync + 'static) {
        self.kernel.connect(forget);
    }

    /// Leaves the kernel alone from now on: the mount is about to go.
    pub fn disconnect(&self) {
        self.kernel.disconnect();
    }

    /// Names the machine's processes, which the mount asks from now on; the first call counts.
    pub fn ask(&self, processes: Arc<dyn Processes>) {
        self.processes.get_or_init(|| processes);
    }

    /// Gives back `count` references on an inode.
    pub fn forget(&self, ino: u64, count: u64) {
        lock(&self.nodes).forget(ino, count);
    }

    /// Takes one more reference on an inode.
    fn remember(&self, ino: u64) {
        lock(&self.nodes).remember(ino);
    }

    /// Waits until no push is under way, at most as long as `within`; returns how many are left.
    pub async fn shut_down(&self, within: Duration) -> usize {
        let mut pushes = self.pushes.count();
        let done = pushes.wait_for(|pushes| *pushes == 0);
        let _ = tokio::time::timeout(within, done).await;
        *pushes.borrow()
    }

    /// Returns what an inode stands for.
    fn node(&self, ino: u64) -> Result<Node> {
        lock(&self.nodes).get(ino).cloned().ok_or(Error::Stale)
    }

    /// Gives a node its inode, with a reference for the caller.
    fn hand_out(&self, node: Node) -> Entry {
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

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
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
