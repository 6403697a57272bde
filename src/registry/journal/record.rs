//! One entry of the journal, and its file: how it is written, decided, read and repaired.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use super::line::{cut_line, line, padded_line, read_line};
use crate::dir::open_regular;
use crate::model::{
    ArtifactId, Author, Base, Item, Lineage, PlanStatus, RepoName, Sha256, Stamp, when_from_text,
    when_to_text,
};

/// The length of a file's first line, in bytes: one sector, which a disk writes whole or not at
/// all.
pub(super) const STATE_LINE: usize = 512;

/// The maximum size of an entry's head and appended lines, in bytes: enough for thousands of lines.
const MAX_LINES: u64 = 1 << 20;

/// Why a push in doubt counts as failed.
const IN_DOUBT: &str = "the mount ended before the push did; asking the targets whether they have \
                        it";

/// One push, or one deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The artifact.
    pub id: ArtifactId,
    /// The stamp of its new content; for a deletion, the stamp of an empty content.
    pub stamp: Stamp,
    /// Whether the artifact is deleted.
    pub deletes: bool,
    /// The content that it replaces or deletes, and those before that, if they are known.
    pub replaces: Option<Lineage>,
    /// The id of the registry that it is for.
    pub registry: String,
    /// The ids of the stores that it is for. It reaches no other.
    pub targets: BTreeSet<String>,
    /// The ids of the stores that have it.
    pub got: BTreeSet<String>,
    /// Whether it was acknowledged, and then found to conflict with the registry's content.
    pub conflicts: bool,
    /// Whether a newer push or a deletion has replaced it. Only its version is pending then.
    pub outdated: bool,
    /// The ids of the stores that have its content as a version.
    pub versions: BTreeSet<String>,
    /// Why it failed, if it did; or why it counts as failed, while it is in doubt.
    pub failed: Option<String>,
    /// Whether it has succeeded or failed. Otherwise it is under way or, if its mount has ended, in
    /// doubt.
    pub decided: bool,
}

impl Record {
    /// Makes an entry that no target has yet.
    pub fn new(id: &ArtifactId, stamp: &Stamp, deletes: bool) -> Self {
        Self {
            id: id.clone(),
            stamp: *stamp,
            deletes,
            registry: String::new(),
            targets: BTreeSet::new(),
            replaces: None,
            got: BTreeSet::new(),
            conflicts: false,
            outdated: false,
            versions: BTreeSet::new(),
            failed: None,
            decided: false,
        }
    }

    /// Returns whether its mount ended before it was decided.
    pub fn is_in_doubt(&self) -> bool {
        !self.decided && self.failed.is_some()
    }

    /// Returns whether it has succeeded, so that a target may miss it.
    pub fn is_acknowledged(&self) -> bool {
        self.decided && self.failed.is_none() && !self.outdated
    }

    /// Returns whether its success makes a version.
    pub fn makes_version(&self) -> bool {
        !self.deletes && self.id.item.has_versions()
    }

    /// Returns whether every store that it is for keeps the content of a conflict as a version.
    pub fn is_kept_elsewhere(&self) -> bool {
        self.conflicts && !self.targets.is_empty() && self.targets.is_subset(&self.versions)
    }

    /// Returns the path of a failed push's bytes below `.atlasfs/unpushed`: the artifact's key, `@`
    /// and the time, `app/schema@20240910T173744.000000001Z`.
    pub fn path(&self) -> String {
        let time = when_to_text(self.stamp.when).replace(['-', ':'], "");
        format!("{}@{time}", self.id)
    }
}

/// Makes the first line of an entry's file. Its length is fixed, so that a verdict can overwrite it
/// on a full disk. A reason that is too long is cut.
pub fn state_line(record: &Record) -> String {
    let line = match &record.failed {
        _ if !record.decided => {
            padded_line(&json!({ "failed": IN_DOUBT, "decided": false }), STATE_LINE)
        }
        Some(reason) => cut_line(reason, STATE_LINE, |reason| json!({ "failed": reason })),
        None => padded_line(&json!({ "failed": null }), STATE_LINE),
    };
    line.unwrap_or_default()
}

/// Makes the second line of an entry's file.
pub fn head(record: &Record) -> Value {
    json!({
        "repo": record.id.repo.as_str(),
        "artifact": record.id.item.to_string(),
        "time": when_to_text(record.stamp.when),
        "size": record.stamp.size,
        "sha256": record.stamp.sha256.to_string(),
        "format": record.stamp.format.as_str(),
        "deletes": record.deletes,
        "registry": record.registry,
        "targets": record.targets,
        "base": record.stamp.base.to_text(),
        "author": record.stamp.author.as_ref().map(Author::as_str),
        "status": record.stamp.status.to_text(),
        "replaces": record.replaces.as_ref().map(from_lineage),
    })
}

