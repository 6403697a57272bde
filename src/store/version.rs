//! Versions: contents that a target keeps beside the artifact, and that never change.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Condition, Failure, Kind, Meta, RepoListing, Target};
#[cfg(test)]
use crate::fault_injection::{Bug, injected};
use crate::model::{ArtifactId, Item, RepoName, Sha256, Stamp, Version};

/// How many contents before a push are looked for: more pushes than an outage sees.
const MAX_BEFORE: usize = 100;

/// Returns the key of a content as a version, `app/versions/20240910173744-0a1b2c3d/schema`.
pub fn version_key(id: &ArtifactId, stamp: &Stamp) -> String {
    let version = stamp.version();
    format!("{}/{version}/{}", versions_of(&id.repo), id.item)
}

fn versions_of(repo: &RepoName) -> String {
    format!("{repo}/versions")
}

/// Returns the end of the key of a content's versions.
fn suffix(id: &ArtifactId, sha256: Sha256) -> String {
    format!("-{:.8}/{}", sha256.to_string(), id.item)
}

impl Target {
    /// Lists the contents of a repository's versions.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn versions(
        &self,
        repo: &RepoName,
        deadline: Instant,
    ) -> Result<BTreeSet<Item>, Failure> {
        let prefix = versions_of(repo);
        let attempt = format!("listing {prefix}");
        let listed = self.by(deadline, &attempt, self.driver.list_keys(&prefix));
        let listed = listed.await?;
        let items = listed.iter().filter_map(|key| {
            let key = key.strip_prefix(repo.as_str())?.strip_prefix('/')?;
            Item::from_key(key).filter(Item::is_immutable)
        });
        Ok(items.collect())
    }

    /// Lists the contents of a repository's versions by their names alone: their sizes and stamps cost
    /// a request for each in some stores, and most are never looked at.
    pub(in crate::store) async fn list_versions(
        &self,
        repo: &RepoName,
        deadline: Instant,
    ) -> Result<RepoListing, Failure> {
        let items = self.versions(repo, deadline).await?.into_iter();
        let items = items.map(|item| {
            let when = item.version().map_or(0, Version::when);
            let unread = Meta {
                size: 0,
                stamp: None,
                refused: None,
                token: None,
                modified: UNIX_EPOCH + Duration::from_nanos(when),
            };
            (item, unread)
        });
        Ok(RepoListing {
            items: items.collect(),
            hidden: Vec::new(),
        })
    }

    /// Keeps a content as a version, unless the target has it. When it returns `Ok` the target has
    /// it, durably.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn keep_version(
        &self,
        id: &ArtifactId,
        content: Bytes,
        stamp: &Stamp,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let key = version_key(id, stamp);
        // Replay and reconcile come back again and again: don't send the content each time.
        match self.has_version(&key, stamp, deadline).await? {
            true => Ok(()),
            false => self.put_version(id, content, stamp, deadline).await,
        }
    }

    /// Makes a content a version, in one request. When it returns `Ok` the target has it, durably.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn put_version(
        &self,
        id: &ArtifactId,
        content: Bytes,
        stamp: &Stamp,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let key = version_key(id, stamp);
        self.put_once(&key, content, stamp, deadline).await
    }

    /// Puts a part of a version. When it returns `Ok` the target has it, durably.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn put_part(
        &self,
        id: &ArtifactId,
        content: Bytes,
        stamp: &Stamp,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let key = id.to_string();
        self.put_once(&key, content, stamp, deadline).await
    }

    async fn put_once(
        &self,
        key: &str,
        content: Bytes,
        stamp: &Stamp,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let attempt = format!("writing {key}");
        let signed = self.sign(key, stamp);
        let condition = Condition::Absent;
        #[cfg(test)]
        let condition = match injected(Bug::VersionOverwritten) {
            true => Condition::None,
            false => condition,
        };
        let put = self.driver.put(key, content, &signed, &condition);
        match self.writing(deadline, &attempt, put).await {
            Err(failure) if failure.kind == Kind::Conflict => {
                let has = self.has_version(key, stamp, deadline).await?;
                has.then_some(()).ok_or(failure)
            }
            written => written.map(drop),
        }
    }

    /// Tells whether a version is there. The journal lets go of a content that every target keeps, so
    /// something else under that key does not count.
    async fn has_version(
        &self,
        key: &str,
        stamp: &Stamp,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let attempt = format!("looking up {key}");
        let there = match self.by(deadline, &attempt, self.driver.head(key)).await {
            Err(failure) if failure.kind == Kind::NotFound => return Ok(false),
            there => there?,
        };
        let signed = there.stamp.filter(|it| self.is_authentic(key, it));
        match signed.is_some_and(|it| it.stamp.sha256 == stamp.sha256 && there.size == stamp.size) {
            true => Ok(true),
            false => Err(Failure::new(
                Kind::Corrupt,
                format!(
                    "cannot write {key} at {}: something else is there; remove it",
                    self.url()
                ),
            )),
        }
    }

    /// Fails if a tag would point to a version that the target lacks.
    pub(super) async fn has_tagged(
        &self,
        id: &ArtifactId,
        content: &[u8],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let Item::Tag(_) = id.item else { return Ok(()) };
        #[cfg(test)]
        if injected(Bug::TagBeforeVersion) {
            return Ok(());
        }
        let version = std::str::from_utf8(content).ok();
        let version = version.and_then(|version| Version::parse(version).ok());
        let parts = version.iter().flat_map(|version| {
            [
                Item::Version(version.clone()),
                Item::Archive(version.clone()),
            ]
        });
        for part in parts {
            let key = format!("{}/{part}", id.repo);
            let attempt = format!("looking up {key}");
            match self.by(deadline, &attempt, self.driver.head(&key)).await {
                Err(failure) if failure.kind == Kind::NotFound => {}
                there => return there.map(drop),
            }
        }
        let url = self.url();
        let version = version.map_or(String::new(), |version| version.to_string());
        let why = format!("cannot write {id} at {url}: version {version} is not there yet");
        Err(Failure::new(Kind::Busy, why))
    }

    /// Returns the contents that a push is based on, as far as the versions tell. `known`: those that
    /// are known without them.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn contents_before(
        &self,
        id: &ArtifactId,
        known: &[Sha256],
        deadline: Instant,
    ) -> Result<Vec<Sha256>, Failure> {
        let prefix = versions_of(&id.repo);
        let attempt = format!("listing {prefix}");
        let listed = self.by(deadline, &attempt, self.driver.list_keys(&prefix));
        let listed = listed.await?;
        let (mut before, mut bases) = (Vec::new(), known.to_vec());
        while let Some(sha256) = bases.pop()
            && before.len() < MAX_BEFORE
        {
            if before.contains(&sha256) {
                continue;
            }
            before.push(sha256);
            // A content may have been pushed more than once.
            let suffix = suffix(id, sha256);
            for key in listed.iter().filter(|key| key.ends_with(&suffix)) {
                let attempt = format!("looking up {key}");
                let version = self.by(deadline, &attempt, self.driver.head(key)).await?;
                let signed = version.stamp.filter(|it| self.is_authentic(key, it));
                let stamp = signed.map(|signed| signed.stamp);
                let stamp = stamp.filter(|stamp| stamp.sha256 == sha256);
                bases.extend(stamp.and_then(|stamp| stamp.base.content()));
            }
        }
        Ok(before)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::{Format, Item, RepoName};
    use crate::store::{Memory, Role};

    #[tokio::test]
    async fn something_else_under_the_key_of_a_version_is_no_version() {
        let store = Memory::default();
        let target = Target::new(Role::Registry, "mem://r", Arc::new(store.clone()));
        let id = ArtifactId {
            repo: RepoName::parse("app").unwrap(),
            item: Item::Schema,
        };
        let content = Bytes::from_static(b"schema \"s\" {}\n");
        let stamp = Stamp::new(1, &content, Format::Hcl);
        let (key, end) = (
            version_key(&id, &stamp),
            Instant::now() + Duration::from_secs(1),
        );
        let keep = || target.keep_version(&id, content.clone(), &stamp, end);
        for other in [None, Some(Stamp::new(7, b"other", Format::Hcl))] {
            store.place(&key, b"other", other);
            let failure = keep().await.unwrap_err();
            assert!(failure.reason.contains("remove it"), "{failure}");
        }
        store.remove(&key);
        keep().await.unwrap();
        keep().await.unwrap();
        assert_eq!(store.content(&key).unwrap(), content);
    }
}
