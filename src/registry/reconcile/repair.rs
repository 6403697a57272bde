//! Repair: each target gets what it lacks of one artifact, if the task is a sync.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::Reconcile;
use super::diff::{Finding, HeldContent, Holding, Known, Problem, diff};
use super::job::{Difference, ReconcileJob};
use super::scan::{RepoScan, once};
use crate::model::{ArtifactId, Stamp};
use crate::registry::check::Candidate;
use crate::registry::events::{Event, Level};
use crate::registry::replica::{Replica, TargetId};
use crate::store::{Condition, Failure, Kind, Tombstone};

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
        let deleted = scan.tombstones(&id.item);
        let is_decided = scan.replicas.registry.conditions() != Some(false);
        if job.order.quick && is_decided && deleted.is_empty() && scan.lists_the_same(&id.item) {
            return;
        }
        let mut listed = self.holdings(job, scan, id).await;
        let own = self.add_own(scan, id, &mut listed);
        let lineage = self.index.peek(id, |entry| entry.lineage()).flatten();
        let past = lineage.map(|lineage| lineage.past).unwrap_or_default();
        let mut known = Known {
            registry,
            own,
            honours_conditions: is_decided,
            signs: scan.replicas.registry.target().signs(),
            tombstones: &deleted,
            past: &past,
            before: &BTreeMap::new(),
        };
        let is_quiet = match diff(known, &listed) {
            Finding::Agreed { deleted: false } => deleted.is_empty(),
            Finding::Agreed { deleted: true } => self.tombstones_agree(scan, id, &deleted),
            _ => false,
        };
        if is_quiet {
            return;
        }
        // The listings were not taken at one instant. Check a difference again, under the lock that
        // keeps this mount's replays and deletions of the artifact away.
        let _applies = self.replay.applies.lock(id).await;
        let (mut holdings, last) = self.scan_again(job, scan, id).await;
        let last = once(deleted.iter().cloned().chain(last));
        known.tombstones = &last;
        known.own = self.add_own(scan, id, &mut holdings);
        let before = self.before(scan, id, &diff(known, &holdings)).await;
        known.before = &before;
        match diff(known, &holdings) {
            Finding::Agreed { deleted: true } if job.repairs() => {
                self.settle_tombstones(job, scan, id, &deleted).await;
            }
            Finding::Agreed { deleted: false } if job.repairs() && scan.is_whole() => {
                self.remove_tombstones(job, scan, id).await;
            }
            Finding::Agreed { .. } => {}
            Finding::Unsure => job.unsure(),
            Finding::Lost(lost) => {
                for (holding, problem) in lost {
                    let why = Some("no reachable target has an intact copy".to_owned());
                    self.report(job, scan, id, holding.target, problem, Err(why));
                }
            }
            Finding::Undeleted { held, apart } => {
                for (target, deletion) in held {
                    let taken = self.take_back(job, scan, id, &deletion, target).await;
                    self.report(job, scan, id, target, Problem::Undeleted, taken);
                }
                for (target, stamp) in apart {
                    self.conflict(job, scan, id, (target, &stamp), None).await;
                }
            }
            Finding::Lacking {
                newest,
                found,
                from,
                to,
            } => {
                let by_hand = is_by_hand(&holdings, &from);
                let is_lacking = to.iter().any(|(_, problem)| *problem != Problem::Conflict);
                let mut content = match is_lacking && (job.repairs() || by_hand) {
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
                    if let (Problem::Conflict, HeldContent::Content { stamp, .. }) =
                        (problem, &holding.held)
                    {
                        let held = (holding.target, stamp);
                        self.conflict(job, scan, id, held, Some(&found)).await;
                        continue;
                    }
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

    /// Adds this mount's own push if it is cached, and newer than the registry's content. On a registry
    /// without conditional writes, the older of two simultaneous pushes may have replaced the newer
    /// one there. Then only the mount that made the newer one knows of it.
    fn add_own(
        &self,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        holdings: &mut Vec<Holding>,
    ) -> Option<TargetId> {
        if scan.replicas.registry.conditions() != Some(false) {
            return None;
        }
        let registry = scan.replicas.registry.id;
        let there = holdings.iter().find_map(|holding| match &holding.held {
            HeldContent::Content { stamp, .. } if holding.target == registry => Some(*stamp),
            _ => None,
        });
        let own = self.index.peek(id, |record| {
            let current = record.current().and_then(|known| known.stamp());
            current.filter(|stamp| stamp.when == record.attempted())
        });
        if let (Some(stamp), Some(there)) = (own.flatten(), there)
            && stamp > there
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
            return Some(OWN_CACHE);
        }
        None
    }

    /// Asks every target again for one artifact.
    async fn scan_again(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
    ) -> (Vec<Holding>, Vec<Tombstone>) {
        let end = Instant::now() + self.settings.push;
        let looks = scan.targets.iter().map(|seen| async move {
            let deleted = seen
                .target
                .ask(|target| target.tombstones_of(id, end))
                .await;
            let held = match deleted {
                Ok(_) => self.held_now(job, seen.target, id, end).await,
                Err(failure) => return (seen.target, Err(failure)),
            };
            (
                seen.target,
                held.map(|held| (held, deleted.unwrap_or_default())),
            )
        });
        let (mut holdings, mut last) = (Vec::new(), Vec::new());
        for (target, look) in futures::future::join_all(looks).await {
            match look {
                Ok((held, deleted)) => {
                    last.extend(deleted);
                    let target = target.id;
                    holdings.push(Holding { target, held });
                }
                Err(failure) => job.unheard(target.url(), &failure.reason),
            }
        }
        (holdings, last)
    }

    pub(super) async fn content_of(
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
        deletion: &Tombstone,
        from: TargetId,
    ) -> Result<(), Option<String>> {
        let target = target(scan, from).filter(|_| job.repairs()).ok_or(None)?;
        let end = Instant::now() + self.settings.push;
        let limit = self.settings.max_size;
        let taken = target.apply_deletion(id, deletion, limit, end).await;
        taken.map_err(|failure| Some(why(failure)))
    }

    pub(super) fn report(
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

pub(super) fn target<'a>(scan: &RepoScan<'a>, id: TargetId) -> Option<&'a Replica> {
    let mut targets = scan.replicas.targets();
    targets
        .find(|target| target.id == id)
        .map(|target| &**target)
}

pub(super) fn why(failure: Failure) -> String {
    match failure.kind {
        Kind::Conflict => "it has changed in the meantime".into(),
        _ => failure.reason,
    }
}
