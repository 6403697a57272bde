//! The failure of an operation: made of what was seen on the wire, never of text.

use object_store::Error as StoreError;

use super::credential_cache::CredentialError;
use super::middleware::{Outcome, Seen, innermost};
use crate::store::verdict::{Asked, Reply};
use crate::store::{Failure, Kind};

/// What S3 lets clocks differ by is 15 minutes; less than a minute is the time that replies take.
const SKEW: i64 = 60;

/// What is attempted: for the verdict, and for the message if it fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) verb: &'static str,
    pub(crate) key: &'a str,
    pub(crate) asked: Asked,
}

/// A failure, and whether an error code came with it.
#[derive(Debug)]
pub(crate) struct Uncertain {
    pub(crate) failure: Failure,
    pub(crate) coded: bool,
    /// Whether it may hide that nothing is there.
    pub(crate) hides: bool,
    /// Whether the store wants to be left in peace: nothing more is asked of it.
    pub(crate) refused: bool,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(verb: &'static str, key: &'a str, asked: Asked) -> Self {
        Self { verb, key, asked }
    }
}

/// Makes the failure of an attempt at a store from what was seen of it. `better` is what to do,
/// where a driver knows more of that than all have in common.
pub(crate) fn failure(
    url: &str,
    attempt: Attempt<'_>,
    outcome: &Outcome,
    error: &StoreError,
    better: Option<String>,
) -> Failure {
    if let Some(credential_error) = CredentialError::of(error) {
        let failure =
            refusal(url, credential_error.kind, attempt, &credential_error.why).before_asking();
        return failure.with_fix(credential_error.fix.clone());
    }
    let (kind, answer, fix) = match outcome {
        Outcome::Reply(seen) if !(200..300).contains(&seen.status) => refused(attempt.asked, seen),
        Outcome::Reply(Seen {
            unfit: Some(why), ..
        }) => (Kind::Unreachable, why.clone(), None),
        Outcome::Reply(seen) => {
            let what = match (&seen.error.code, seen.from_store) {
                (Some(code), _) => format!("{} {code}", seen.status),
                (None, true) => format!("no usable answer: {}", innermost(error)),
                (None, false) => format!("no usable credentials: {}", innermost(error)),
            };
            (Kind::Unreachable, what, no_store(seen))
        }
        Outcome::Broken { why, fix } => (Kind::Unreachable, why.clone(), fix.clone()),
        // A token file that can't be read, say.
        Outcome::Unsent => (
            Kind::Unreachable,
            format!("no request was sent: {}", innermost(error)),
            None,
        ),
    };
    let failure = refusal(url, kind, attempt, &answer).with_fix(better.or(fix));
    match outcome {
        Outcome::Reply(seen) if seen.from_store || seen.unfit.is_some() => failure,
        Outcome::Broken { .. } => failure,
        // The store has not spoken, but who was to give out the credentials, or nobody.
        Outcome::Reply(_) | Outcome::Unsent => failure.before_asking(),
    }
}

/// Makes a failure of an attempt at a store.
pub(crate) fn refusal(url: &str, kind: Kind, attempt: Attempt<'_>, why: &str) -> Failure {
    let Attempt { verb, key, .. } = attempt;
    Failure::new(kind, format!("cannot {verb} {key} at {url}: {why}"))
}

/// Decides on a reply that refuses, and puts into words what it says and what to do.
fn refused(asked: Asked, seen: &Seen) -> (Kind, String, Option<String>) {
    let (answer, fix) = words(seen);
    if !seen.from_store {
        let answer = format!("no credentials to be had: {answer}");
        return (Kind::of_credentials(seen.status), answer, fix);
    }
    let kind = Kind::of_reply(Reply {
        status: seen.status,
        code: seen.error.code.as_deref(),
        asked,
    });
    let fix = match (kind, &seen.error.region) {
        (Kind::Invalid, Some(region)) => {
            Some(format!("the bucket is in {region}: set region={region}"))
        }
        _ => fix,
    };
    (kind, answer, fix)
}

