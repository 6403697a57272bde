//! Conflicts that reconcile finds: a backup holds an acknowledged push that is not based on the
//! registry's content, and the machine that would replay it may be lost.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Reconcile;
use super::diff::{Finding, HeldContent, Problem};
use super::job::ReconcileJob;
use super::repair::{target, why};
use super::scan::RepoScan;
use crate::model::{ArtifactId, Sha256, Stamp};
use crate::registry::conflict::apart;
use crate::registry::events::{Event, Level};
use crate::registry::replica::TargetId;
use crate::store::version_key;

impl Reconcile {
    /// Reports a push that a backup holds and that is not based on the registry's content. It stays
    /// there until a person decides, by the next push, and each target gets it as a version.
    pub(super) async fn conflict(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        (backup, held): (TargetId, &Stamp),
        there: Option<&Stamp>,
    ) {
        let mut reason = apart(scan.replicas.registry.url(), there, held);
        if job.repairs()
            && let Err(why) = self.keep_versions(scan, id, backup, held).await
        {
            reason.push_str(&format!(
                "; not every target has it as a version yet: {why}"
            ));
        }
        let is_news = self.index.change(id, |entry| {
            let is_news = entry.error() != Some(&*reason);
            entry.failed(reason.clone());
            is_news
        });
        if is_news {
            let event = Event::new(Level::Error, "conflict", reason.clone());
            let url = target(scan, backup).map_or("", |target| target.url());
            let event = event.with("artifact", id.to_string()).with("target", url);
            self.events
                .report(event.with("version", version_key(id, held)));
        }
        self.report(job, scan, id, backup, Problem::Conflict, Err(Some(reason)));
    }

    /// Returns the contents before those that conflict, as the versions in their backups tell: of several
    /// pushes while the registry was out, it knows only the base of the first.
    pub(super) async fn before(
        &self,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        finding: &Finding,
    ) -> BTreeMap<Sha256, Vec<Sha256>> {
        let mut all = BTreeMap::new();
        let Finding::Lacking { to, .. } = finding else {
            return all;
        };
        for (holding, problem) in to {
            let (Problem::Conflict, HeldContent::Content { stamp, .. }, Some(target)) =
                (problem, &holding.held, target(scan, holding.target))
            else {
                continue;
            };
            let end = Instant::now() + self.settings.push;
            let known: Vec<Sha256> = stamp.base.content().into_iter().collect();
            let before = target.ask(|target| target.contents_before(id, &known, end));
            if let Ok(before) = before.await {
                all.insert(stamp.sha256, before);
            }
        }
        all
    }

    /// Gives a backup's content to every target, as a version.
    async fn keep_versions(
        &self,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        backup: TargetId,
        held: &Stamp,
    ) -> Result<(), String> {
        let content = self.content_of(scan, id, held, &[backup]).await?;
        let end = Instant::now() + self.settings.push;
        let puts = scan
            .replicas
            .targets()
            .map(|target| target.ask(|target| target.keep_version(id, content.clone(), held, end)));
        let puts = futures::future::join_all(puts).await;
        let missed: Result<Vec<()>, _> = puts.into_iter().collect();
        missed.map(drop).map_err(why)
    }
}