fn from_lineage(lineage: &Lineage) -> Value {
    json!({
        "sha256": lineage.sha256.to_string(),
        "time": lineage.when.map(when_to_text),
        "past": lineage.past.iter().map(Sha256::to_string).collect::<Vec<_>>(),
    })
}

fn to_lineage(value: &Value) -> Option<Lineage> {
    let past = value.get("past")?.as_array()?.iter();
    Some(Lineage {
        sha256: value.get("sha256")?.as_str()?.parse().ok()?,
        when: match value.get("time")?.as_str() {
            Some(time) => Some(when_from_text(time)?),
            None => None,
        },
        past: past
            .map(|it| it.as_str()?.parse().ok())
            .collect::<Option<_>>()?,
    })
}

/// Reads an entry and its content; `None` if either is damaged. A torn line at the end is no
/// damage.
pub fn parse(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (first, after) = read_line(bytes)?;
    let decided = first.get("decided").and_then(Value::as_bool);
    // Files of earlier versions begin with the head, and mark a failed push at their end.
    let (failed, (head, rest)) = match first.get("failed") {
        Some(_) if bytes.len() - after.len() != STATE_LINE => return None,
        Some(failed) => (failed.as_str().map(str::to_owned), read_line(after)?),
        None => (None, (first, after)),
    };
    let text = |key: &str| head.get(key).and_then(Value::as_str);
    let item = Item::from_key(text("artifact")?)?;
    let size = head.get("size").and_then(Value::as_u64)?;
    let content = rest.get(..usize::try_from(size).ok()?)?;
    let stamp = Stamp {
        when: when_from_text(text("time")?)?,
        sha256: text("sha256")?.parse().ok()?,
        size,
        format: text("format")?.parse().ok()?,
        base: match text("base") {
            Some(base) => base.parse().ok()?,
            None => Base::Unknown,
        },
        author: text("author").and_then(|author| author.parse().ok()),
        status: PlanStatus::from_text(text("status")).ok()?,
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
    record.registry = text("registry").unwrap_or_default().to_owned();
    let targets = head.get("targets").and_then(Value::as_array);
    let targets = targets.into_iter().flatten().filter_map(Value::as_str);
    record.targets = targets.map(str::to_owned).collect();
    record.replaces = match head.get("replaces") {
        None | Some(Value::Null) => None,
        Some(lineage) => Some(to_lineage(lineage)?),
    };
    record.failed = failed;
    record.decided = decided.unwrap_or(true);
    let mut lines = rest.get(content.len()..)?.strip_prefix(b"\n")?;
    while let Some((line, rest)) = read_line(lines) {
        if let Some(target) = line.get("got").and_then(Value::as_str) {
            record.got.insert(target.into());
        }
        if let Some(target) = line.get("version").and_then(Value::as_str) {
            record.versions.insert(target.into());
        }
        record.conflicts |= line.get("conflict").is_some();
        record.outdated |= line.get("outdated").is_some();
        if let Some(reason) = line.get("failed").and_then(Value::as_str) {
            record.failed = Some(reason.into());
        }
        lines = rest;
    }
    // An invalid line with a line end is damaged, not torn: it may have marked the push as failed.
    (!lines.contains(&b'\n')).then_some((record, content))
}

/// Writes a whole new file, without a sync.
pub(super) fn write(mut file: &File, record: &Record, content: &[u8]) -> io::Result<()> {
    file.write_all(state_line(record).as_bytes())?;
    file.write_all(line(&head(record)).as_bytes())?;
    file.write_all(content)?;
    file.write_all(b"\n")
}

/// Writes an entry's verdict, in space that its file already has.
pub(super) fn mark(file: &File, record: &Record) -> io::Result<()> {
    file.write_all_at(state_line(record).as_bytes(), 0)?;
    file.sync_data()
}

/// Appends a line, whole or not at all: the remains of a torn one would damage the entry.
pub(super) fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = open_regular(OpenOptions::new().append(true), path)?;
    let length = file.metadata()?.len();
    let written = file.write_all(text.as_bytes());
    if written.is_err() {
        let _ = file.set_len(length);
    }
    written
}

/// Reads a file, up to the maximum size of an entry with its head.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    #[cfg(test)]
    if let Some(left) = FAILING.get().checked_sub(1) {
        FAILING.set(left);
        return Err(io::Error::other("the disk fails"));
    }
    let mut bytes = Vec::new();
    let file = open_regular(OpenOptions::new().read(true), path)?;
    let mut file = BufReader::new(file).take(MAX_LINES);
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
    file.set_limit(size.unwrap_or_default().saturating_add(MAX_LINES));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts off a last line torn by a crash; otherwise, the next line would become part of it.
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

/// Makes the next reads of this thread fail.
#[cfg(test)]
pub(crate) fn fail_reads(count: u32) {
    FAILING.set(count);
}
