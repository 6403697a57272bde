//! What goes in and out of the file system's operations.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

/// The root directory's inode number, fixed by the FUSE protocol.
pub const ROOT: u64 = 1;

/// What an inode is.
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
    /// The number that programs are told: a writer's own inode says that of the content it has
    /// been opened on. vim, for one, won't write to a file whose number is not what stat(2) said.
    pub shown: u64,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub perm: u16,
    /// Size in bytes.
    pub size: u64,
    /// Time of the content.
    pub time: SystemTime,
    /// Time of the last access, as far as somebody has set it; otherwise that of the content.
    pub accessed: SystemTime,
    /// Time of the last change of anything. An artifact has nothing that changes but its content.
    pub changed: SystemTime,
    /// How many names it has.
    pub links: u32,
    /// The owner, where it is not the owner of everything in the mount.
    pub uid: Option<u32>,
    /// The group, where it is not the group of everything in the mount.
    pub gid: Option<u32>,
    /// Which device it is, for one.
    pub device: u32,
}

/// A name's inode, as a directory hands it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The attributes.
    pub attr: Attr,
    /// For how long the kernel may take the name to mean this inode.
    pub entry_ttl: Duration,
    /// For how long the kernel may keep the attributes.
    pub attr_ttl: Duration,
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode's number (as shown; for READDIRPLUS the entry's own holds).
    pub ino: u64,
    /// Where a listing goes on after this entry.
    pub offset: u64,
    /// What it is.
    pub kind: FileKind,
    /// The name.
    pub name: &'a OsStr,
    /// With READDIRPLUS: the inode and its attributes.
    pub entry: Option<Entry>,
}

/// How a file is opened.
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
    /// The kernel may keep the pages that it has of this inode.
    pub keep_cache: bool,
    /// Reads and writes bypass the kernel's page cache.
    pub direct_io: bool,
    /// The kernel need not send FLUSH: there is nothing to push.
    pub no_flush: bool,
}

/// What a setattr sets. Mode, owner and times are accepted everywhere, and kept by scratch files
/// alone.
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

/// What a new file or directory is made with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CreateAttrs {
    /// Permission bits, which scratch files alone keep.
    pub perm: u16,
    /// The thread that makes it.
    pub pid: u32,
    /// Its user, which scratch files alone keep; nothing for the owner of the mount.
    pub uid: Option<u32>,
    /// Its group, likewise.
    pub gid: Option<u32>,
}

/// What setxattr(2) asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum XattrFlag {
    /// The attribute may be there or not.
    #[default]
    Any,
    /// XATTR_CREATE: it must not be there.
    Create,
    /// XATTR_REPLACE: it must be there.
    Replace,
}

/// Figures for statfs(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statfs {
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Files in all.
    pub files: u64,
    /// Block size in bytes.
    pub block_size: u32,
    /// The longest name in bytes.
    pub name_max: u32,
}
