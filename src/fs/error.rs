//! Why an operation fails, in POSIX terms; `fuse` turns each into its errno.

/// Why an operation of the file system failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// ENOENT.
    #[error("no such file or directory")]
    NotFound,
    /// EPERM: not in the contract of this mount.
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
    /// EBUSY: what was asked for is being done already.
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
    /// ESTALE: somebody else has pushed in between, or the inode is gone.
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
