//! The suite's output, kept for a last check. `scripts/test` names a folder by
//! `ATLASFS_TEST_OUTPUT`, and searches it for secrets after all tests.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Larger files are documents of a test, and contain no messages.
const LARGEST: u64 = 1 << 20;

/// Returns the output folder, if it is set.
pub fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let named = std::env::var_os("ATLASFS_TEST_OUTPUT").filter(|name| !name.is_empty());
        named.map(PathBuf::from)
    });
    folder.as_deref()
}

/// Keeps some output. `kind` becomes part of the file's name.
pub fn keep(kind: &'static str, what: &str, bytes: &[u8]) {
    static FILES: OnceLock<Mutex<HashMap<&'static str, File>>> = OnceLock::new();
    let Some(folder) = folder() else {
        return;
    };
    let files = FILES.get_or_init(Mutex::default);
    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
    let file = files.entry(kind).or_insert_with(|| {
        let path = folder.join(format!("{kind}.{}", std::process::id()));
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.expect("a file for the suite's output")
    });
    let whole = [b"--- ", what.as_bytes(), b"\n", bytes, b"\n"].concat();
    file.write_all(&whole).expect("the suite's output");
}

/// Keeps every small file below a folder.
pub fn keep_all_below(kind: &'static str, dir: &Path) {
    if folder().is_none() {
        return;
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => keep_all_below(kind, &path),
            Ok(meta) if meta.is_file() && meta.len() <= LARGEST => keep_file(kind, &path),
            _ => {}
        }
    }
}

/// Keeps a file of any size.
pub fn keep_file(kind: &'static str, path: &Path) {
    if folder().is_some()
        && let Ok(bytes) = std::fs::read(path)
    {
        keep(kind, &path.display().to_string(), &bytes);
    }
}
