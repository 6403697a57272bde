//! The folder: one directory tree with its objects and its lock, and the check that it is still
//! there.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::disk::{Disk, Effect, walk};
use super::lock::{self, LOCK, Lock, LockMode};
use super::sidecar::{self, Sidecar, SidecarError};
use crate::dir::Dir;
use crate::store::backend::waits_for;
use crate::store::{Failure, FileLocation, Kind, Token};

/// The backend's own directory below the folder.
pub(super) const OWN: &str = ".atlasfs";
/// The folder of temporary files, which hold new content until it is complete.
pub(super) const TMP: &str = ".atlasfs/tmp";
/// The folder of the stamps, each under its object's key.
pub(super) const STAMPS: &str = ".atlasfs/stamps";
/// The names in the backend's own directory that are not objects; the others are bookkeeping.
pub(super) const RESERVED: [&str; 3] = ["stamps", "tmp", "lock"];

/// The fault of an empty folder whose disk is not mounted.
const LOST_ITS_OWN: &str = "has lost its .atlasfs: is its disk mounted? (if this is the right \
                            folder, fill it again from the other targets: atlasfs sync --refill DIR)";

/// The directory tree of one `file://` target.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) url: String,
    /// Whether the folder has its own `.atlasfs`; unset until the folder is found.
    marked: OnceLock<bool>,
    /// Whether an earlier mount found `.atlasfs` in the folder.
    known: bool,
    /// Whether nothing may be written.
    read_only: bool,
    pub(super) disk: Disk,
    pub(super) serial: AtomicU64,
    /// The process that holds the lock while an operation of this mount waits for it.
    holder: watch::Sender<Option<String>>,
}

