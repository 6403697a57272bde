//! Conversions between the file system's types and fuser's: arguments, replies and errnos.

use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileType, FopenFlags, Generation, INodeNo, OpenAccMode, OpenFlags, ReplyAttr,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyXattr, Request, TimeOrNow,
};

use crate::fs::{
    Attr, Caller, CreateAttrs, DirEntry, DirListing, Error, FileKind, Fs, LookupEntry, OpenMode,
    Opened, XattrFlag,
};

/// The preferred block size of stat(2): a page, the smallest piece the kernel reads.
const BLOCK_SIZE: u32 = 4096;

/// The owner of everything in the mount.
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

/// Returns fuser's type of an inode.
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

/// Returns the kind of file that mknod(2) asks for.
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

/// Returns the time that utimensat(2) sets.
pub(super) fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

/// Returns the attributes of a new file.
pub(super) fn attrs(req: &Request, mode: u32) -> CreateAttrs {
    CreateAttrs {
        perm: perm(mode),
        pid: req.pid(),
        uid: Some(req.uid()),
        gid: Some(req.gid()),
    }
}

/// Returns the thread that makes a request, and its user.
pub(super) fn caller(req: &Request) -> Caller {
    Caller {
        pid: req.pid(),
        uid: Some(req.uid()),
    }
}

/// Parses the flags of setxattr(2).
pub(super) fn xattr_flag(flags: i32) -> XattrFlag {
    match flags {
        libc::XATTR_CREATE => XattrFlag::Create,
        libc::XATTR_REPLACE => XattrFlag::Replace,
        _ => XattrFlag::Any,
    }
}

/// Parses the flags of open(2).
pub(super) fn open_mode(flags: i32) -> OpenMode {
    let mode = OpenFlags(flags).acc_mode();
    OpenMode {
        read: matches!(mode, OpenAccMode::O_RDONLY | OpenAccMode::O_RDWR),
        write: matches!(mode, OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR),
        append: flags & libc::O_APPEND != 0,
        truncate: flags & libc::O_TRUNC != 0,
        exclusive: flags & libc::O_EXCL != 0,
    }
}

/// Returns the flags of the answer to an open.
pub(super) fn open_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct_io);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags
}

/// Inode numbers are never reused, so every inode is of the first generation.
pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn entry(owner: Owner) -> impl FnOnce(ReplyEntry, LookupEntry) {
    move |reply, entry| {
        reply.entry_with_ttls(
            &entry.attr_ttl,
            &entry.entry_ttl,
            &owner.attr(&entry.attr),
            GENERATION,
        );
    }
}

pub(super) fn attr(owner: Owner) -> impl FnOnce(ReplyAttr, (Attr, Duration)) {
    move |reply, (attr, ttl)| {
        let ino = INodeNo(attr.shown);
        let attr = owner.attr(&attr);
        reply.attr(&ttl, &FileAttr { ino, ..attr });
    }
}

pub(super) fn done(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

/// Lists entries until the reply is full.
pub(super) fn list(fs: &Fs, offset: u64, mut reply: ReplyDirectory, listing: &DirListing) {
    fs.for_each_entry(listing, offset, false, |entry| {
        let kind = file_type(entry.kind);
        !reply.add(INodeNo(entry.ino), entry.offset, kind, entry.name)
    });
    reply.ok();
}

/// Answers with the size of an extended attribute (or list), or with its bytes if they fit.
pub(super) fn sized(size: u32) -> impl FnOnce(ReplyXattr, Vec<u8>) {
    move |reply, value| match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(&value),
        _ => reply.error(Errno::ERANGE),
    }
}

/// Lists entries with their attributes until the reply is full.
pub(super) fn list_plus(
    fs: &Fs,
    owner: Owner,
    offset: u64,
    mut reply: ReplyDirectoryPlus,
    listing: &DirListing,
) {
    fs.for_each_entry(listing, offset, true, |listed| {
        let (shown, ttl) = match listed.entry {
            // The reply has one time for both, so the shorter time applies.
            Some(entry) => (entry.attr, entry.entry_ttl.min(entry.attr_ttl)),
            // The kernel reads only the number and type of `.` and `..`.
            None => (bare(listed), Duration::ZERO),
        };
        !reply.add(
            INodeNo(shown.ino),
            listed.offset,
            listed.name,
            &ttl,
            &owner.attr(&shown),
            GENERATION,
        )
    });
    reply.ok();
}

