//! A mount of this program's own: made, recognised, and unmounted by it alone.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};

use super::bounded::within;
use super::error::{MountError, UnmountError};
use super::mountinfo::{self, Device, FSTYPE, MountEntry};
use super::occupant::{is_dead, resolve};
use super::preflight::open_device;
use super::{fusermount, preflight, turn};

/// What is to be mounted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The mount point.
    pub dir: PathBuf,
    /// What `mount` shows as the source: a URL that may be shown.
    pub source: String,
    /// The kernel refuses every write.
    pub read_only: bool,
    /// Users other than the one who mounts are let in.
    pub allow_other: bool,
}

/// A mount that this process has made.
#[derive(Debug, Clone)]
pub struct Mount {
    dir: PathBuf,
    device: Device,
    reserve: Reserve,
}

/// Descriptors that are given up when the mount is taken away, for a process that has used up its
/// own must still be able to do that.
#[derive(Debug, Clone)]
struct Reserve(Arc<Mutex<Vec<File>>>);

/// What reading the list of mounts, and a run of fusermount3, have open at most.
const RESERVED: usize = 8;

impl Reserve {
    fn new() -> Self {
        let files = (0..RESERVED).map_while(|_| File::open("/dev/null").ok());
        Self(Arc::new(Mutex::new(files.collect())))
    }

    fn give_up(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Mount {
    /// Checks and mounts; returns the mount and the connection to the kernel.
    pub(super) fn new(request: &MountRequest) -> Result<(Self, OwnedFd), MountError> {
        let dir = resolve(&request.dir)
            .map_err(|error| MountError::Inaccessible(request.dir.clone(), error))?;
        let turn = turn::take(&dir)?;
        let dir = preflight(request)?;
        let connection = if nix::unistd::geteuid().is_root() {
            mount_as_root(request, &dir)?
        } else {
            fusermount::mount(&dir, &helper_options(request))?
        };
        drop(turn);
        match topmost(&dir) {
            Ok(Some(entry)) if entry.is_atlasfs() => {
                let mount = Self {
                    dir,
                    device: entry.device,
                    reserve: Reserve::new(),
                };
                Ok((mount, connection))
            }
            // Nobody can tell any more which mount is ours, so none is touched: closing the
            // connection leaves a dead end point at worst.
            Ok(_) => Err(MountError::Vanished(dir)),
            Err(error) => Err(MountError::Inaccessible(dir, error)),
        }
    }

    /// Returns the mount point's absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the device number that stat(2) shows for what lies in the mount.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Asks the mount's root for its attributes through the kernel, as any program does.
    pub fn prove(&self, patience: Duration) -> io::Result<()> {
        let dir = self.dir.clone();
        let metadata = within(patience, move || std::fs::metadata(dir))
            .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))??;
        let device = Device {
            major: nix::sys::stat::major(metadata.dev()) as u32,
            minor: nix::sys::stat::minor(metadata.dev()) as u32,
        };
        if device == self.device {
            Ok(())
        } else {
            Err(io::Error::other("another file system is mounted over it"))
        }
    }

