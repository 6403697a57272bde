//! Claims: a mount that is about to move a tag first writes a tag of its own, and goes on when it
//! finds nobody else's there. That is the compare-and-swap which OCI has not got.
//!
//! Of two who claim at once at least one sees the other, for each lists the tags after it has
//! written its own: so never do both go on. The earlier one stays and waits; the later one
//! withdraws until nobody is left.
//!
//! The lease of a dead owner holds for [`LEASE_DURATION`] by the registry's own clock. An owner that
//! has no reply by then no longer counts on its lease.

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

/// The time that a claim holds. 30 s: twice the usual deadline of a push.
const LEASE_DURATION: Duration = Duration::from_secs(30);
/// The greatest age of a claim when the tag is moved. 10 s: the other two thirds are for a registry
/// that takes its time.
const MAX_AGE_AT_CHANGE: Duration = Duration::from_secs(10);
/// The greatest age of a claim when the reply to that is here: the registry's clock has whole
/// seconds.
const MAX_AGE_AT_REPLY: Duration = Duration::from_secs(25);
/// The longest wait of a push for its claim's withdrawal.
const WITHDRAWAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The greatest lateness of a claim that was given up while it was put.
const MAX_LATENESS: Duration = Duration::from_secs(1);
/// The start of the tags of all claims.
const TAG_PREFIX: &str = "_claim.";
/// The pauses between two looks at the other claims; the last one repeats.
const POLL_PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// docker-registry answers a deletion with a 500 while it writes down another tag.
const WITHDRAWAL_PAUSES: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(200),
];

/// The right to change one tag. Dropping it withdraws it, unless a change is under way.
pub(super) struct Lease {
    client: Arc<Client>,
    /// The start of the claims on the same tag.
    prefix: String,
    tag: String,
    /// The registry's time that it carries, and before that was asked for.
    time: u64,
    since: Instant,
    /// Whether the registry has said that it has it.
    is_there: bool,
    /// Whether dropping it withdraws it.
    ends: bool,
}

impl Lease {
    /// Claims a tag, and waits until nobody else does. Ends with the caller's deadline. What every
    /// manifest refers to is there already.
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

    /// Tells whether a registry that lets one delete can keep claims: it tells the time, and lists
    /// what it has taken.
    pub(super) async fn is_possible(client: &Arc<Client>) -> Result<bool, StoreError> {
        if client.clock().is_none() {
            return Ok(false);
        }
        let common = Bytes::from_static(EMPTY_CONTENT);
        client.upload_common(&common).await?;
        // Nobody else claims that.
        let mut lease = Self::put(client, &format!("{:016x}", random())).await?;
        let is_listed = live(client, &lease.prefix).await?.contains(&lease.tag);
        withdraw(client, &lease.tag).await?;
        lease.ends = false;
        Ok(is_listed)
    }

    async fn put(client: &Arc<Client>, tag: &str) -> Result<Self, StoreError> {
        let no_clock = || told(Kind::Unreachable, "it says no longer what time it is");
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
            // Only the reply may be lost.
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

    /// Waits while this is the first of all claims, until it is the only one; `false` if it is not
    /// the first, or has become too old.
    async fn comes_first(&self) -> Result<bool, StoreError> {
        let mut looks = LeasePolls::default();
        loop {
            let all = live(&self.client, &self.prefix).await?;
            match all.iter().min() {
                Some(first) if *first == self.tag && all.len() == 1 => return Ok(true),
                Some(first) if *first == self.tag && self.may_begin() => looks.pause().await,
                Some(_) if all.contains(&self.tag) => return Ok(false),
                // It may have grown old on the way here.
                _ if !self.may_begin() => return Ok(false),
                _ => {
                    let why = "its list of tags lacks what it has just taken";
                    return Err(told(Kind::Busy, why));
                }
            }
        }
    }

    /// Runs what the tag was claimed for, and withdraws the claim; `None` if that takes so long
    /// that somebody else may change the tag.
    ///
    /// A change that is given up, or ends in an outage, may arrive all the same: until then nobody
    /// else is to make one, so the claim stays.
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

    /// Tells whether there is time enough for a change, by both clocks: one of them stands still
    /// while a machine sleeps.
    fn may_begin(&self) -> bool {
        let (_, now) = self.client.clock().unwrap_or((self.since, self.time));
        self.since.elapsed() < MAX_AGE_AT_CHANGE
            && now.saturating_sub(self.time) <= MAX_AGE_AT_CHANGE.as_secs()
    }

    /// Withdraws the claim; one that takes long goes on by itself.
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
        // A claim that was given up while it was put may come late, too.
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

/// Withdraws a claim whatever becomes of the caller; `None` if the mount has ended.
fn withdraw_after(pause: Duration, client: &Arc<Client>, tag: String) -> Option<JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let client = Arc::clone(client);
    Some(runtime.spawn(async move {
        sleep(pause).await;
        // After that it is over anyway.
        let withdrawn = timeout(LEASE_DURATION, withdraw(&client, &tag)).await;
        if !matches!(withdrawn, Ok(Ok(()))) {
            tracing::debug!("the claim {tag} could not be withdrawn");
        }
    }))
}

/// Deletes a claim.
async fn withdraw(client: &Client, tag: &str) -> Result<(), StoreError> {
    let manifest = write_lease(tag);
    let digest = digest(manifest.as_bytes());
    for pause in WITHDRAWAL_PAUSES {
        match client.remove(&digest).await {
            Ok(Removal::Now) => return Ok(()),
            // A deletion that has failed half-way leaves the tag, with nothing that it stands for.
            Ok(Removal::Before) => client.tag(tag, manifest.clone()).await?,
            Err(_) => {}
        }
        sleep(pause).await;
    }
    client.remove(&digest).await.map(drop)
}

/// Lists the claims on a tag whose owners may be alive, and removes all that are over.
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
        // One from the future is over, too: it would hold for ever.
        let age = now.abs_diff(time.parse().unwrap_or(0));
        if age > LEASE_DURATION.as_secs() {
            withdraw_after(Duration::ZERO, client, tag);
        } else if tag.starts_with(prefix) {
            live.push(tag);
        }
    }
    Ok(live)
}

/// Pauses between one look at the claims and the next.
#[derive(Default)]
struct LeasePolls(usize);

impl LeasePolls {
    async fn pause(&mut self) {
        waits_for(Some(
            "somebody else has claimed it for a write of theirs; what somebody leaves behind who \
             dies over that ends after 30 s: try again then"
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

/// Makes a number that nobody else has.
fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}
