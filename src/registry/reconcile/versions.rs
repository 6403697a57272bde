//! The versions on all targets: each target gets those that it lacks. They never change, so their
//! names tell all.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::diff::Problem;
use super::job::ReconcileJob;
use super::repair::why;
use super::scan::{RepoScan, Share};
use super::{CONCURRENT_COMPARISONS, Reconcile};
use crate::model::{ArtifactId, Item, RepoName, Stamp};
use crate::registry::replica::Replica;

impl Reconcile {
    /// Compares the versions of a repository on all targets that answer, and gives each target those
    /// that it lacks if the task is a sync.
    pub(super) async fn compare_versions(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        repo: &RepoName,
        share: Share,
    ) {
        let end = Instant::now() + self.settings.push;
        let lists = scan.targets.iter().map(|seen| async move {
            let listed = seen.target.ask(|target| target.versions(repo, end));
            (seen.target, listed.await)
        });
        let mut held: Vec<(&Replica, BTreeSet<Item>)> = Vec::new();
        for (target, listed) in futures::future::join_all(lists).await {
            match listed {
                Ok(mut parts) => {
                    parts.retain(|part| share.has(part));
                    held.push((target, parts));
                }
                Err(failure) => job.unheard(target.url(), &failure.reason),
            }
        }
        let all: BTreeSet<&Item> = held.iter().flat_map(|(_, parts)| parts).collect();
        let mut repairs = Vec::new();
        for part in all {
            let held = held.iter();
            let held: Vec<(&Replica, bool)> = held
                .map(|(target, parts)| (*target, parts.contains(part)))
                .collect();
            if held.iter().any(|(_, has_it)| !has_it) {
                let (repo, item) = (repo.clone(), part.clone());
                let id = ArtifactId { repo, item };
                let repair = async move { self.spread_part(job, scan, &id, &held).await };
                repairs.push(repair.boxed());
            }
        }
        job.expect(repairs.len());
        let mut repairs = futures::stream::iter(repairs).buffer_unordered(CONCURRENT_COMPARISONS);
        while repairs.next().await.is_some() {}
    }

    /// Gives a part of a version to the targets that lack it. `held`: whether each target has it.
    async fn spread_part(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
        held: &[(&Replica, bool)],
    ) {
        let content = match job.repairs() {
            true => self.part(id, held).await.map_err(Some),
            false => Err(None),
        };
        for (target, _) in held.iter().filter(|(_, has_it)| !has_it) {
            let end = Instant::now() + self.settings.push;
            let given = match &content {
                Ok((bytes, stamp)) => {
                    let put = target.ask(|it| it.put_part(id, bytes.clone(), stamp, end));
                    put.await.map_err(|failure| Some(why(failure)))
                }
                Err(why) => Err(why.clone()),
            };
            self.report(job, scan, id, target.id, Problem::Missing, given);
        }
        job.compared();
    }

    /// Reads a part of a version from the first target that has it intact.
    async fn part(
        &self,
        id: &ArtifactId,
        held: &[(&Replica, bool)],
    ) -> Result<(Bytes, Stamp), String> {
        let (limit, end) = (self.settings.max_size, Instant::now() + self.settings.push);
        let mut reason = "no target has it any more".to_owned();
        for (target, _) in held.iter().filter(|(_, has_it)| *has_it) {
            match target.ask(|target| target.get(id, limit, end)).await {
                Ok(content) => {
                    let stamp = match &id.item {
                        Item::Version(version) => content.stamp.of_version(version),
                        _ => content.stamp,
                    };
                    return Ok((content.bytes, stamp));
                }
                Err(failure) => reason = failure.reason,
            }
        }
        Err(reason)
    }
}
