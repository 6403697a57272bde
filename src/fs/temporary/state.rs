//! What changes of a scratch file, under its lock.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tempfile::TempPath;

use crate::fs::quota::Quota;
use crate::fs::staged_file::{StagedFile, local};
use crate::fs::{Error, Result};
use crate::model::{ArtifactId, PlanName};
use crate::registry::BaseVersion;

/// What changes of a scratch file.
#[derive(Debug)]
pub(super) struct State {
    pub(super) content: Content,
    pub(super) handles: u32,
    pub(super) links: u32,
    /// How many directories are in it.
    pub(super) directories: u32,
    /// Counts changes of the bytes.
    pub(super) change: u64,
    /// The thread that has opened it for writing last.
    pub(super) writer: u32,
    /// The plan that it would be, if tools made no files of such names.
    pub(super) plan: Option<PlanName>,
    /// What a rename onto this artifact's name was to replace, and has failed to.
    pub(super) tried: Option<(ArtifactId, BaseVersion)>,
    pub(super) perm: u16,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) accessed: SystemTime,
    pub(super) modified: SystemTime,
    pub(super) changed: SystemTime,
    pub(super) xattrs: BTreeMap<OsString, Bytes>,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Content {
    /// A directory, or a symbolic link.
    None,
    /// In the staging directory; open while there is a handle.
    Stored {
        path: TempPath,
        open: Option<File>,
        size: u64,
    },
    /// They have become an artifact, and whoever still has the file open works on that.
    Pushed(Arc<StagedFile>),
}

impl State {
    pub(super) fn open(&mut self) -> Result<()> {
        if let Content::Stored { path, open, .. } = &mut self.content {
            if open.is_none() {
                let opened = OpenOptions::new().read(true).write(true).open(path);
                *open = Some(opened.map_err(|error| local(&error))?);
            }
            self.handles += 1;
            return Ok(());
        }
        Err(Error::Stale)
    }

    pub(super) fn close(&mut self) {
        self.handles = self.handles.saturating_sub(1);
        if self.handles == 0
            && let Content::Stored { open, .. } = &mut self.content
        {
            *open = None;
        }
    }

    pub(super) fn set_size(&mut self, to: u64, budget: &Quota, now: SystemTime) -> Result<()> {
        let Content::Stored {
            open: Some(file),
            size,
            ..
        } = &mut self.content
        else {
            return Err(Error::BadHandle);
        };
        let more = to.saturating_sub(*size);
        budget.take(more)?;
        if let Err(error) = file.set_len(to) {
            budget.give(more);
            return Err(local(&error));
        }
        budget.give(size.saturating_sub(to));
        *size = to;
        self.modified_at(now);
        Ok(())
    }

    pub(super) fn modified_at(&mut self, now: SystemTime) {
        self.change += 1;
        self.modified = now;
        self.changed = now;
    }
}
