//! The verdict on every failing reply of a target: decided here, once, exhaustively.

use std::fmt;
use std::io;

/// What kind of failure a target's reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The store is there and has no such object (404).
    NotFound,
    /// The store refuses these credentials or this operation (401, 403).
    Denied,
    /// A precondition failed: somebody else has written in between (409 of a conditional write,
    /// 412).
    Conflict,
    /// The store calls the request malformed (400, 422, and every other 4xx).
    Invalid,
    /// The store is full or over its quota (413, 507, ENOSPC, EDQUOT).
    NoSpace,
    /// The store itself is gone: no such bucket or container, the folder of a `file://` target
    /// missing.
    StoreMissing,
    /// No complete reply: connection, DNS, TLS, time-out, reset, body cut off.
    Unreachable,
    /// The store answers that it can't answer now (408, 429, 5xx).
    Busy,
    /// The bytes don't match their stamp.
    Corrupt,
}

/// What a failure means for the operation that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The target has spoken: the operation ends here, and a read does not fall back.
    Answer,
    /// The target can't be heard: the next target is asked.
    Outage,
}

impl Kind {
    /// Decides what a failure of this kind means (DESIGN, section 5).
    pub fn verdict(self) -> Verdict {
        match self {
            Kind::NotFound | Kind::Denied | Kind::Conflict | Kind::Invalid | Kind::NoSpace => {
                Verdict::Answer
            }
            Kind::StoreMissing | Kind::Unreachable | Kind::Busy | Kind::Corrupt => Verdict::Outage,
        }
    }

    /// Returns the kind's name in events, metrics and status: `not-found`, `denied`, ….
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::NotFound => "not-found",
            Kind::Denied => "denied",
            Kind::Conflict => "conflict",
            Kind::Invalid => "invalid",
            Kind::NoSpace => "no-space",
            Kind::StoreMissing => "store-missing",
            Kind::Unreachable => "unreachable",
            Kind::Busy => "busy",
            Kind::Corrupt => "corrupt",
        }
    }
}

/// What an HTTP store answered, as far as the verdict needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply<'a> {
    /// The status.
    pub status: u16,
    /// The code in the body of a failing reply (`NoSuchKey`), where there is one.
    pub code: Option<&'a str>,
    /// Whether the request was a write.
    pub write: bool,
}

#[cfg_attr(not(test), expect(dead_code, reason = "s3 follows"))]
impl Kind {
    /// Decides on a reply of an HTTP store that is not the success asked for.
    ///
    /// The code speaks first where it says more than its status; everything else is the table of
    /// DESIGN, section 5.
    pub(super) fn of_reply(reply: Reply<'_>) -> Self {
        match (reply.status, reply.code) {
            (_, Some("NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted")) => {
                Kind::StoreMissing
            }
            // Credentials that are wrong or over, which S3 answers with a 400.
            (
                400,
                Some(
                    "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId",
                ),
            ) => Kind::Denied,
            // S3 says with a 400 that the request came too slowly, or not as it was sent.
            (400, Some("RequestTimeout")) => Kind::Busy,
            (400, Some("XAmzContentSHA256Mismatch" | "BadDigest" | "IncompleteBody")) => {
                Kind::Unreachable
            }
            // The quotas of Ceph and MinIO.
            (400..=499, Some("QuotaExceeded" | "XMinioAdminBucketQuotaExceeded")) => Kind::NoSpace,
            // Two requests at once, neither of which was conditional.
            (409, Some("OperationAborted")) => Kind::Busy,
            (404, _) => Kind::NotFound,
            (401 | 403, _) => Kind::Denied,
            (409 | 412, _) => Kind::Conflict,
            (413 | 507, _) if reply.write => Kind::NoSpace,
            (408 | 429, _) => Kind::Busy,
            // A redirect to the region where the bucket is: asking again won't help.
            (301, _) => Kind::Invalid,
            (400..=499, _) => Kind::Invalid,
            (500..=599, _) => Kind::Busy,
            // Not an answer of a store at all: a portal, a proxy, or a reply cut off.
            _ => Kind::Unreachable,
        }
    }

    /// Decides on the reply of the service that gives out credentials: what it refuses, the store
    /// would have refused.
    pub(super) fn of_credentials(status: u16) -> Self {
        match status {
            408 | 429 => Kind::Busy,
            400..=499 => Kind::Denied,
            500..=599 => Kind::Busy,
            _ => Kind::Unreachable,
        }
    }

    /// Decides on an error of the operating system.
    pub(super) fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => Kind::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Kind::Denied,
            Io::StorageFull | Io::QuotaExceeded => Kind::NoSpace,
            Io::InvalidInput
            | Io::InvalidFilename
            | Io::NotADirectory
            | Io::IsADirectory
            | Io::AlreadyExists
            | Io::DirectoryNotEmpty
            | Io::FileTooLarge => Kind::Invalid,
            // EIO, ESTALE, a disk that is gone, and whatever else a kernel may say.
            _ => Kind::Unreachable,
        }
    }
}