/// An open object.
#[derive(Debug)]
pub(super) struct OpenObject {
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
            read_only: location.read_only,
            disk: Disk::default(),
            serial: AtomicU64::new(0),
            holder: watch::Sender::default(),
        }
    }

    /// Finds the folder, once: makes it if `create`, makes `.atlasfs` in it, and removes the
    /// leftovers of a crash.
    pub(super) fn prepare(&self, create: bool) -> Result<(), Failure> {
        if self.marked.get().is_some() {
            return Ok(());
        }
        let failed = |error: io::Error| self.failure("open", "the folder", &error);
        let create = create && !self.known && !self.read_only;
        if create && let Some(there) = self.root.ancestors().find(|path| path.is_dir()) {
            let below = self.root.strip_prefix(there).unwrap_or(Path::new(""));
            Dir::open(there)
                .and_then(|there| self.disk.make_dirs(&there, below))
                .map_err(failed)?;
        }
        let Ok(root) = Dir::open(&self.root) else {
            let fix = "restore it, or add ?create_dir=true to its url to create it at mount";
            let missing = Failure::new(Kind::StoreMissing, format!("no folder at {}", self.url));
            return Err(missing.with_fix(Some(fix.into())));
        };
        if self.known && root.child(OWN).is_err() {
            return self.missing(LOST_ITS_OWN);
        }
        if !self.read_only {
            self.make_own(&root)?;
        }
        self.check_case_sensitivity(&root)?;
        // During a put, the holder of the lock owns the files in tmp: then the next start sweeps.
        if !self.read_only
            && let Ok(Some(_lock)) = lock::try_now(&root)
        {
            self.sweep(&root).map_err(failed)?;
        }
        let _ = self.marked.set(root.child(OWN).is_ok());
        Ok(())
    }

    /// Makes `.atlasfs` in the folder.
    fn make_own(&self, root: &Dir) -> Result<(), Failure> {
        for name in [TMP, STAMPS] {
            match self.disk.make_dirs(root, Path::new(name)) {
                Ok(()) => {}
                // A read-only folder needs no `.atlasfs`.
                Err(error) if Kind::of_io(&error) == Kind::Denied => {}
                Err(error) => return Err(self.failure("use", name, &error)),
            }
        }
        Ok(())
    }

    /// Makes `.atlasfs` again in a folder that has lost it.
    pub(super) fn restore(&self) -> Result<(), Failure> {
        let root = Dir::open(&self.root);
        let root = root.map_err(|error| self.failure("open", "the folder", &error))?;
        self.make_own(&root)
    }

    /// Refuses a folder that ignores the case of names.
    fn check_case_sensitivity(&self, root: &Dir) -> Result<(), Failure> {
        // If the folder can't be listed, the next request reports it.
        let names = root.list("").unwrap_or_default();
        if !ignores_case(&names, OWN, |name| root.meta(name).is_ok()) {
            return Ok(());
        }
        let what = format!("the folder at {} ignores the case of names", self.url);
        let why = "repositories App and app would overwrite each other";
        let fix = "use a folder on a file system that tells them apart, such as ext4 or xfs";
        Err(Failure::new(Kind::Invalid, format!("{what}: {why}"))
            .with_fix(Some(fix.into()))
            .before_asking())
    }

    /// Removes the temporary files of interrupted puts, and the sidecars of missing objects. Files
    /// with another name or form stay.
    fn sweep(&self, root: &Dir) -> io::Result<()> {
        let mut left = Vec::new();
        for name in root.list(TMP)? {
            let path = Path::new(TMP).join(&name);
            if is_temporary(&name) && root.meta(&path).is_ok_and(|meta| meta.is_file()) {
                left.push(path);
            }
        }
        walk(root, Path::new(STAMPS), None, &mut |path, _| {
            if let Ok(key) = path.strip_prefix(STAMPS)
                && matches!(root.meta(key), Err(error) if error.kind() == io::ErrorKind::NotFound)
                && root
                    .read(path, sidecar::MAX_SIDECAR_BYTES)
                    .is_ok_and(|bytes| sidecar::is_one(&bytes))
            {
                left.push(path.to_path_buf());
            }
            ControlFlow::Continue(())
        })?;
        left.into_iter()
            .try_for_each(|left| self.disk.apply(root, Effect::Remove(left)))
    }

    /// Opens the folder if it is still the same one. An unmounted disk leaves an empty folder, and
    /// a push into it would be lost. The folder stays open for one operation only, or its disk
    /// could not be unmounted.
    pub(super) fn enter(&self) -> Result<Dir, Failure> {
        let root = match Dir::open(&self.root) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return self.missing("is no longer a folder");
            }
            Err(error) if matches!(Kind::of_io(&error), Kind::NotFound | Kind::Invalid) => {
                return self.missing("is gone");
            }
            Err(error) => return Err(self.failure("find", "the folder", &error)),
        };
        if self.marked.get() == Some(&true) && root.child(OWN).is_err() {
            return self.missing(LOST_ITS_OWN);
        }
        Ok(root)
    }

    /// Checks that the folder is still there.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.enter().map(drop)
    }

    fn missing<T>(&self, what: &str) -> Result<T, Failure> {
        Err(Failure::new(
            Kind::StoreMissing,
            format!("the folder at {} {what}", self.url),
        ))
    }

    pub(super) fn probe(&self) -> Result<(), Failure> {
        self.enter()?
            .list("")
            .map(drop)
            .map_err(|error| self.failure("list", "the folder", &error))
    }

    /// Opens an object; `None` if there is none. Only a regular file that is not behind a symbolic
    /// link is an object.
    pub(super) fn find(&self, root: &Dir, key: &str) -> Result<Option<OpenObject>, Failure> {
        let opened = root.file(key).and_then(|file| {
            let meta = file.metadata()?;
            Ok(OpenObject { file, meta })
        });
        match opened {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(Kind::of_io(&error), Kind::NotFound | Kind::Invalid) => {
                self.check().map(|()| None)
            }
            Err(error) => Err(self.failure("open", key, &error)),
        }
    }

    /// Reads an object's sidecar; `None` if there is none. Anything but a regular file of sidecar
    /// size counts as none.
    pub(super) fn sidecar(
        &self,
        root: &Dir,
        key: &str,
    ) -> Result<Option<Result<Sidecar, SidecarError>>, Failure> {
        match root.read(Path::new(STAMPS).join(key), sidecar::MAX_SIDECAR_BYTES) {
            Ok(bytes) => Ok(Some(Sidecar::parse(&bytes))),
            Err(error) if matches!(Kind::of_io(&error), Kind::NotFound | Kind::Invalid) => Ok(None),
            Err(error) => Err(self.failure("read the stamp of", key, &error)),
        }
    }

    /// Watches the process that holds the lock, while an operation of this mount waits for it.
    pub(super) fn holder(&self) -> watch::Receiver<Option<String>> {
        self.holder.subscribe()
    }

    fn waits_for_holder(&self, holder: Option<String>) {
        self.holder.send_replace(holder.clone());
        waits_for(holder);
    }

    pub(super) fn lock(&self, root: &Dir, mode: LockMode) -> Result<Option<Lock>, Failure> {
        let acquired = lock::acquire(root, mode, |holder| self.waits_for_holder(Some(holder)));
        let holder = self.holder.borrow().clone();
        self.waits_for_holder(None);
        match acquired {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let holder = holder.unwrap_or_else(|| "its lock keeps changing hands".into());
                let why = format!("cannot lock {}: {holder}", self.url);
                Err(Failure::new(Kind::Busy, why))
            }
            // A user with read access only can't always take the lock, and doesn't need it to read.
            Err(error) if mode == LockMode::Shared && Kind::of_io(&error) != Kind::Unreachable => {
                Ok(None)
            }
            Err(error) => match self.check() {
                Err(missing) => Err(missing),
                Ok(()) => Err(self.failure("lock", LOCK, &error)),
            },
        }
    }

    pub(super) fn valid(&self, key: &str) -> Result<(), Failure> {
        let bad = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains('\0');
        match key.split('/').any(bad) || reserved(key) {
            false => Ok(()),
            true => Err(Failure::new(
                Kind::Invalid,
                format!("invalid key at {}: {key:?}", self.url),
            )),
        }
    }

    /// Makes a failure of an operation on a key.
    pub(super) fn refusal(&self, kind: Kind, verb: &str, key: &str, why: &str) -> Failure {
        Failure::new(kind, format!("cannot {verb} {key} at {}: {why}", self.url))
    }

    /// Makes a failure from an operating system error. A file that vanishes during an operation is
    /// an outage: "not found" is an answer, and only [`Folder::find`] may give it.
    pub(super) fn failure(&self, verb: &str, what: &str, error: &io::Error) -> Failure {
        let kind = match Kind::of_io(error) {
            Kind::NotFound => Kind::Unreachable,
            kind => kind,
        };
        self.refusal(kind, verb, what, &error.to_string().to_lowercase())
    }
}

