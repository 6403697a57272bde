//! The versions on all targets: each target gets those that it lacks. They never change, so their
//! names tell all.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::diff::Problem;
use super::job::ReconcileJob;
use super::repair::why;
use super::scan::RepoScan;
use super::{CONCURRENT_COMPARISONS, Reconcile};
use crate::model::{ArtifactId, Item, RepoName, Stamp, Version};
use crate::registry::replica::Replica;

impl Reconcile {
    /// Compares the versions of a repository on all targets that answer, and gives each target those
    /// that it lacks if the task is a sync.
    pub(super) async fn compare_versions(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        repo: &RepoName,
    ) {
        let end = Instant::now() + self.settings.push;
        let lists = scan.targets.iter().map(|seen| async move {
            let listed = seen.target.ask(|target| target.versions(repo, end));
            (seen.target, listed.await)
        });
        let mut held: Vec<(&Replica, BTreeSet<Version>)> = Vec::new();
        for (target, listed) in futures::future::join_all(lists).await {
            match listed {
                Ok(versions) => held.push((target, versions)),
                Err(failure) => job.unheard(target.url(), &failure.reason),
            }
        }
        let all: BTreeSet<&Version> = held.iter().flat_map(|(_, versions)| versions).collect();
        let mut repairs = Vec::new();
        for version in all {
            let held = held.iter();
            let held: Vec<(&Replica, bool)> = held
                .map(|(target, versions)| (*target, versions.contains(version)))
                .collect();
            if held.iter().any(|(_, has_it)| !has_it) {
                let version = version.clone();
                let repair =
                    async move { self.spread_version(job, scan, repo, version, &held).await };
                repairs.push(repair.boxed());
            }
        }
        job.expect(repairs.len());
        let mut repairs = futures::stream::iter(repairs).buffer_unordered(CONCURRENT_COMPARISONS);
        while repairs.next().await.is_some() {}
    }

    /// Gives a version to the targets that lack it. `held`: whether each target has it.
    async fn spread_version(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        repo: &RepoName,
        version: Version,
        held: &[(&Replica, bool)],
    ) {
        let id = &ArtifactId {
            repo: repo.clone(),
            item: Item::Version(version.clone()),
        };
        let content = match job.repairs() {
            true => self.version_content(id, &version, held).await.map_err(Some),
            false => Err(None),
        };
        let schema = ArtifactId {
            repo: id.repo.clone(),
            item: Item::Schema,
        };
        for (target, _) in held.iter().filter(|(_, has_it)| !has_it) {
            let end = Instant::now() + self.settings.push;
            let given = match &content {
                Ok((bytes, stamp)) => {
                    let put = target.ask(|it| it.put_version(&schema, bytes.clone(), stamp, end));
                    put.await.map_err(|failure| Some(why(failure)))
                }
                Err(why) => Err(why.clone()),
            };
            self.report(job, scan, id, target.id, Problem::Missing, given);
        }
        job.compared();
    }

    /// Reads a version from the first target that has it intact.
    async fn version_content(
        &self,
        id: &ArtifactId,
        version: &Version,
        held: &[(&Replica, bool)],
    ) -> Result<(Bytes, Stamp), String> {
        let (limit, end) = (self.settings.max_size, Instant::now() + self.settings.push);
        let mut reason = "no target has it any more".to_owned();
        for (target, _) in held.iter().filter(|(_, has_it)| *has_it) {
            match target.ask(|target| target.get(id, limit, end)).await {
                Ok(content) => return Ok((content.bytes, content.stamp.of_version(version))),
                Err(failure) => reason = failure.reason,
            }
        }
        Err(reason)
    }
}