fn bare(listed: DirEntry<'_>) -> Attr {
    Attr {
        ino: listed.ino,
        shown: listed.ino,
        kind: listed.kind,
        perm: match listed.kind {
            FileKind::Directory => 0o755,
            _ => 0o644,
        },
        size: 0,
        time: SystemTime::UNIX_EPOCH,
        accessed: SystemTime::UNIX_EPOCH,
        changed: SystemTime::UNIX_EPOCH,
        links: 1,
        uid: None,
        gid: None,
        device: 0,
    }
}

/// Returns the errno that a program sees for an error of the file system.
pub(super) fn errno(error: Error) -> Errno {
    match error {
        Error::NotFound => Errno::ENOENT,
        Error::NotPermitted => Errno::EPERM,
        Error::Denied => Errno::EACCES,
        Error::ReadOnly => Errno::EROFS,
        Error::Exists => Errno::EEXIST,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::Busy => Errno::EBUSY,
        Error::NotDirectory => Errno::ENOTDIR,
        Error::IsDirectory => Errno::EISDIR,
        Error::Invalid => Errno::EINVAL,
        Error::TooBig => Errno::EFBIG,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::NoSpace => Errno::ENOSPC,
        Error::Stale => Errno::ESTALE,
        Error::Io => Errno::EIO,
        Error::BadHandle => Errno::EBADF,
        Error::TooManyHandles => Errno::ENFILE,
        Error::NoAttribute => Errno::ENODATA,
        Error::NotSupported => Errno::EOPNOTSUPP,
        Error::CrossDevice => Errno::EXDEV,
    }
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
    fn the_flags_of_open_become_an_open_mode() {
        let how = open_mode(libc::O_WRONLY | libc::O_APPEND | libc::O_TRUNC | libc::O_EXCL);
        assert!(!how.read && how.write && how.append && how.truncate && how.exclusive);
        let how = open_mode(libc::O_RDONLY);
        assert!(how.read && !how.write && !how.append && !how.truncate && !how.exclusive);
        let how = open_mode(libc::O_RDWR);
        assert!(how.read && how.write);
    }

    #[test]
    fn an_opened_file_sets_the_flags_of_the_answer() {
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

    #[test]
    fn every_error_has_the_errno_that_its_text_names() {
        let table = [
            (Error::NotFound, libc::ENOENT),
            (Error::NotPermitted, libc::EPERM),
            (Error::Denied, libc::EACCES),
            (Error::ReadOnly, libc::EROFS),
            (Error::Exists, libc::EEXIST),
            (Error::NotEmpty, libc::ENOTEMPTY),
            (Error::Busy, libc::EBUSY),
            (Error::NotDirectory, libc::ENOTDIR),
            (Error::IsDirectory, libc::EISDIR),
            (Error::Invalid, libc::EINVAL),
            (Error::TooBig, libc::EFBIG),
            (Error::NameTooLong, libc::ENAMETOOLONG),
            (Error::NoSpace, libc::ENOSPC),
            (Error::Stale, libc::ESTALE),
            (Error::Io, libc::EIO),
            (Error::BadHandle, libc::EBADF),
            (Error::TooManyHandles, libc::ENFILE),
            (Error::NoAttribute, libc::ENODATA),
            (Error::NotSupported, libc::EOPNOTSUPP),
            (Error::CrossDevice, libc::EXDEV),
        ];
        for (error, code) in table {
            assert_eq!(errno(error).code(), code, "{error}");
            let text = std::io::Error::from_raw_os_error(code).to_string();
            assert!(
                text.to_lowercase().starts_with(&error.to_string()),
                "{error} is not what libc says: {text}"
            );
        }
    }
}
