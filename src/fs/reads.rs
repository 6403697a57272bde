//! Reads: which content of an artifact each thread has opened last.
//!
//! A rename has no handle that would remember what the artifact was when the work on it began. The
//! program that renames, or the one that has written the scratch file, has mostly read it here
//! before: `sed -i`, `perl -i`, a script that changes a schema. What it has read is what its rename
//! may replace.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use crate::model::ArtifactId;
use crate::registry::BaseVersion;

/// For how long a read counts. Ten minutes: longer than any tool works on a schema, and shorter
/// than the kernel takes to give the same number to another process on most machines.
const MEMORY: Duration = Duration::from_secs(600);

/// How many reads are remembered: some hundred kilobytes.
const MANY: NonZeroUsize = match NonZeroUsize::new(1_000) {
    Some(many) => many,
    None => NonZeroUsize::MIN,
};

/// Who has read what.
#[derive(Debug)]
pub(super) struct Reads {
    last: LruCache<(u32, ArtifactId), (BaseVersion, Instant)>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            last: LruCache::new(MANY),
        }
    }
}

impl Reads {
    /// Takes note of what a thread knows the artifact to be. Threads of foreign pid namespaces all
    /// come as 0, and are not remembered.
    pub(super) fn note(&mut self, pid: u32, id: &ArtifactId, base: BaseVersion) {
        if pid != 0 {
            self.last.put((pid, id.clone()), (base, Instant::now()));
        }
    }

    /// Forgets it: the thread has opened the artifact for writing, and the handle knows more.
    pub(super) fn forget(&mut self, pid: u32, id: &ArtifactId) {
        self.last.pop(&(pid, id.clone()));
    }

    /// Returns what a thread has last read, if that is not too long ago.
    pub(super) fn of(&self, pid: u32, id: &ArtifactId) -> Option<BaseVersion> {
        let (base, at) = self.last.peek(&(pid, id.clone()))?;
        (at.elapsed() < MEMORY).then_some(*base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Item, RepoName};

    fn id() -> ArtifactId {
        ArtifactId {
            repo: RepoName::parse("app").unwrap(),
            item: Item::Schema,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_the_threads_own_and_counts_for_ten_minutes() {
        let mut reads = Reads::default();
        reads.note(1, &id(), BaseVersion::default());
        reads.note(0, &id(), BaseVersion::default());
        assert_eq!(reads.of(1, &id()), Some(BaseVersion::default()));
        assert_eq!(reads.of(2, &id()), None);
        assert_eq!(reads.of(0, &id()), None);
        tokio::time::advance(MEMORY).await;
        assert_eq!(reads.of(1, &id()), None);
    }

    #[tokio::test]
    async fn an_open_for_writing_makes_it_forgotten() {
        let mut reads = Reads::default();
        reads.note(1, &id(), BaseVersion::default());
        reads.forget(1, &id());
        assert_eq!(reads.of(1, &id()), None);
    }
}
