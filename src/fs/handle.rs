//! Open files and directories.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;

use bytes::Bytes;

use super::node::Node;
use super::process::Opener;
use super::staged_file::StagedFile;
use super::temporary::TemporaryFile;

/// What a handle refers to.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    /// A content, or a rendered report: the bytes that were there at open.
    Bytes(Bytes),
    /// A writer's view.
    StagedFile {
        /// The view.
        staged: Arc<StagedFile>,
        /// Whether writes go to the end.
        append: bool,
        /// The process that opened it; nothing if only for reading.
        opener: Option<Opener>,
    },
    /// Where orders for jobs are written.
    Orders,
    /// A scratch file.
    TemporaryFile {
        /// The file.
        temporary: Arc<TemporaryFile>,
        /// Whether writes go to the end.
        append: bool,
        /// The process that opened it; nothing if only for reading.
        opener: Option<Opener>,
    },
    /// A directory.
    Directory(Arc<Directory>),
}

impl Handle {
    /// Returns the writer's view that the handle is on: a scratch file that has been renamed onto
    /// an artifact's name is one.
    pub(super) fn staged(&self) -> Option<Arc<StagedFile>> {
        match self {
            Handle::StagedFile { staged, .. } => Some(Arc::clone(staged)),
            Handle::TemporaryFile { temporary, .. } => temporary.pushed(),
            Handle::Bytes(_) | Handle::Orders | Handle::Directory(_) => None,
        }
    }

    /// Returns the process that opened it for writing.
    pub(super) fn opener(&self) -> Option<Opener> {
        match self {
            Handle::StagedFile { opener, .. } | Handle::TemporaryFile { opener, .. } => *opener,
            Handle::Bytes(_) | Handle::Orders | Handle::Directory(_) => None,
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

    /// Returns how many handles are open for writing, or on a scratch file.
    pub(super) fn writers(&self) -> usize {
        self.writers
    }
}
