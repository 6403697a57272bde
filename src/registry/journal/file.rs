//! The file of one record: how it is written, marked as failed and read, and how its end is mended.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::line::{line, read_line};
use super::record::{Record, head, state_line};
use crate::dir::open_regular;

/// How many bytes the first line of a file has: one sector, which a disk writes whole or not at
/// all.
pub(super) const STATE: usize = 512;

/// How many bytes the lines of a record may take, the head and those appended: thousands of them.
const LINES: u64 = 1 << 20;

/// Writes all of a new file; nothing is synced yet.
pub(super) fn write(mut file: &File, record: &Record, content: &[u8]) -> io::Result<()> {
    file.write_all(state_line(record.failed.as_deref()).as_bytes())?;
    file.write_all(line(&head(record)).as_bytes())?;
    file.write_all(content)?;
    file.write_all(b"\n")
}

/// Marks a record as failed, where its file has the room for that already.
pub(super) fn mark(file: &File, reason: &str) -> io::Result<()> {
    file.write_all_at(state_line(Some(reason)).as_bytes(), 0)?;
    file.sync_data()
}

/// Appends a line, whole or not at all: the rest of a torn one would make the record a damaged one.
pub(super) fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = open_regular(OpenOptions::new().append(true), path)?;
    let length = file.metadata()?.len();
    let written = file.write_all(text.as_bytes());
    if written.is_err() {
        let _ = file.set_len(length);
    }
    written
}

/// Reads as much of a file as a record with such a head can have.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    #[cfg(test)]
    if let Some(left) = FAILING.get().checked_sub(1) {
        FAILING.set(left);
        return Err(io::Error::other("the disk fails"));
    }
    let mut bytes = Vec::new();
    let file = open_regular(OpenOptions::new().read(true), path)?;
    let mut file = BufReader::new(file).take(LINES);
    file.read_until(b'\n', &mut bytes)?;
    let mut head = read_line(&bytes).map(|(first, _)| first);
    if head
        .as_ref()
        .is_some_and(|first| first.get("failed").is_some())
    {
        let state = bytes.len();
        file.read_until(b'\n', &mut bytes)?;
        let second = bytes.get(state..).and_then(read_line);
        head = second.map(|(second, _)| second);
    }
    let size = head.and_then(|head| head.get("size")?.as_u64());
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

#[cfg(test)]
thread_local! {
    static FAILING: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Has the next reads of this thread fail.
#[cfg(test)]
pub(crate) fn fail_reads(count: u32) {
    FAILING.set(count);
}
