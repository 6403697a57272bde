//! Repair: each target gets what it lacks of one artifact, if the task is a sync.

use bytes::Bytes;
use tokio::time::Instant;

use super::Reconcile;
use super::diff::{Finding, HeldContent, Holding, Problem, diff};
use super::job::{Difference, ReconcileJob};
use super::scan::RepoScan;
use crate::model::{ArtifactId, Stamp};
use crate::registry::check::Candidate;
use crate::registry::events::{Event, Level};
use crate::registry::replica::{Replica, TargetId};
use crate::store::{Condition, Failure, Kind};

/// How long a tombstone is kept, in nanoseconds: 90 days. A backup that was out for longer must be
/// brought back by hand, by an experienced operator.
const TOMBSTONE_KEPT: u64 = 90 * 24 * 60 * 60 * 1_000_000_000;

/// The id of this mount among the holders of a content.
const OWN_CACHE: TargetId = TargetId(usize::MAX);

impl Reconcile {
    /// Compares one artifact on all targets, and repairs it if the task is a sync.
    pub(super) async fn compare_artifact(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
    ) {
        let registry = scan.replicas.registry.id;
        let deleted = scan.last_deleted(&id.item);
        let is_decided = scan.replicas.registry.conditions() != Some(false);
        if job.order.quick && is_decided && deleted.is_none() && scan.lists_the_same(&id.item) {
            return;
        }
        let mut listed = self.holdings(job, scan, id).await;
        self.add_own(scan, id, &mut listed);
        let is_quiet = match diff(registry, &listed, deleted) {
            Finding::Agreed { deleted: false } => deleted.is_none(),
            Finding::Agreed { deleted: true } => self.tombstones_agree(scan, id, deleted),
            _ => false,
        };
        if is_quiet {
            return;
        }
        // The listings were not taken at one instant. Check a difference again, under the lock that
        // keeps this mount's replays and deletions of the artifact away.
        let _applies = self.replay.applies.lock(id).await;
        let (mut holdings, last) = self.scan_again(job, scan, id).await;
        self.add_own(scan, id, &mut holdings);
        match diff(registry, &holdings, last.max(deleted)) {
            Finding::Agreed { deleted: true } if job.repairs() => {
                self.settle_tombstones(job, scan, id, deleted).await;
            }
            Finding::Agreed { deleted: false } if job.repairs() && scan.is_whole() => {
                self.remove_tombstones(job, scan, id, u64::MAX).await;
            }
            Finding::Agreed { .. } => {}
            Finding::Unsure => job.unsure(),
            Finding::Lost(lost) => {
                for (holding, problem) in lost {
                    let why = Some("no reachable target has an intact copy".to_owned());
                    self.report(job, scan, id, holding.target, problem, Err(why));
                }
            }
            Finding::Undeleted(targets) => {
                let when = last.max(deleted).unwrap_or_default();
                for target in targets {
                    let taken = self.take_back(job, scan, id, when, target).await;
                    self.report(job, scan, id, target, Problem::Undeleted, taken);
                }
            }
            Finding::Lacking {
                newest,
                found,
                from,
                to,
            } => {
                let by_hand = is_by_hand(&holdings, &from);
                let mut content = match job.repairs() || by_hand {
                    true => self.content_of(scan, id, &found, &from).await.map(Some),
                    false => Ok(None),
                };
                if let (true, Ok(Some(bytes))) = (by_hand, &content)
                    && let Err(why) = self.check_by_hand(id, bytes, &holdings).await
                {
                    self.report_not_given(scan, id, &from, &why);
                    content = Err(why);
                }
                for (holding, problem) in to {
                    let mended = match &content {
                        Ok(Some(content)) if job.repairs() => {
                            self.repair(scan, id, content, &newest, &holding).await
                        }
                        Ok(_) => Err(None),
                        Err(why) => Err(Some(why.clone())),
                    };
                    self.report(job, scan, id, holding.target, problem, mended);
                }
            }
        }
    }

