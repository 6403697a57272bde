//! The floor of the measurements: a file system in memory on the same fuser, with the same mount
//! options, flags, times to live and threads, and without any other work.
//!
//! `noop --plans N DIR` serves `/app/schema` and `/app/plans/…`, N files of 4 KiB each, until DIR
//! is unmounted. It must ask the kernel for the same as src/fuse: a change there belongs here as
//! well. A test of the harness compares the two.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request, Session, SessionACL,
};
use nix::mount::MsFlags;

/// As in src/fuse/filesystem.rs.
const WANTED: [InitFlags; 7] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
];

/// As in src/fuse/filesystem.rs.
const MAX_WRITE: u32 = 1 << 20;

/// As in src/fuse/session.rs.
const THREADS: usize = 2;

/// As in src/fs/mod.rs.
const FOR_EVER: Duration = Duration::from_secs(60 * 60);

/// The answer of src/fs to a reader whose inode has the newest content.
const OPENED: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

const GENERATION: Generation = Generation(0);
const BLOCK: u32 = 4096;

const ROOT: u64 = 1;
const APP: u64 = 2;
const SCHEMA: u64 = 3;
const PLANS: u64 = 4;
/// The inode of the first plan; the others follow.
const FIRST: u64 = 5;

/// A no-op file system in memory.
#[derive(Debug, Parser)]
struct Args {
    /// The number of plans.
    #[arg(long, default_value_t = 1)]
    plans: u64,
    /// The seconds that the kernel may keep a name: atlasfs's --ttl.
    #[arg(long, default_value_t = 1)]
    ttl: u64,
    /// The mount point.
    dir: PathBuf,
}

/// The tree.
#[derive(Debug)]
struct Noop {
    names: Vec<OsString>,
    numbers: HashMap<OsString, u64>,
    content: Vec<u8>,
    ttl: Duration,
    started: SystemTime,
    uid: u32,
    gid: u32,
}

impl Noop {
    fn new(plans: u64, ttl: Duration) -> Self {
        let names: Vec<OsString> = (0..plans).map(|plan| name(plan).into()).collect();
        Self {
            numbers: names.iter().cloned().zip(FIRST..).collect(),
            names,
            content: vec![b'#'; BLOCK as usize],
            ttl,
            started: SystemTime::now(),
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    fn child(&self, parent: u64, name: &OsStr) -> Option<u64> {
        match (parent, name.to_str()) {
            (ROOT, Some("app")) => Some(APP),
            (APP, Some("schema")) => Some(SCHEMA),
            (APP, Some("plans")) => Some(PLANS),
            (PLANS, _) => self.numbers.get(name).copied(),
            _ => None,
        }
    }

    /// Returns a directory's names and inodes, without the first `skip`.
    fn children(&self, ino: u64, skip: usize) -> Box<dyn Iterator<Item = (&OsStr, u64)> + '_> {
        let fixed: &[(&str, u64)] = match ino {
            ROOT => &[("app", APP)],
            APP => &[("schema", SCHEMA), ("plans", PLANS)],
            _ => {
                let plans = self.names.iter().map(OsString::as_os_str).zip(FIRST..);
                return Box::new(plans.skip(skip));
            }
        };
        let fixed = fixed.iter().map(|(name, ino)| (OsStr::new(*name), *ino));
        Box::new(fixed.skip(skip))
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let (kind, perm, nlink, size) = match ino {
            ROOT | APP | PLANS => (FileType::Directory, 0o755, 2, 0),
            _ => (FileType::RegularFile, 0o644, 1, self.content.len() as u64),
        };
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: self.started,
            mtime: self.started,
            ctime: self.started,
            crtime: self.started,
            kind,
            perm,
            nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        }
    }

    /// Returns the time that the kernel may keep a name. It may keep attributes for ever.
    fn entry_ttl(&self, ino: u64) -> Duration {
        match ino {
            ROOT | PLANS => FOR_EVER,
            _ => self.ttl,
        }
    }
}

impl fuser::Filesystem for Noop {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in WANTED {
            // If this kernel refuses a flag, atlasfs doesn't get it either.
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_time_granularity(Duration::from_nanos(1));
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.child(parent.0, name) {
            Some(ino) => {
                let (attr, ttl) = (self.attr(ino), self.entry_ttl(ino));
                reply.entry_with_ttls(&FOR_EVER, &ttl, &attr, GENERATION);
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {}

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attr(ino.0));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(1), OPENED);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.content.get(offset..))
            .unwrap_or_default();
        reply.data(rest.get(..size as usize).unwrap_or(rest));
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(1), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut next = offset;
        for (dots, number) in [(".", ino.0), ("..", ROOT)].iter().skip(offset as usize) {
            next += 1;
            if reply.add(INodeNo(*number), next, FileType::Directory, dots) {
                return reply.ok();
            }
        }
        for (name, child) in self.children(ino.0, (next - 2) as usize) {
            next += 1;
            if reply.add(INodeNo(child), next, self.attr(child).kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut next = offset;
        for (dots, number) in [(".", ino.0), ("..", ROOT)].iter().skip(offset as usize) {
            next += 1;
            let (number, attr) = (INodeNo(*number), self.attr(*number));
            if reply.add(number, next, dots, &Duration::ZERO, &attr, GENERATION) {
                return reply.ok();
            }
        }
        for (name, child) in self.children(ino.0, (next - 2) as usize) {
            next += 1;
            // The reply has one time for both, so the shorter one applies.
            let (ttl, attr) = (self.entry_ttl(child), self.attr(child));
            if reply.add(INodeNo(child), next, name, &ttl, &attr, GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 40, 1 << 40, 1 << 40, 1 << 40, 0, BLOCK, 255, BLOCK);
    }

    fn getxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _size: u32,
        reply: ReplyXattr,
    ) {
        // Not ENOSYS: after that the kernel would stop asking, and atlasfs can't answer that.
        reply.error(Errno::EOPNOTSUPP);
    }

    fn listxattr(&self, _req: &Request, _ino: INodeNo, size: u32, reply: ReplyXattr) {
        match size {
            0 => reply.size(0),
            _ => reply.data(&[]),
        }
    }
}

/// Returns a plan's name, as long as Atlas's default names.
fn name(plan: u64) -> String {
    format!("2024091017{plan:04}")
}

/// Mounts as src/fuse/mount.rs does for root.
fn mount(dir: &Path) -> io::Result<OwnedFd> {
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")?;
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        nix::unistd::getuid(),
        nix::unistd::getgid(),
    );
    nix::mount::mount(
        Some("noop"),
        dir,
        Some("fuse.noop"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(data.as_str()),
    )?;
    Ok(device.into())
}

fn run(args: &Args) -> io::Result<()> {
    let noop = Noop::new(args.plans, Duration::from_secs(args.ttl));
    let connection = mount(&args.dir)?;
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    Session::from_fd(noop, connection, SessionACL::All, config)?.run()
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("noop: cannot serve {}: {error}", args.dir.display());
            ExitCode::FAILURE
        }
    }
}
