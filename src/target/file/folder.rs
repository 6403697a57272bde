//! The folder: one directory tree, its objects, its lock, and whether it is still there.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use super::disk::{Disk, Effect};
use super::lock::{self, Lock, Mode};
use super::sidecar::{Sidecar, Unreadable};
use super::tree::walk;
use crate::target::{Failure, FileLocation, Kind, Token};

/// The driver's own directory below the folder.
pub(super) const OWN: &str = ".atlasfs";
/// What in the driver's own directory is not an object; the rest of it is for bookkeeping objects.
pub(super) const RESERVED: [&str; 3] = ["stamps", "tmp", "lock"];

/// What is wrong with the empty folder that a disk leaves behind which is not mounted.
const LOST_ITS_OWN: &str = "has lost its .atlasfs: is its disk mounted? (if this is the right \
                            folder, mkdir .atlasfs in it)";

/// One `file://` target's directory tree.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) url: String,
    /// Whether the folder carries our own directory; unset until it has been found.
    marked: OnceLock<bool>,
    /// Whether an earlier mount has found our own directory in it.
    known: bool,
    pub(super) disk: Disk,
    pub(super) serial: AtomicU64,
}

/// An open object.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) meta: Metadata,
}

impl Folder {
    pub(super) fn new(location: &FileLocation) -> Self {
        Self {
            root: location.dir.clone(),
            url: location.url.clone(),
            marked: OnceLock::new(),
            known: location.known,
            disk: Disk::default(),
            serial: AtomicU64::new(0),
        }
    }

    /// Finds the folder, once: makes it if `create`, makes our own directory in it, and removes
    /// what a crash has left.
    pub(super) fn prepare(&self, create: bool) -> Result<(), Failure> {
        if self.marked.get().is_some() {
            return Ok(());
        }
        let failed = |error: io::Error| self.failure("open", "the folder", &error);
        let create = create && !self.known;
        if create && let Some(there) = self.root.ancestors().find(|path| path.is_dir()) {
            self.disk.make_dirs(there, &self.root).map_err(failed)?;
        }
        if !self.root.is_dir() {
            let fix = "bring it back, or make it: ?create_dir=true in its url does at mount";
            let missing = Failure::new(Kind::StoreMissing, format!("no folder at {}", self.url));
            return Err(missing.with_fix(Some(fix.into())));
        }
        let own = self.root.join(OWN);
        if self.known && !own.is_dir() {
            return self.missing(LOST_ITS_OWN);
        }
        let made = ["tmp", "stamps"]
            .iter()
            .try_for_each(|name| self.disk.make_dirs(&self.root, &own.join(name)));
        match made {
            Ok(()) => {}
            // A folder that is only to be read needs nothing of ours in it.
            Err(error) if Kind::of_io(&error) == Kind::Denied => {}
            Err(error) => return Err(failed(error)),
        }
        // Whoever holds the lock is amid a put and owns what is in tmp; next time, then.
        if let Ok(Some(_lock)) = lock::try_now(&own.join("lock")) {
            self.sweep(&own).map_err(failed)?;
        }
        let _ = self.marked.set(own.is_dir());
        Ok(())
    }

