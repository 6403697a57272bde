//! The claims that replies to GET and HEAD make about an object, and their proof.
//!
//! A portal or proxy before the store can answer in its place, with a success, an ETag and a date.
//! Only a stamp that matches the bytes, or an error code, shows that the store itself has answered.
//! Any other claim must be what the store lists.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::{Failure, Listed, Stored, Token};

/// A claim that needs the listing's proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// There is no such object.
    Absent,
    /// There is this object.
    Object {
        size: u64,
        token: Option<Token>,
        modified: SystemTime,
    },
}

impl Claim {
    /// Tells whether the listing shows the same. Some stores list without tokens.
    fn is(&self, listed: Option<&Listed>) -> bool {
        match (self, listed) {
            (Claim::Absent, None) => true,
            (
                Claim::Object {
                    size,
                    token,
                    modified,
                },
                Some(listed),
            ) => {
                let same = match &listed.token {
                    Some(_) => listed.token == *token,
                    None => seconds(listed.modified) == seconds(*modified),
                };
                same && listed.size == *size
            }
            _ => false,
        }
    }

    /// Says how the reply disagrees with the listing.
    fn contradicted(&self) -> &'static str {
        match self {
            Claim::Absent => "404, but the store lists it",
            Claim::Object { .. } => "the answer is not the object that the store lists",
        }
    }
}

impl From<&Stored> for Claim {
    fn from(stored: &Stored) -> Self {
        Claim::Object {
            size: stored.content.len() as u64,
            token: stored.token.clone(),
            modified: stored.modified,
        }
    }
}

impl From<&Listed> for Claim {
    fn from(listed: &Listed) -> Self {
        Claim::Object {
            size: listed.size,
            token: listed.token.clone(),
            modified: listed.modified,
        }
    }
}

/// The store's times in headers have no fractions.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A failing reply, and its claim if that needs a proof.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) failure: Failure,
    pub(super) claim: Option<Claim>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let claim = None;
        Self { failure, claim }
    }
}

/// A reply, and its claim if that needs a proof.
pub(super) type Reply<T> = Result<(T, Option<Claim>), Refused>;

/// Asks for an object. If the listing contradicts the reply, the object may just have changed, so
/// it asks once more.
///
/// # Errors
///
/// The failing reply, or what `refuse` makes of a contradiction that stays.
pub(super) async fn proven<T, A, L>(
    ask: impl Fn() -> A,
    list: impl Fn() -> L,
    refuse: impl Fn(&str) -> Failure,
) -> Result<T, Failure>
where
    A: Future<Output = Reply<T>>,
    L: Future<Output = Result<Option<Listed>, Failure>>,
{
    let mut is_last = false;
    loop {
        let (reply, claim) = match ask().await {
            Ok((value, claim)) => (Ok(value), claim),
            Err(Refused { failure, claim }) => (Err(failure), claim),
        };
        let Some(claim) = claim else {
            return reply;
        };
        match list().await {
            Ok(listed) if claim.is(listed.as_ref()) => return reply,
            Ok(_) if is_last => return Err(refuse(claim.contradicted())),
            Ok(_) => is_last = true,
            // A user may read objects without the right to list them: then "not found" stands.
            Err(failure) if reply.is_err() && !failure.is_outage() => return reply,
            Err(failure) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn listed(size: u64, token: Option<&str>, millis: u64) -> Listed {
        Listed {
            unreadable: false,
            key: "app/schema".into(),
            size,
            stamp: None,
            token: token.map(|token| Token(token.into())),
            modified: UNIX_EPOCH + Duration::from_millis(millis),
        }
    }

    #[test]
    fn a_claim_holds_if_the_listing_shows_the_same_object() {
        let claim = Claim::from(&listed(4, Some("a"), 7_000));
        for (shown, holds) in [
            (Some(listed(4, Some("a"), 9_000)), true),
            (Some(listed(4, Some("b"), 7_000)), false),
            (Some(listed(5, Some("a"), 7_000)), false),
            (Some(listed(4, None, 7_900)), true),
            (Some(listed(4, None, 8_000)), false),
            (None, false),
        ] {
            assert_eq!(claim.is(shown.as_ref()), holds, "{shown:?}");
        }
        let untold = Claim::from(&listed(4, None, 7_000));
        assert!(!untold.is(Some(&listed(4, Some("a"), 7_000))));
        assert!(Claim::Absent.is(None));
        assert!(!Claim::Absent.is(Some(&listed(4, None, 7_000))));
    }
}
