//! The receipt of a push, in Atlas's own JSON shape.

use serde_json::{Map, Value, json};

use super::replica::{Replica, ReplicaSet};
use crate::model::{ArtifactId, Item, PlanStatus};

/// Creates the receipt of a push; `missed` returns why a target misses it.
pub(super) fn receipt(
    id: &ArtifactId,
    status: PlanStatus,
    replicas: &ReplicaSet,
    missed: impl Fn(&Replica) -> Option<String>,
) -> Value {
    let entry = |url: &str, target: &Replica| {
        let mut entry = Map::from_iter([("URL".to_owned(), url.into())]);
        if let Some(error) = missed(target) {
            entry.insert("Error".into(), error.into());
        }
        entry
    };
    let mut file = entry(&id.atlas_url(), &replicas.registry);
    if matches!(id.item, Item::Plan(_)) && !file.contains_key("Error") {
        // A schema state has no status.
        file.insert("Status".into(), status.as_str().into());
    }
    let backups = replicas.backups.iter();
    let backups: Vec<_> = backups.map(|backup| entry(backup.url(), backup)).collect();
    json!({ "File": file, "Backups": backups })
}
