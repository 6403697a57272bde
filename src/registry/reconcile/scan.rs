//! The state of a repository on all targets, as one round sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::diff::{HeldContent, Holding};
use super::job::ReconcileJob;
use super::{REMEMBERED_CONTENTS, Reconcile, Remembered};
use crate::model::{ArtifactId, Item, RepoName, Section, Stamp};
use crate::registry::lock;
use crate::registry::replica::{Replica, ReplicaSet};
use crate::store::{Failure, Kind, Meta, RepoListing, Token, Tombstone};

/// The state of a repository on each target that answered.
pub(super) struct RepoScan<'a> {
    pub(super) replicas: &'a ReplicaSet,
    /// The registry first.
    pub(super) targets: Vec<TargetScan<'a>>,
}

/// The listing of one target.
pub(super) struct TargetScan<'a> {
    pub(super) target: &'a Arc<Replica>,
    listing: RepoListing,
    /// The tombstones of each item.
    pub(super) deleted: BTreeMap<Item, Vec<Tombstone>>,
}

/// The part of a repository that a replica set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    All,
    AllButMigrations,
    Migrations,
}

impl Share {
    pub(super) fn has(self, item: &Item) -> bool {
        match self {
            Share::All => true,
            Share::AllButMigrations => !item.is_of_migrations(),
            Share::Migrations => item.is_of_migrations(),
        }
    }
}

impl RepoScan<'_> {
    /// Returns every item that any target holds, or has a tombstone for.
    pub(super) fn items(&self) -> BTreeSet<Item> {
        let seen = self.targets.iter();
        seen.flat_map(|seen| seen.listing.items.keys().chain(seen.deleted.keys()))
            .cloned()
            .collect()
    }

    /// Returns the tombstones of an item on all targets.
    pub(super) fn tombstones(&self, item: &Item) -> Vec<Tombstone> {
        let seen = self
            .targets
            .iter()
            .filter_map(|seen| seen.deleted.get(item));
        once(seen.flatten().cloned())
    }

    /// Tells whether all targets list the same bytes of an item. On S3, the ETag of an object that
    /// was uploaded in one piece is its MD5, so comparing buckets needs no request per object.
    pub(super) fn lists_the_same(&self, item: &Item) -> bool {
        let mut listed = self.targets.iter().map(|seen| {
            let meta = seen.listing.items.get(item)?;
            let md5 = meta.token.as_ref().filter(|token| is_md5(token))?;
            Some((meta.size, md5))
        });
        let first = listed.next().flatten();
        first.is_some() && listed.all(|other| other == first)
    }

    /// Tells whether every target of the replica set answered.
    pub(super) fn is_whole(&self) -> bool {
        self.targets.len() == self.replicas.targets().count()
    }
}

