//! The ways in which a target fails, and the effect of each on a push.

use std::time::Duration;

use super::support::proxy::{Fault, Proxy};

/// A way in which a target fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    None,
    Refused,
    Reset,
    Hang,
    SlowDrip,
    InternalError,
    BusyOnce,
    TooMany,
    Denied,
    NotFound,
    Precondition,
    WrongHash,
    CutBody,
    Full,
    DiskFull,
    /// Not in the matrix: the target acknowledges a write and stores nothing.
    Liar,
    /// Not in the matrix: the target acknowledges a write and stores half of it.
    Tearer,
}

/// The errors that a program can get from a failed push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errno {
    Io,
    Access,
    Stale,
    NoSpace,
}

impl Errno {
    /// Returns the text of the C library.
    pub fn text(self) -> &'static str {
        match self {
            Self::Io => "Input/output error",
            Self::Access => "Permission denied",
            Self::Stale => "Stale file handle",
            Self::NoSpace => "No space left on device",
        }
    }

    /// Returns a short name for the table.
    pub fn short(self) -> &'static str {
        match self {
            Self::Io => "EIO",
            Self::Access => "EACCES",
            Self::Stale => "ESTALE",
            Self::NoSpace => "ENOSPC",
        }
    }
}

/// The time limit of a push that waits for no deadline.
const LONG: &str = "15s";
/// The time limit of a push if a target takes all of it. It is long enough for the working targets
/// on a machine that runs all of these programs at once.
const SHORT: &str = "4s";

impl Trouble {
    /// Every column of the matrix.
    pub const ALL: [Self; 15] = [
        Self::None,
        Self::Refused,
        Self::Reset,
        Self::Hang,
        Self::SlowDrip,
        Self::InternalError,
        Self::BusyOnce,
        Self::TooMany,
        Self::Denied,
        Self::NotFound,
        Self::Precondition,
        Self::WrongHash,
        Self::CutBody,
        Self::Full,
        Self::DiskFull,
    ];

    /// Returns its name in a cell's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::SlowDrip => "drip",
            Self::InternalError => "500",
            Self::BusyOnce => "503-once",
            Self::TooMany => "429",
            Self::Denied => "403",
            Self::NotFound => "404",
            Self::Precondition => "412",
            Self::WrongHash => "wrong-hash",
            Self::CutBody => "cut-body",
            Self::Full => "507",
            Self::DiskFull => "disk-full",
            Self::Liar => "liar",
            Self::Tearer => "tearer",
        }
    }

    /// Makes the target behind a proxy fail in this way.
    pub fn strike(self, proxy: &Proxy) {
        let pause = Duration::from_millis(200);
        match self {
            Self::None | Self::DiskFull => {}
            Self::Refused => proxy.set(Fault::Refuse),
            Self::Reset => proxy.set(Fault::Reset),
            Self::Hang => proxy.set(Fault::Hang),
            // Four seconds up and four down: longer than the limits of a push and a read.
            Self::SlowDrip => proxy.set(Fault::Crawl(20, pause)),
            Self::InternalError => proxy.set(Fault::Status(500, Some("InternalError"))),
            Self::BusyOnce => proxy.set(Fault::FailFirstOfEach(1, 503)),
            Self::TooMany => proxy.set(Fault::Status(429, None)),
            Self::Denied => proxy.set(Fault::Status(403, Some("AccessDenied"))),
            Self::NotFound => proxy.set(Fault::Status(404, None)),
            // Only writes have conditions; reads work.
            Self::Precondition => {
                proxy.set_for(&["PUT"], Fault::Status(412, Some("PreconditionFailed")));
            }
            Self::WrongHash => proxy.set(Fault::CorruptObject),
            Self::CutBody => proxy.set(Fault::CutEither),
            // Reads from a full store work.
            Self::Full => proxy.set_for(&["PUT"], Fault::Status(507, Some("XMinioStorageFull"))),
            Self::Liar => proxy.set_for(&["PUT"], Fault::Lie),
            Self::Tearer => proxy.set_for(&["PUT"], Fault::Tear),
        }
    }

    /// Returns the error of a push to such a target; `None` if the push does not fail.
    pub fn errno(self) -> Option<Errno> {
        match self {
            Self::None | Self::BusyOnce | Self::WrongHash | Self::Liar | Self::Tearer => None,
            Self::Refused
            | Self::Reset
            | Self::Hang
            | Self::SlowDrip
            | Self::InternalError
            | Self::TooMany
            | Self::CutBody
            // A new object needs only the store, so `NotFound` means a missing store.
            | Self::NotFound => Some(Errno::Io),
            Self::Denied => Some(Errno::Access),
            Self::Precondition => Some(Errno::Stale),
            Self::Full | Self::DiskFull => Some(Errno::NoSpace),
        }
    }

    /// Returns the error of a listing of such a target; `None` if the listing does not fail.
    pub fn of_listings(self) -> Option<Errno> {
        match self {
            Self::Precondition | Self::Full | Self::DiskFull => None,
            _ => self.errno(),
        }
    }

    /// Returns whether the fault breaks reads in its own way, so that the site needs a reader.
    pub fn breaks_reads(self) -> bool {
        matches!(self, Self::SlowDrip | Self::WrongHash | Self::CutBody)
    }

    /// Returns whether a push waits for its deadline.
    pub fn takes_all_the_time(self) -> bool {
        matches!(self, Self::Hang | Self::SlowDrip)
    }

    /// Returns a mount's deadline for look-ups and reads. A busy machine without hung targets must
    /// not exceed it.
    pub fn look_timeout(self) -> &'static str {
        match self.takes_all_the_time() {
            true => "2s",
            false => LONG,
        }
    }

    /// Returns a mount's deadline for pushes.
    pub fn push_timeout(self) -> &'static str {
        match self.takes_all_the_time() {
            true => SHORT,
            false => LONG,
        }
    }
}
