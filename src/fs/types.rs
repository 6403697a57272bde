//! The types that the operations of the file system take and return, and its errors.

use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The root directory's inode number, fixed by the FUSE protocol.
pub const ROOT: u64 = 1;

/// The kind of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// The attributes of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode's number.
    pub ino: u64,
    /// The number that programs see. A writer's own inode shows the number of the content it was
    /// opened on: for example, vim doesn't write to a file whose number differs from that of
    /// stat(2).
    pub shown: u64,
    /// The kind.
    pub kind: FileKind,
    /// Permission bits.
    pub perm: u16,
    /// Size in bytes.
    pub size: u64,
    /// Time of the content.
    pub time: SystemTime,
    /// Time of the last access if it was set; otherwise that of the content.
    pub accessed: SystemTime,
    /// Time of the last change. In an artifact only the content changes.
    pub changed: SystemTime,
    /// The number of its names.
    pub links: u32,
    /// The owner; `None` for the owner of the mount.
    pub uid: Option<u32>,
    /// The group; `None` for the group of the mount.
    pub gid: Option<u32>,
    /// The device number, for a device.
    pub device: u32,
}

/// The inode of a name, from a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupEntry {
    /// The attributes.
    pub attr: Attr,
    /// The time that the kernel may use this inode for the name.
    pub entry_ttl: Duration,
    /// The time that the kernel may keep the attributes.
    pub attr_ttl: Duration,
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode's number (as shown; READDIRPLUS uses the entry's own).
    pub ino: u64,
    /// The offset after this entry.
    pub offset: u64,
    /// The kind.
    pub kind: FileKind,
    /// The name.
    pub name: &'a OsStr,
    /// With READDIRPLUS: the inode and its attributes.
    pub entry: Option<LookupEntry>,
}

/// The mode of an open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// O_RDONLY or O_RDWR.
    pub read: bool,
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_APPEND.
    pub append: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_EXCL.
    pub exclusive: bool,
}

/// An opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The handle.
    pub fh: u64,
    /// The kernel may keep its pages of this inode.
    pub keep_cache: bool,
    /// Reads and writes bypass the kernel's page cache.
    pub direct_io: bool,
    /// The kernel need not send FLUSH: there is nothing to push.
    pub no_flush: bool,
}

/// The attributes to set. Every file accepts mode, owner and times; only temporary files keep them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// The new size in bytes.
    pub size: Option<u64>,
    /// The new permission bits.
    pub perm: Option<u16>,
    /// The new owner.
    pub uid: Option<u32>,
    /// The new group.
    pub gid: Option<u32>,
    /// The new time of the last access.
    pub accessed: Option<SystemTime>,
    /// The new time of the content.
    pub modified: Option<SystemTime>,
}

/// The thread that makes a request, and its user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller {
    /// The thread; 0 if it is invisible.
    pub pid: u32,
    /// Its user; `None` for the user of the mount.
    pub uid: Option<u32>,
}

impl From<u32> for Caller {
    fn from(pid: u32) -> Self {
        Self { pid, uid: None }
    }
}

/// The attributes of a new file or directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CreateAttrs {
    /// Permission bits, which only temporary files keep.
    pub perm: u16,
    /// The thread that makes it.
    pub pid: u32,
    /// Its user, which only temporary files keep; `None` for the owner of the mount.
    pub uid: Option<u32>,
    /// Its group, likewise.
    pub gid: Option<u32>,
}

impl CreateAttrs {
    /// Returns the thread that makes it, and its user.
    pub(super) fn caller(&self) -> Caller {
        Caller {
            pid: self.pid,
            uid: self.uid,
        }
    }
}

/// The mode of setxattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum XattrFlag {
    /// The attribute may exist or not.
    #[default]
    Any,
    /// XATTR_CREATE: it must not exist.
    Create,
    /// XATTR_REPLACE: it must exist.
    Replace,
}

/// Figures for statfs(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statfs {
    /// The total number of blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// The total number of files.
    pub files: u64,
    /// Block size in bytes.
    pub block_size: u32,
    /// The longest name in bytes.
    pub name_max: u32,
}

/// The result of an operation of the file system.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why an operation of the file system failed; `fuse` maps each to its errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// ENOENT.
    #[error("no such file or directory")]
    NotFound,
    /// EPERM: the mount does not allow it.
    #[error("operation not permitted")]
    NotPermitted,
    /// EACCES: the target refuses these credentials.
    #[error("permission denied")]
    Denied,
    /// EROFS: the mount is read-only.
    #[error("read-only file system")]
    ReadOnly,
    /// EEXIST.
    #[error("file exists")]
    Exists,
    /// ENOTEMPTY.
    #[error("directory not empty")]
    NotEmpty,
    /// EBUSY: another job is running.
    #[error("device or resource busy")]
    Busy,
    /// ENOTDIR.
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR.
    #[error("is a directory")]
    IsDirectory,
    /// EINVAL: refused by a check, or by the target as malformed.
    #[error("invalid argument")]
    Invalid,
    /// EFBIG.
    #[error("file too large")]
    TooBig,
    /// ENAMETOOLONG.
    #[error("file name too long")]
    NameTooLong,
    /// ENOSPC: this machine or the target is full.
    #[error("no space left on device")]
    NoSpace,
    /// ESTALE: another writer has pushed, or the inode is gone.
    #[error("stale file handle")]
    Stale,
    /// EIO: every target has an outage, or a bug was caught.
    #[error("input/output error")]
    Io,
    /// EBADF.
    #[error("bad file descriptor")]
    BadHandle,
    /// ENFILE: too many handles are open for writing.
    #[error("too many open files in system")]
    TooManyHandles,
    /// ENODATA: no such extended attribute.
    #[error("no data available")]
    NoAttribute,
    /// EOPNOTSUPP.
    #[error("operation not supported")]
    NotSupported,
    /// EXDEV.
    #[error("invalid cross-device link")]
    CrossDevice,
}

/// Locks a mutex. A panic elsewhere leaves the data unchanged, so a poisoned lock is still usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