/// A target's failing reply: its kind, and in words what the target said. The words never hold a
/// secret: drivers build them from status, error code and redacted URLs only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// What was attempted, on what, and what the target answered.
    pub reason: String,
}

impl Failure {
    /// Makes a failure of a kind, with what the target said.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// Tells whether the next target is to be asked.
    pub fn is_outage(&self) -> bool {
        self.kind.verdict() == Verdict::Outage
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.reason, self.kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, code: Option<&str>, write: bool) -> Kind {
        Kind::of_reply(Reply {
            status,
            code,
            write,
        })
    }

    #[test]
    fn every_row_of_the_table_has_its_kind() {
        for (status, code, write, expected) in [
            (404, None, false, Kind::NotFound),
            (404, Some("NoSuchKey"), false, Kind::NotFound),
            (401, None, false, Kind::Denied),
            (403, Some("AccessDenied"), true, Kind::Denied),
            (403, Some("SignatureDoesNotMatch"), false, Kind::Denied),
            (400, Some("ExpiredToken"), false, Kind::Denied),
            (412, Some("PreconditionFailed"), true, Kind::Conflict),
            (
                409,
                Some("ConditionalRequestConflict"),
                true,
                Kind::Conflict,
            ),
            (400, None, true, Kind::Invalid),
            (422, None, true, Kind::Invalid),
            (418, Some("Teapot"), false, Kind::Invalid),
            (301, Some("PermanentRedirect"), false, Kind::Invalid),
            (
                400,
                Some("AuthorizationHeaderMalformed"),
                false,
                Kind::Invalid,
            ),
            (413, None, true, Kind::NoSpace),
            (413, None, false, Kind::Invalid),
            (507, Some("XMinioStorageFull"), true, Kind::NoSpace),
            (507, None, false, Kind::Busy),
            (403, Some("QuotaExceeded"), true, Kind::NoSpace),
            (404, Some("NoSuchBucket"), false, Kind::StoreMissing),
            (404, Some("NoSuchBucket"), true, Kind::StoreMissing),
            (404, Some("ContainerNotFound"), true, Kind::StoreMissing),
            (408, None, false, Kind::Busy),
            (429, None, false, Kind::Busy),
            (400, Some("RequestTimeout"), true, Kind::Busy),
            (409, Some("OperationAborted"), true, Kind::Busy),
            (500, Some("InternalError"), true, Kind::Busy),
            (501, Some("NotImplemented"), true, Kind::Busy),
            (503, Some("SlowDown"), false, Kind::Busy),
            (599, None, false, Kind::Busy),
            (200, None, false, Kind::Unreachable),
            (302, None, false, Kind::Unreachable),
            (307, Some("TemporaryRedirect"), false, Kind::Unreachable),
            (999, None, false, Kind::Unreachable),
        ] {
            assert_eq!(
                kind(status, code, write),
                expected,
                "{status} {code:?} {write}"
            );
        }
    }

    #[test]
    fn answers_end_a_read_and_outages_go_on_to_the_next_target() {
        for answer in [
            Kind::NotFound,
            Kind::Denied,
            Kind::Conflict,
            Kind::Invalid,
            Kind::NoSpace,
        ] {
            assert_eq!(answer.verdict(), Verdict::Answer);
        }
        for outage in [
            Kind::StoreMissing,
            Kind::Unreachable,
            Kind::Busy,
            Kind::Corrupt,
        ] {
            assert_eq!(outage.verdict(), Verdict::Outage);
        }
    }

    #[test]
    fn every_status_has_a_kind_and_every_5xx_to_a_read_is_an_outage() {
        for status in 0..=u16::MAX {
            let kind = kind(status, None, false);
            assert!(!(500..600).contains(&status) || kind == Kind::Busy);
        }
    }

    #[test]
    fn errors_of_the_disk_have_their_kind() {
        for (errno, expected) in [
            (libc::EACCES, Kind::Denied),
            (libc::EPERM, Kind::Denied),
            (libc::EROFS, Kind::Denied),
            (libc::ENOSPC, Kind::NoSpace),
            (libc::EDQUOT, Kind::NoSpace),
            (libc::ENAMETOOLONG, Kind::Invalid),
            (libc::ENOENT, Kind::NotFound),
            (libc::EIO, Kind::Unreachable),
            (libc::ESTALE, Kind::Unreachable),
            (libc::ENXIO, Kind::Unreachable),
        ] {
            assert_eq!(Kind::of_io(&io::Error::from_raw_os_error(errno)), expected);
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
