//! An open file of the model, and its push.

use super::truth::{Content, Truth};
use crate::fs::{Error, Result};
use crate::model::{ArtifactId, Format, Item, check_plan, check_schema};

/// The staged file of a writer, as the model expects it.
#[derive(Debug, Clone, Default)]
pub(super) struct StagedFile {
    pub(super) bytes: Vec<u8>,
    /// The content at the open, by number.
    pub(super) base: Option<u64>,
    /// Whether it differs from the last push.
    pub(super) is_dirty: bool,
    /// Whether the push of this very content has failed, with an error.
    pub(super) was_refused: bool,
    /// Whether a change has followed the truncation by the open.
    pub(super) is_written: bool,
    /// Whether it is a new name that was only touched.
    pub(super) is_touched: bool,
    pub(super) handles: u32,
}

impl StagedFile {
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.bytes);
        self.is_dirty = true;
        self.is_written = true;
        self.was_refused = false;
    }
}

impl Truth {
    /// Closes one descriptor, or does fsync.
    pub(super) fn flush(&mut self, id: &ArtifactId, suffix: Option<Format>, at: u64) -> Result<()> {
        let Some(staged) = self.workings.get(&at).cloned() else {
            panic!("no file {at}");
        };
        if !staged.is_dirty {
            return Ok(());
        }
        let unwritten = !staged.is_written && staged.bytes.is_empty();
        if unwritten && staged.is_touched && staged.base.is_none() {
            // It stays local and empty, unless another writer has pushed it.
            if !self.artifacts.contains_key(id) {
                self.touched.insert(id.clone(), suffix);
            }
            self.staged(at).is_dirty = false;
            return Ok(());
        }
        if unwritten {
            return Err(Error::Invalid);
        }
        let pushed = self.push(id, suffix, &staged.bytes, staged.base);
        let staged = self.staged(at);
        match pushed {
            Ok(revision) => {
                staged.base = Some(revision);
                staged.is_dirty = false;
            }
            Err(_) => staged.was_refused = true,
        }
        pushed.map(drop)
    }

    /// Releases the last handle. Pushes, without a report, changes that no close has tried to push.
    pub(super) fn release(&mut self, id: &ArtifactId, suffix: Option<Format>, at: u64) {
        let staged = self.staged(at);
        let left = staged.clone();
        staged.handles -= 1;
        if left.handles > 1 {
            return;
        }
        if left.is_dirty && !left.is_written && left.bytes.is_empty() {
            if !left.is_touched {
                self.failed.insert(id.clone());
            }
        } else if left.is_dirty && !left.was_refused {
            let _ = self.flush(id, suffix, at);
        }
        self.workings.remove(&at);
    }

    /// A push: a conflict, a refusal, or the artifact's new content.
    pub(super) fn push(
        &mut self,
        id: &ArtifactId,
        suffix: Option<Format>,
        bytes: &[u8],
        base: Option<u64>,
    ) -> Result<u64> {
        let current = self.artifacts.get(id);
        let is_current = base == current.map(|content| content.revision);
        let format = current.map(|content| content.format);
        let checked = match &id.item {
            _ if !is_current => Err(Error::Stale),
            _ if bytes.iter().all(u8::is_ascii_whitespace) => Err(Error::Invalid),
            Item::Plan(name) => check_plan(bytes, name)
                .map(|()| Format::Hcl)
                .map_err(|_| Error::Invalid),
            _ => check_schema(bytes, suffix, format).map_err(|_| Error::Invalid),
        };
        match checked {
            Ok(format) => {
                // The content that is there already is no change.
                let same = current.filter(|it| it.bytes == bytes && it.format == format);
                if let Some(revision) = same.map(|content| content.revision) {
                    self.failed.remove(id);
                    return Ok(revision);
                }
                self.last += 1;
                let content = Content {
                    revision: self.last,
                    bytes: bytes.to_vec(),
                    format,
                };
                self.artifacts.insert(id.clone(), content);
                self.failed.remove(id);
                self.touched.remove(id);
                Ok(self.last)
            }
            Err(error) => {
                self.failed.insert(id.clone());
                Err(error)
            }
        }
    }
}
