//! Directory trees and their files, as far as neither objects nor stamps are concerned.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use sha2::Digest;

use crate::artifact::Sha256;
use crate::target::Kind;

/// Visits everything below a directory that is not itself a directory, following no link, until
/// there is nothing left or a visit says that it is enough. What vanishes meanwhile was never
/// there.
pub(super) fn walk(
    top: &Path,
    visit: &mut dyn FnMut(&Path, &Metadata) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut dirs = vec![top.to_path_buf()];
    let gone = |error: &io::Error| matches!(Kind::of_io(error), Kind::NotFound | Kind::Invalid);
    while let Some(dir) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if gone(&error) => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            match fs::symlink_metadata(&path) {
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
pub(super) fn has_file(top: &Path) -> io::Result<bool> {
    let mut any = false;
    let mut found = |_: &Path, _: &Metadata| {
        any = true;
        ControlFlow::Break(())
    };
    walk(top, &mut found).map(|()| any)
}

/// Hashes a file of any size without holding it in memory.
pub(super) fn hash(mut file: File) -> io::Result<(Sha256, u64)> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = [0; 16 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                size += read as u64;
            }
        }
    }
    let text: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let sha256 = text.parse().map_err(io::Error::other)?;
    Ok((sha256, size))
}
