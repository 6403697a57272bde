//! Bugs that the simulation plants, to show that it would find them.

use std::cell::Cell;

/// A bug at one place of the code, which is there for as long as it is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A push is not written to the journal.
    NoJournal,
    /// A push is written to the journal some time after its close has been answered.
    LateJournal,
    /// A record that is still being written when its push fails comes into being as one to be made.
    LateRecord,
    /// The journal forgets the last of the targets that have missed a push.
    ForgottenTarget,
    /// A target that is behind is believed.
    OldStampBelieved,
    /// A registry that has no such artifact is taken for one that has an outage.
    FallbackOnNotFound,
    /// Bytes are not compared with their stamp.
    NoHashCheck,
    /// A push whose condition the registry refuses is repeated without one.
    ConflictIgnored,
    /// A handle's push replaces whatever the mount knows by then.
    BaseIgnored,
    /// A deletion leaves older pushes in the journal.
    Resurrection,
    /// A push that the registry has missed counts as done with `--durability registry`.
    RegistryNotNeeded,
    /// The bytes of a failed push are not kept.
    NothingKept,
    /// A backup may take as long as it likes for a push.
    NoDeadline,
    /// The journal is not synced.
    NoSync,
    /// Deletions leave no tombstones.
    NoTombstone,
    /// The background panics, whatever it does.
    BackgroundPanics,
    /// Repair gives everybody the oldest content.
    OldestWins,
}

thread_local! {
    static INJECTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in this thread, or none.
pub(crate) fn inject(bug: Option<Bug>) {
    INJECTED.set(bug);
}

/// Tells whether a bug is planted in this thread.
pub(crate) fn injected(bug: Bug) -> bool {
    INJECTED.get() == Some(bug)
}
