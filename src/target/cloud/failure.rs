//! The failure of an operation: made of what was seen on the wire, never of text.

use object_store::Error as StoreError;

use super::CloudDriver;
use super::exchange::{Outcome, Seen, innermost};
use super::permission::Provider;
use crate::target::verdict::{Asked, Reply};
use crate::target::{Failure, Kind};

/// What is attempted: for the verdict, and for the message if it fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) verb: &'static str,
    pub(super) key: &'a str,
    pub(super) asked: Asked,
}

/// A failure, and whether an error code came with it.
#[derive(Debug)]
pub(super) struct Uncertain {
    pub(super) failure: Failure,
    pub(super) coded: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(verb: &'static str, key: &'a str, asked: Asked) -> Self {
        Self { verb, key, asked }
    }
}

impl CloudDriver {
    /// Makes the failure of an attempt from what was seen of it.
    pub(super) fn failure(
        &self,
        attempt: Attempt<'_>,
        outcome: &Outcome,
        error: &StoreError,
    ) -> Failure {
        let failure = failure(&self.url, attempt, outcome, error);
        Provider::from(self.dialect).explained(failure, attempt.asked, outcome)
    }

    pub(super) fn refusal(&self, kind: Kind, attempt: Attempt<'_>, why: &str) -> Failure {
        refusal(&self.url, kind, attempt, why)
    }
}

/// Makes the failure of an attempt at a store from what was seen of it.
pub(super) fn failure(
    url: &str,
    attempt: Attempt<'_>,
    outcome: &Outcome,
    error: &StoreError,
) -> Failure {
    let (kind, answer) = match outcome {
        Outcome::Reply(seen) if !(200..300).contains(&seen.status) => refused(attempt.asked, seen),
        Outcome::Reply(seen) => {
            let what = match (&seen.error.code, seen.from_store) {
                (Some(code), _) => format!("{} {code}", seen.status),
                (None, true) => format!("no usable answer: {}", innermost(error)),
                (None, false) => format!("no usable credentials: {}", innermost(error)),
            };
            (Kind::Unreachable, what)
        }
        Outcome::Broken(why) => (Kind::Unreachable, why.clone()),
        // A token file that can't be read, say. The store has not spoken.
        Outcome::Unsent => (
            Kind::Unreachable,
            format!("no request was sent: {}", innermost(error)),
        ),
    };
    refusal(url, kind, attempt, &answer)
}

/// Makes a failure of an attempt at a store.
pub(super) fn refusal(url: &str, kind: Kind, attempt: Attempt<'_>, why: &str) -> Failure {
    let Attempt { verb, key, .. } = attempt;
    Failure::new(kind, format!("cannot {verb} {key} at {url}: {why}"))
}

/// Decides on a reply that refuses, and puts into words what it says.
fn refused(asked: Asked, seen: &Seen) -> (Kind, String) {
    let code = seen.error.code.as_deref();
    let mut answer = seen.status.to_string();
    for (separator, more) in [(" ", code), (": ", seen.error.message.as_deref())] {
        if let Some(more) = more {
            answer.push_str(separator);
            answer.push_str(more);
        }
    }
    if !seen.from_store {
        let answer = format!("no credentials to be had: {answer}");
        return (Kind::of_credentials(seen.status), answer);
    }
    let kind = Kind::of_reply(Reply {
        status: seen.status,
        code,
        asked,
    });
    if let (Kind::Invalid, Some(region)) = (kind, &seen.error.region) {
        answer.push_str(&format!(
            " (the bucket is in {region}: set region={region})"
        ));
    }
    let hint = match code {
        Some("RequestTimeTooSkewed") => Some("this machine's clock is wrong"),
        _ => seen.error.hint,
    };
    if let Some(hint) = hint {
        answer.push_str(&format!(" ({hint})"));
    }
    (kind, answer)
}
