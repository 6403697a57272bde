//! Bounces: opens that were sent back to the kernel with ESTALE, to come again by name.
//!
//! The kernel answers ESTALE to an open by looking the whole path up anew, once, in the same
//! thread (`do_filp_open` with LOOKUP_REVAL; truncate(2) does the same). That is how a writer
//! gets an inode of its own, and a reader the newest content, without any notification. The last
//! name is looked up twice on the way: to find that its entry is no longer valid, and for the new
//! one.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::ArtifactId;

/// What the one who was sent back wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// To read the newest content.
    Read,
    /// To write: the look-up that follows makes an inode for it.
    Write,
    /// To rename a scratch file onto the artifact's name: it is told once more that this is a
    /// conflict, without another push.
    Rename,
}

/// The kernel comes back at once, but may have to wait for a target on its way. What is older
/// belongs to somebody who has died in between.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many bounces are remembered before old ones are swept out.
const MANY: usize = 1_000;

/// A thread that was sent back.
#[derive(Debug)]
struct PendingRetry {
    wish: Intent,
    since: Instant,
}

/// Who was sent back, and why.
#[derive(Debug, Default)]
pub(super) struct StaleRetries {
    waiting: HashMap<(u32, ArtifactId), PendingRetry>,
}

impl StaleRetries {
    /// Sends a thread back; `false` if it has just been sent back for the same wish, and is to be
    /// served as well as it can be.
    pub(super) fn send_back(&mut self, pid: u32, id: &ArtifactId, wish: Intent) -> bool {
        if self.take(pid, id, wish) {
            return false;
        }
        if self.waiting.len() >= MANY {
            self.waiting
                .retain(|_, waiting| waiting.since.elapsed() < PATIENCE);
        }
        let since = Instant::now();
        let waiting = PendingRetry { wish, since };
        self.waiting.insert((pid, id.clone()), waiting);
        true
    }

    /// Tells whether a thread was sent back for this wish and has not opened anything since.
    pub(super) fn is_waiting(&self, pid: u32, id: &ArtifactId, wish: Intent) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let waiting = self.waiting.get(&(pid, id.clone()));
        waiting.is_some_and(|waiting| waiting.wish == wish && waiting.since.elapsed() < PATIENCE)
    }

    /// Tells whether a thread was sent back for this wish, and forgets it.
    pub(super) fn take(&mut self, pid: u32, id: &ArtifactId, wish: Intent) -> bool {
        let waits = self.is_waiting(pid, id, wish);
        if waits {
            self.waiting.remove(&(pid, id.clone()));
        }
        waits
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
    async fn a_thread_is_sent_back_once() {
        let mut stale_retries = StaleRetries::default();
        assert!(stale_retries.send_back(1, &id("a"), Intent::Write));
        assert!(!stale_retries.send_back(1, &id("a"), Intent::Write));
        assert!(stale_retries.send_back(1, &id("a"), Intent::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_thread_that_was_sent_back_gets_what_it_wants() {
        let mut stale_retries = StaleRetries::default();
        stale_retries.send_back(1, &id("a"), Intent::Write);
        assert!(!stale_retries.take(2, &id("a"), Intent::Write));
        assert!(!stale_retries.take(1, &id("b"), Intent::Write));
        assert!(!stale_retries.take(1, &id("a"), Intent::Read));
        assert!(stale_retries.take(1, &id("a"), Intent::Write));
        assert!(!stale_retries.take(1, &id("a"), Intent::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_does_not_come_back_is_forgotten() {
        let mut stale_retries = StaleRetries::default();
        stale_retries.send_back(1, &id("a"), Intent::Write);
        tokio::time::advance(PATIENCE).await;
        assert!(!stale_retries.take(1, &id("a"), Intent::Write));
        for pid in 0..3_000 {
            stale_retries.send_back(pid, &id("a"), Intent::Read);
            tokio::time::advance(PATIENCE / 500).await;
        }
        assert!(stale_retries.waiting.len() <= MANY);
    }
}
