//! The tombstones of an artifact: every target remembers a deletion, until no target can need it.

use tokio::time::Instant;

use super::Reconcile;
use super::job::ReconcileJob;
use super::scan::RepoScan;
use crate::model::ArtifactId;
use crate::store::{Target, Tombstone};

/// How long a tombstone is kept, in nanoseconds: 90 days. A backup that was out for longer must be
/// brought back by hand, by an experienced operator.
const TOMBSTONE_KEPT: u64 = 90 * 24 * 60 * 60 * 1_000_000_000;

impl Reconcile {
    pub(super) fn tombstones_agree(
        &self,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        all: &[Tombstone],
    ) -> bool {
        let mut targets = scan.targets.iter();
        let all_know = targets.all(|seen| {
            let known = seen.deleted.get(&id.item);
            known.is_some_and(|known| known.len() == all.len())
        });
        all_know && !all.iter().any(|it| self.is_obsolete(scan, it, all))
    }

    /// Tells whether a tombstone has expired, or a later one deletes its content, too.
    fn is_obsolete(&self, scan: &RepoScan<'_>, tombstone: &Tombstone, all: &[Tombstone]) -> bool {
        let now = self.clock.nanos();
        let is_expired = tombstone.when.saturating_add(TOMBSTONE_KEPT) < now;
        let is_redundant = all.iter().any(|other| other.includes(tombstone));
        scan.is_whole() && (is_expired || is_redundant)
    }

    /// Makes every target remember the deletions, and removes obsolete tombstones.
    pub(super) async fn settle_tombstones(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        all: &[Tombstone],
    ) {
        let end = Instant::now() + self.settings.push;
        for tombstone in all {
            let is_obsolete = self.is_obsolete(scan, tombstone, all);
            for seen in &scan.targets {
                let known = seen.deleted.get(&id.item);
                let knows = known.is_some_and(|known| known.contains(tombstone));
                let settled = match is_obsolete {
                    true if knows => {
                        let when = tombstone.when;
                        let removal = |target| Target::remove_tombstone(target, id, when, end);
                        seen.target.ask(removal).await
                    }
                    false if !knows => {
                        let put = |target| Target::put_tombstone(target, id, tombstone, end);
                        seen.target.ask(put).await
                    }
                    _ => continue,
                };
                if let Err(failure) = settled {
                    job.unheard(seen.target.url(), &failure.reason);
                    return;
                }
            }
        }
    }

    /// Removes the tombstones that this round has seen.
    pub(super) async fn remove_tombstones(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
    ) {
        let end = Instant::now() + self.settings.push;
        for seen in &scan.targets {
            for tombstone in seen.deleted.get(&id.item).into_iter().flatten() {
                let when = tombstone.when;
                let removal = seen
                    .target
                    .ask(|target| target.remove_tombstone(id, when, end));
                if let Err(failure) = removal.await {
                    job.unheard(seen.target.url(), &failure.reason);
                }
            }
        }
    }
}