    /// Removes the temporary files of puts that a crash cut off, and the sidecars of objects that
    /// are gone.
    fn sweep(&self, own: &Path) -> io::Result<()> {
        for left in fs::read_dir(own.join("tmp"))? {
            self.disk.apply(Effect::Remove(left?.path()))?;
        }
        let stamps = own.join("stamps");
        let mut orphans = Vec::new();
        walk(&stamps, &mut |path, _| {
            if let Ok(key) = path.strip_prefix(&stamps)
                && matches!(fs::symlink_metadata(self.root.join(key)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound)
            {
                orphans.push(path.to_path_buf());
            }
            ControlFlow::Continue(())
        })?;
        orphans
            .into_iter()
            .try_for_each(|orphan| self.disk.apply(Effect::Remove(orphan)))
    }

    /// Checks that the folder is there, and is still the one that was found first: a disk that is
    /// not mounted leaves an empty folder behind, and a push into that would be lost.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match fs::metadata(&self.root) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return self.missing("is no folder any more"),
            Err(error) if matches!(Kind::of_io(&error), Kind::NotFound | Kind::Invalid) => {
                return self.missing("is gone");
            }
            Err(error) => return Err(self.failure("find", "the folder", &error)),
        }
        if self.marked.get() == Some(&true) && !self.root.join(OWN).is_dir() {
            return self.missing(LOST_ITS_OWN);
        }
        Ok(())
    }

    fn missing(&self, what: &str) -> Result<(), Failure> {
        Err(Failure::new(
            Kind::StoreMissing,
            format!("the folder at {} {what}", self.url),
        ))
    }

    pub(super) fn probe(&self) -> Result<(), Failure> {
        self.check()?;
        fs::read_dir(&self.root)
            .map(drop)
            .map_err(|error| self.failure("list", "the folder", &error))
    }

    /// Opens an object; `None` if there is none. What is no regular file, or lies behind a
    /// symbolic link, is no object.
    pub(super) fn find(&self, key: &str) -> Result<Option<Found>, Failure> {
        if self.symlinked(key) {
            return Ok(None);
        }
        let path = self.root.join(key);
        let opened = fs::symlink_metadata(&path).and_then(|meta| {
            if !meta.is_file() {
                return Ok(None);
            }
            let file = OpenOptions::new()
                .read(true)
                // NONBLOCK: opening a fifo put here just now would wait for its writer.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            let meta = file.metadata()?;
            Ok(meta.is_file().then_some(Found { file, meta }))
        });
        match opened {
            Ok(found) => Ok(found),
            Err(error) if matches!(Kind::of_io(&error), Kind::NotFound | Kind::Invalid) => {
                self.check().map(|()| None)
            }
            Err(error) => Err(self.failure("open", key, &error)),
        }
    }

    /// Reads an object's sidecar; `None` if it has none.
    pub(super) fn sidecar(
        &self,
        key: &str,
    ) -> Result<Option<Result<Sidecar, Unreadable>>, Failure> {
        match fs::read(self.root.join(OWN).join("stamps").join(key)) {
            Ok(bytes) => Ok(Some(Sidecar::parse(&bytes))),
            Err(error) if matches!(Kind::of_io(&error), Kind::NotFound | Kind::Invalid) => Ok(None),
            Err(error) => Err(self.failure("read the stamp of", key, &error)),
        }
    }

    /// Tells whether the path of a key has a symbolic link in it.
    pub(super) fn symlinked(&self, key: &str) -> bool {
        let mut path = self.root.clone();
        key.split('/').any(|segment| {
            path.push(segment);
            path.is_symlink()
        })
    }

    pub(super) fn lock(&self, mode: Mode) -> Result<Option<Lock>, Failure> {
        let path = self.root.join(OWN).join("lock");
        match lock::acquire(&path, mode) {
            Ok(lock) => Ok(Some(lock)),
            // Who may only read the folder may not be able to lock it; no one writes it then.
            Err(error) if mode == Mode::Shared && Kind::of_io(&error) != Kind::Unreachable => {
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Failure::new(
                Kind::Busy,
                format!("cannot lock {}: another process holds its lock", self.url),
            )),
            Err(error) => match self.check() {
                Err(missing) => Err(missing),
                Ok(()) => Err(self.failure("lock", "the folder", &error)),
            },
        }
    }

    pub(super) fn valid(&self, key: &str) -> Result<(), Failure> {
        let bad = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains('\0');
        match key.split('/').any(bad) || reserved(key) {
            false => Ok(()),
            true => Err(Failure::new(
                Kind::Invalid,
                format!("no such key can be at {}: {key:?}", self.url),
            )),
        }
    }

    /// Makes a failure that an operation on a key met.
    pub(super) fn refusal(&self, kind: Kind, verb: &str, key: &str, why: &str) -> Failure {
        Failure::new(kind, format!("cannot {verb} {key} at {}: {why}", self.url))
    }

    /// Makes a failure of an error of the operating system. What vanishes amid an operation is an
    /// outage: "not found" is an answer, and only [`Folder::find`] may give it.
    pub(super) fn failure(&self, verb: &str, what: &str, error: &io::Error) -> Failure {
        let kind = match Kind::of_io(error) {
            Kind::NotFound => Kind::Unreachable,
            kind => kind,
        };
        self.refusal(kind, verb, what, &error.to_string().to_lowercase())
    }
}

/// Tells whether a key is one of the driver's own files.
pub(super) fn reserved(key: &str) -> bool {
    key.strip_prefix(OWN)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.split('/').next())
        .is_some_and(|first| RESERVED.contains(&first))
}

pub(super) fn token(meta: &Metadata) -> Token {
    Token(format!("{}-{}-{}", nanos(meta), meta.len(), meta.ino()))
}

/// Returns a file's time as a stamp's `when`.
pub(super) fn nanos(meta: &Metadata) -> u64 {
    let since = modified(meta).duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

pub(super) fn modified(meta: &Metadata) -> SystemTime {
    meta.modified().unwrap_or(UNIX_EPOCH)
}
