//! The seam between what the user typed and the floors below: settings in, a file system out.

use std::sync::Arc;

use super::settings::MountSettings;
use crate::fs::Fs;

/// A file system that can be mounted.
#[derive(Debug)]
pub struct Started {
    /// The file system.
    pub fs: Arc<Fs>,
    /// What `mount` shows as the source: the registry's URL, as it may be shown.
    pub source: String,
    /// What the user should know although it works: which target is out, and why. One line each.
    pub warnings: Vec<String>,
}

/// Why there is no file system: one line, with what to do, and no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// Makes the file system that the settings ask for. It runs inside the runtime.
///
/// SEAM: to be replaced by what loads the configuration, opens the targets, and makes the registry
/// and the file system.
pub async fn start(_settings: &MountSettings) -> Result<Started, StartError> {
    Err(StartError("not wired yet".to_owned()))
}