    /// Takes the mount out of the tree at once, open files or not, while its session runs.
    /// Returns false, having done nothing, if the path leads elsewhere by now.
    ///
    /// The device number tells: it can't be somebody else's as long as the session runs.
    pub fn detach(&self) -> io::Result<bool> {
        self.reserve.give_up();
        match topmost(&self.dir)? {
            Some(entry) if entry.is_atlasfs() && entry.device == self.device => {
                detach(&self.dir).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Takes away what is left of the mount after its session has ended. Returns whether anything
    /// was: if not, somebody has unmounted it.
    ///
    /// By now the number may be another mount's, so a mount that still answers is left alone.
    pub fn clear(&self) -> io::Result<bool> {
        self.reserve.give_up();
        match topmost(&self.dir)? {
            Some(entry)
                if entry.is_atlasfs() && entry.device == self.device && is_dead(&self.dir) =>
            {
                detach(&self.dir).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

/// Unmounts an atlasfs, or clears up what is left of one; lazily if files may still be open.
pub fn unmount(dir: &Path, lazy: bool) -> Result<(), UnmountError> {
    let failed = |error| UnmountError::Failed(dir.to_owned(), error);
    // A mount that hangs is not asked: the question itself would keep it busy.
    let result = match topmost(dir).map_err(failed)? {
        None => return Err(UnmountError::NotMounted(dir.to_owned())),
        Some(entry) if !entry.is_atlasfs() => {
            return Err(UnmountError::Stranger(dir.to_owned(), entry.fstype));
        }
        Some(_) if lazy => detach(dir),
        Some(_) => match take_off(dir, false) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && is_dead(dir) => {
                detach(dir)
            }
            result => result,
        },
    };
    result.map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => UnmountError::Busy(dir.to_owned()),
        _ => failed(error),
    })
}

/// Unmounts whatever is on top of a path, even if files are open.
pub(super) fn detach(dir: &Path) -> io::Result<()> {
    take_off(dir, true)
}

fn take_off(dir: &Path, lazy: bool) -> io::Result<()> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazy);
    match umount2(dir, flags) {
        Ok(()) => Ok(()),
        // Users other than root may unmount only through the helper that mounted for them.
        Err(Errno::EPERM) if !nix::unistd::geteuid().is_root() => fusermount::unmount(dir, lazy),
        Err(errno) => Err(errno.into()),
    }
}

fn topmost(dir: &Path) -> io::Result<Option<MountEntry>> {
    Ok(mountinfo::topmost(&mountinfo::read()?, dir))
}

fn mount_as_root(request: &MountRequest, dir: &Path) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    // user_id is whom the kernel lets in; who owns the files is another matter.
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        nix::unistd::getuid(),
        nix::unistd::getgid(),
    );
    if request.allow_other {
        data.push_str(",allow_other");
    }
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, request.read_only);
    nix::mount::mount(
        Some(shown_source(&request.source).as_str()),
        dir,
        Some(FSTYPE),
        flags,
        Some(data.as_str()),
    )
    .map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES => MountError::MountDenied(dir.to_owned()),
        Errno::ENODEV => MountError::NoDevice,
        errno => MountError::Mount(dir.to_owned(), errno.into()),
    })?;
    Ok(device.into())
}

fn helper_options(request: &MountRequest) -> String {
    let mut options = format!(
        "fsname={},subtype=atlasfs,nosuid,nodev,default_permissions",
        shown_source(&request.source)
    );
    if request.read_only {
        options.push_str(",ro");
    }
    if request.allow_other {
        options.push_str(",allow_other");
    }
    options
}

/// Returns a source that can't be taken for more than one option, by any parser on the way.
fn shown_source(source: &str) -> String {
    let shown: String = source
        .chars()
        .map(|c| match c {
            ',' | '\\' | '#' => '_',
            c if c.is_whitespace() || c.is_control() => '_',
            c => c,
        })
        .collect();
    if shown.is_empty() {
        "atlasfs".to_owned()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_cannot_smuggle_in_options() {
        assert_eq!(
            shown_source("s3://a,ro\\,suid b\n#c"),
            "s3://a_ro__suid_b__c"
        );
        assert_eq!(shown_source(""), "atlasfs");
        let options = helper_options(&MountRequest {
            dir: PathBuf::from("/mnt"),
            source: "x,suid".to_owned(),
            read_only: true,
            allow_other: true,
        });
        assert_eq!(
            options,
            "fsname=x_suid,subtype=atlasfs,nosuid,nodev,default_permissions,ro,allow_other"
        );
    }

    #[test]
    fn a_strangers_mount_is_never_unmounted() {
        let error = unmount(Path::new("/proc"), true).unwrap_err();
        assert!(matches!(error, UnmountError::Stranger(_, _)), "{error}");
        let proc = topmost(Path::new("/proc")).unwrap().unwrap();
        let lookalike = Mount {
            dir: PathBuf::from("/proc"),
            device: proc.device,
            reserve: Reserve::new(),
        };
        assert!(!lookalike.detach().unwrap());
        assert!(!lookalike.clear().unwrap());
    }

    #[test]
    fn a_directory_that_is_not_mounted_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let error = unmount(&path, false).unwrap_err();
        assert!(matches!(error, UnmountError::NotMounted(_)), "{error}");
    }
}
