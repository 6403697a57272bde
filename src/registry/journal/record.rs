//! One entry of the journal, and its file: how it is written, marked as failed, read and repaired.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use super::line::{cut_line, line, padded_line, read_line};
use crate::dir::open_regular;
use crate::model::{ArtifactId, Item, PlanName, RepoName, Stamp, when_from_text, when_to_text};

/// How many bytes the first line of a file has: one sector, which a disk writes whole or not at
/// all.
pub(super) const STATE: usize = 512;

/// How many bytes the lines of a record may take, the head and those appended: thousands of them.
const LINES: u64 = 1 << 20;

/// One push, or one deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The artifact.
    pub id: ArtifactId,
    /// What is known of the content that it is to have; that of nothing, if it is deleted.
    pub stamp: Stamp,
    /// Whether the artifact is deleted.
    pub deletes: bool,
    /// The URLs of the targets that have got it.
    pub got: BTreeSet<String>,
    /// Why it failed, if its close has said so.
    pub failed: Option<String>,
}

impl Record {
    /// Makes the record of what no target has got yet.
    pub fn new(id: &ArtifactId, stamp: &Stamp, deletes: bool) -> Self {
        Self {
            id: id.clone(),
            stamp: *stamp,
            deletes,
            got: BTreeSet::new(),
            failed: None,
        }
    }

    /// Returns where the bytes of a failed push are below `.atlasfs/unpushed`: the artifact's key,
    /// `@` and the time, `app/schema@20240910T173744.000000001Z`.
    pub fn path(&self) -> String {
        let time = when_to_text(self.stamp.when).replace(['-', ':'], "");
        format!("{}@{time}", self.id)
    }
}

/// Makes the line that a record's file begins with. It is as long whatever it says, so that a
/// failure can be written over it on a full disk. A longer reason is cut.
pub fn state_line(failed: Option<&str>) -> String {
    let line = match failed {
        Some(reason) => cut_line(reason, STATE, |reason| json!({ "failed": reason })),
        None => padded_line(&json!({ "failed": null }), STATE),
    };
    line.unwrap_or_default()
}

/// Makes the second line of a record's file.
pub fn head(record: &Record) -> Value {
    json!({
        "repo": record.id.repo.as_str(),
        "artifact": record.id.item.to_string(),
        "time": when_to_text(record.stamp.when),
        "size": record.stamp.size,
        "sha256": record.stamp.sha256.to_string(),
        "format": record.stamp.format.as_str(),
        "deletes": record.deletes,
    })
}

/// Reads a record and its content; `None` if either is damaged. A torn line at the end is not.
pub fn parse(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (first, after) = read_line(bytes)?;
    // Files of earlier versions begin with the head, and say at their end that a push has failed.
    let (failed, (head, rest)) = match first.get("failed") {
        Some(_) if bytes.len() - after.len() != STATE => return None,
        Some(failed) => (failed.as_str().map(str::to_owned), read_line(after)?),
        None => (None, (first, after)),
    };
    let text = |key: &str| head.get(key).and_then(Value::as_str);
    let item = match text("artifact")?.split_once('/') {
        None => Item::Schema,
        Some((_, name)) => Item::Plan(PlanName::parse(name).ok()?),
    };
    let size = head.get("size").and_then(Value::as_u64)?;
    let content = rest.get(..usize::try_from(size).ok()?)?;
    let stamp = Stamp {
        when: when_from_text(text("time")?)?,
        sha256: text("sha256")?.parse().ok()?,
        size,
        format: text("format")?.parse().ok()?,
    };
    if !stamp.matches(content) {
        return None;
    }
    let repo = RepoName::parse(text("repo")?).ok()?;
    let deletes = head.get("deletes").and_then(Value::as_bool);
    let mut record = Record::new(
        &ArtifactId { repo, item },
        &stamp,
        deletes.unwrap_or_default(),
    );
    record.failed = failed;
    let mut lines = rest.get(content.len()..)?.strip_prefix(b"\n")?;
    while let Some((line, rest)) = read_line(lines) {
        if let Some(target) = line.get("got").and_then(Value::as_str) {
            record.got.insert(target.into());
        }
        if let Some(reason) = line.get("failed").and_then(Value::as_str) {
            record.failed = Some(reason.into());
        }
        lines = rest;
    }
    // What is no line and yet has an end was not torn: it may have said that the push has failed.
    (!lines.contains(&b'\n')).then_some((record, content))
}

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
