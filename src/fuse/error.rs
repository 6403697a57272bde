//! The errors of mounting and unmounting: one line each, with the remedy.

use std::io;
use std::path::PathBuf;

/// The reason why a mount fails.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point is missing.
    #[error("cannot mount on {dir}: it does not exist; make it first: mkdir -p {dir}", dir = .0.display())]
    Missing(PathBuf),
    /// The mount point is not a directory.
    #[error("cannot mount on {dir}: it is not a directory", dir = .0.display())]
    NotADirectory(PathBuf),
    /// The mount point holds files, which the mount would hide.
    #[error("cannot mount on {dir}: it is not empty; use an empty directory", dir = .0.display())]
    NotEmpty(PathBuf),
    /// An atlasfs is already mounted there.
    #[error("{dir} is mounted already: atlasfs unmount {dir} first", dir = .0.display())]
    MountedAlready(PathBuf),
    /// Another process holds the lock of the mount point.
    #[error(
        "cannot mount in {dir}: another process holds a lock on that directory; end it (lslocks names it) and mount again",
        dir = .0.display()
    )]
    Locked(PathBuf),
    /// A dead mount of another file system is there.
    #[error(
        "cannot mount on {dir}: a {1} file system is mounted there and does not answer; unmount it first",
        dir = .0.display()
    )]
    DeadStranger(PathBuf, String),
    /// The mount point can't be read.
    #[error("cannot mount on {dir}: {1}", dir = .0.display())]
    Inaccessible(PathBuf, #[source] io::Error),
    /// The dead mount of an earlier atlasfs can't be removed.
    #[error("cannot remove the dead mount on {dir}: {1}", dir = .0.display())]
    DeadEndPoint(PathBuf, #[source] io::Error),
    /// The kernel's FUSE device is missing.
    #[error(
        "cannot open /dev/fuse: no such device; load it with `modprobe fuse`, or, in a container, add `--device /dev/fuse --cap-add SYS_ADMIN`"
    )]
    NoDevice,
    /// This process may not open the kernel's FUSE device.
    #[error(
        "cannot open /dev/fuse: {0}; allow it with `chmod 666 /dev/fuse`, or, in a container, add `--device /dev/fuse --cap-add SYS_ADMIN`"
    )]
    DeviceDenied(#[source] io::Error),
    /// This process may not call mount(2).
    #[error(
        "cannot mount on {dir}: mount(2) is not permitted; in a container add `--cap-add SYS_ADMIN` (and `--security-opt apparmor=unconfined` where AppArmor forbids it)",
        dir = .0.display()
    )]
    MountDenied(PathBuf),
    /// mount(2) fails.
    #[error("cannot mount on {dir}: {1}", dir = .0.display())]
    Mount(PathBuf, #[source] io::Error),
    /// fusermount3 is missing, and this user isn't root.
    #[error(
        "cannot mount as a user other than root without fusermount3; install it: apt-get install fuse3"
    )]
    NoFusermount,
    /// fusermount3 fails.
    #[error("cannot mount on {dir}: fusermount3 says: {1}", dir = .0.display())]
    Fusermount(PathBuf, String),
    /// A user other than root may not give other users access.
    #[error(
        "cannot mount with --allow-other as a user other than root: add the line `user_allow_other` to /etc/fuse.conf, or leave it out"
    )]
    AllowOther,
    /// The new mount is not listed.
    #[error("cannot mount on {dir}: the mount has vanished from /proc/self/mountinfo", dir = .0.display())]
    Vanished(PathBuf),
    /// The session with the kernel can't start.
    #[error("cannot talk to the kernel about {dir}: {1}", dir = .0.display())]
    Session(PathBuf, #[source] io::Error),
}

/// The reason why an unmount fails.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing is mounted there.
    #[error("{dir} is not mounted", dir = .0.display())]
    NotMounted(PathBuf),
    /// Another file system is mounted there.
    #[error("{dir} is a mount of type {1}, not of atlasfs; nothing was done", dir = .0.display())]
    Stranger(PathBuf, String),
    /// Files in the mount are open.
    #[error("{dir} is in use", dir = .0.display())]
    Busy(PathBuf),
    /// The unmount fails for another reason.
    #[error("cannot unmount {dir}: {1}", dir = .0.display())]
    Failed(PathBuf, #[source] io::Error),
}
