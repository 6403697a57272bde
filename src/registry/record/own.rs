//! What this mount's own pushes and deletions have left.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::registry::route::TargetId;

/// What this mount's own pushes and deletions, and the registry's word that it isn't there, have
/// left of an artifact.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    /// The targets that have not got the newest push of this mount.
    pub(super) owed: BTreeSet<TargetId>,
    /// Since when each target has got what it was owed: what was asked earlier knows nothing of it.
    pub(super) settled: BTreeMap<TargetId, Instant>,
    /// When this mount's own last push or deletion ended: a listing that was begun earlier knows
    /// nothing of it.
    pub(super) changed: Option<Instant>,
    /// Why the last push failed; cleared by the next one that succeeds.
    pub(super) error: Option<String>,
    /// The receipt of the last push that succeeded, as JSON.
    pub(super) receipt: Option<String>,
}

/// What nearly every artifact has.
pub(super) static NOTHING: Own = Own {
    owed: BTreeSet::new(),
    settled: BTreeMap::new(),
    changed: None,
    error: None,
    receipt: None,
};
