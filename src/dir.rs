//! Directories by descriptor. Every name is looked up beneath one, and no symbolic link is followed.
//!
//! Folders of targets, state directories and caches can hold anything: links that lead elsewhere,
//! named pipes, sparse files of any size. Going through [`Dir`], atlasfs reaches nothing outside the
//! directory, never waits for the other end of a pipe, and never reads more than it asked for.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Lookups reach nothing above the directory and nothing behind a link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opening a named pipe must not wait, and a terminal must not become the controlling one.
const NONBLOCKING: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

const LINK_REFUSED: &str = "a symbolic link is in the way, and not followed";

/// An open directory. All paths are relative to it.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Opens a directory that the user named: a link on the way to it is the user's own.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory beneath this one.
    pub(crate) fn child(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = self.at(path, flags, Mode::empty());
        opened.map(Self).map_err(|error| match self.meta(path) {
            // The kernel only says that it is no directory.
            Ok(meta) if meta.is_symlink() => invalid(LINK_REFUSED),
            _ => error,
        })
    }

    /// Makes a directory; one that is there is an error.
    pub(crate) fn make_dir(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path.as_ref())?;
        Ok(rustix::fs::mkdirat(parent, name, Mode::from(mode))?)
    }

    /// Opens a regular file for reading.
    pub(crate) fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.regular(path.as_ref(), OFlags::RDONLY, 0)
    }

    /// Opens a regular file for reading and writing, and makes an empty one if there is none.
    pub(crate) fn file_or_new(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        self.regular(path.as_ref(), OFlags::RDWR | OFlags::CREATE, mode)
    }

    /// Opens a regular file for appending, and makes an empty one if there is none.
    pub(crate) fn appended(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        self.regular(path.as_ref(), flags, mode)
    }

    /// Makes a new file, open for writing; a name that is taken is an error.
    pub(crate) fn new_file(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.regular(path.as_ref(), flags, mode)
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.file(path)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > limit {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(bytes),
        }
    }

    /// Describes a name, and follows no link.
    pub(crate) fn meta(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let opened = self.at(path.as_ref(), OFlags::PATH, Mode::empty())?;
        File::from(opened).metadata()
    }

    /// Lists the names in a directory.
    pub(crate) fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.at(path.as_ref(), flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(opened)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Renames a file, over another one if there is one.
    pub(crate) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (old_parent, old) = self.parent(from.as_ref())?;
        let (new_parent, new) = self.parent(to.as_ref())?;
        Ok(rustix::fs::renameat(old_parent, old, new_parent, new)?)
    }

    /// Removes a file, or a link itself.
    pub(crate) fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (parent, name) = self.parent(path.as_ref())?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (parent, name) = self.parent(path.as_ref())?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.at(path.as_ref(), flags, Mode::empty())?;
        File::from(opened).sync_all()
    }

    /// Sets the permissions of a directory or a regular file.
    pub(crate) fn set_mode(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let opened = self.at(path.as_ref(), OFlags::RDONLY | NONBLOCKING, Mode::empty())?;
        File::from(opened).set_permissions(Permissions::from_mode(mode))
    }

    fn regular(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<File> {
        let opened = self.at(path, flags | NONBLOCKING, Mode::from(mode))?;
        must_be_regular(File::from(opened))
    }

    /// Opens the directory that a name is in: calls on a single name follow no link.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.at(parent, flags, Mode::empty())?, name))
    }

    fn at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let opened = match rustix::fs::openat2(&self.0, path, flags, mode, BENEATH) {
            // Kernels before 5.6 don't have the call, and some containers refuse it.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => self.walk(path, flags, mode),
            opened => opened,
        };
        opened.map_err(|errno| match errno {
            Errno::LOOP | Errno::XDEV => invalid(LINK_REFUSED),
            Errno::NXIO | Errno::NODEV => invalid("it is not a regular file"),
            errno => errno.into(),
        })
    }

    /// Opens a path as `openat2` does, one name after the other.
    fn walk(&self, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut dir = rustix::fs::openat(&self.0, ".", through, Mode::empty())?;
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            let name = match name {
                Component::Normal(_) | Component::CurDir => name.as_os_str(),
                _ => return Err(Errno::XDEV),
            };
            if names.peek().is_none() {
                return rustix::fs::openat(&dir, name, flags, mode);
            }
            dir = rustix::fs::openat(&dir, name, through, Mode::empty())?;
        }
        Err(Errno::NOENT)
    }
}

