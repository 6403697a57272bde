//! The file system as fuser calls it: parse, dispatch, reply.
// Over 430 lines: one trait needs one `impl`, and most lines are its signatures.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, FopenFlags, INodeNo, InitFlags, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;

use super::convert::{
    GENERATION, Owner, attr, attrs, caller, done, entry, file_kind, list, list_plus, open_flags,
    open_mode, perm, sized, time, xattr_flag,
};
use super::dispatch::{Deadlines, Dispatcher, ErrorReply};
use crate::fs::{self, Fs, LookupEntry, Opened, SetAttr, Statfs};

/// The largest write in one request: the kernel's default of 256 pages.
const MAX_WRITE: u32 = 1 << 20;

/// The kernel features that this file system uses. It does not ask for the write-back cache, which
/// would hide the writer and the time of each write, nor for the features that fuser 0.18.0
/// implements wrongly (SETXATTR_EXT, ALLOW_IDMAP, HANDLE_KILLPRIV_V2).
const WANTED: [InitFlags; 7] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
];

/// Connects fuser to the file system.
#[derive(Debug)]
pub(super) struct Bridge {
    fs: Arc<Fs>,
    dispatcher: Dispatcher,
    deadlines: Deadlines,
    owner: Owner,
}

impl Bridge {
    pub(super) fn new(fs: Arc<Fs>, runtime: Handle, deadlines: Deadlines, owner: Owner) -> Self {
        Self {
            fs,
            dispatcher: Dispatcher::new(runtime),
            deadlines,
            owner,
        }
    }

    /// Returns the number of requests without an answer.
    pub(super) fn unanswered(&self) -> tokio::sync::watch::Receiver<usize> {
        self.dispatcher.unanswered()
    }

    /// Runs an operation on names or attributes.
    fn metadata<R: ErrorReply, T: Send + 'static>(
        &self,
        op: &'static str,
        reply: R,
        future: impl Future<Output = fs::Result<T>> + Send + 'static,
        ok: impl FnOnce(R, T) + Send + 'static,
    ) {
        self.dispatcher
            .run(op, self.deadlines.metadata, reply, future, ok);
    }

    /// Runs an operation that opens or reads.
    fn reading<R: ErrorReply, T: Send + 'static>(
        &self,
        op: &'static str,
        reply: R,
        future: impl Future<Output = fs::Result<T>> + Send + 'static,
        ok: impl FnOnce(R, T) + Send + 'static,
    ) {
        self.dispatcher
            .run(op, self.deadlines.read, reply, future, ok);
    }

    /// Runs an operation that may push.
    fn pushing(
        &self,
        op: &'static str,
        reply: ReplyEmpty,
        future: impl Future<Output = fs::Result<()>> + Send + 'static,
    ) {
        self.dispatcher
            .run(op, self.deadlines.push, reply, future, done);
    }
}

/// Tells whether a name is that of an access control list, a label or a capability. This file
/// system has none, and answers EOPNOTSUPP: otherwise the kernel asks before every first write, and
/// `ls -l` asks twice for each file. ENOSYS would switch off all extended attributes.
fn is_reserved(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"security.") || name.as_bytes().starts_with(b"system.")
}

