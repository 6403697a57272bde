//! One record of the journal, and its form on disk.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::file::STATE;
use super::line::{cut_line, padded_line, read_line};
use crate::model::{ArtifactId, Item, PlanName, RepoName, Stamp, when_from_text, when_to_text};

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