impl Reconcile {
    /// Lists a repository on every target, all at once.
    pub(super) async fn scan<'a>(
        &self,
        job: &ReconcileJob,
        repo: &RepoName,
        replicas: &'a ReplicaSet,
        share: Share,
    ) -> RepoScan<'a> {
        let end = Instant::now() + self.settings.push;
        let tags = &Section::tags(repo);
        let looks = replicas.targets().map(|target| async move {
            // List the tombstones last: an item that is listed and has none was not yet deleted.
            let mut listing = target.ask(|target| target.list(repo, end)).await?;
            let tags = target.ask(|target| target.list_section(tags, end)).await?;
            listing.items.extend(tags.items);
            listing.items.retain(|item, _| share.has(item));
            let tombstones = target.ask(|target| target.tombstones(repo, end)).await?;
            for key in target.target().refused_tombstones() {
                self.events.report_refused_tombstone(&key, target.url());
            }
            let mut deleted: BTreeMap<Item, Vec<Tombstone>> = BTreeMap::new();
            for tombstone in tombstones.into_iter().filter(|it| share.has(&it.item)) {
                let of_item = deleted.entry(tombstone.item.clone()).or_default();
                of_item.push(tombstone);
            }
            Ok::<_, Failure>(TargetScan {
                target,
                listing,
                deleted,
            })
        });
        let looks = futures::future::join_all(looks).await;
        let mut targets = Vec::new();
        for (target, look) in replicas.targets().zip(looks) {
            match look {
                Ok(seen) => targets.push(seen),
                Err(failure) => job.unheard(target.url(), &failure.reason),
            }
        }
        RepoScan { replicas, targets }
    }

    /// Returns the state of an artifact on each target, without the targets whose answers are
    /// inconclusive.
    pub(super) async fn holdings(
        &self,
        job: &ReconcileJob,
        scan: &RepoScan<'_>,
        id: &ArtifactId,
    ) -> Vec<Holding> {
        let looks = scan.targets.iter().map(|seen| async move {
            let listed = seen.listing.items.get(&id.item);
            (seen.target, self.held(job, seen.target, id, listed).await)
        });
        let mut holdings = Vec::new();
        for (target, held) in futures::future::join_all(looks).await {
            match held {
                Ok(held) => holdings.push(Holding {
                    target: target.id,
                    held,
                }),
                Err(failure) => job.unheard(target.url(), &failure.reason),
            }
        }
        holdings
    }

    async fn held(
        &self,
        job: &ReconcileJob,
        target: &Replica,
        id: &ArtifactId,
        listed: Option<&Meta>,
    ) -> Result<HeldContent, Failure> {
        let Some(listed) = listed else {
            return Ok(HeldContent::Nothing);
        };
        self.report_refused(id, target, listed);
        if job.order.quick
            && let Some(held) = self.held_as_listed(target, id, listed)
        {
            return Ok(held);
        }
        let end = Instant::now() + self.settings.read;
        self.held_now(job, target, id, end).await
    }

    /// Asks a target for the current state of an artifact.
    pub(super) async fn held_now(
        &self,
        job: &ReconcileJob,
        target: &Replica,
        id: &ArtifactId,
        end: Instant,
    ) -> Result<HeldContent, Failure> {
        if job.order.quick {
            match target.ask(|target| target.head(id, end)).await {
                Ok(Meta {
                    stamp: Some(stamp),
                    token,
                    ..
                }) => return Ok(self.remember(target, id, stamp, true, token)),
                // Content put there by hand is identified by its bytes alone.
                Ok(meta) => self.report_refused(id, target, &meta),
                Err(failure) => return as_held(failure),
            }
        }
        let limit = self.settings.max_size;
        match target.ask(|target| target.get(id, limit, end)).await {
            Ok(content) => {
                if let Some(refused) = content.refused {
                    self.events.report_refused(id, target.url(), refused);
                }
                Ok(self.remember(target, id, content.stamp, content.stamped, content.token))
            }
            Err(failure) if failure.kind == Kind::Corrupt => {
                let head = target.ask(|target| target.head(id, end)).await;
                head.map_or_else(as_held, |meta| {
                    self.report_refused(id, target, &meta);
                    Ok(HeldContent::Corrupt(meta.token))
                })
            }
            Err(failure) => as_held(failure),
        }
    }

    fn report_refused(&self, id: &ArtifactId, target: &Replica, meta: &Meta) {
        if let Some(refused) = meta.refused {
            self.events.report_refused(id, target.url(), refused);
        }
    }

    /// Returns the state of an artifact on a target if its listing tells it, or if the listed token
    /// is remembered.
    fn held_as_listed(
        &self,
        target: &Replica,
        id: &ArtifactId,
        listed: &Meta,
    ) -> Option<HeldContent> {
        let token = listed.token.clone();
        if let Some(stamp) = listed.stamp {
            return Some(HeldContent::Content {
                stamp,
                stamped: true,
                token,
            });
        }
        let mut remembered = lock(&self.jobs.remembered);
        let known = remembered.get(&(target.id, id.clone()))?;
        (Some(&known.token) == token.as_ref()).then_some(HeldContent::Content {
            stamp: known.stamp,
            stamped: known.stamped,
            token,
        })
    }

    fn remember(
        &self,
        target: &Replica,
        id: &ArtifactId,
        stamp: Stamp,
        stamped: bool,
        token: Option<Token>,
    ) -> HeldContent {
        if let Some(token) = token.clone() {
            let known = Remembered {
                token,
                stamp,
                stamped,
            };
            let mut remembered = lock(&self.jobs.remembered);
            remembered.put((target.id, id.clone()), known);
            if remembered.len() > REMEMBERED_CONTENTS {
                remembered.pop_lru();
            }
        }
        HeldContent::Content {
            stamp,
            stamped,
            token,
        }
    }
}

/// Returns tombstones without those that several targets have, oldest first.
pub(super) fn once(tombstones: impl Iterator<Item = Tombstone>) -> Vec<Tombstone> {
    let tombstones = tombstones.map(|tombstone| (tombstone.when, tombstone));
    tombstones
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect()
}

fn is_md5(token: &Token) -> bool {
    let digits = token.0.trim_matches('"');
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the state that a failed read implies, if it implies one.
fn as_held(failure: Failure) -> Result<HeldContent, Failure> {
    match failure.kind {
        Kind::NotFound => Ok(HeldContent::Nothing),
        Kind::Corrupt => Ok(HeldContent::Corrupt(None)),
        _ => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_md5_of_a_content_tells_it_from_others() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        for (token, is) in [
            (format!("\"{md5}\""), true),
            (md5.to_owned(), true),
            (format!("\"{md5}-2\""), false),
            ("1726000000000000001-17-42".into(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_md5(&Token(token.clone())), is, "{token}");
        }
    }
}
