//! The failure of a store: its kind, its meaning for the operation, and its message.

use std::{fmt, io};

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The store exists and has no such object (404).
    NotFound,
    /// The store refuses these credentials or this operation (401, 403).
    Denied,
    /// A precondition failed: another writer came first (409 of a conditional write, 412).
    Conflict,
    /// The store calls the request malformed (400, 422, and every other 4xx).
    Invalid,
    /// The store is full or over its quota (413, 507, ENOSPC, EDQUOT).
    NoSpace,
    /// The store itself is missing: no such bucket or container, or no folder for a `file://`
    /// target.
    StoreMissing,
    /// The store is not the one that the mount means: another registry's, or a wiped one.
    WrongStore,
    /// No complete reply: connection, DNS, TLS, time-out, reset, body cut off.
    Unreachable,
    /// The store can't answer now (408, 429, 5xx), or the object changed during the read (412,
    /// 416).
    Busy,
    /// The bytes don't match their stamp.
    Corrupt,
    /// The object is larger than this mount reads.
    TooBig,
}

/// The meaning of a failure for its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The target has answered: the operation ends here, and a read does not fall back.
    Answer,
    /// The target can't serve the operation, which tries the next target.
    Outage,
}

impl Kind {
    /// Decides the meaning of a failure of this kind.
    pub fn verdict(self) -> Verdict {
        match self {
            Kind::NotFound | Kind::Denied | Kind::Conflict | Kind::Invalid | Kind::NoSpace => {
                Verdict::Answer
            }
            Kind::StoreMissing
            | Kind::WrongStore
            | Kind::Unreachable
            | Kind::Busy
            | Kind::Corrupt
            | Kind::TooBig => Verdict::Outage,
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
            Kind::WrongStore => "wrong-store",
            Kind::Unreachable => "unreachable",
            Kind::Busy => "busy",
            Kind::Corrupt => "corrupt",
            Kind::TooBig => "too-big",
        }
    }
}

impl Kind {
    /// Decides the kind of an operating system error.
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
            // EIO, ESTALE, a missing disk, and any other error of the kernel.
            _ => Kind::Unreachable,
        }
    }
}

/// A target's failing reply: its kind, and a description of the answer. The description never holds
/// a secret: backends build it only from status, error code and redacted URLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The kind.
    pub kind: Kind,
    /// The attempt, its object, and the target's answer.
    pub reason: String,
    /// Whether the deadline passed before the target answered.
    pub timed_out: bool,
    /// The remedy, if the backend knows a better one than the kind's. The reason includes it.
    pub fix: Option<String>,
    /// Whether the store got no request at all: the location can't be opened as it is written, or
    /// there are no credentials.
    pub unasked: bool,
}

impl Failure {
    /// Makes a failure of a kind, with the target's answer.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            timed_out: false,
            fix: None,
            unasked: false,
        }
    }

    /// Marks the failure as one of a store that got no request.
    pub(super) fn before_asking(self) -> Self {
        Self {
            unasked: true,
            ..self
        }
    }

    /// Adds the remedy, also at the end of the reason.
    pub(crate) fn with_fix(mut self, fix: Option<String>) -> Self {
        if let Some(fix) = &fix {
            self.reason.push_str(&format!(" ({fix})"));
        }
        self.fix = fix;
        self
    }

    /// Makes the failure of a target that has not answered by the deadline.
    pub fn no_answer(reason: impl Into<String>) -> Self {
        Self {
            timed_out: true,
            ..Self::new(Kind::Unreachable, reason)
        }
    }

    /// Tells whether the failure concerns one object, and says nothing about other objects.
    pub fn is_of_one_object(&self) -> bool {
        matches!(self.kind, Kind::Corrupt | Kind::TooBig)
    }

    /// Tells whether the operation should try the next target.
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
            Kind::WrongStore,
            Kind::Unreachable,
            Kind::Busy,
            Kind::Corrupt,
            Kind::TooBig,
        ] {
            assert_eq!(outage.verdict(), Verdict::Outage);
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
}
