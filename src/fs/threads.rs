//! The mount's memory of threads: ESTALE retries, and the last read of each thread.
//!
//! The kernel answers ESTALE to an open by one new look-up of the whole path, in the same thread
//! (`do_filp_open` with LOOKUP_REVAL; truncate(2) does the same). That is how a writer gets an
//! inode of its own, and a reader the newest content, without a notification. The kernel looks up
//! the last name twice on the way: first to find its entry invalid, then for the new one.
//!
//! A rename has no handle that remembers the content before it. The program that renames, or the
//! one that wrote the temporary file, has usually read the artifact here before (`sed -i`, `perl
//! -i`), so its rename may replace the content that it has read.
//!
//! Threads of foreign pid namespaces all have the number 0, and are not recorded.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use crate::model::ArtifactId;
use crate::registry::BaseVersion;

/// The most reads to remember: some hundred kilobytes.
const MAX_ENTRIES: NonZeroUsize = match NonZeroUsize::new(1_000) {
    Some(many) => many,
    None => NonZeroUsize::MIN,
};

/// The operation that got ESTALE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// An open to read the newest content.
    Read,
    /// An open to write: the next look-up makes an inode for it.
    Write,
    /// A rename onto the artifact's name: the retry gets the same conflict without another push.
    Rename,
}

/// The time limit of a retry. The kernel retries at once, but may wait for a target on its way;
/// after the limit the thread is probably dead.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// The number of retries at which old ones are removed.
const MAX_RETRIES: usize = 1_000;

/// An expected retry.
#[derive(Debug)]
struct PendingRetry {
    intent: Intent,
    since: Instant,
}

/// The threads that got ESTALE and have not retried yet.
#[derive(Debug, Default)]
pub(super) struct StaleRetries {
    waiting: HashMap<(u32, ArtifactId), PendingRetry>,
}

impl StaleRetries {
    /// Starts a retry; `false` if this already is the retry, so that the thread must get an answer.
    pub(super) fn start(&mut self, pid: u32, id: &ArtifactId, intent: Intent) -> bool {
        if self.take(pid, id, intent) {
            return false;
        }
        if self.waiting.len() >= MAX_RETRIES {
            self.waiting
                .retain(|_, waiting| waiting.since.elapsed() < RETRY_TIMEOUT);
        }
        let since = Instant::now();
        let waiting = PendingRetry { intent, since };
        self.waiting.insert((pid, id.clone()), waiting);
        true
    }

    /// Tells whether a retry is pending.
    pub(super) fn is_waiting(&self, pid: u32, id: &ArtifactId, intent: Intent) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let waiting = self.waiting.get(&(pid, id.clone()));
        waiting.is_some_and(|waiting| {
            waiting.intent == intent && waiting.since.elapsed() < RETRY_TIMEOUT
        })
    }

    /// Ends a retry; returns whether it was pending.
    pub(super) fn take(&mut self, pid: u32, id: &ArtifactId, intent: Intent) -> bool {
        let waits = self.is_waiting(pid, id, intent);
        if waits {
            self.waiting.remove(&(pid, id.clone()));
        }
        waits
    }
}

/// The lifetime of a read. Ten minutes: longer than any tool works on a schema, and shorter than
/// most kernels take to reuse a thread's number.
const READ_LIFETIME: Duration = Duration::from_secs(600);

/// The content of each artifact that each thread has read last.
#[derive(Debug)]
pub(super) struct Reads {
    last: LruCache<(u32, ArtifactId), (BaseVersion, Instant)>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            last: LruCache::new(MAX_ENTRIES),
        }
    }
}

impl Reads {
    /// Records the content that a thread has read.
    pub(super) fn record(&mut self, pid: u32, id: &ArtifactId, base: BaseVersion) {
        if pid != 0 {
            self.last.put((pid, id.clone()), (base, Instant::now()));
        }
    }

    /// Forgets a read: the thread has opened the artifact for writing, and the handle has the base.
    pub(super) fn forget(&mut self, pid: u32, id: &ArtifactId) {
        self.last.pop(&(pid, id.clone()));
    }

    /// Returns the content that a thread has read last, within the lifetime.
    pub(super) fn of(&self, pid: u32, id: &ArtifactId) -> Option<BaseVersion> {
        let (base, at) = self.last.peek(&(pid, id.clone()))?;
        (at.elapsed() < READ_LIFETIME).then_some(*base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Item, RepoName};

    fn id(repo: &str) -> ArtifactId {
        ArtifactId {
            repo: RepoName::parse(repo).unwrap(),
            item: Item::Schema,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_gets_estale_once() {
        let mut stale_retries = StaleRetries::default();
        assert!(stale_retries.start(1, &id("a"), Intent::Write));
        assert!(!stale_retries.start(1, &id("a"), Intent::Write));
        assert!(stale_retries.start(1, &id("a"), Intent::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_thread_that_got_estale_retries() {
        let mut stale_retries = StaleRetries::default();
        stale_retries.start(1, &id("a"), Intent::Write);
        assert!(!stale_retries.take(2, &id("a"), Intent::Write));
        assert!(!stale_retries.take(1, &id("b"), Intent::Write));
        assert!(!stale_retries.take(1, &id("a"), Intent::Read));
        assert!(stale_retries.take(1, &id("a"), Intent::Write));
        assert!(!stale_retries.take(1, &id("a"), Intent::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_that_never_comes_is_forgotten() {
        let mut stale_retries = StaleRetries::default();
        stale_retries.start(1, &id("a"), Intent::Write);
        tokio::time::advance(RETRY_TIMEOUT).await;
        assert!(!stale_retries.take(1, &id("a"), Intent::Write));
        for pid in 0..3_000 {
            stale_retries.start(pid, &id("a"), Intent::Read);
            tokio::time::advance(RETRY_TIMEOUT / 500).await;
        }
        assert!(stale_retries.waiting.len() <= MAX_RETRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_the_threads_own_for_ten_minutes() {
        let mut reads = Reads::default();
        reads.record(1, &id("app"), BaseVersion::default());
        reads.record(0, &id("app"), BaseVersion::default());
        assert_eq!(reads.of(1, &id("app")), Some(BaseVersion::default()));
        assert_eq!(reads.of(2, &id("app")), None);
        assert_eq!(reads.of(0, &id("app")), None);
        tokio::time::advance(READ_LIFETIME).await;
        assert_eq!(reads.of(1, &id("app")), None);
    }

    #[tokio::test]
    async fn an_open_for_writing_forgets_the_read() {
        let mut reads = Reads::default();
        reads.record(1, &id("app"), BaseVersion::default());
        reads.forget(1, &id("app"));
        assert_eq!(reads.of(1, &id("app")), None);
    }
}
