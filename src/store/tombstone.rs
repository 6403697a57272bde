//! Tombstones: a target's records of deletions, so that a target that missed a deletion doesn't
//! bring the artifact back.
//!
//! Each is one small object, `.atlasfs/deleted/<repo>/<item>/<when>`, so one LIST shows all deletions
//! in a repository. Its content names the content that was deleted, and those before it: a deletion
//! deletes these and no other. Tombstones of earlier versions have only their time. With keys, a
//! tombstone that none of them has signed counts for nothing.

use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::known_tombstones::KnownTombstones;
use super::{Condition, Failure, Kind, Target};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{
    ArtifactId, Format, Item, Lineage, RepoName, Sha256, Stamp, is_ahead, when_from_text,
    when_to_text,
};

/// The folder of the tombstones, below the target's URL.
const DELETED: &str = ".atlasfs/deleted";
/// The largest tombstone that is read. 64 KiB: one takes a few kilobytes at most.
const MAX_SIZE: u64 = 64 << 10;
/// How many tombstones are read at once.
const PARALLEL_READS: usize = 8;

/// The record of one deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The item that was deleted.
    pub item: Item,
    /// The time of the deletion, in the form of a stamp's `when`.
    pub when: u64,
    /// The content that was deleted, and those before it; `None` in one of an earlier version.
    pub deletes: Option<Lineage>,
}

impl Tombstone {
    /// Tells whether a content is deleted by it.
    pub fn covers(&self, stamp: &Stamp, stamped: bool) -> bool {
        #[cfg(test)]
        if injected(Bug::TombstoneByTime) {
            return stamp.when <= self.when;
        }
        match &self.deletes {
            Some(deletes) => deletes.covers(stamp, stamped),
            None => stamp.when <= self.when,
        }
    }

    /// Tells whether it deletes all that an earlier one deletes.
    pub fn includes(&self, earlier: &Tombstone) -> bool {
        if earlier.when >= self.when {
            return false;
        }
        match (&self.deletes, &earlier.deletes) {
            (Some(deletes), Some(earlier)) => {
                deletes.holds(earlier.sha256)
                    && earlier.past.iter().all(|past| deletes.holds(*past))
                    && (deletes.when.is_none() || deletes.when >= earlier.when)
            }
            (None, None) => true,
            _ => false,
        }
    }

    fn to_text(&self, id: &ArtifactId) -> String {
        let deletes = self.deletes.as_ref().map(|deletes| {
            json!({
                "sha256": deletes.sha256.to_string(),
                "time": deletes.when.map(when_to_text),
                "past": deletes.past.iter().map(Sha256::to_string).collect::<Vec<_>>(),
            })
        });
        let deletes = deletes.map_or(String::new(), |deletes| format!("{deletes}\n"));
        format!("{id} was deleted {}\n{deletes}", when_to_text(self.when))
    }
}

/// Reads the content that a tombstone names.
fn deletes(content: &[u8]) -> Option<Lineage> {
    let text = std::str::from_utf8(content).ok()?;
    let value: Value = serde_json::from_str(text.lines().nth(1)?).ok()?;
    let past = value.get("past")?.as_array()?.iter();
    Some(Lineage {
        sha256: value.get("sha256")?.as_str()?.parse().ok()?,
        when: value.get("time")?.as_str().and_then(when_from_text),
        past: past.filter_map(|it| it.as_str()?.parse().ok()).collect(),
    })
}

impl Target {
    /// Returns the keys of the refused tombstones that were not returned before.
    pub fn refused_tombstones(&self) -> Vec<String> {
        std::mem::take(&mut self.known_tombstones().untold)
    }

