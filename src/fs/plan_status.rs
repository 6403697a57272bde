//! The status of a plan: an extended attribute that is pushed when it is set.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::node::Node;
use super::threads::Intent;
use super::{Caller, Error, Fs, Result, XattrFlag, lock};
use crate::model::{ArtifactId, InvalidStatus, Item, PlanStatus};
use crate::registry::{BaseVersion, Event, Level, PushDetails, Wait};

/// The name of the attribute.
pub(super) const STATUS_XATTR: &str = "user.atlas.status";

impl Fs {
    /// Sets the status of a plan. While a writer has unpushed changes of it, the status is pushed with
    /// them; otherwise it is a push of its own, of the newest content.
    pub(super) async fn set_status(
        self: Arc<Self>,
        node: Node,
        value: &[u8],
        flag: XattrFlag,
        caller: Caller,
    ) -> Result<()> {
        let id = node.artifact().ok_or(Error::NotSupported)?.clone();
        if !matches!(id.item, Item::Plan(_)) {
            return Err(Error::NotSupported);
        }
        let status = self.parse_status(&id, value)?;
        match &node {
            _ if flag == XattrFlag::Create => return Err(Error::Exists),
            Node::Blank(_) => return Err(self.refuse_status(&id, "the plan has no content yet")),
            Node::StagedFile(staged) if staged.is_open() && staged.is_changed() => {
                staged.set_status(status);
                return Ok(());
            }
            _ => {}
        }
        // In a task of its own: the push goes on if the caller gives up at its deadline.
        let push = tokio::spawn(async move {
            let _in_flight = self.pushes.begin();
            self.push_status(&id, status, caller).await
        });
        push.await.unwrap_or(Err(Error::Io))
    }

    /// Reads a status.
    pub(super) fn parse_status(&self, id: &ArtifactId, value: &[u8]) -> Result<PlanStatus> {
        let status = str::from_utf8(value).map_err(|_| InvalidStatus);
        let status = status.and_then(str::parse);
        status.map_err(|invalid: InvalidStatus| self.refuse_status(id, &invalid.to_string()))
    }

    fn refuse_status(&self, id: &ArtifactId, why: &str) -> Error {
        let event = Event::new(
            Level::Warn,
            "refused",
            format!("can't set the status: {why}"),
        );
        self.registry.report(event.with("artifact", id.to_string()));
        Error::Invalid
    }

    async fn push_status(&self, id: &ArtifactId, status: PlanStatus, caller: Caller) -> Result<()> {
        if lock(&self.stale_retries).take(caller.pid, id, Intent::Rename) {
            return Err(Error::Stale);
        }
        let end = Instant::now() + self.registry.settings().push_budget();
        let pulled = timeout_at(end, self.registry.pull(id)).await;
        let pulled = pulled.map_err(|_| Error::Io)??;
        let known = pulled.known.stamp();
        if known.is_some_and(|known| known.status == status) {
            return Ok(());
        }
        let details = PushDetails {
            suffix: None,
            author: self.authors.of(caller.uid, end).await,
            status: Some(status),
        };
        let mut base = BaseVersion::of(Some(&pulled.known));
        let before = self.registry.newest(id);
        let (bytes, wait) = (pulled.bytes, Wait::ForAll);
        let push = self.registry.push(id, bytes, &mut base, details, end, wait);
        let pushed = push.await.map_err(Error::from);
        self.invalidate(id, before);
        if pushed == Err(Error::Stale) {
            // The kernel retries after ESTALE: then it is still the same conflict.
            self.retry_as_stale(caller.pid, id, Intent::Rename);
        }
        pushed
    }
}
