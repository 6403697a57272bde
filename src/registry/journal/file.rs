//! The file of one record: how much of it is read, and how its end is mended.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::line::read_line;
use crate::dir::open_regular;

/// How many bytes the lines of a record may take, the head and those appended: thousands of them.
const LINES: u64 = 1 << 20;

/// Reads as much of a file as a record with such a head can have.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open_regular(OpenOptions::new().read(true), path)?;
    let mut file = BufReader::new(file).take(LINES);
    file.read_until(b'\n', &mut bytes)?;
    let size = read_line(&bytes).and_then(|(head, _)| head.get("size")?.as_u64());
    file.set_limit(size.unwrap_or_default().saturating_add(LINES));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts off a last line that a crash has torn, or the next one would be part of it.
pub(super) fn cut_torn_end(path: &Path, bytes: &[u8]) {
    let end = bytes.iter().rposition(|&byte| byte == b'\n');
    let whole = end.map_or(0, |end| end + 1);
    if whole < bytes.len() {
        let file = open_regular(OpenOptions::new().write(true), path);
        if let Err(error) = file.and_then(|file| file.set_len(whole as u64)) {
            tracing::warn!("can't mend {}: {error}", path.display());
        }
    }
}
