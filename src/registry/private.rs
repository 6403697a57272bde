//! Private directories: no other user may read the files in a state directory or a cache, and the
//! mount writes and removes files there without asking. So each must be this user's, and atlasfs's.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::dir::Dir;

/// The layout of a directory.
#[derive(Debug)]
pub(super) struct Layout {
    /// The file that marks the directory as atlasfs's.
    pub(super) marker: &'static str,
    /// Directories of atlasfs.
    pub(super) dirs: &'static [&'static str],
    /// Files of atlasfs that are written in place.
    pub(super) files: &'static [&'static str],
    /// Whether a file or directory is atlasfs's, if an earlier version made no marker.
    pub(super) is_own: fn(&Dir, &str) -> bool,
}

/// The reason why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It is not this user's alone, or not atlasfs's: a sentence without its subject, and the
    /// remedy.
    #[error("{0}")]
    Foreign(String),
    /// It can't be made, read or changed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens a directory, makes it if it is missing, and makes it private.
pub(super) fn open(path: &Path, layout: &Layout) -> Result<Dir, Refused> {
    make(path)?;
    let dir = Dir::open(path)?;
    let meta = dir.meta("")?;
    let (owner, user) = (meta.uid(), nix::unistd::geteuid().as_raw());
    if owner != user {
        let why = format!("belongs to user {owner}, and user {user} mounts: chown it");
        return Err(Refused::Foreign(why));
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        let why = format!("can be written to by other users (mode {mode:o}): chmod 700 it");
        return Err(Refused::Foreign(why));
    }
    let names = dir.list("")?;
    if !names.iter().any(|name| name == layout.marker) {
        // A disk that is mounted there has its own `lost+found`.
        let own = |name: &OsStr| {
            let name = name.to_str();
            name.is_some_and(|name| name == "lost+found" || (layout.is_own)(&dir, name))
        };
        if let Some(foreign) = names.iter().find(|name| !own(name)) {
            let why = format!("holds {foreign:?}, which is not atlasfs's: move that away");
            return Err(Refused::Foreign(why));
        }
    }
    make_private(&dir, "", 0o700)?;
    mark(&dir, layout.marker);
    for name in layout.dirs {
        check(&dir, name, user, |meta| meta.is_dir())?;
        make_private(&dir, name, 0o700)?;
    }
    for name in layout.files.iter().chain([&layout.marker]) {
        // Another hard link to the file may be any of the user's files.
        check(&dir, name, user, |meta| meta.is_file() && meta.nlink() == 1)?;
        make_private(&dir, name, 0o600)?;
    }
    Ok(dir)
}

/// Makes the missing directories with mode 700, whatever the umask.
fn make(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Ok(()) => fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Marks the directory as atlasfs's. On a full disk this fails, and the next start checks again.
fn mark(dir: &Dir, marker: &str) {
    let made = dir.new_file(marker, 0o600);
    let _ = made.and_then(|mut file| writeln!(file, "{marker} 1"));
}

fn check(
    dir: &Dir,
    name: &str,
    user: u32,
    is_right: impl Fn(&fs::Metadata) -> bool,
) -> Result<(), Refused> {
    match dir.meta(name) {
        Ok(meta) if meta.uid() == user && is_right(&meta) => Ok(()),
        Ok(_) => {
            let why = format!(
                "holds a {name} that is a link, has the wrong type, or belongs to another user: remove that"
            );
            Err(Refused::Foreign(why))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes other users' permissions for a file or directory, if it exists.
pub(super) fn make_private(dir: &Dir, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    let path = path.as_ref();
    match dir.meta(path) {
        Ok(meta) if meta.permissions().mode() & 0o7777 != mode => dir.set_mode(path, mode),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes other users' permissions for the files in a directory.
pub(super) fn make_files_private(dir: &Dir, path: &Path) -> io::Result<()> {
    for name in dir.list(path)? {
        let path = path.join(name);
        if dir.meta(&path).is_ok_and(|meta| meta.is_file()) {
            make_private(dir, path, 0o600)?;
        }
    }
    Ok(())
}
