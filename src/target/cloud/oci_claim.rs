//! Claims: whoever is about to move a tag says so under a tag of its own first, and goes on when it
//! finds nobody else's there. That is the compare-and-swap which OCI has not got.
//!
//! Of two who claim at once at least one sees the other, for each lists the tags after it has
//! written its own: so never do both go on. The earlier one stays and waits; the later one
//! withdraws until nobody is left.
//!
//! A claim whose owner has died holds for [`LEASE`] by the registry's own clock. An owner who has
//! come that far without its reply doesn't count on it any more.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::Error as StoreError;
use tokio::time::{Instant, sleep};

use super::exchange::Exchange;
use super::oci_client::{Client, Removed};
use super::oci_error::told;
use super::oci_manifest::{EMPTY_CONTENT, digest, write_claim};
use crate::artifact::Sha256;
use crate::target::Kind;
use crate::target::waiting::waits_for;

/// How long a claim holds. 30 s: twice the usual deadline of a push.
const LEASE: Duration = Duration::from_secs(30);
/// How old a claim may be when the tag is moved. 10 s: the other two thirds are for a registry that
/// takes its time.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// How old a claim may be when the reply to that is here: the registry's clock has whole seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(25);
/// How long one waits before one looks again who else has claimed; the last for as long as it takes.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// docker-registry answers with a 500 to who deletes while it writes down another tag.
const WITHDRAWALS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(200),
];

/// The right to change one tag. Dropping it withdraws it, unless a change is under way.
pub(super) struct Claim {
    client: Arc<Client>,
    /// What the claims on the same tag begin with.
    prefix: String,
    tag: String,
    /// Before the registry's time was asked for that it carries.
    since: Instant,
    /// Whether dropping it withdraws it.
    ends: bool,
}

impl Claim {
    /// Claims a tag, and waits until nobody else does. Ends with the caller's deadline. What every
    /// manifest refers to is there already.
    pub(super) async fn on(client: &Arc<Client>, tag: &str) -> Result<Self, StoreError> {
        loop {
            let claim = Self::put(client, tag).await?;
            let comes_first = claim.comes_first().await?;
            waits_for(None);
            if comes_first {
                return Ok(claim);
            }
            let (client, prefix) = (Arc::clone(&claim.client), claim.prefix.clone());
            claim.withdraw().await;
            let mut looks = Looks::default();
            while !live(&client, &prefix).await?.is_empty() {
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
        let claim = Self::put(client, &format!("{:016x}", random())).await?;
        let there = live(client, &claim.prefix).await?;
        let is_listed = there.contains(&claim.tag);
        Ok(claim.withdraw().await && is_listed)
    }

    async fn put(client: &Arc<Client>, tag: &str) -> Result<Self, StoreError> {
        let no_clock = || told(Kind::Unreachable, "it says no longer what time it is");
        let (since, now) = client.clock().ok_or_else(no_clock)?;
        let prefix = format!("_claim.{}.", short(&Sha256::of(tag.as_bytes())));
        let claim = Self {
            client: Arc::clone(client),
            tag: format!("{prefix}{now}.{:016x}", random()),
            prefix,
            since,
            ends: true,
        };
        match client.tag(&claim.tag, write_claim(&claim.tag)).await {
            Ok(()) => Ok(claim),
            // Only the reply may be lost.
            Err(failed) => match Exchange::of(false, live(client, &claim.prefix)).await.0 {
                Ok(all) if all.contains(&claim.tag) => Ok(claim),
                _ => Err(failed),
            },
        }
    }

    /// Waits while this is the first of all claims, until it is the only one; `false` if it is not
    /// the first, or has become too old.
    async fn comes_first(&self) -> Result<bool, StoreError> {
        let mut looks = Looks::default();
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

    /// Runs what the tag was claimed for, and withdraws the claim; `None` if so much time has gone
    /// that somebody else may have changed the tag.
    pub(super) async fn over<T>(mut self, change: impl Future<Output = T>) -> Option<T> {
        if !self.may_begin() {
            return None;
        }
        // A change that is given up may arrive all the same: until then nobody else makes one.
        self.ends = false;
        let changed = change.await;
        let has_held = self.since.elapsed() < ENDS_WITHIN;
        self.withdraw().await;
        has_held.then_some(changed)
    }

    fn may_begin(&self) -> bool {
        self.since.elapsed() < BEGINS_WITHIN
    }

    /// Withdraws the claim, and tells whether it is gone.
    async fn withdraw(mut self) -> bool {
        self.ends = false;
        withdraw(&self.client, &self.tag).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.ends
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (client, tag) = (Arc::clone(&self.client), std::mem::take(&mut self.tag));
            runtime.spawn(async move { withdraw(&client, &tag).await });
        }
    }
}

async fn withdraw(client: &Client, tag: &str) -> bool {
    let manifest = write_claim(tag);
    let digest = digest(manifest.as_bytes());
    for pause in WITHDRAWALS {
        sleep(pause).await;
        match client.remove(&digest).await {
            Ok(Removed::Now) => return true,
            // A deletion that has failed half-way leaves the tag, with nothing that it stands for.
            Ok(Removed::Before) => {
                let _ = client.tag(tag, manifest.clone()).await;
            }
            Err(_) => {}
        }
    }
    tracing::debug!("the claim {tag} could not be withdrawn");
    false
}

/// Lists the claims whose owners may be alive, and removes the others.
async fn live(client: &Arc<Client>, prefix: &str) -> Result<Vec<String>, StoreError> {
    let tags = client.tags().await?.unwrap_or_default();
    let now = client.clock().map_or(0, |(_, now)| now);
    let (mut live, mut over) = (Vec::new(), Vec::new());
    for tag in tags {
        let Some((time, _)) = tag
            .strip_prefix(prefix)
            .and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        // One from the future is over, too: it would hold for ever.
        let age = now.abs_diff(time.parse().unwrap_or(0));
        match age > LEASE.as_secs() {
            false => live.push(tag),
            true => over.push(tag),
        }
    }
    if !over.is_empty() {
        let client = Arc::clone(client);
        tokio::spawn(async move {
            for tag in over {
                withdraw(&client, &tag).await;
            }
        });
    }
    Ok(live)
}

/// Pauses between one look at the claims and the next.
#[derive(Default)]
struct Looks(usize);

impl Looks {
    async fn pause(&mut self) {
        waits_for(Some(
            "somebody else has claimed it for a write of theirs; what somebody leaves behind who \
             dies over that ends after 30 s: try again then"
                .into(),
        ));
        let pause = LOOKS.get(self.0.min(LOOKS.len() - 1)).copied();
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
