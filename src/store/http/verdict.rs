//! The kind of every failing reply of an HTTP store: decided here, once, exhaustively.

use crate::store::Kind;

/// The parts of a reply that the verdict needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    /// The status.
    pub status: u16,
    /// The code in the body of a failing reply (`NoSuchKey`), if there is one.
    pub code: Option<&'a str>,
    /// The purpose of the request.
    pub operation: StoreOperation,
}

/// The purpose of a request, for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreOperation {
    /// To read an object.
    Read,
    /// To list objects.
    List,
    /// To write without a condition.
    Write,
    /// To write with a condition.
    WriteIf,
    /// To delete.
    Delete,
}

impl Kind {
    /// Decides the kind of an HTTP store's reply that is not a success.
    ///
    /// The code comes first if it is more exact than the status.
    pub(crate) fn of_reply(reply: Reply<'_>) -> Self {
        match (reply.status, reply.code, reply.operation) {
            (_, Some("NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted"), _) => {
                Kind::StoreMissing
            }
            // S3 and Azure answer 400 to wrong or expired credentials.
            (
                400,
                Some(
                    "ExpiredToken"
                    | "InvalidToken"
                    | "TokenRefreshRequired"
                    | "InvalidAuthenticationInfo",
                ),
                _,
            ) => Kind::Denied,
            // Azure refuses these for any content, so they are no conflict.
            (
                409 | 412,
                Some(
                    "PublicAccessNotPermitted"
                    | "ContainerDisabled"
                    | "BlobImmutableDueToPolicy"
                    | "LeaseIdMissing",
                ),
                _,
            ) => Kind::Denied,
            // The object is a page or append blob, which another client wrote.
            (409, Some("InvalidBlobType"), _) => Kind::Invalid,
            // S3 answers 400 if the request came too slowly, or was changed in transit.
            (400, Some("RequestTimeout"), _) => Kind::Busy,
            (400, Some("XAmzContentSHA256Mismatch" | "BadDigest" | "IncompleteBody"), _) => {
                Kind::Unreachable
            }
            // The quotas of Ceph and MinIO.
            (400..=499, Some("QuotaExceeded" | "XMinioAdminBucketQuotaExceeded"), _) => {
                Kind::NoSpace
            }
            // S3's answer to a condition on an object that is gone.
            (404, _, StoreOperation::WriteIf) => Kind::Conflict,
            // A listing or a new object needs only the store to exist.
            (404, _, StoreOperation::List | StoreOperation::Write) => Kind::StoreMissing,
            (404, _, StoreOperation::Read | StoreOperation::Delete) => Kind::NotFound,
            (401 | 403, _, _) => Kind::Denied,
            (409 | 412, _, StoreOperation::WriteIf)
            | (412, _, StoreOperation::Write | StoreOperation::Delete) => Kind::Conflict,
            // Two unconditional requests at once.
            (409, _, StoreOperation::Write | StoreOperation::Delete) => Kind::Busy,
            // The object changed during the read: the rest of a body that was cut off no longer
            // exists, and there are no other range requests.
            (416, _, StoreOperation::Read)
            | (409 | 412, _, StoreOperation::Read | StoreOperation::List) => Kind::Busy,
            (413 | 507, _, StoreOperation::Write | StoreOperation::WriteIf) => Kind::NoSpace,
            (408 | 429, _, _) => Kind::Busy,
            // The bucket is in another region: a retry won't help.
            (301, _, _) | (400..=499, _, _) => Kind::Invalid,
            (500..=599, _, _) => Kind::Busy,
            // The reply does not come from a store: a captive portal, a proxy, or a reply that was
            // cut off.
            _ => Kind::Unreachable,
        }
    }

