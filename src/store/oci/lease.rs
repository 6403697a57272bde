//! Leases: before a mount moves a tag, it writes a tag of its own. It goes on only if no other
//! mount has such a tag. This replaces compare-and-swap, which OCI lacks.
//!
//! Each mount lists the tags after it has written its own. Of two mounts that take a lease at once,
//! at least one sees the other, so never do both go on. The earlier lease stays and waits. The
//! later one is withdrawn until no other is left.
//!
//! The lease of a dead owner holds for [`LEASE_DURATION`] by the registry's own clock. An owner
//! that has no reply by then no longer counts on its lease.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::Error as StoreError;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::artifact::{EMPTY_CONTENT, digest, write_lease};
use super::client::{Client, told};
use super::requests::Removal;
use crate::model::Sha256;
use crate::store::backend::waits_for;
use crate::store::http::middleware::RequestLog;
use crate::store::{Failure, Kind};

/// The time that a lease holds. 30 s: twice the usual deadline of a push.
const LEASE_DURATION: Duration = Duration::from_secs(30);
/// The greatest age of a lease at the start of a change. 10 s: a slow registry gets the other two
/// thirds.
const MAX_AGE_AT_CHANGE: Duration = Duration::from_secs(10);
/// The greatest age of a lease at the reply to the change. It is less than [`LEASE_DURATION`]
/// because the registry's clock has whole seconds.
const MAX_AGE_AT_REPLY: Duration = Duration::from_secs(25);
/// The longest time that a push waits for the withdrawal of its lease.
const WITHDRAWAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest delay after which an abandoned write of a lease may still arrive.
const MAX_LATENESS: Duration = Duration::from_secs(1);
/// The prefix of all lease tags.
const TAG_PREFIX: &str = "_claim.";
/// The pauses between two looks at the other leases; the last one repeats.
const POLL_PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// docker-registry answers a deletion with 500 while it writes another tag.
const WITHDRAWAL_PAUSES: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(200),
];

/// The right to change one tag. Dropping it withdraws the lease, unless a change is under way.
pub(super) struct Lease {
    client: Arc<Client>,
    /// The prefix of all leases on the same tag.
    prefix: String,
    tag: String,
    /// The registry's time that the lease carries; `since` is the moment before that time was
    /// requested.
    time: u64,
    since: Instant,
    /// Whether the registry has confirmed the lease.
    is_there: bool,
    /// Whether dropping it withdraws the lease.
    ends: bool,
}

impl Lease {
    /// Takes a lease on a tag, and waits until it is the only one. The caller's deadline ends the
    /// wait. The blob that every manifest refers to must already be there.
    pub(super) async fn on(client: &Arc<Client>, tag: &str) -> Result<Self, StoreError> {
        loop {
            let lease = Self::put(client, tag).await?;
            let comes_first = lease.comes_first().await?;
            waits_for(None);
            if comes_first {
                return Ok(lease);
            }
            let prefix = lease.prefix.clone();
            lease.withdraw().await;
            let mut looks = LeasePolls::default();
            while !live(client, &prefix).await?.is_empty() {
                looks.pause().await;
            }
            waits_for(None);
        }
    }

    /// Tells whether a registry that allows deletions can hold leases: it must tell the time, and
    /// list the tags that it has accepted.
    pub(super) async fn is_possible(client: &Arc<Client>) -> Result<bool, StoreError> {
        if client.clock().is_none() {
            return Ok(false);
        }
        let common = Bytes::from_static(EMPTY_CONTENT);
        client.upload_common(&common).await?;
        // No other mount takes a lease on this random tag.
        let mut lease = Self::put(client, &format!("{:016x}", random())).await?;
        let is_listed = live(client, &lease.prefix).await?.contains(&lease.tag);
        withdraw(client, &lease.tag).await?;
        lease.ends = false;
        Ok(is_listed)
    }

    async fn put(client: &Arc<Client>, tag: &str) -> Result<Self, StoreError> {
        let no_clock = || told(Kind::Unreachable, "it no longer sends the time");
        let fresh = client
            .clock()
            .filter(|(since, _)| since.elapsed() < MAX_AGE_AT_CHANGE);
        let (since, time) = fresh.ok_or_else(no_clock)?;
        let prefix = format!("{TAG_PREFIX}{}.", short(&Sha256::of(tag.as_bytes())));
        let mut lease = Self {
            client: Arc::clone(client),
            tag: format!("{prefix}{time}.{:016x}", random()),
            prefix,
            time,
            since,
            is_there: false,
            ends: true,
        };
        if let Err(failed) = client.tag(&lease.tag, write_lease(&lease.tag)).await {
            // Perhaps only the reply is lost.
            match RequestLog::record(false, live(client, &lease.prefix))
                .await
                .0
            {
                Ok(all) if all.contains(&lease.tag) => {}
                _ => return Err(failed),
            }
        }
        lease.is_there = true;
        Ok(lease)
    }

