//! The capabilities of a target. A probe writes and removes its own object to find out whether the
//! target accepts writes, and whether it honours conditions, which some stores silently ignore.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Capabilities, Condition, Failure, Kind, Target};
use crate::model::{Format, Stamp};

/// The folder of the probe's object.
const PROBE: &str = ".atlasfs/probe";

impl Target {
    /// Tells whether the store honours conditions. The probe writes its own object twice as a new
    /// one, and twice in place of the same content. Each second write has to fail. The probe also
    /// reads and deletes the object. If the backend can find out by itself, its answer counts.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn try_conditions(&self, deadline: Instant) -> Result<Capabilities, Failure> {
        let attempt = "probing conditional writes";
        let known = self.by(deadline, attempt, self.driver.try_conditions());
        if let Some(trial) = known.await? {
            return Ok(trial);
        }
        let key = probe_key();
        let honoured = self.writes_on_conditions(&key, deadline).await;
        let read = match &honoured {
            Ok(_) => {
                let get = self.driver.get(&key, 1 << 10);
                let read = self.by(deadline, &format!("reading {key}"), get).await;
                read.map(drop)
            }
            Err(_) => Ok(()),
        };
        let attempt = format!("deleting {key}");
        // A probe that can't be deleted leaves a few bytes that no client reads.
        let deleted = self.by(deadline, &attempt, self.driver.delete(&key)).await;
        let refused = read.err().or(deleted.err());
        Ok(Capabilities {
            honours_conditions: honoured?,
            refused: refused.filter(|failure| failure.kind == Kind::Denied),
        })
    }

    /// Writes an object, reads it, and removes it.
    ///
    /// # Errors
    ///
    /// The target's failing answer; [`Kind::Corrupt`] if it returns other bytes than were written.
    pub async fn round_trip(&self, deadline: Instant) -> Result<(), Failure> {
        let key = probe_key();
        let content = Bytes::from_static(b"can this store be written to?\n");
        let stamp = Stamp::new(1, &content, Format::Sql).into();
        let put = self
            .driver
            .put(&key, content.clone(), &stamp, &Condition::None);
        self.writing(deadline, &format!("writing {key}"), put)
            .await?;
        let get = self.driver.get(&key, 1 << 10);
        let read = self.by(deadline, &format!("reading {key}"), get).await;
        let removal = self.driver.delete(&key);
        let removed = self.by(deadline, &format!("deleting {key}"), removal).await;
        let same = read?.content == content;
        removed?;
        match same {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Corrupt,
                format!("{} returns other bytes than it accepted", self.url()),
            )),
        }
    }

    async fn writes_on_conditions(&self, key: &str, deadline: Instant) -> Result<bool, Failure> {
        let put = |number: u8, condition: Condition| async move {
            let content = Bytes::from(format!("do conditional writes work? {number}\n"));
            let stamp = Stamp::new(number.into(), &content, Format::Sql).into();
            let put = self.driver.put(key, content, &stamp, &condition);
            let attempt = format!("writing {key}");
            self.writing(deadline, &attempt, put).await
        };
        let is_refused = |reply: Result<_, Failure>| match reply {
            Ok(_) => Ok(false),
            Err(failure) if failure.kind == Kind::Conflict => Ok(true),
            Err(failure) => Err(failure),
        };
        let Some(first) = put(1, Condition::Absent).await? else {
            return Ok(false);
        };
        if !is_refused(put(2, Condition::Absent).await)? {
            return Ok(false);
        }
        put(3, Condition::Unchanged(first.clone())).await?;
        is_refused(put(4, Condition::Unchanged(first)).await)
    }
}

/// Makes a unique key.
fn probe_key() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_nanos());
    format!("{PROBE}/{now}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::store::{Memory, Role};

    async fn tried(memory: &Memory) -> Result<Capabilities, Failure> {
        let target = Target::new(Role::Registry, "mem://r", Arc::new(memory.clone()));
        let end = Instant::now() + Duration::from_secs(1);
        target.try_conditions(end).await
    }

    #[tokio::test]
    async fn a_store_that_honours_conditions_is_told_from_one_that_ignores_them() {
        for (memory, honours) in [
            (Memory::default(), true),
            (Memory::ignoring_conditions(), false),
        ] {
            let expected = Capabilities {
                honours_conditions: honours,
                refused: None,
            };
            assert_eq!(tried(&memory).await, Ok(expected));
            assert!(memory.keys().is_empty(), "nothing is left of the test");
        }
    }

    #[tokio::test]
    async fn a_store_that_takes_nothing_can_not_be_told() {
        let memory = Memory::default();
        memory.set_fault(crate::store::Fault::FailWrites(Kind::Denied));
        assert_eq!(tried(&memory).await.unwrap_err().kind, Kind::Denied);
    }

    #[tokio::test]
    async fn a_store_that_lets_nothing_be_read_or_deleted_is_told_of() {
        for method in ["GET", "DELETE"] {
            let memory = Memory::default();
            memory.set_fault(crate::store::Fault::Refuse(method));
            let trial = tried(&memory).await.unwrap();
            assert!(trial.honours_conditions);
            let refused = trial.refused.unwrap();
            assert_eq!(refused.kind, Kind::Denied);
            assert!(refused.reason.contains(method), "{refused}");
        }
    }
}