/// `bmap`, `poll`, `lseek` and `copy_file_range` keep fuser's ENOSYS. The kernel then serves them
/// itself: every file is ready, has no holes, and is copied by reads and writes.
impl fuser::Filesystem for Bridge {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in WANTED {
            if config.add_capabilities(wanted).is_err() {
                tracing::debug!(?wanted, "the kernel does not support it");
            }
        }
        if let Err(nearest) = config.set_max_write(MAX_WRITE) {
            tracing::debug!(nearest, "the kernel limits the size of writes");
        }
        if let Err(nearest) = config.set_time_granularity(Duration::from_nanos(1)) {
            tracing::debug!(?nearest, "the kernel limits the granularity of times");
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, name, pid) = (self.fs.clone(), name.to_owned(), req.pid());
        let future = async move { fs.lookup(parent.0, &name, pid).await };
        self.metadata("lookup", reply, future, entry(self.owner));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.dispatcher
            .run_silently("forget", || self.fs.forget(ino.0, nlookup));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let future = self.fs.clone().getattr(ino.0, fh.map(u64::from), req.pid());
        self.metadata("getattr", reply, future, attr(self.owner));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let deadline = match size {
            Some(_) => self.deadlines.push,
            None => self.deadlines.metadata,
        };
        let set = SetAttr {
            size,
            perm: mode.map(perm),
            uid,
            gid,
            accessed: atime.map(time),
            modified: mtime.map(time),
        };
        let fh = fh.map(u64::from);
        let future = self.fs.clone().setattr(ino.0, fh, set, caller(req));
        let ok = attr(self.owner);
        self.dispatcher.run("setattr", deadline, reply, future, ok);
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let future = self.fs.clone().readlink(ino.0);
        let ok = |reply: ReplyData, to: OsString| reply.data(to.as_bytes());
        self.metadata("readlink", reply, future, ok);
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (fs, name, attrs) = (self.fs.clone(), name.to_owned(), attrs(req, mode));
        let kind = file_kind(mode);
        let future = async move { fs.mknod(parent.0, &name, kind, rdev, attrs).await };
        self.metadata("mknod", reply, future, entry(self.owner));
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (fs, name, attrs) = (self.fs.clone(), name.to_owned(), attrs(req, mode));
        let future = async move { fs.mkdir(parent.0, &name, attrs).await };
        self.metadata("mkdir", reply, future, entry(self.owner));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name, pid) = (self.fs.clone(), name.to_owned(), req.pid());
        let future = async move { fs.unlink(parent.0, &name, pid).await };
        self.pushing("unlink", reply, future);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.fs.clone(), name.to_owned());
        let future = async move { fs.rmdir(parent.0, &name).await };
        self.metadata("rmdir", reply, future, done);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (fs, name, to) = (self.fs.clone(), name.to_owned(), target.as_os_str().into());
        let attrs = attrs(req, 0);
        let future = async move { fs.symlink(parent.0, &name, to, attrs).await };
        self.metadata("symlink", reply, future, entry(self.owner));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let no_replace = flags.contains(RenameFlags::RENAME_NOREPLACE);
        if flags.difference(RenameFlags::RENAME_NOREPLACE) != RenameFlags::empty() {
            // No target can exchange two objects in one step.
            return reply.error(Errno::EINVAL);
        }
        let (fs, old, new, caller) = (
            self.fs.clone(),
            name.to_owned(),
            newname.to_owned(),
            caller(req),
        );
        let future = async move {
            let (from, to) = ((parent.0, &*old), (newparent.0, &*new));
            fs.rename(from, to, no_replace, caller).await
        };
        self.pushing("rename", reply, future);
    }

    fn link(
        &self,
        _req: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let (fs, name) = (self.fs.clone(), newname.to_owned());
        let future = async move { fs.link(ino.0, newparent.0, &name).await };
        self.metadata("link", reply, future, entry(self.owner));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let future = self.fs.clone().open(ino.0, open_mode(flags.0), caller(req));
        self.reading("open", reply, future, |reply, opened| {
            reply.opened(FileHandle(opened.fh), open_flags(&opened));
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (fs, name, owner) = (self.fs.clone(), name.to_owned(), self.owner);
        let attrs = attrs(req, mode);
        let future = async move { fs.create(parent.0, &name, open_mode(flags), attrs).await };
        let ok = move |reply: ReplyCreate, (entry, opened): (LookupEntry, Opened)| {
            reply.created(
                // The reply has one time for both, so the shorter time applies.
                &entry.entry_ttl.min(entry.attr_ttl),
                &owner.attr(&entry.attr),
                GENERATION,
                FileHandle(opened.fh),
                open_flags(&opened),
            );
        };
        self.reading("create", reply, future, ok);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let future = self.fs.clone().read(fh.0, offset, size);
        self.reading("read", reply, future, |reply, bytes| {
            reply.data(&bytes);
        });
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let work = || self.fs.write(fh.0, offset, data, req.pid());
        self.dispatcher
            .run_here("write", reply, work, ReplyWrite::written);
    }

    fn flush(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let future = self.fs.clone().flush(fh.0, req.pid());
        self.pushing("flush", reply, future);
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let future = self.fs.clone().fsync(fh.0);
        self.pushing("fsync", reply, future);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let future = self.fs.clone().release(fh.0);
        self.pushing("release", reply, future);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let future = self.fs.clone().opendir(ino.0, req.pid());
        self.metadata("opendir", reply, future, |reply, fh| {
            // The kernel keeps no listing: the next one must show another mount's push.
            reply.opened(FileHandle(fh), FopenFlags::empty());
        });
    }

    fn readdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let fs = self.fs.clone();
        let future = self.fs.clone().readdir(fh.0, offset);
        let ok = move |reply, listing| list(&fs, offset, reply, &listing);
        self.metadata("readdir", reply, future, ok);
    }

    fn readdirplus(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (fs, owner) = (self.fs.clone(), self.owner);
        let future = self.fs.clone().readdir(fh.0, offset);
        let ok = move |reply, listing| list_plus(&fs, owner, offset, reply, &listing);
        self.metadata("readdirplus", reply, future, ok);
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let work = || {
            self.fs.releasedir(fh.0);
            Ok(())
        };
        self.dispatcher.run_here("releasedir", reply, work, done);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        // The push that made a name has already made it durable.
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let work = || Ok(self.fs.statfs());
        let ok = |reply: ReplyStatfs, s: Statfs| {
            reply.statfs(
                s.blocks,
                s.free,
                s.free,
                s.files,
                s.files,
                s.block_size,
                s.name_max,
                s.block_size,
            );
        };
        self.dispatcher.run_here("statfs", reply, work, ok);
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (fs, name, value) = (self.fs.clone(), name.to_owned(), value.to_owned());
        let (flag, caller) = (xattr_flag(flags), caller(req));
        let future = async move { fs.setxattr(ino.0, &name, &value, flag, caller).await };
        self.pushing("setxattr", reply, future);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if is_reserved(name) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let (fs, name) = (self.fs.clone(), name.to_owned());
        let future = async move { Ok(fs.getxattr(ino.0, &name).await?.to_vec()) };
        self.metadata("getxattr", reply, future, sized(size));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let fs = self.fs.clone();
        let future = async move {
            let names = fs.listxattr(ino.0).await?;
            Ok(names
                .into_iter()
                .flat_map(|name| [name.as_bytes(), b"\0"].concat())
                .collect())
        };
        self.metadata("listxattr", reply, future, sized(size));
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let work = || self.fs.removexattr(ino.0, name);
        self.dispatcher.run_here("removexattr", reply, work, done);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            // Holes and hidden preallocation are not supported.
            return reply.error(Errno::EOPNOTSUPP);
        }
        let work = || self.fs.allocate(fh.0, offset, length);
        self.dispatcher.run_here("fallocate", reply, work, done);
    }
}
