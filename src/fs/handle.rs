//! Open files and directories, and the processes that hold them open.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use super::node::Node;
use super::staged_file::StagedFile;
use super::temporary::TemporaryFile;

/// An open file or directory.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    /// A content or a control file, as it was at the open.
    Bytes(Bytes),
    /// A staged file.
    StagedFile {
        /// The file.
        staged: Arc<StagedFile>,
        /// Whether writes go to the end.
        append: bool,
        /// The process that opened it; `None` if only for reading.
        opener: Option<Opener>,
    },
    /// The control file that takes job requests.
    Jobs,
    /// A temporary file.
    TemporaryFile {
        /// The file.
        temporary: Arc<TemporaryFile>,
        /// Whether writes go to the end.
        append: bool,
        /// The process that opened it; `None` if only for reading.
        opener: Option<Opener>,
    },
    /// A directory.
    Directory(Arc<Directory>),
}

impl Handle {
    /// Returns the handle's staged file. A temporary file that was renamed onto an artifact's name
    /// has one too.
    pub(super) fn staged(&self) -> Option<Arc<StagedFile>> {
        match self {
            Handle::StagedFile { staged, .. } => Some(Arc::clone(staged)),
            Handle::TemporaryFile { temporary, .. } => temporary.pushed(),
            Handle::Bytes(_) | Handle::Jobs | Handle::Directory(_) => None,
        }
    }

    /// Returns the process that opened it for writing.
    pub(super) fn opener(&self) -> Option<Opener> {
        match self {
            Handle::StagedFile { opener, .. } | Handle::TemporaryFile { opener, .. } => *opener,
            Handle::Bytes(_) | Handle::Jobs | Handle::Directory(_) => None,
        }
    }

    /// Tells whether the handle holds a file in the staging directory open.
    fn is_staged(&self) -> bool {
        matches!(
            self,
            Handle::StagedFile { .. } | Handle::TemporaryFile { .. }
        )
    }
}

/// An open directory: its inode, and the entries as they were at the last rewind.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) ino: u64,
    pub(super) entries: std::sync::Mutex<Arc<Vec<(OsString, Node)>>>,
}

/// The handles that are open.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<u64, (u64, Handle)>,
    last: u64,
    writers: usize,
}

impl Handles {
    /// Opens a handle on an inode.
    pub(super) fn insert(&mut self, ino: u64, handle: Handle) -> u64 {
        self.last += 1;
        if handle.is_staged() {
            self.writers += 1;
        }
        self.open.insert(self.last, (ino, handle));
        self.last
    }

    /// Returns a handle.
    pub(super) fn get(&self, fh: u64) -> Option<&Handle> {
        self.open.get(&fh).map(|(_, handle)| handle)
    }

    /// Closes a handle; returns its inode too.
    pub(super) fn remove(&mut self, fh: u64) -> Option<(u64, Handle)> {
        let removed = self.open.remove(&fh)?;
        if removed.1.is_staged() {
            self.writers -= 1;
        }
        Some(removed)
    }

    /// Tells whether a handle is open on an inode.
    pub(super) fn is_open(&self, ino: u64) -> bool {
        self.open.values().any(|(open, _)| *open == ino)
    }

    /// Tells whether a handle other than this one is open for writing on a file that shows one of
    /// these inode numbers.
    pub(super) fn is_written_by_others(&self, fh: u64, inodes: [u64; 2]) -> bool {
        let others = self.open.iter().filter(|(other, _)| **other != fh);
        let mut others = others.filter(|(_, (_, handle))| handle.opener().is_some());
        others.any(|(_, (ino, handle))| {
            let shown = handle.staged().and_then(|staged| staged.shown());
            inodes.contains(ino) || shown.is_some_and(|shown| inodes.contains(&shown))
        })
    }

    /// Returns how many handles are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns how many handles are open for writing, or on a temporary file.
    pub(super) fn writers(&self) -> usize {
        self.writers
    }
}

/// The entries of a directory at the last listing from its start.
#[derive(Debug, Clone)]
pub struct DirListing {
    pub(super) ino: u64,
    pub(super) entries: Arc<Vec<(OsString, Node)>>,
}

/// The processes of this machine. An answer is missing for an invisible process: one of a foreign
/// pid namespace, or of another user.
pub trait Processes: Debug + Send + Sync {
    /// Returns the process that a thread belongs to.
    fn process_of(&self, thread: u32) -> Option<u32>;

    /// Returns the signal that ends the process of a thread; 0 if the signal is unknown.
    fn killed_by(&self, thread: u32) -> Option<i32>;

    /// Tells whether a process has a file with one of these inode numbers open for writing.
    fn holds(&self, process: u32, inodes: [u64; 2]) -> bool;

    /// Returns the inode numbers of the files of this mount that a thread has open; `None` if its
    /// files are invisible.
    fn open_inodes(&self, thread: u32) -> Option<Vec<u64>>;
}

/// The process that opened a file for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opener {
    /// The thread that called open(2); 0 if it is invisible.
    pub(super) thread: u32,
    /// Its process, if it was looked up during the open.
    pub(super) process: Option<u32>,
    /// The inode.
    pub(super) ino: u64,
}

impl Opener {
    /// Returns the process; looks it up now if the open has not.
    pub(super) fn process(&self, processes: &dyn Processes) -> Option<u32> {
        let looked_up = || processes.process_of(self.thread);
        self.process
            .or_else(|| looked_up().filter(|_| self.thread != 0))
    }
}
