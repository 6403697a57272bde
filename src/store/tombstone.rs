//! Tombstones: a target's records of deletions, so that a target that missed a deletion doesn't
//! bring the artifact back.
//!
//! Each is one small object, `.atlasfs/deleted/<repo>/<item>/<when>`. The name holds all the data,
//! so one LIST shows all deletions in a repository.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Condition, Failure, Target};
use crate::model::{ArtifactId, Format, Item, RepoName, Stamp, is_ahead, when_to_text};

/// The folder of the tombstones, below the target's URL.
const DELETED: &str = ".atlasfs/deleted";

/// The record of one deletion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tombstone {
    /// The item that was deleted.
    pub item: Item,
    /// The time of the deletion, in the form of a stamp's `when`.
    pub when: u64,
}

impl Target {
    /// Records the deletion of an artifact.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn put_tombstone(
        &self,
        id: &ArtifactId,
        when: u64,
        deadline: Instant,
    ) -> Result<(), Failure> {
        #[cfg(test)]
        if crate::fault_injection::injected(crate::fault_injection::Bug::NoTombstone) {
            return Ok(());
        }
        let content = Bytes::from(format!("{id} was deleted {}\n", when_to_text(when)));
        let stamp = Stamp::new(when, &content, Format::Sql);
        let key = key(id, when);
        let put = self.driver.put(&key, content, &stamp, &Condition::None);
        let attempt = format!("writing {key}");
        self.by(deadline, &attempt, put).await.map(drop)
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
        let attempt = format!("listing {prefix}");
        let listed = self.by(deadline, &attempt, self.driver.list(&prefix));
        let below = |key: &str| Some(key.strip_prefix(&prefix)?.strip_prefix('/')?.to_owned());
        let listed = listed.await?.into_iter();
        Ok(listed
            .filter_map(|object| parse(&below(&object.key)?))
            .filter(|tombstone| !is_ahead(tombstone.when, self.now()))
            .collect())
    }

    /// Returns the time of an artifact's last deletion, if there was one.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn last_deleted(
        &self,
        id: &ArtifactId,
        deadline: Instant,
    ) -> Result<Option<u64>, Failure> {
        let prefix = format!("{DELETED}/{id}");
        let attempt = format!("listing {prefix}");
        let listed = self.by(deadline, &attempt, self.driver.list(&prefix));
        let listed = listed.await?.into_iter();
        let whens = listed.filter_map(|object| object.key.rsplit_once('/')?.1.parse().ok());
        Ok(whens.filter(|when| !is_ahead(*when, self.now())).max())
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
        self.by(deadline, &attempt, self.driver.delete(&key)).await
    }
}

fn key(id: &ArtifactId, when: u64) -> String {
    format!("{DELETED}/{id}/{when:020}")
}

fn parse(key: &str) -> Option<Tombstone> {
    let (item, when) = key.rsplit_once('/')?;
    Some(Tombstone {
        item: Item::from_key(item)?,
        when: when.parse().ok()?,
    })
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
            target.put_tombstone(&id(name), when, end).await.unwrap();
        }
        let app = RepoName::parse("app").unwrap();
        let mut found = target.tombstones(&app, end).await.unwrap();
        found.sort();
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.item.to_string(), found.when))
            .collect();
        let expected = [
            ("schema", 7),
            ("schema", 9),
            ("plans/p1", 5),
            ("plans/p10", 3),
        ];
        assert_eq!(found, expected.map(|(item, when)| (item.to_owned(), when)));
        let last = target.last_deleted(&id("app/schema"), end).await.unwrap();
        assert_eq!(last, Some(9));
        let last = target.last_deleted(&id("app/plans/p1"), end).await.unwrap();
        assert_eq!(last, Some(5));
        let last = target.last_deleted(&id("b/schema"), end).await.unwrap();
        assert_eq!(last, None);
        assert!(target.list(&app, end).await.unwrap().items.is_empty());
        assert_eq!(target.repos(end).await.unwrap(), (vec![], vec![]));
        target
            .remove_tombstone(&id("app/schema"), 9, end)
            .await
            .unwrap();
        let last = target.last_deleted(&id("app/schema"), end).await.unwrap();
        assert_eq!(last, Some(7));
    }

    #[test]
    fn what_somebody_else_has_put_beside_the_tombstones_is_none() {
        for key in ["", "schema", "schema/", "schema/x", "schema/-1", "a/b/1"] {
            assert_eq!(parse(key), None, "{key:?}");
        }
    }
}