/// Tells whether a key is one of the backend's own files.
pub(super) fn reserved(key: &str) -> bool {
    key.strip_prefix(OWN)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.split('/').next())
        .is_some_and(|first| RESERVED.contains(&first))
}

/// Tells whether a name in `tmp` has the form of a put's: `<process>-<time>-<number>.<c or s>`.
fn is_temporary(name: &std::ffi::OsStr) -> bool {
    let parse = || {
        let (numbers, kind) = name.to_str()?.rsplit_once('.')?;
        let mut numbers = numbers.split('-');
        let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let three = numbers.by_ref().take(3).filter(|part| number(part)).count() == 3;
        Some(three && numbers.next().is_none() && matches!(kind, "c" | "s"))
    };
    parse() == Some(true)
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

/// The most names of a folder that are tried. A writable folder has `.atlasfs`, and one name is
/// enough; the others are for folders where it can't be made.
const MAX_CASE_TRIALS: usize = 16;

/// Tells whether a folder with these names ignores case: then it finds a name that it doesn't list.
pub(super) fn ignores_case(names: &[OsString], own: &str, finds: impl Fn(&OsStr) -> bool) -> bool {
    let is_own = |name: &&OsString| name.eq_ignore_ascii_case(own);
    let own = names.iter().filter(is_own);
    let others = names.iter().filter(|name| !is_own(name));
    own.chain(others).take(MAX_CASE_TRIALS).any(|name| {
        let turned = turned(name);
        turned != *name && !names.contains(&turned) && finds(&turned)
    })
}

/// Returns a name with the case of its letters swapped.
fn turned(name: &OsStr) -> OsString {
    let turn = |byte: &u8| match byte.is_ascii_lowercase() {
        true => byte.to_ascii_uppercase(),
        false => byte.to_ascii_lowercase(),
    };
    OsString::from_vec(name.as_bytes().iter().map(turn).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(names: &[&str], found: &[&str], folds: bool) -> bool {
        let names: Vec<OsString> = names.iter().map(OsString::from).collect();
        ignores_case(&names, ".atlasfs", |name| {
            let same = |known: &&&str| match folds {
                true => name.eq_ignore_ascii_case(known),
                false => name == **known,
            };
            found.iter().find(same).is_some()
        })
    }

    #[test]
    fn a_folder_that_finds_another_case_ignores_case() {
        for names in [&[".atlasfs"][..], &[".ATLASFS"], &["lost+found", "App"]] {
            assert!(ignored(names, names, true), "{names:?}");
            assert!(!ignored(names, names, false), "{names:?}");
        }
    }

    #[test]
    fn two_cases_of_one_name_are_two_names() {
        let names = ["app", "APP", "1"];
        assert!(!ignored(&names, &names, false));
        assert!(!ignored(&[], &[], true));
    }

    #[test]
    fn own_name_is_tried_however_many_others_there_are() {
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
        names.push(".atlasfs");
        assert!(ignored(&names, &names, true));
    }
}
