//! The failure of an operation, made from the observed replies, never from error texts.

use object_store::Error as StoreError;

use super::connection::innermost;
use super::credential_cache::CredentialError;
use super::reply::{Provider, RequestOutcome, StoreReply};
use super::verdict::{Reply, StoreOperation};
use crate::store::{Failure, Kind};

/// The clock difference that is not reported. 60 s: S3 tolerates 15 minutes, and a reply itself
/// takes less than a minute.
const CLOCK_TOLERANCE: i64 = 60;

/// An attempt, for the verdict and for the message of a failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) verb: &'static str,
    pub(crate) key: &'a str,
    pub(crate) operation: StoreOperation,
}

/// A failure, and whether an error code came with it.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) failure: Failure,
    pub(crate) coded: bool,
    /// Whether the refusal may hide that the object does not exist.
    pub(crate) hides: bool,
    /// Whether the store asked for a pause; it gets no further request.
    pub(crate) refused: bool,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(verb: &'static str, key: &'a str, operation: StoreOperation) -> Self {
        Self {
            verb,
            key,
            operation,
        }
    }
}

/// Makes the failure of an attempt at a store from the observed outcome. `better` is the backend's
/// own remedy, which is more exact than the general one.
pub(crate) fn failure(
    url: &str,
    attempt: Attempt<'_>,
    outcome: &RequestOutcome,
    error: &StoreError,
    better: Option<String>,
) -> Failure {
    if let Some(credential_error) = CredentialError::of(error) {
        let failure =
            refusal(url, credential_error.kind, attempt, &credential_error.why).before_asking();
        return failure.with_fix(credential_error.fix.clone());
    }
    let (kind, answer, fix) = match outcome {
        RequestOutcome::Reply(seen) if !(200..300).contains(&seen.status) => {
            refused(attempt.operation, seen)
        }
        RequestOutcome::Reply(StoreReply {
            unfit: Some(why), ..
        }) => (Kind::Unreachable, why.clone(), None),
        RequestOutcome::Reply(seen) => {
            let what = match (&seen.error.code, seen.from_store) {
                (Some(code), _) => format!("{} {code}", seen.status),
                (None, true) => format!("no usable answer: {}", innermost(error)),
                (None, false) => format!("no usable credentials: {}", innermost(error)),
            };
            (Kind::Unreachable, what, no_store(seen))
        }
        RequestOutcome::Broken { why, fix } => (Kind::Unreachable, why.clone(), fix.clone()),
        // For example, a token file is unreadable.
        RequestOutcome::Unsent => (
            Kind::Unreachable,
            format!("no request was sent: {}", innermost(error)),
            None,
        ),
    };
    let failure = refusal(url, kind, attempt, &answer).with_fix(better.or(fix));
    match outcome {
        RequestOutcome::Reply(seen) if seen.from_store || seen.unfit.is_some() => failure,
        RequestOutcome::Broken { .. } => failure,
        // The store itself has not answered: the reply came from the credentials service, or there
        // was no request.
        RequestOutcome::Reply(_) | RequestOutcome::Unsent => failure.before_asking(),
    }
}

/// Makes a failure of an attempt at a store.
pub(crate) fn refusal(url: &str, kind: Kind, attempt: Attempt<'_>, why: &str) -> Failure {
    let Attempt { verb, key, .. } = attempt;
    Failure::new(kind, format!("cannot {verb} {key} at {url}: {why}"))
}

/// Returns the kind of a refusing reply, its message and the remedy.
fn refused(operation: StoreOperation, seen: &StoreReply) -> (Kind, String, Option<String>) {
    let (answer, fix) = words(seen);
    if !seen.from_store {
        let answer = format!("can't get credentials: {answer}");
        return (Kind::of_credentials(seen.status), answer, fix);
    }
    let kind = Kind::of_reply(Reply {
        status: seen.status,
        code: seen.error.code.as_deref(),
        operation,
    });
    let fix = match (kind, &seen.error.region) {
        (Kind::Invalid, Some(region)) => {
            Some(format!("the bucket is in {region}: set region={region}"))
        }
        _ => fix,
    };
    (kind, answer, fix)
}

impl RequestOutcome {
    /// Explains a failed request for credentials: the kind, the reason and the remedy.
    pub(crate) fn of_credentials(&self, otherwise: &str) -> (Kind, String, Option<String>) {
        match self {
            RequestOutcome::Reply(seen) if !(200..300).contains(&seen.status) => {
                let (why, fix) = words(seen);
                (Kind::of_credentials(seen.status), why, fix)
            }
            RequestOutcome::Broken { why, fix } => (Kind::Unreachable, why.clone(), fix.clone()),
            RequestOutcome::Reply(_) | RequestOutcome::Unsent => {
                (Kind::Unreachable, otherwise.into(), None)
            }
        }
    }
}