    /// Waits while this lease is the first of all, until it is the only one. Returns `false` if it
    /// is not the first, or has become too old.
    async fn comes_first(&self) -> Result<bool, StoreError> {
        let mut looks = LeasePolls::default();
        loop {
            let all = live(&self.client, &self.prefix).await?;
            match all.iter().min() {
                Some(first) if *first == self.tag && all.len() == 1 => return Ok(true),
                Some(first) if *first == self.tag && self.may_begin() => looks.pause().await,
                Some(_) if all.contains(&self.tag) => return Ok(false),
                // The lease may have become too old meanwhile.
                _ if !self.may_begin() => return Ok(false),
                _ => {
                    let why = "its list of tags lacks a tag that it has just accepted";
                    return Err(told(Kind::Busy, why));
                }
            }
        }
    }

    /// Runs a change under the lease, and then withdraws the lease. Returns `None` if the change
    /// takes so long that another mount may change the tag.
    ///
    /// A change that is abandoned, or that ends in an outage, may still arrive. The lease stays
    /// until it expires, so that no other mount makes a change before that.
    pub(super) async fn over<T>(
        mut self,
        change: impl Future<Output = Result<T, Failure>>,
    ) -> Option<Result<T, Failure>> {
        if !self.may_begin() {
            return None;
        }
        self.ends = false;
        let changed = timeout_at(self.since + MAX_AGE_AT_REPLY, change)
            .await
            .ok()?;
        if !changed.as_ref().is_err_and(Failure::is_outage) {
            self.withdraw().await;
        }
        Some(changed)
    }

    /// Tells whether there is enough time for a change. It asks both clocks, because one of them
    /// stands still while a machine sleeps.
    fn may_begin(&self) -> bool {
        let (_, now) = self.client.clock().unwrap_or((self.since, self.time));
        self.since.elapsed() < MAX_AGE_AT_CHANGE
            && now.saturating_sub(self.time) <= MAX_AGE_AT_CHANGE.as_secs()
    }

    /// Withdraws the lease. A slow withdrawal continues in the background.
    async fn withdraw(mut self) {
        self.ends = false;
        let tag = std::mem::take(&mut self.tag);
        if let Some(withdrawal) = withdraw_after(Duration::ZERO, &self.client, tag) {
            let _ = timeout(WITHDRAWAL_TIMEOUT, withdrawal).await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // If the write of the lease was abandoned, the lease may still arrive late.
        let pause = if self.is_there {
            Duration::ZERO
        } else {
            MAX_LATENESS
        };
        if self.ends {
            withdraw_after(pause, &self.client, std::mem::take(&mut self.tag));
        }
    }
}

/// Withdraws a lease in a task of its own, which survives the caller. Returns `None` if the mount
/// has ended.
fn withdraw_after(pause: Duration, client: &Arc<Client>, tag: String) -> Option<JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let client = Arc::clone(client);
    Some(runtime.spawn(async move {
        sleep(pause).await;
        // After that time the lease has expired anyway.
        let withdrawn = timeout(LEASE_DURATION, withdraw(&client, &tag)).await;
        if !matches!(withdrawn, Ok(Ok(()))) {
            tracing::debug!("can't withdraw the lease {tag}");
        }
    }))
}

/// Deletes a lease.
async fn withdraw(client: &Client, tag: &str) -> Result<(), StoreError> {
    let manifest = write_lease(tag);
    let digest = digest(manifest.as_bytes());
    for pause in WITHDRAWAL_PAUSES {
        match client.remove(&digest).await {
            Ok(Removal::Now) => return Ok(()),
            // A deletion that failed half-way leaves the tag without its manifest.
            Ok(Removal::Before) => client.tag(tag, manifest.clone()).await?,
            Err(_) => {}
        }
        sleep(pause).await;
    }
    client.remove(&digest).await.map(drop)
}

/// Lists the leases on a tag that have not expired, and removes all expired ones.
async fn live(client: &Arc<Client>, prefix: &str) -> Result<Vec<String>, StoreError> {
    let tags = client.tags().await?.unwrap_or_default();
    let now = client.clock().map_or(0, |(_, now)| now);
    let mut live = Vec::new();
    for tag in tags {
        let mut parts = tag
            .strip_prefix(TAG_PREFIX)
            .into_iter()
            .flat_map(|t| t.split('.'));
        let (Some(_), Some(time), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        // A lease from the future counts as expired; otherwise it would hold for ever.
        let age = now.abs_diff(time.parse().unwrap_or(0));
        if age > LEASE_DURATION.as_secs() {
            withdraw_after(Duration::ZERO, client, tag);
        } else if tag.starts_with(prefix) {
            live.push(tag);
        }
    }
    Ok(live)
}

/// Pauses between two looks at the leases.
#[derive(Default)]
struct LeasePolls(usize);

impl LeasePolls {
    async fn pause(&mut self) {
        waits_for(Some(
            "another writer holds the lease; a dead writer's lease expires after 30 s: try again \
             then"
                .into(),
        ));
        let pause = POLL_PAUSES.get(self.0.min(POLL_PAUSES.len() - 1)).copied();
        sleep(pause.unwrap_or_default()).await;
        self.0 += 1;
    }
}

fn short(hash: &Sha256) -> String {
    hash.to_string().chars().take(32).collect()
}

/// Makes a random number, which keeps the tags of two mounts apart.
fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}
