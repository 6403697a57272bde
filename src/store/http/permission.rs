//! What a provider calls the right to do something, for the message of a refusal: a store says
//! "access denied", and the user wants to know what to allow.

use super::middleware::{Outcome, Seen};
use crate::store::verdict::Asked;
use crate::store::{Failure, Kind};

/// Who calls it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    S3,
    Azure,
    Gcs,
    Oci,
}

/// Tells whether S3 refuses for lack of a permission. What isn't there it refuses in the same
/// words to whoever may not list.
pub(crate) fn is_lacking(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Reply(seen) if seen.from_store && Provider::S3.is_about_rights(seen))
}

impl Provider {
    /// Adds to a refusal what has to be allowed. One that is about the credentials themselves (a
    /// wrong signature, a token that is over) stays as it is.
    pub(crate) fn explained(self, failure: Failure, asked: Asked, outcome: &Outcome) -> Failure {
        match outcome {
            Outcome::Reply(seen)
                if failure.kind == Kind::Denied
                    && seen.from_store
                    && self.is_about_rights(seen) =>
            {
                match kms_action(seen) {
                    Some(action) => needs(failure, &format!("{action} on the KMS key")),
                    None => needs(failure, self.permission(asked)),
                }
            }
            _ => failure,
        }
    }

    /// Tells whether a refusal says that these credentials are known, and may not do this. The
    /// reply to HEAD has no code, and can be about either.
    fn is_about_rights(self, seen: &Seen) -> bool {
        match (self, seen.status, seen.error.code.as_deref()) {
            (Provider::S3 | Provider::Gcs, 403, None | Some("AccessDenied")) => true,
            (Provider::Azure, 403, None) => true,
            // Not AuthorizationFailure: that is the account's firewall, and azurite's wrong key.
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

    fn permission(self, asked: Asked) -> &'static str {
        match (self, asked) {
            (Provider::S3, Asked::Read) => "s3:GetObject",
            (Provider::S3, Asked::List) => "s3:ListBucket",
            (Provider::S3, Asked::Write | Asked::WriteIf) => "s3:PutObject",
            (Provider::S3, Asked::Delete) => "s3:DeleteObject",
            (Provider::Azure, Asked::Read) => "to read blobs (of a SAS: sp=r)",
            (Provider::Azure, Asked::List) => "to list blobs (of a SAS: sp=l)",
            // A SAS with create alone may make blobs, and not replace them.
            (Provider::Azure, Asked::Write | Asked::WriteIf) => "to write blobs (of a SAS: sp=cw)",
            (Provider::Azure, Asked::Delete) => "to delete blobs (of a SAS: sp=d)",
            (Provider::Gcs, Asked::Read) => "storage.objects.get",
            (Provider::Gcs, Asked::List) => "storage.objects.list",
            (Provider::Gcs, Asked::Write | Asked::WriteIf) => {
                "storage.objects.create, and storage.objects.delete to replace"
            }
            (Provider::Gcs, Asked::Delete) => "storage.objects.delete",
            (Provider::Oci, Asked::Read | Asked::List) => "pull",
            (Provider::Oci, Asked::Write | Asked::WriteIf) => "push",
            (Provider::Oci, Asked::Delete) => "delete",
        }
    }
}

/// Returns what a store may not do with the key that it encrypts with, if it says so.
fn kms_action(seen: &Seen) -> Option<&str> {
    let mut words = seen.error.message.as_deref()?.split_whitespace();
    let action = words.find(|word| word.starts_with("kms:"))?;
    Some(action.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// Adds what has to be allowed.
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
    use super::super::error_document::ErrorDocument;
    use super::*;

    const ALL: [Asked; 5] = [
        Asked::Read,
        Asked::List,
        Asked::Write,
        Asked::WriteIf,
        Asked::Delete,
    ];

    fn explained(provider: Provider, asked: Asked, status: u16, code: Option<&str>) -> String {
        let outcome = Outcome::Reply(Seen {
            status,
            error: ErrorDocument {
                code: code.map(str::to_owned),
                ..ErrorDocument::default()
            },
            from_store: true,
            ..Seen::default()
        });
        let failure = Failure::new(Kind::Denied, "no");
        provider.explained(failure, asked, &outcome).reason
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
            for asked in ALL {
                let named = provider.permission(asked);
                let expected = format!("no (needs the permission {named})");
                assert_eq!(explained(provider, asked, status, code), expected);
            }
        }
    }

    #[test]
    fn a_refusal_by_the_key_names_the_keys_permission() {
        let outcome = Outcome::Reply(Seen {
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
            ..Seen::default()
        });
        let failure = Failure::new(Kind::Denied, "no");
        assert_eq!(
            Provider::S3
                .explained(failure, Asked::Write, &outcome)
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
            for asked in ALL {
                assert_eq!(explained(provider, asked, status, Some(code)), "no");
            }
        }
    }
}