/// Returns the message of a refusing reply, and the remedy.
fn words(seen: &StoreReply) -> (String, Option<String>) {
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
            Some(ahead) if ahead.abs() > CLOCK_TOLERANCE => clock(seen.ahead),
            _ => "the secret key does not belong to the access key: correct it".into(),
        }),
        Some("InvalidToken") => {
            Some("the session token does not belong to the access key: get new credentials".into())
        }
        Some("NoSuchBucket") => Some("create the bucket, or correct its name".into()),
        Some("InvalidBucketName") => Some(
            "invalid bucket name: use 3 to 63 lower-case letters, digits, - and ."
                .into(),
        ),
        None => no_store(seen),
        Some(_) => None,
    };
    // The store's message is more exact than its code.
    (answer, seen.error.hint.map(String::from).or(fix))
}

/// Says what to do about a reply that does not come from a store.
pub(crate) fn no_store(seen: &StoreReply) -> Option<String> {
    match &seen.through {
        Some(proxy) if seen.status == 407 => Some(format!(
            "{proxy} requires a user and a password: write {}=http://user:password@host:port",
            proxy.variable
        )),
        Some(proxy) if seen.is_page || matches!(seen.status, 502..=504) => Some(format!(
            "the answer comes from {proxy} or from behind it, not from a store: check the proxy, \
             or add the host to NO_PROXY"
        )),
        None if seen.is_page => Some(
            "the answer is a web page, not a store's: correct the endpoint's host and port".into(),
        ),
        // Go's servers, such as MinIO, answer http on an https port like this.
        None if seen.status == 400 && seen.error.code.is_none() && !seen.secure => {
            Some("if the store speaks https, write https:// in the endpoint".into())
        }
        _ => None,
    }
}

