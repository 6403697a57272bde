//! Versions: contents that a target keeps beside the artifact, and that never change.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Condition, Failure, Kind, Target};
use crate::model::{ArtifactId, Stamp, when_to_text};

/// Returns the key of a content as a version, `app/versions/20240910173744-0a1b2c3d/schema`: the time of
/// its push in UTC, and the first digits of its SHA-256.
pub fn version_key(id: &ArtifactId, stamp: &Stamp) -> String {
    const TO_THE_SECOND: usize = 14;
    let time = when_to_text(stamp.when);
    let digits = time.chars().filter(char::is_ascii_digit);
    let (time, sha256) = (digits.take(TO_THE_SECOND), stamp.sha256.to_string());
    let time: String = time.collect();
    format!("{}/versions/{time}-{sha256:.8}/{}", id.repo, id.item)
}

impl Target {
    /// Keeps a content as a version. When it returns `Ok` the target has it, durably.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn keep_version(
        &self,
        id: &ArtifactId,
        content: Bytes,
        stamp: &Stamp,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let key = version_key(id, stamp);
        // Reconcile comes back to a conflict again and again: don't send its content each time.
        let attempt = format!("looking up {key}");
        match self.by(deadline, &attempt, self.driver.head(&key)).await {
            Err(failure) if failure.kind == Kind::NotFound => {}
            there => return there.map(drop),
        }
        let attempt = format!("writing {key}");
        let put = self.driver.put(&key, content, stamp, &Condition::Absent);
        match self.by(deadline, &attempt, put).await {
            Err(failure) if failure.kind == Kind::Conflict => Ok(()),
            written => written.map(drop),
        }
    }
}