/// Opens a regular file in a directory that is known to be this user's own.
pub(crate) fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    must_be_regular(options.custom_flags(flags).open(path)?)
}

fn must_be_regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(invalid("it is not a regular file")),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A directory with links that lead out of it and within it, and a directory outside.
    fn scene() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(temp.path().join("outside")).unwrap();
        fs::write(temp.path().join("outside/x"), "precious").unwrap();
        fs::write(root.join("a/x"), "ours").unwrap();
        symlink(temp.path().join("outside"), root.join("out")).unwrap();
        symlink("a", root.join("within")).unwrap();
        symlink("../outside/x", root.join("file")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        let dir = Dir::open(&root).unwrap();
        (temp, dir)
    }

    const BEHIND: [&str; 5] = [
        "out/x",
        "within/x",
        "file",
        "../outside/x",
        "a/../../outside/x",
    ];

    #[test]
    fn nothing_is_reached_through_a_link_or_above() {
        let (temp, dir) = scene();
        for path in BEHIND {
            assert!(dir.file(path).is_err(), "{path}");
            assert!(dir.file_or_new(path, 0o600).is_err(), "{path}");
            assert!(dir.appended(path, 0o600).is_err(), "{path}");
            assert!(dir.new_file(path, 0o600).is_err(), "{path}");
            assert!(dir.set_mode(path, 0o600).is_err(), "{path}");
        }
        for path in ["out", "within", "..", "a/../..", "/"] {
            assert!(dir.child(path).is_err(), "{path}");
            assert!(dir.list(path).is_err(), "{path}");
            assert!(dir.sync(path).is_err(), "{path}");
            let below = Path::new(path).join("new");
            assert!(dir.make_dir(&below, 0o700).is_err(), "{path}");
            assert!(dir.new_file(&below, 0o600).is_err(), "{path}");
            assert!(dir.rename("a/x", &below).is_err(), "{path}");
            assert!(dir.remove(Path::new(path).join("x")).is_err(), "{path}");
        }
        assert!(dir.file_or_new("dangling", 0o600).is_err());
        assert!(!temp.path().join("root/nowhere").exists());
        let outside = fs::read_dir(temp.path().join("outside")).unwrap().count();
        assert_eq!(outside, 1);
    }

    #[test]
    fn walking_name_by_name_refuses_the_same() {
        let (_temp, dir) = scene();
        let walk = |path: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            dir.walk(Path::new(path), flags, Mode::empty())
        };
        for path in BEHIND {
            assert!(walk(path).is_err(), "{path}");
        }
        for path in ["a/x", "a/b", "a", "."] {
            assert!(walk(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn removing_and_renaming_a_link_leaves_its_target() {
        let (temp, dir) = scene();
        assert!(dir.meta("file").unwrap().is_symlink());
        dir.rename("a/x", "file").unwrap();
        assert_eq!(dir.read("file", 10).unwrap(), b"ours");
        dir.remove("out").unwrap();
        assert_eq!(
            fs::read(temp.path().join("outside/x")).unwrap(),
            b"precious"
        );
    }

    #[test]
    fn only_regular_files_are_opened_and_none_is_waited_for() {
        let (temp, dir) = scene();
        let root = temp.path().join("root");
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        for path in ["fifo", "socket", "a"] {
            assert!(dir.file(path).is_err(), "{path}");
            assert!(dir.read(path, 10).is_err(), "{path}");
            assert!(dir.appended(path, 0o600).is_err(), "{path}");
            assert!(dir.file_or_new(path, 0o600).is_err(), "{path}");
            let mut options = OpenOptions::new();
            let path = root.join(path);
            assert!(open_regular(options.read(true), &path).is_err(), "{path:?}");
        }
        let mut options = OpenOptions::new();
        assert!(open_regular(options.read(true), &root.join("file")).is_err());
    }

    #[test]
    fn a_huge_file_is_refused_without_being_read() {
        let (temp, dir) = scene();
        let huge = File::create(temp.path().join("root/huge")).unwrap();
        huge.set_len(1 << 40).unwrap();
        let error = dir.read("huge", 1 << 12).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
