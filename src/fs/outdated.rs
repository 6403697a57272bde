//! Attributes of a content that another one has replaced.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::close::PROCESS_LOOKUP_TIMEOUT;
use super::namespace::format;
use super::node::{is_number_of_content, number_of_content};
use super::{Attr, Error, FileKind, Fs, Result, lock};
use crate::model::ArtifactId;
use crate::registry::Revision;

impl Fs {
    /// Returns the attributes of a content that is no longer the newest. A process that has it open
    /// still sees that content. Any other process has followed a name of an earlier look-up, so
    /// stat(2) must show the content that an open of the name returns.
    pub(super) fn outdated(
        &self,
        ino: u64,
        known: &Revision,
        newest: Option<Revision>,
        is_open: bool,
    ) -> Result<(Attr, Duration)> {
        let shown = newest.as_ref().map_or(ino, number_of_content);
        let visible = match (is_open, &newest) {
            (true, _) => known,
            // Readers of the old content share the inode, and must keep its size.
            (false, _) if lock(&self.handles).is_open(ino) => return Err(Error::Stale),
            (false, Some(newest)) if format(newest) == format(known) => newest,
            // The name may be gone: ESTALE makes the kernel look it up.
            (false, _) => return Err(Error::Stale),
        };
        let attr = Attr {
            shown,
            ..self.attr(ino, FileKind::File, visible.size, visible.time)
        };
        Ok((attr, Duration::ZERO))
    }

    /// Tells whether a process has no content open; `false` if its files are invisible.
    pub(super) async fn has_no_content_open(&self, pid: u32) -> bool {
        let Some(processes) = self.processes.get().filter(|_| pid != 0) else {
            return false;
        };
        let processes = Arc::clone(processes);
        let open = tokio::task::spawn_blocking(move || processes.open_inodes(pid));
        match timeout(PROCESS_LOOKUP_TIMEOUT, open).await {
            Ok(Ok(Some(inodes))) => !inodes.into_iter().any(is_number_of_content),
            Ok(Ok(None) | Err(_)) | Err(_) => false,
        }
    }

    /// Makes the kernel forget the attributes of the content that was the newest `before`.
    pub(super) fn invalidate(&self, id: &ArtifactId, before: Option<Revision>) {
        let newest = self.registry.newest(id).map(|newest| newest.revision);
        if let Some(before) = before.filter(|before| Some(before.revision) != newest) {
            self.kernel.forget_attributes(number_of_content(&before));
        }
    }
}
