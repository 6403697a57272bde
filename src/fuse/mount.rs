//! This process's own mount: making it, recognising it, and removing it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::bounded::within;
use super::error::MountError;
use super::fusermount;
use super::mountinfo::{Device, FSTYPE};
use super::occupant::{detach, is_dead, resolve, topmost};
use super::preflight::{MountRequest, lock_mount_point, open_device, preflight};

/// A mount made by this process.
#[derive(Debug, Clone)]
pub struct ActiveMount {
    dir: PathBuf,
    device: Device,
    reserve: DescriptorReserve,
}

/// Descriptors to close before the unmount: a process without free descriptors must still be able
/// to unmount.
#[derive(Debug, Clone)]
struct DescriptorReserve(Arc<Mutex<Vec<File>>>);

/// The most descriptors that reading the list of mounts and running fusermount3 need.
const RESERVED_DESCRIPTORS: usize = 8;

impl DescriptorReserve {
    fn new() -> Self {
        let files = (0..RESERVED_DESCRIPTORS).map_while(|_| File::open("/dev/null").ok());
        Self(Arc::new(Mutex::new(files.collect())))
    }

    fn release(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl ActiveMount {
    /// Checks and mounts; returns the mount and the connection to the kernel.
    pub(super) fn new(request: &MountRequest) -> Result<(Self, OwnedFd), MountError> {
        let dir = resolve(&request.dir)
            .map_err(|error| MountError::Inaccessible(request.dir.clone(), error))?;
        let lock = lock_mount_point(&dir)?;
        let dir = preflight(request)?;
        let connection = if nix::unistd::geteuid().is_root() {
            mount_as_root(request, &dir)?
        } else {
            fusermount::mount(&dir, &helper_options(request))?
        };
        drop(lock);
        match topmost(&dir) {
            Ok(Some(entry)) if entry.is_atlasfs() => {
                let mount = Self {
                    dir,
                    device: entry.device,
                    reserve: DescriptorReserve::new(),
                };
                Ok((mount, connection))
            }
            // Another mount may have replaced it, so unmount nothing: closing the connection leaves
            // at worst a dead mount.
            Ok(_) => Err(MountError::Vanished(dir)),
            Err(error) => Err(MountError::Inaccessible(dir, error)),
        }
    }

    /// Returns the mount point's absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the device number that stat(2) shows for files in the mount.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Checks the mount with a stat(2) of its root through the kernel.
    pub fn prove(&self, limit: Duration) -> io::Result<()> {
        let dir = self.dir.clone();
        let metadata = within(limit, move || std::fs::metadata(dir))
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

    /// Unmounts lazily while the session runs. Returns false, and does nothing, if another mount is
    /// on the path. No other mount has the same device number while the session runs.
    pub fn detach(&self) -> io::Result<bool> {
        self.reserve.release();
        match topmost(&self.dir)? {
            Some(entry) if entry.is_atlasfs() && entry.device == self.device => {
                detach(&self.dir).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Removes the dead mount after its session has ended; returns false if it is already gone.
    ///
    /// Another mount may have the device number by now, so a mount that still answers stays.
    pub fn clear(&self) -> io::Result<bool> {
        self.reserve.release();
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

fn mount_as_root(request: &MountRequest, dir: &Path) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    // user_id is the user with access, not the owner of the files.
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

/// Returns a source that no parser of mount options splits.
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
    use crate::fuse::UnmountError;
    use crate::fuse::occupant::unmount;

    #[test]
    fn a_source_adds_no_mount_options() {
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
    fn a_mount_of_another_type_is_never_unmounted() {
        let error = unmount(Path::new("/proc"), true).unwrap_err();
        assert!(matches!(error, UnmountError::Stranger(_, _)), "{error}");
        let proc = topmost(Path::new("/proc")).unwrap().unwrap();
        let lookalike = ActiveMount {
            dir: PathBuf::from("/proc"),
            device: proc.device,
            reserve: DescriptorReserve::new(),
        };
        assert!(!lookalike.detach().unwrap());
        assert!(!lookalike.clear().unwrap());
    }
}