    /// Adds this mount's own push if it is cached, and newer than every target's content. On a registry
    /// without conditional writes, the older of two simultaneous pushes may have replaced the newer
    /// one everywhere. Then only the mount that made the newer one knows of it.
    fn add_own(&self, scan: &RepoScan<'_>, id: &ArtifactId, holdings: &mut Vec<Holding>) {
        if scan.replicas.registry.conditions() != Some(false) {
            return;
        }
        let there = holdings.iter().filter_map(|holding| match &holding.held {
            HeldContent::Content { stamp, .. } => Some(*stamp),
            HeldContent::Nothing | HeldContent::Corrupt(_) => None,
        });
        let own = self.index.peek(id, |record| {
            let current = record.current().and_then(|known| known.stamp());
            current.filter(|stamp| stamp.when == record.attempted())
        });
        let own = own.flatten();
        if let (Some(stamp), Some(newest)) = (own, there.max())
            && stamp > newest
            && self.contents.get(&stamp).is_some()
        {
            holdings.push(Holding {
                target: OWN_CACHE,
                held: HeldContent::Content {
                    stamp,
                    stamped: true,
                    token: None,
                },
            });
        }
    }

    /// Asks every target again for one artifact.
    async fn scan_again(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
    ) -> (Vec<Holding>, Option<u64>) {
        let end = Instant::now() + self.settings.push;
        let looks = scan.targets.iter().map(|seen| async move {
            let deleted = seen.target.ask(|target| target.last_deleted(id, end)).await;
            let held = match deleted {
                Ok(_) => self.held_now(job, seen.target, id, end).await,
                Err(failure) => return (seen.target, Err(failure)),
            };
            (
                seen.target,
                held.map(|held| (held, deleted.unwrap_or_default())),
            )
        });
        let (mut holdings, mut last) = (Vec::new(), None);
        for (target, look) in futures::future::join_all(looks).await {
            match look {
                Ok((held, deleted)) => {
                    last = last.max(deleted);
                    let target = target.id;
                    holdings.push(Holding { target, held });
                }
                Err(failure) => job.unheard(target.url(), &failure.reason),
            }
        }
        (holdings, last)
    }

    async fn content_of(
        &self,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        found: &Stamp,
        from: &[TargetId],
    ) -> Result<Bytes, String> {
        if let Some(bytes) = self.contents.get(found) {
            return Ok(bytes);
        }
        let (limit, end) = (self.settings.max_size, Instant::now() + self.settings.push);
        let mut why = "no target has it any more".to_owned();
        let holders = scan.targets.iter().map(|seen| seen.target);
        for target in holders.filter(|target| from.contains(&target.id)) {
            match target.ask(|target| target.get(id, limit, end)).await {
                Ok(content) if content.stamp.sha256 == found.sha256 => return Ok(content.bytes),
                Ok(_) => why = "it has changed in the meantime".into(),
                Err(failure) => why = failure.reason,
            }
        }
        Err(why)
    }

    /// Checks content that was put there by hand as a push of it would be: a target's undamaged copy
    /// must not be replaced by a content that no push can make.
    async fn check_by_hand(
        &self,
        id: &ArtifactId,
        content: &Bytes,
        holdings: &[Holding],
    ) -> Result<(), String> {
        let pushed = holdings.iter().filter_map(|holding| match &holding.held {
            HeldContent::Content {
                stamp,
                stamped: true,
                ..
            } => Some(*stamp),
            _ => None,
        });
        let candidate = Candidate {
            id,
            content,
            suffix: None,
            current: pushed.max().map(|stamp| stamp.format),
        };
        let end = Instant::now() + self.settings.push;
        let checked = self.checks.check(candidate, end).await;
        checked
            .map(drop)
            .map_err(|error| format!("it was put there by hand, and no push could: {error}"))
    }

    fn report_not_given(&self, scan: &RepoScan<'_>, id: &ArtifactId, from: &[TargetId], why: &str) {
        let event = Event::new(
            Level::Warn,
            "not-given",
            "one target's content is not given to others",
        );
        let from = from.first().and_then(|from| target(scan, *from));
        let event = event
            .with("artifact", id.to_string())
            .with("target", from.map_or("", |from| from.url()))
            .with("reason", why);
        self.events.report(event);
    }

