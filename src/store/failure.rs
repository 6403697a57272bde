//! The failure of a store: its kind, what that means for the operation, and its words.

use std::{fmt, io};

/// The kind of a failure.
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
    /// The store answers that it can't answer now (408, 429, 5xx), or the object changed while it
    /// was read (412, 416).
    Busy,
    /// The bytes don't match their stamp.
    Corrupt,
    /// The object is larger than this mount reads.
    TooBig,
}

/// The meaning of a failure for the operation that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The target has spoken: the operation ends here, and a read does not fall back.
    Answer,
    /// The target can't be heard: the next target is asked.
    Outage,
}

impl Kind {
    /// Decides what a failure of this kind means.
    pub fn verdict(self) -> Verdict {
        match self {
            Kind::NotFound | Kind::Denied | Kind::Conflict | Kind::Invalid | Kind::NoSpace => {
                Verdict::Answer
            }
            Kind::StoreMissing | Kind::Unreachable | Kind::Busy | Kind::Corrupt | Kind::TooBig => {
                Verdict::Outage
            }
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
            Kind::TooBig => "too-big",
        }
    }
}

impl Kind {
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
    /// Its kind.
    pub kind: Kind,
    /// The attempt, its object, and the target's answer.
    pub reason: String,
    /// Whether the deadline has passed before the target has said anything.
    pub timed_out: bool,
    /// The remedy, if the driver knows a better one than the kind does. The reason says it too.
    pub fix: Option<String>,
    /// Whether the store has not been asked at all: it can't be opened as it is written, or there
    /// are no credentials to ask it with.
    pub unasked: bool,
}

impl Failure {
    /// Makes a failure of a kind, with what the target said.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            timed_out: false,
            fix: None,
            unasked: false,
        }
    }

    /// Makes it that of a store which has not been asked.
    pub(super) fn before_asking(self) -> Self {
        Self {
            unasked: true,
            ..self
        }
    }

    /// Says what to do, at the end of the reason too.
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

    /// Tells whether it is about one object, and says nothing about the next.
    pub fn is_of_one_object(&self) -> bool {
        matches!(self.kind, Kind::Corrupt | Kind::TooBig)
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
