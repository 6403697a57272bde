//! Directory trees and their files, as far as neither objects nor stamps are concerned.

use std::fs::Metadata;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::dir::Dir;
use crate::store::Kind;

/// Visits everything below a directory that is not itself a directory, following no link, until
/// there is nothing left or a visit says that it is enough. What vanishes meanwhile was never
/// there.
pub(super) fn walk(
    root: &Dir,
    top: &Path,
    visit: &mut dyn FnMut(&Path, &Metadata) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut dirs: Vec<PathBuf> = vec![top.to_path_buf()];
    let gone = |error: &io::Error| matches!(Kind::of_io(error), Kind::NotFound | Kind::Invalid);
    while let Some(dir) = dirs.pop() {
        let names = match root.list(&dir) {
            Err(error) if gone(&error) => continue,
            names => names?,
        };
        for name in names {
            let path = dir.join(name);
            match root.meta(&path) {
                Ok(meta) if meta.is_dir() => dirs.push(path),
                Ok(meta) if visit(&path, &meta).is_break() => return Ok(()),
                Ok(_) => {}
                Err(error) if gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Tells whether there is any file below a directory.
pub(super) fn has_file(root: &Dir, top: &Path) -> io::Result<bool> {
    let mut any = false;
    let mut found = |_: &Path, _: &Metadata| {
        any = true;
        ControlFlow::Break(())
    };
    walk(root, top, &mut found).map(|()| any)
}