/// Says by how much this machine's clock is off.
fn clock(ahead: Option<i64>) -> String {
    let off = match ahead {
        Some(ahead) if ahead.abs() > CLOCK_TOLERANCE => {
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
    format!("this machine's clock {off}: correct it")
}

/// Tells whether S3 refuses for lack of a permission. S3 gives the same refusal for a missing
/// object if the user lacks the permission to list.
pub(crate) fn lacks_permission(outcome: &RequestOutcome) -> bool {
    matches!(outcome, RequestOutcome::Reply(seen) if seen.from_store && Provider::S3.is_about_rights(seen))
}

impl Provider {
    /// Adds the missing permission to a refusal. A refusal of the credentials themselves (a wrong
    /// signature, an expired token) stays as it is.
    pub(crate) fn explained(
        self,
        failure: Failure,
        operation: StoreOperation,
        outcome: &RequestOutcome,
    ) -> Failure {
        match outcome {
            RequestOutcome::Reply(seen)
                if failure.kind == Kind::Denied
                    && seen.from_store
                    && self.is_about_rights(seen) =>
            {
                match kms_action(seen) {
                    Some(action) => needs(failure, &format!("{action} on the KMS key")),
                    None => needs(failure, self.permission(operation)),
                }
            }
            _ => failure,
        }
    }

    /// Tells whether the store knows these credentials, but they lack a permission. The reply to
    /// HEAD has no code, so it can mean either.
    fn is_about_rights(self, seen: &StoreReply) -> bool {
        match (self, seen.status, seen.error.code.as_deref()) {
            (Provider::S3 | Provider::Gcs, 403, None | Some("AccessDenied")) => true,
            (Provider::Azure, 403, None) => true,
            // Without AuthorizationFailure: that is the account's firewall, or a wrong key at
            // azurite.
            (Provider::Azure, 403, Some(code)) => matches!(
                code,
                "AuthorizationPermissionMismatch"
                    | "AuthorizationResourceTypeMismatch"
                    | "AuthorizationServiceMismatch"
                    | "InsufficientAccountPermissions"
            ),
            (Provider::Oci, 401 | 403, code) => {
                matches!(code, None | Some("DENIED" | "UNAUTHORIZED" | "denied"))
            }
            _ => false,
        }
    }

    fn permission(self, operation: StoreOperation) -> &'static str {
        match (self, operation) {
            (Provider::S3, StoreOperation::Read) => "s3:GetObject",
            (Provider::S3, StoreOperation::List) => "s3:ListBucket",
            (Provider::S3, StoreOperation::Write | StoreOperation::WriteIf) => "s3:PutObject",
            (Provider::S3, StoreOperation::Delete) => "s3:DeleteObject",
            (Provider::Azure, StoreOperation::Read) => "to read blobs (for a SAS: sp=r)",
            (Provider::Azure, StoreOperation::List) => "to list blobs (for a SAS: sp=l)",
            // A SAS with only `c` (create) can make blobs but not replace them.
            (Provider::Azure, StoreOperation::Write | StoreOperation::WriteIf) => {
                "to write blobs (for a SAS: sp=cw)"
            }
            (Provider::Azure, StoreOperation::Delete) => "to delete blobs (for a SAS: sp=d)",
            (Provider::Gcs, StoreOperation::Read) => "storage.objects.get",
            (Provider::Gcs, StoreOperation::List) => "storage.objects.list",
            (Provider::Gcs, StoreOperation::Write | StoreOperation::WriteIf) => {
                "storage.objects.create, and storage.objects.delete to replace"
            }
            (Provider::Gcs, StoreOperation::Delete) => "storage.objects.delete",
            (Provider::Oci, StoreOperation::Read | StoreOperation::List) => "pull",
            (Provider::Oci, StoreOperation::Write | StoreOperation::WriteIf) => "push",
            (Provider::Oci, StoreOperation::Delete) => "delete",
        }
    }
}

/// Returns the action that the store may not perform with its encryption key, if the message names
/// one.
fn kms_action(seen: &StoreReply) -> Option<&str> {
    let mut words = seen.error.message.as_deref()?.split_whitespace();
    let action = words.find(|word| word.starts_with("kms:"))?;
    Some(action.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// Adds a missing permission.
pub(crate) fn needs(failure: Failure, what: &str) -> Failure {
    let fix = format!("needs the permission {what}");
    let known = failure.fix.clone();
    let failure = failure.with_fix(Some(fix.clone()));
    let fix = known.map_or(fix.clone(), |known| format!("{known}, or it {fix}"));
    Failure {
        fix: Some(fix),
        ..failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::http::reply::ErrorDocument;

    const ALL: [StoreOperation; 5] = [
        StoreOperation::Read,
        StoreOperation::List,
        StoreOperation::Write,
        StoreOperation::WriteIf,
        StoreOperation::Delete,
    ];

    fn explained(
        provider: Provider,
        operation: StoreOperation,
        status: u16,
        code: Option<&str>,
    ) -> String {
        let outcome = RequestOutcome::Reply(StoreReply {
            status,
            error: ErrorDocument {
                code: code.map(str::to_owned),
                ..ErrorDocument::default()
            },
            from_store: true,
            ..StoreReply::default()
        });
        let failure = Failure::new(Kind::Denied, "no");
        provider.explained(failure, operation, &outcome).reason
    }

    #[test]
    fn a_refusal_for_want_of_a_right_names_it() {
        for (provider, status, code) in [
            (Provider::S3, 403, Some("AccessDenied")),
            (Provider::S3, 403, None),
            (
                Provider::Azure,
                403,
                Some("AuthorizationPermissionMismatch"),
            ),
            (Provider::Azure, 403, Some("InsufficientAccountPermissions")),
            (Provider::Gcs, 403, Some("AccessDenied")),
            (Provider::Oci, 401, Some("UNAUTHORIZED")),
            (Provider::Oci, 403, Some("DENIED")),
        ] {
            for operation in ALL {
                let named = provider.permission(operation);
                let expected = format!("no (needs the permission {named})");
                assert_eq!(explained(provider, operation, status, code), expected);
            }
        }
    }

    #[test]
    fn a_refusal_by_the_key_names_the_keys_permission() {
        let outcome = RequestOutcome::Reply(StoreReply {
            status: 403,
            error: ErrorDocument {
                code: Some("AccessDenied".to_owned()),
                message: Some(
                    "User: u is not authorized to perform: kms:GenerateDataKey, on resource: k"
                        .to_owned(),
                ),
                ..ErrorDocument::default()
            },
            from_store: true,
            ..StoreReply::default()
        });
        let failure = Failure::new(Kind::Denied, "no");
        assert_eq!(
            Provider::S3
                .explained(failure, StoreOperation::Write, &outcome)
                .reason,
            "no (needs the permission kms:GenerateDataKey on the KMS key)"
        );
    }

    #[test]
    fn a_refusal_of_the_credentials_themselves_names_no_right() {
        for (provider, status, code) in [
            (Provider::S3, 403, "SignatureDoesNotMatch"),
            (Provider::S3, 403, "InvalidAccessKeyId"),
            (Provider::S3, 403, "RequestTimeTooSkewed"),
            (Provider::S3, 400, "ExpiredToken"),
            (Provider::Azure, 403, "AuthenticationFailed"),
            (Provider::Azure, 403, "AuthorizationFailure"),
            (Provider::Gcs, 401, "AuthenticationRequired"),
        ] {
            for operation in ALL {
                assert_eq!(explained(provider, operation, status, Some(code)), "no");
            }
        }
    }
}