impl Outcome {
    /// Tells what became of a request for credentials that failed: the kind, why, and what to do.
    pub(crate) fn of_credentials(&self, otherwise: &str) -> (Kind, String, Option<String>) {
        match self {
            Outcome::Reply(seen) if !(200..300).contains(&seen.status) => {
                let (why, fix) = words(seen);
                (Kind::of_credentials(seen.status), why, fix)
            }
            Outcome::Broken { why, fix } => (Kind::Unreachable, why.clone(), fix.clone()),
            Outcome::Reply(_) | Outcome::Unsent => (Kind::Unreachable, otherwise.into(), None),
        }
    }
}

/// Puts into words what a reply that refuses says, and what to do.
fn words(seen: &Seen) -> (String, Option<String>) {
    let code = seen.error.code.as_deref();
    let mut answer = seen.status.to_string();
    for (separator, more) in [(" ", code), (": ", seen.error.message.as_deref())] {
        if let Some(more) = more {
            answer.push_str(separator);
            answer.push_str(more);
        }
    }
    let fix = match code {
        Some(code) if code.starts_with("KMS.") => Some(
            "enable the bucket's KMS key, or set kmskeyid (with ssetype=aws:kms) to another one"
                .to_owned(),
        ),
        Some("RequestTimeTooSkewed" | "RequestExpired") => Some(clock(seen.ahead)),
        Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
            Some("the session token has expired: get new credentials".into())
        }
        Some("InvalidAccessKeyId" | "InvalidClientTokenId") => Some(
            "the store does not know this access key: correct it, or the endpoint if it is another \
             store's"
                .into(),
        ),
        Some("SignatureDoesNotMatch") => Some(match seen.ahead {
            Some(ahead) if ahead.abs() > SKEW => clock(seen.ahead),
            _ => "the secret key is not the access key's: correct it".into(),
        }),
        Some("InvalidToken") => {
            Some("the session token is not the access key's: get new credentials".into())
        }
        Some("NoSuchBucket") => Some("make the bucket, or correct its name".into()),
        Some("InvalidBucketName") => Some(
            "no bucket can have this name: 3 to 63 lower-case letters, digits, - and . are allowed"
                .into(),
        ),
        None => no_store(seen),
        Some(_) => None,
    };
    // What the store's own message says is more exact than what its code does.
    (answer, seen.error.hint.map(String::from).or(fix))
}

/// Says what to do about a reply that is no store's.
pub(crate) fn no_store(seen: &Seen) -> Option<String> {
    match &seen.through {
        Some(proxy) if seen.status == 407 => Some(format!(
            "{proxy} wants a user and a password: write {}=http://user:password@host:port",
            proxy.variable
        )),
        Some(proxy) if seen.is_page || matches!(seen.status, 502..=504) => Some(format!(
            "that is {proxy}, or what stands behind it, and no store: see to it, or add the host to \
             NO_PROXY"
        )),
        None if seen.is_page => Some(
            "that is a web page and no store's answer: correct the endpoint's host and port".into(),
        ),
        // So answer Go's servers, MinIO among them; it is no store's answer either.
        None if seen.status == 400 && seen.error.code.is_none() && !seen.secure => {
            Some("if https is spoken there, write https:// in the endpoint".into())
        }
        _ => None,
    }
}

/// Says by how much this machine's clock is off.
fn clock(ahead: Option<i64>) -> String {
    let off = match ahead {
        Some(ahead) if ahead.abs() > SKEW => {
            let way = if ahead > 0 { "ahead" } else { "behind" };
            let (hours, minutes) = (ahead.abs() / 3600, ahead.abs() / 60 % 60);
            let by = match hours {
                0 => format!("{minutes} min"),
                _ => format!("{hours} h {minutes} min"),
            };
            format!("is {by} {way}")
        }
        _ => "is wrong".into(),
    };
    format!("this machine's clock {off}: set it right")
}
