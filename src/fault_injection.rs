//! Bugs that the simulation injects to prove that it finds them.

use std::cell::Cell;

/// A bug at one place of the code, active while it is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A push is not written to the journal.
    NoJournal,
    /// A push is written to the journal some time after its close has returned.
    LateJournal,
    /// A record that is still being written when its push fails counts as a pending push.
    LateRecord,
    /// The journal forgets the last of the targets that miss a push.
    ForgottenTarget,
    /// The answer of a target that is behind is taken for current.
    OldStampBelieved,
    /// A registry without the artifact is treated as an outage.
    FallbackOnNotFound,
    /// Bytes are not compared with their stamp.
    NoHashCheck,
    /// A push whose condition the registry refuses is repeated without one.
    ConflictIgnored,
    /// A handle's push replaces the newest version that the mount knows, not the one it opened.
    BaseIgnored,
    /// A deletion leaves older pushes in the journal.
    Resurrection,
    /// With `--durability registry` a push that the registry misses counts as done.
    RegistryNotNeeded,
    /// The bytes of a failed push are not kept.
    NothingKept,
    /// The push to a backup has no deadline.
    NoDeadline,
    /// The journal is not synced.
    NoSync,
    /// A pending push replaces whatever its target holds.
    StrangerReplaced,
    /// A tombstone deletes every content with an earlier time.
    TombstoneByTime,
    /// A stamp counts however far it is ahead.
    FutureBelieved,
    /// A store that is another registry's is used all the same.
    AnyStore,
    /// A push that waits for a store which the mount doesn't have is forgotten.
    ForgottenElsewhere,
    /// A registry that lacks something is not asked again what it is.
    AbsenceBelieved,
    /// An empty store without an identity gets the one that it is to have.
    WipedRenamed,
    /// A mount takes over the pushes of any registry, and replays them to its own.
    ReplayToAnyone,
    /// Only the registry gets versions.
    VersionSkipped,
    /// A version is named by its time alone, and replaces another one of that name.
    VersionOverwritten,
    /// A target gets a tag whose version it lacks.
    TagBeforeVersion,
    /// Deletions leave no tombstones.
    NoTombstone,
    /// Every background task panics.
    BackgroundPanics,
    /// Repair gives every target the newest content, whatever it is based on.
    NewestWins,
    /// Repair gives every target the oldest content.
    OldestWins,
}

thread_local! {
    static INJECTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Injects a bug into this thread, or removes it.
pub(crate) fn inject(bug: Option<Bug>) {
    INJECTED.set(bug);
}

/// Tells whether a bug is injected into this thread.
pub(crate) fn injected(bug: Bug) -> bool {
    INJECTED.get() == Some(bug)
}