    /// Decides the kind of a credentials service's refusal, as if the store had refused.
    pub(crate) fn of_credentials(status: u16) -> Self {
        match status {
            408 | 429 => Kind::Busy,
            400..=499 => Kind::Denied,
            500..=599 => Kind::Busy,
            _ => Kind::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: Option<&str>, operation: StoreOperation) -> Kind {
        Kind::of_reply(Reply {
            status,
            code,
            operation,
        })
    }

    #[test]
    fn every_row_of_the_table_has_its_kind() {
        for (status, code, operation, expected) in [
            (404, None, StoreOperation::Read, Kind::NotFound),
            (404, Some("NoSuchKey"), StoreOperation::Read, Kind::NotFound),
            (401, None, StoreOperation::Read, Kind::Denied),
            (
                403,
                Some("AccessDenied"),
                StoreOperation::Write,
                Kind::Denied,
            ),
            (
                403,
                Some("SignatureDoesNotMatch"),
                StoreOperation::Read,
                Kind::Denied,
            ),
            (
                400,
                Some("ExpiredToken"),
                StoreOperation::Read,
                Kind::Denied,
            ),
            (
                412,
                Some("PreconditionFailed"),
                StoreOperation::WriteIf,
                Kind::Conflict,
            ),
            (
                412,
                Some("PreconditionFailed"),
                StoreOperation::Write,
                Kind::Conflict,
            ),
            (412, None, StoreOperation::Read, Kind::Busy),
            (416, Some("InvalidRange"), StoreOperation::Read, Kind::Busy),
            (416, None, StoreOperation::Write, Kind::Invalid),
            (
                404,
                Some("NoSuchKey"),
                StoreOperation::WriteIf,
                Kind::Conflict,
            ),
            (404, None, StoreOperation::Delete, Kind::NotFound),
            (404, None, StoreOperation::List, Kind::StoreMissing),
            (404, None, StoreOperation::Write, Kind::StoreMissing),
            (409, None, StoreOperation::Write, Kind::Busy),
            (
                404,
                Some("NoSuchBucket"),
                StoreOperation::WriteIf,
                Kind::StoreMissing,
            ),
            (
                409,
                Some("ConditionalRequestConflict"),
                StoreOperation::WriteIf,
                Kind::Conflict,
            ),
            (400, None, StoreOperation::Write, Kind::Invalid),
            (422, None, StoreOperation::Write, Kind::Invalid),
            (418, Some("Teapot"), StoreOperation::Read, Kind::Invalid),
            (
                301,
                Some("PermanentRedirect"),
                StoreOperation::Read,
                Kind::Invalid,
            ),
            (
                400,
                Some("AuthorizationHeaderMalformed"),
                StoreOperation::Read,
                Kind::Invalid,
            ),
            (413, None, StoreOperation::Write, Kind::NoSpace),
            (413, None, StoreOperation::Read, Kind::Invalid),
            (
                507,
                Some("XMinioStorageFull"),
                StoreOperation::Write,
                Kind::NoSpace,
            ),
            (507, None, StoreOperation::Read, Kind::Busy),
            (
                403,
                Some("QuotaExceeded"),
                StoreOperation::Write,
                Kind::NoSpace,
            ),
            (
                404,
                Some("NoSuchBucket"),
                StoreOperation::Read,
                Kind::StoreMissing,
            ),
            (
                404,
                Some("NoSuchBucket"),
                StoreOperation::Write,
                Kind::StoreMissing,
            ),
            (
                404,
                Some("ContainerNotFound"),
                StoreOperation::Write,
                Kind::StoreMissing,
            ),
            (
                409,
                Some("ContainerBeingDeleted"),
                StoreOperation::WriteIf,
                Kind::StoreMissing,
            ),
            (
                403,
                Some("AuthenticationFailed"),
                StoreOperation::List,
                Kind::Denied,
            ),
            (
                403,
                Some("AuthorizationFailure"),
                StoreOperation::Write,
                Kind::Denied,
            ),
            (
                404,
                Some("BlobNotFound"),
                StoreOperation::Read,
                Kind::NotFound,
            ),
            (503, Some("ServerBusy"), StoreOperation::Read, Kind::Busy),
            (
                412,
                Some("ConditionNotMet"),
                StoreOperation::WriteIf,
                Kind::Conflict,
            ),
            (
                409,
                Some("BlobAlreadyExists"),
                StoreOperation::WriteIf,
                Kind::Conflict,
            ),
            (
                409,
                Some("BlobImmutableDueToPolicy"),
                StoreOperation::WriteIf,
                Kind::Denied,
            ),
            (
                412,
                Some("LeaseIdMissing"),
                StoreOperation::Write,
                Kind::Denied,
            ),
            (
                409,
                Some("PublicAccessNotPermitted"),
                StoreOperation::Read,
                Kind::Denied,
            ),
            (
                409,
                Some("InvalidBlobType"),
                StoreOperation::WriteIf,
                Kind::Invalid,
            ),
            (
                400,
                Some("InvalidAuthenticationInfo"),
                StoreOperation::Read,
                Kind::Denied,
            ),
            (408, None, StoreOperation::Read, Kind::Busy),
            (429, None, StoreOperation::Read, Kind::Busy),
            (
                400,
                Some("RequestTimeout"),
                StoreOperation::Write,
                Kind::Busy,
            ),
            (
                409,
                Some("OperationAborted"),
                StoreOperation::Write,
                Kind::Busy,
            ),
            (
                500,
                Some("InternalError"),
                StoreOperation::Write,
                Kind::Busy,
            ),
            (
                501,
                Some("NotImplemented"),
                StoreOperation::Write,
                Kind::Busy,
            ),
            (503, Some("SlowDown"), StoreOperation::Read, Kind::Busy),
            (599, None, StoreOperation::Read, Kind::Busy),
            (200, None, StoreOperation::Read, Kind::Unreachable),
            (302, None, StoreOperation::Read, Kind::Unreachable),
            (
                307,
                Some("TemporaryRedirect"),
                StoreOperation::Read,
                Kind::Unreachable,
            ),
            (999, None, StoreOperation::Read, Kind::Unreachable),
        ] {
            assert_eq!(
                kind(status, code, operation),
                expected,
                "{status} {code:?} {operation:?}"
            );
        }
    }

    #[test]
    fn every_status_has_a_kind_and_every_5xx_to_a_read_is_an_outage() {
        for status in 0..=u16::MAX {
            let kind = kind(status, None, StoreOperation::Read);
            assert!(!(500..600).contains(&status) || kind == Kind::Busy);
        }
    }

    #[test]
    fn what_the_credentials_service_refuses_is_a_refusal() {
        assert_eq!(Kind::of_credentials(400), Kind::Denied);
        assert_eq!(Kind::of_credentials(403), Kind::Denied);
        assert_eq!(Kind::of_credentials(429), Kind::Busy);
        assert_eq!(Kind::of_credentials(500), Kind::Busy);
        assert_eq!(Kind::of_credentials(200), Kind::Unreachable);
    }
}