    fn known_tombstones(&self) -> MutexGuard<'_, KnownTombstones> {
        self.known_tombstones
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the deletion of an artifact.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn put_tombstone(
        &self,
        id: &ArtifactId,
        tombstone: &Tombstone,
        deadline: Instant,
    ) -> Result<(), Failure> {
        #[cfg(test)]
        if injected(Bug::NoTombstone) {
            return Ok(());
        }
        let content = Bytes::from(tombstone.to_text(id));
        let stamp = Stamp::new(tombstone.when, &content, Format::Sql);
        let key = key(id, tombstone.when);
        let stamp = self.sign(&key, &stamp);
        let put = self.driver.put(&key, content, &stamp, &Condition::None);
        let attempt = format!("writing {key}");
        self.writing(deadline, &attempt, put).await.map(drop)
    }

    /// Lists the deletions in a repository.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn tombstones(
        &self,
        repo: &RepoName,
        deadline: Instant,
    ) -> Result<Vec<Tombstone>, Failure> {
        let prefix = format!("{DELETED}/{repo}");
        self.tombstones_below(
            &prefix,
            |key| parse(key.strip_prefix(&prefix)?.strip_prefix('/')?),
            deadline,
        )
        .await
    }

    /// Lists the deletions of an artifact.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn tombstones_of(
        &self,
        id: &ArtifactId,
        deadline: Instant,
    ) -> Result<Vec<Tombstone>, Failure> {
        let prefix = format!("{DELETED}/{id}");
        self.tombstones_below(
            &prefix,
            |key| Some((id.item.clone(), key.rsplit_once('/')?.1.parse().ok()?)),
            deadline,
        )
        .await
    }

    async fn tombstones_below(
        &self,
        prefix: &str,
        parse: impl Fn(&str) -> Option<(Item, u64)>,
        deadline: Instant,
    ) -> Result<Vec<Tombstone>, Failure> {
        let attempt = format!("listing {prefix}");
        let listed = self
            .by(deadline, &attempt, self.driver.list(prefix))
            .await?;
        let found = listed.into_iter().filter_map(|object| {
            let (item, when) = parse(&object.key)?;
            Some((object.key, item, when))
        });
        let reads = found.map(|(key, item, when)| async move {
            let deletes = self.deletes(&key, deadline).await?;
            Ok::<_, Failure>(deletes.map(|deletes| Tombstone {
                item,
                when,
                deletes,
            }))
        });
        let reads: Vec<_> = reads.collect();
        let read = futures::stream::iter(reads).buffer_unordered(PARALLEL_READS);
        let tombstones: Vec<Option<Tombstone>> = read.try_collect().await?;
        // One of an earlier version has only its time, which may be any.
        let counts = |it: &Tombstone| it.deletes.is_some() || !is_ahead(it.when, self.now());
        Ok(tombstones.into_iter().flatten().filter(counts).collect())
    }

    /// Reads the content that a tombstone names; `None` if the tombstone is gone, or refused.
    async fn deletes(
        &self,
        key: &str,
        deadline: Instant,
    ) -> Result<Option<Option<Lineage>>, Failure> {
        {
            let known = self.known_tombstones();
            if let Some(deletes) = known.deletes.get(key) {
                return Ok(Some(deletes.clone()));
            }
            if known.refused.contains(key) {
                return Ok(None);
            }
        }
        let attempt = format!("reading {key}");
        let stored = self.by(deadline, &attempt, self.driver.get(key, MAX_SIZE));
        let stored = match stored.await {
            Ok(stored) => stored,
            Err(failure) if failure.kind == Kind::NotFound => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let is_authentic = |signed| self.is_authentic(key, signed);
        if self.signs() && !stored.stamp.as_ref().is_some_and(is_authentic) {
            self.known_tombstones().refuse(key);
            return Ok(None);
        }
        if let Some(signed) = stored.stamp
            && !signed.stamp.matches(&stored.content)
        {
            let why = format!(
                "cannot read {key} at {}: its bytes don't match their stamp",
                self.url()
            );
            return Err(Failure::new(Kind::Corrupt, why));
        }
        let deletes = deletes(&stored.content);
        self.known_tombstones().keep(key, deletes.clone());
        Ok(Some(deletes))
    }

    /// Removes an obsolete tombstone.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn remove_tombstone(
        &self,
        id: &ArtifactId,
        when: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let key = key(id, when);
        let attempt = format!("deleting {key}");
        self.writing(deadline, &attempt, self.driver.delete(&key))
            .await
    }
}

