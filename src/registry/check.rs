//! The check of a document before any target sees a byte of it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::base::{BaseVersion, MOVED_ON};
use super::entry::Revision;
use super::error::{ErrorKind, RegistryError, conflict, panicked};
use super::{Registry, blocking};
use crate::model::{
    ArtifactId, Author, Base, Format, Item, Lineage, PlanStatus, Rejection, Sha256, Stamp, SumFile,
    check_plan, check_schema, guess_format,
};

/// How many documents are checked and hashed at once. A check needs only a processor: a small
/// machine has two, and other requests need little of them.
const CONCURRENT_CHECKS: usize = 2;

/// The facts about a push that its caller knows, and the document does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushDetails {
    /// The format that the file's name implies.
    pub suffix: Option<Format>,
    /// The author.
    pub author: Option<Author>,
    /// The status of a plan. Without one, a new content is approved, as Atlas does it, and the same
    /// content keeps its status.
    pub status: Option<PlanStatus>,
}

/// A document that is about to replace another.
pub(super) struct Candidate<'a> {
    pub(super) id: &'a ArtifactId,
    pub(super) content: &'a Bytes,
    /// The format that the file's name implies.
    pub(super) suffix: Option<Format>,
    /// The format of the content to be replaced.
    pub(super) current: Option<Format>,
}

/// The checks of documents, a few at once.
#[derive(Debug)]
pub(super) struct Checks {
    permits: Arc<Semaphore>,
    validate: bool,
}

impl Checks {
    /// `validate`: refuse documents that are not valid.
    pub(super) fn new(validate: bool) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(CONCURRENT_CHECKS)),
            validate,
        }
    }

    /// Checks and hashes a document on a thread of its own: 16 MB may take a second, in which the
    /// runtime's threads answer other requests.
    pub(super) async fn check(
        &self,
        candidate: Candidate<'_>,
        end: Instant,
    ) -> Result<(Format, Sha256), RegistryError> {
        let Candidate {
            id,
            content,
            suffix,
            current,
        } = candidate;
        let (item, content) = (id.item.clone(), content.clone());
        let validate = self.validate;
        let checking = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let check = move || {
                // An abandoned check counts against the limit until it ends.
                let _permit = permit;
                let format = judge(&item, &content, suffix, current, validate)?;
                Ok((format, Sha256::of(&content)))
            };
            blocking::compute(check).await
        };
        match timeout_at(end, checking).await {
            Ok(Ok(checked)) => checked.map_err(|rejection: Rejection| {
                RegistryError::new(ErrorKind::Invalid, format!("can't push {id}: {rejection}"))
            }),
            Ok(Err(_)) => Err(panicked("checking", id)),
            Err(_) => Err(RegistryError::new(
                ErrorKind::Outage,
                format!(
                    "can't push {id}: the validation did not finish in time; push it again, or \
                     raise --push-timeout"
                ),
            )),
        }
    }
}

#[cfg(test)]
impl Checks {
    /// Takes all permits, as checks that never end would.
    pub(super) fn stall(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(CONCURRENT_CHECKS).unwrap();
        Arc::clone(&self.permits)
            .try_acquire_many_owned(all)
            .unwrap()
    }
}

/// Decides on a document. Without validation, only a document that declares nothing is refused.
fn judge(
    item: &Item,
    content: &[u8],
    suffix: Option<Format>,
    current: Option<Format>,
    validate: bool,
) -> Result<Format, Rejection> {
    let checked = match item {
        Item::Plan(name) => check_plan(content, name).map(|()| Format::Hcl),
        Item::Migration(name) if name.is_sum() => {
            let parsed = SumFile::parse(content).map_err(Rejection::Sum);
            parsed.map(|_| Format::Sql)
        }
        // The mount makes the contents of tags and archives itself.
        Item::Migration(_) | Item::Archive(_) | Item::Tag(_) => Ok(Format::Sql),
        Item::Schema | Item::Version(_) => check_schema(content, suffix, current),
    };
    match (checked, item) {
        (Err(empty @ (Rejection::Empty | Rejection::OnlyImports)), _) => Err(empty),
        (checked, _) if validate => checked,
        (_, Item::Plan(_)) => Ok(Format::Hcl),
        (_, Item::Migration(_) | Item::Archive(_) | Item::Tag(_)) => Ok(Format::Sql),
        (_, Item::Schema | Item::Version(_)) => {
            Ok(suffix.or(current).unwrap_or_else(|| guess_format(content)))
        }
    }
}

impl Registry {
    /// Checks that the base is current and the document valid; returns the stamp of the push, and the
    /// contents that it may replace.
    pub(super) async fn validate(
        self: &Arc<Self>,
        id: &ArtifactId,
        content: &Bytes,
        base: &mut BaseVersion,
        details: PushDetails,
        end: Instant,
    ) -> Result<(Stamp, Option<Lineage>), RegistryError> {
        let current = timeout_at(end, self.current(id)).await.map_err(|_| {
            let reason = format!("can't push {id}: no target reported its format in time");
            RegistryError::new(ErrorKind::Outage, reason)
        })?;
        if !base.is(current.as_ref()) {
            return Err(conflict(id, MOVED_ON));
        }
        // An earlier push of this handle may have reached some target: that is the base now.
        base.revision = current.as_ref().map(|known| known.revision);
        // Assume HCL if the current content is unreadable: HCL must not become SQL by accident.
        let known = current.as_ref().and_then(Revision::stamp);
        let format = current.map(|_| known.map_or(Format::Hcl, |stamp| stamp.format));
        let candidate = Candidate {
            id,
            content,
            suffix: details.suffix,
            current: format,
        };
        let (format, sha256) = self.checks.check(candidate, end).await?;
        let same = known.filter(|stamp| stamp.sha256 == sha256);
        let status = details.status.or(same.map(|stamp| stamp.status));
        let fresh = Stamp {
            when: self.clock.next_stamp(),
            sha256,
            size: content.len() as u64,
            format,
            base: Base::Unknown,
            author: details.author,
            status: status.unwrap_or_default(),
        };
        let before = base.attempt;
        let (stamp, mut replaces) = self.index.change(id, |entry| {
            let fresh = Stamp {
                base: entry.base(),
                ..fresh
            };
            let stamp = base.attempt(fresh, entry.attempted());
            entry.attempt(&stamp);
            (stamp, entry.lineage())
        });
        // A push of this handle that seems to have failed may have reached some target.
        match (&mut replaces, before) {
            (Some(replaces), Some(before)) => replaces.extend([before.sha256]),
            (None, Some(before)) => replaces = Some(Lineage::new(&before, true, &[])),
            (_, None) => {}
        }
        Ok((stamp, self.journal.extended(id, replaces)))
    }

    /// Returns the content that a push would replace, with its format if any target can return it.
    pub(super) async fn current(self: &Arc<Self>, id: &ArtifactId) -> Option<Revision> {
        let current = self.index.peek(id, |record| record.current().cloned());
        match current.flatten() {
            Some(known) if known.stamp().is_none() => {
                let pulled = self.pull(id).await.map(|pulled| pulled.known);
                Some(pulled.unwrap_or(known))
            }
            current => current,
        }
    }
}
