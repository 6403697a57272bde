//! Attributes as the kernel wants them.

use std::time::SystemTime;

use fuser::{FileAttr, FileType, FopenFlags, INodeNo, OpenAccMode, OpenFlags, Request, TimeOrNow};

use crate::fs::{Attr, CreateAttrs, FileKind, OpenMode, Opened, XattrFlag};

/// What stat(2) calls the preferred block size: a page, the smallest piece the kernel reads.
const BLOCK_SIZE: u32 = 4096;

/// Who owns everything in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    /// Returns the user and group of this process.
    pub fn of_this_process() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    /// Returns an inode's attributes, owned by this owner.
    pub(super) fn attr(self, attr: &Attr) -> FileAttr {
        FileAttr {
            ino: INodeNo(attr.ino),
            size: attr.size,
            blocks: attr.size.div_ceil(512),
            atime: attr.accessed,
            mtime: attr.time,
            ctime: attr.changed,
            crtime: attr.time,
            kind: file_type(attr.kind),
            perm: attr.perm,
            nlink: attr.links,
            uid: attr.uid.unwrap_or(self.uid),
            gid: attr.gid.unwrap_or(self.gid),
            rdev: attr.device,
            blksize: BLOCK_SIZE,
            flags: 0,
        }
    }
}

/// Returns fuser's word for what an inode is.
pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Directory => FileType::Directory,
        FileKind::File => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Returns what mknod(2) is to make, from its mode.
pub(super) fn file_kind(mode: u32) -> FileKind {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::CharDevice,
        libc::S_IFBLK => FileKind::BlockDevice,
        _ => FileKind::File,
    }
}

/// Returns the permission bits of a mode.
pub(super) fn perm(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// Returns the time that utimensat(2) means.
pub(super) fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

/// Returns what a new file is made with.
pub(super) fn attrs(req: &Request, mode: u32) -> CreateAttrs {
    CreateAttrs {
        perm: perm(mode),
        pid: req.pid(),
        uid: Some(req.uid()),
        gid: Some(req.gid()),
    }
}

/// Returns what setxattr(2) asks for, from its flags.
pub(super) fn xattr_flag(flags: i32) -> XattrFlag {
    match flags {
        libc::XATTR_CREATE => XattrFlag::Create,
        libc::XATTR_REPLACE => XattrFlag::Replace,
        _ => XattrFlag::Any,
    }
}

/// Returns how a file is to be opened, from the flags of open(2).
pub(super) fn open_how(flags: i32) -> OpenMode {
    let mode = OpenFlags(flags).acc_mode();
    OpenMode {
        read: matches!(mode, OpenAccMode::O_RDONLY | OpenAccMode::O_RDWR),
        write: matches!(mode, OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR),
        append: flags & libc::O_APPEND != 0,
        truncate: flags & libc::O_TRUNC != 0,
        exclusive: flags & libc::O_EXCL != 0,
    }
}

/// Returns what the kernel is told about an opened file.
pub(super) fn open_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct_io);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn attributes_carry_the_owner_and_whole_blocks() {
        let owner = Owner { uid: 5, gid: 6 };
        let mut attr = Attr {
            ino: 9,
            shown: 9,
            kind: FileKind::File,
            perm: 0o644,
            size: 513,
            time: SystemTime::UNIX_EPOCH,
            accessed: SystemTime::UNIX_EPOCH,
            changed: SystemTime::UNIX_EPOCH,
            links: 1,
            uid: None,
            gid: None,
            device: 0,
        };
        let file = owner.attr(&attr);
        assert_eq!((file.uid, file.gid, file.nlink), (5, 6, 1));
        assert_eq!((file.blocks, file.blksize), (2, 4096));
        attr.size = 0;
        attr.kind = FileKind::Directory;
        attr.links = 2;
        attr.uid = Some(8);
        let dir = owner.attr(&attr);
        assert_eq!((dir.blocks, dir.nlink, dir.uid), (0, 2, 8));
        assert_eq!(dir.kind, FileType::Directory);
    }

    #[test]
    fn flags_of_open_become_how_a_file_is_opened() {
        let how = open_how(libc::O_WRONLY | libc::O_APPEND | libc::O_TRUNC | libc::O_EXCL);
        assert!(!how.read && how.write && how.append && how.truncate && how.exclusive);
        let how = open_how(libc::O_RDONLY);
        assert!(how.read && !how.write && !how.append && !how.truncate && !how.exclusive);
        let how = open_how(libc::O_RDWR);
        assert!(how.read && how.write);
    }

    #[test]
    fn what_was_opened_says_what_the_kernel_may_do() {
        let mut opened = Opened {
            fh: 1,
            keep_cache: true,
            direct_io: false,
            no_flush: true,
        };
        assert_eq!(
            open_flags(&opened),
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
        );
        opened = Opened {
            fh: 1,
            keep_cache: false,
            direct_io: true,
            no_flush: false,
        };
        assert_eq!(open_flags(&opened), FopenFlags::FOPEN_DIRECT_IO);
    }
}