fn key(id: &ArtifactId, when: u64) -> String {
    format!("{DELETED}/{id}/{when:020}")
}

fn parse(key: &str) -> Option<(Item, u64)> {
    let (item, when) = key.rsplit_once('/')?;
    Some((Item::from_key(item)?, when.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::store::{Memory, Role};

    fn id(name: &str) -> ArtifactId {
        let (repo, item) = name.split_once('/').unwrap();
        ArtifactId {
            repo: RepoName::parse(repo).unwrap(),
            item: Item::from_key(item).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_tombstone_is_listed_with_its_repository_and_is_no_artifact() {
        let memory = Memory::default();
        let target = Target::new(Role::Registry, "mem://r", Arc::new(memory.clone()));
        let end = Instant::now() + Duration::from_secs(1);
        for (name, when) in [
            ("app/schema", 7),
            ("app/schema", 9),
            ("app/plans/p1", 5),
            ("app/plans/p10", 3),
            ("app2/schema", 1),
        ] {
            let id = id(name);
            let stamp = Stamp::new(when - 1, b"x", Format::Hcl);
            let tombstone = Tombstone {
                item: id.item.clone(),
                when,
                deletes: Some(Lineage::new(&stamp, true, &[Sha256::of(b"w")])),
            };
            target.put_tombstone(&id, &tombstone, end).await.unwrap();
            let found = target.tombstones_of(&id, end).await.unwrap();
            assert!(found.contains(&tombstone), "{found:?}");
        }
        let app = RepoName::parse("app").unwrap();
        let mut found = target.tombstones(&app, end).await.unwrap();
        found.sort_by_key(|found| found.when);
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.item.to_string(), found.when))
            .collect();
        let expected = [
            ("plans/p10", 3),
            ("plans/p1", 5),
            ("schema", 7),
            ("schema", 9),
        ];
        assert_eq!(found, expected.map(|(item, when)| (item.to_owned(), when)));
        assert!(target.list(&app, end).await.unwrap().items.is_empty());
        assert_eq!(target.repos(end).await.unwrap(), (vec![], vec![]));
        target
            .remove_tombstone(&id("app/schema"), 9, end)
            .await
            .unwrap();
        let left = target.tombstones_of(&id("app/schema"), end).await.unwrap();
        assert_eq!(left.iter().map(|it| it.when).collect::<Vec<_>>(), [7]);
        let none = target.tombstones_of(&id("b/schema"), end).await.unwrap();
        assert!(none.is_empty());
    }

    #[tokio::test]
    async fn a_tombstone_of_an_earlier_version_has_only_its_time() {
        let memory = Memory::default();
        let target = Target::new(Role::Registry, "mem://r", Arc::new(memory.clone()));
        let end = Instant::now() + Duration::from_secs(1);
        let key = format!("{DELETED}/app/schema/{:020}", 7);
        memory.place(&key, b"app/schema was deleted 1970\n", None);
        // Its clock may have been wrong.
        memory.place(&format!("{DELETED}/app/schema/{}", u64::MAX), b"", None);
        let found = target.tombstones_of(&id("app/schema"), end).await.unwrap();
        let [found] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(found.covers(&Stamp::new(7, b"x", Format::Hcl), true));
        assert!(!found.covers(&Stamp::new(8, b"x", Format::Hcl), true));
    }

    #[test]
    fn what_somebody_else_has_put_beside_the_tombstones_is_none() {
        for key in ["", "schema", "schema/", "schema/x", "schema/-1", "a/b/1"] {
            assert_eq!(parse(key), None, "{key:?}");
        }
    }
}
