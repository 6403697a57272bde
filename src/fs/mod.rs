//! Names, inodes and handles: what POSIX means here, async and testable without a mount.

mod error;
mod types;

pub use error::Error;
pub use types::{Attr, DirEntry, Entry, FileKind, OpenHow, Opened, ROOT, SetAttr, Statfs};

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;

/// What an operation of the file system answers.
pub type Result<T> = std::result::Result<T, Error>;

/// The file system.
///
/// Every operation is a future that answers from memory at its first poll whenever it can, so a
/// caller may poll it once where it stands and hand it to a runtime only if it is pending.
#[derive(Debug)]
pub struct Fs {}

#[expect(clippy::unused_async, reason = "the interface; bodies follow")]
impl Fs {
    /// Finds a name in a directory; the caller holds one more reference on the inode afterwards.
    pub async fn lookup(self: Arc<Self>, _parent: u64, _name: &OsStr) -> Result<Entry> {
        Err(Error::NotFound)
    }
    /// Gives back `count` references on an inode.
    pub fn forget(&self, _ino: u64, _count: u64) {}
    /// Returns the attributes, and for how long the kernel may keep them.
    pub async fn getattr(
        self: Arc<Self>,
        _ino: u64,
        _fh: Option<u64>,
    ) -> Result<(Attr, std::time::Duration)> {
        Err(Error::NotFound)
    }
    /// Sets the size; accepts and ignores everything else.
    pub async fn setattr(
        self: Arc<Self>,
        _ino: u64,
        _fh: Option<u64>,
        _set: SetAttr,
    ) -> Result<(Attr, std::time::Duration)> {
        Err(Error::NotFound)
    }
    /// Makes a repository.
    pub async fn mkdir(self: Arc<Self>, _parent: u64, _name: &OsStr) -> Result<Entry> {
        Err(Error::NotFound)
    }
    /// Removes an empty repository.
    pub async fn rmdir(self: Arc<Self>, _parent: u64, _name: &OsStr) -> Result<()> {
        Err(Error::NotFound)
    }
    /// Deletes an artifact from every target.
    pub async fn unlink(self: Arc<Self>, _parent: u64, _name: &OsStr) -> Result<()> {
        Err(Error::NotFound)
    }
    /// Renames (flags as in renameat2(2)).
    pub async fn rename(
        self: Arc<Self>,
        _parent: u64,
        _name: &OsStr,
        _new_parent: u64,
        _new_name: &OsStr,
        _flags: u32,
    ) -> Result<()> {
        Err(Error::NotFound)
    }
    /// Opens a file.
    pub async fn open(self: Arc<Self>, _ino: u64, _how: OpenHow) -> Result<Opened> {
        Err(Error::NotFound)
    }
    /// Creates and opens a file.
    pub async fn create(
        self: Arc<Self>,
        _parent: u64,
        _name: &OsStr,
        _how: OpenHow,
    ) -> Result<(Entry, Opened)> {
        Err(Error::NotFound)
    }
    /// Reads from a handle; fewer bytes than asked for mean the end of the file.
    pub async fn read(self: Arc<Self>, _fh: u64, _offset: u64, _size: u32) -> Result<Bytes> {
        Err(Error::NotFound)
    }
    /// Writes to a handle's staging file (`append`: at its end). Local disk only: it never waits for a target.
    pub fn write(&self, _fh: u64, _offset: u64, _data: &[u8]) -> Result<u32> {
        Err(Error::NotFound)
    }
    /// Pushes what the handle has not pushed yet (close of one descriptor).
    pub async fn flush(self: Arc<Self>, _fh: u64) -> Result<()> {
        Err(Error::NotFound)
    }
    /// Pushes what the handle has not pushed yet.
    pub async fn fsync(self: Arc<Self>, _fh: u64) -> Result<()> {
        Err(Error::NotFound)
    }
    /// Drops a handle; pushes as a last resort.
    pub async fn release(self: Arc<Self>, _fh: u64) -> Result<()> {
        Err(Error::NotFound)
    }
    /// Opens a directory.
    pub async fn opendir(self: Arc<Self>, _ino: u64) -> Result<u64> {
        Err(Error::NotFound)
    }
    /// Lists a directory from `offset` on. With `plus`, each entry but `.` and `..` carries an
    /// [`Entry`]; the caller calls [`Fs::remember`] for each one that it hands to the kernel.
    pub async fn readdir(
        self: Arc<Self>,
        _fh: u64,
        _offset: u64,
        _plus: bool,
    ) -> Result<Vec<DirEntry>> {
        Err(Error::NotFound)
    }
    /// Takes one more reference on an inode, for an entry of READDIRPLUS that was handed out.
    pub fn remember(&self, _ino: u64) {}
    /// Closes a directory.
    pub fn releasedir(&self, _fh: u64) {}
    /// Synthetic figures.
    pub fn statfs(&self) -> Statfs {
        Statfs::default()
    }
    /// Reads an extended attribute.
    pub async fn getxattr(self: Arc<Self>, _ino: u64, _name: &OsStr) -> Result<Bytes> {
        Err(Error::NoAttribute)
    }
    /// Lists the names of an inode's extended attributes.
    pub async fn listxattr(self: Arc<Self>, _ino: u64) -> Result<Vec<String>> {
        Err(Error::NotFound)
    }
    /// Ends: waits for pushes in flight, at most as long as `within`; returns how many it had to leave.
    pub async fn shut_down(&self, _within: std::time::Duration) -> usize {
        0
    }
}