    /// Applies the newest content to a target, in place of the observed state.
    async fn repair(
        &self,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        content: &Bytes,
        newest: &Stamp,
        holding: &Holding,
    ) -> Result<(), Option<String>> {
        let condition = match &holding.held {
            HeldContent::Nothing => Condition::Absent,
            HeldContent::Content { token, .. } | HeldContent::Corrupt(token) => {
                token.clone().map_or(Condition::None, Condition::Unchanged)
            }
        };
        let target = target(scan, holding.target).ok_or(None)?;
        let end = Instant::now() + self.settings.push;
        let given = target.apply(id, content.clone(), newest, &condition, end);
        given.await.map_err(|failure| Some(why(failure)))?;
        self.replay.recovered(target.id);
        Ok(())
    }

    async fn take_back(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        when: u64,
        from: TargetId,
    ) -> Result<(), Option<String>> {
        let target = target(scan, from).filter(|_| job.repairs()).ok_or(None)?;
        let end = Instant::now() + self.settings.push;
        let taken = target.apply_deletion(id, when, end).await;
        taken.map_err(|failure| Some(why(failure)))
    }

    fn tombstones_agree(&self, scan: &RepoScan<'_>, id: &ArtifactId, deleted: Option<u64>) -> bool {
        let mut targets = scan.targets.iter();
        let all_know = targets.all(|seen| {
            let known = seen.deleted.get(&id.item);
            known.is_some_and(|known| known.iter().copied().eq(deleted))
        });
        all_know && !self.is_expired(scan, deleted)
    }

    fn is_expired(&self, scan: &RepoScan<'_>, deleted: Option<u64>) -> bool {
        let now = self.clock.nanos();
        scan.is_whole()
            && deleted.is_some_and(|deleted| deleted.saturating_add(TOMBSTONE_KEPT) < now)
    }

    /// Makes every target remember a deletion, or removes its tombstones once they have expired.
    async fn settle_tombstones(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        deleted: Option<u64>,
    ) {
        let Some(when) = deleted else {
            return;
        };
        if self.is_expired(scan, deleted) {
            return self.remove_tombstones(job, scan, id, u64::MAX).await;
        }
        let end = Instant::now() + self.settings.push;
        for seen in &scan.targets {
            let known = seen.deleted.get(&id.item);
            if known.is_some_and(|known| known.contains(&when)) {
                continue;
            }
            let put = seen
                .target
                .ask(|target| target.put_tombstone(id, when, end));
            if let Err(failure) = put.await {
                job.unheard(seen.target.url(), &failure.reason);
                return;
            }
        }
        // The newest tombstone makes the older ones redundant.
        self.remove_tombstones(job, scan, id, when).await;
    }

    /// Removes the tombstones that this round has seen and that are older than `before`.
    async fn remove_tombstones(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        before: u64,
    ) {
        let end = Instant::now() + self.settings.push;
        for seen in &scan.targets {
            let seen_there = seen.deleted.get(&id.item).into_iter().flatten();
            for &when in seen_there.filter(|when| **when < before) {
                let removal = seen
                    .target
                    .ask(|target| target.remove_tombstone(id, when, end));
                if let Err(failure) = removal.await {
                    job.unheard(seen.target.url(), &failure.reason);
                }
            }
        }
    }

    fn report(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        of: TargetId,
        problem: Problem,
        repaired: Result<(), Option<String>>,
    ) {
        let url = target(scan, of).map_or("", |target| target.url());
        if repaired.is_ok() {
            self.repaired.increment();
            let event = Event::new(Level::Info, "repair", "repaired a target");
            self.events.report(
                event
                    .with("artifact", id.to_string())
                    .with("target", url)
                    .with("problem", problem.as_str()),
            );
        }
        job.found(Difference {
            artifact: id.clone(),
            target: url.to_owned(),
            problem,
            repaired,
        });
    }
}

/// Tells whether a content was put where it was found by hand: no target has it with a stamp.
fn is_by_hand(holdings: &[Holding], from: &[TargetId]) -> bool {
    let mut holders = holdings.iter().filter(|it| from.contains(&it.target));
    holders.all(|holding| !matches!(holding.held, HeldContent::Content { stamped: true, .. }))
}

fn target<'a>(scan: &RepoScan<'a>, id: TargetId) -> Option<&'a Replica> {
    let mut targets = scan.replicas.targets();
    targets
        .find(|target| target.id == id)
        .map(|target| &**target)
}

fn why(failure: Failure) -> String {
    match failure.kind {
        Kind::Conflict => "it has changed in the meantime".into(),
        _ => failure.reason,
    }
}
