//! The folders that mounts with one state directory have used as targets.
//!
//! A folder that was there once and is not there now is a disk that is not mounted: an outage, which
//! no mount must take for a folder to be made.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::dir::Dir;

/// The file's name in the state directory: one path a line.
const NAME: &str = "folders";
/// The name of the next version of it, until it is whole.
const NEXT: &str = "folders.tmp";

/// How many bytes of it are read: thousands of paths.
const MOST: u64 = 1 << 20;

/// Returns the folders that were used before. None if that can't be read.
pub(super) fn known(state_dir: &Path) -> BTreeSet<PathBuf> {
    let dir = Dir::open(state_dir);
    let lines = dir.and_then(|dir| dir.read(NAME, MOST)).unwrap_or_default();
    let lines = lines.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| PathBuf::from(OsStr::from_bytes(line)))
        .collect()
}

/// Remembers folders that are used now, beside those of before.
///
/// # Errors
///
/// The state directory can't be written.
pub(super) fn remember(state_dir: &Path, used: &BTreeSet<PathBuf>) -> io::Result<()> {
    let before = known(state_dir);
    if used.is_subset(&before) {
        return Ok(());
    }
    let dir = Dir::open(state_dir)?;
    match dir.remove(NEXT) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = dir.new_file(NEXT, 0o600)?;
    for folder in before.union(used) {
        let path = folder.as_os_str().as_bytes();
        // Such a path can't be a line. It is treated as unknown.
        if !path.contains(&b'\n') {
            file.write_all(path)?;
            file.write_all(b"\n")?;
        }
    }
    file.sync_all()?;
    dir.rename(NEXT, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_all_mounts_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert!(known(dir.path()).is_empty());
        let set = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        remember(dir.path(), &set(&["/a b", "/c"])).unwrap();
        remember(dir.path(), &set(&["/d", "/e\nf"])).unwrap();
        assert_eq!(known(dir.path()), set(&["/a b", "/c", "/d"]));
    }
}
