//! Changing what a tag is on: while nobody else does, where that can be had, and if a condition
//! holds.

use super::backend::OciBackend;
use super::client::NO_DELETIONS;
use super::lease::Lease;
use super::manifest::digest;
use crate::store::http::failure::{Attempt, refusal};
use crate::store::http::middleware::Exchange;
use crate::store::verdict::Asked;
use crate::store::{Condition, Failure, Kind, Token};

impl OciBackend {
    /// Finds out whether claims can be kept there, and what is refused of what they need. What may
    /// be otherwise by the next time is asked again then: a login, a right.
    pub(super) async fn keeps_claims(&self) -> Result<(bool, Option<Failure>), Failure> {
        if let Some(known) = self.claims.get() {
            return Ok(known.clone());
        }
        let deletes = Attempt::new("delete", "a manifest", Asked::Delete);
        match self.run(deletes, self.client.try_removal()).await {
            Err(refused) if refused.is_outage() => return Err(refused),
            Err(refused) => return Ok((false, Some(refused))),
            Ok(false) => {
                let refused = refusal(&self.url, Kind::Denied, deletes, NO_DELETIONS);
                return Ok(self.known((false, Some(refused))));
            }
            Ok(true) => {}
        }
        let writes = Attempt::new("write", "a claim", Asked::Write);
        match self.run(writes, Lease::is_possible(&self.client)).await {
            Err(refused) if refused.is_outage() => Err(refused),
            Err(refused) if refused.kind == Kind::Denied => Ok((false, Some(refused))),
            Err(refused) => Ok(self.known((false, Some(refused)))),
            Ok(possible) => Ok(self.known((possible, None))),
        }
    }

    fn known(&self, known: (bool, Option<Failure>)) -> (bool, Option<Failure>) {
        self.claims.get_or_init(|| known).clone()
    }

    /// Runs what changes a tag after a look at it, while nobody else does: where claims can be kept.
    pub(super) async fn claimed<T>(
        &self,
        attempt: Attempt<'_>,
        tag: &str,
        look: impl Future<Output = Result<(), Failure>>,
        change: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if !self.keeps_claims().await?.0 {
            // As late as can be: whoever comes in between is not seen.
            look.await?;
            return change.await;
        }
        let claim = self.run(attempt, Lease::on(&self.client, tag)).await?;
        look.await?;
        claim.over(change).await.unwrap_or_else(|| {
            let why = "it took so long that somebody else may have changed it meanwhile";
            Err(refusal(&self.url, Kind::Busy, attempt, why))
        })
    }

    /// Puts a manifest under a tag, if a condition holds.
    pub(super) async fn move_tag_if(
        &self,
        attempt: Attempt<'_>,
        tag: &str,
        manifest: String,
        condition: &Condition,
    ) -> Result<Token, Failure> {
        let look = async || {
            let tagged = self.run(attempt, self.client.tagged(tag)).await?;
            Ok::<_, Failure>(tagged.map(|tagged| Token(tagged.digest)))
        };
        let why = "something else is there";
        let conflict = || refusal(&self.url, Kind::Conflict, attempt, why);
        let before = async {
            match (condition, look().await?) {
                (Condition::None, _) | (Condition::Absent, None) => Ok(()),
                (Condition::Unchanged(token), Some(there)) if there == *token => Ok(()),
                _ => Err(conflict()),
            }
        };
        let change = async {
            let token = self.move_tag(attempt, tag, manifest).await?;
            match look().await? {
                Some(there) if there == token => Ok(token),
                _ => Err(conflict()),
            }
        };
        self.claimed(attempt, tag, before, change).await
    }

    /// Puts a manifest under a tag.
    pub(super) async fn move_tag(
        &self,
        attempt: Attempt<'_>,
        tag: &str,
        manifest: String,
    ) -> Result<Token, Failure> {
        let token = Token(digest(manifest.as_bytes()));
        let (moved, exchange) = self.seen(attempt, self.client.tag(tag, manifest)).await;
        match moved {
            Ok(()) => Ok(token),
            Err(failed) if failed.is_outage() && !exchange.is_refused() => {
                self.settle(tag, token, failed).await
            }
            Err(failed) => Err(failed),
        }
    }

    /// Finds out what became of a push that failed: it may have been carried out though the reply
    /// was lost.
    async fn settle(&self, tag: &str, token: Token, failed: Failure) -> Result<Token, Failure> {
        let (there, _) = Exchange::of(false, self.client.tagged(tag)).await;
        match there {
            Ok(Some(tagged)) if tagged.digest == token.0 => Ok(token),
            _ => Err(failed),
        }
    }
}
