//! Signing: with keys, each write signs its stamp, and only a signed stamp is that of a push.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Role, Target};
use crate::model::{Stamp, is_ahead};
use crate::store::{Failure, Kind, SignedStamp, StampKeys, StampRefusal};

impl Target {
    /// Makes each write sign its stamp, and each read require a signature. Call it before
    /// [`Self::set_membership`].
    pub fn set_stamp_keys(&mut self, keys: Arc<StampKeys>) {
        self.stamp_keys = Some(keys);
    }

    /// Tells whether stamps are signed.
    pub fn signs(&self) -> bool {
        self.stamp_keys.is_some()
    }

    /// Tells whether a stamp is that of a push; without keys, each is.
    pub(in crate::store) fn is_authentic(&self, key: &str, signed: &SignedStamp) -> bool {
        let keys = self.stamp_keys.as_ref();
        keys.is_none_or(|keys| keys.has_signed(key, signed))
    }

    /// Returns the stamp that content without a signature keeps when a key signs it: that of a push
    /// of before the key.
    pub(in crate::store) fn unsigned(
        &self,
        refused: StampRefusal,
        signed: Option<SignedStamp>,
    ) -> Option<Stamp> {
        let stamp = signed.filter(|_| refused == StampRefusal::Unsigned)?.stamp;
        (!is_ahead(stamp.when, self.now())).then_some(stamp)
    }

    /// Adds the signature to the stamp of an object, if this mount signs.
    pub(in crate::store) fn sign(&self, key: &str, stamp: &Stamp) -> SignedStamp {
        match &self.stamp_keys {
            Some(keys) => keys.sign(key, stamp),
            None => (*stamp).into(),
        }
    }

    /// Refuses the content of a backup that no key has signed: anybody who may write to the backup
    /// could have put it there.
    pub(in crate::store) fn trust(
        &self,
        key: &str,
        judged: Result<Option<Stamp>, StampRefusal>,
    ) -> Result<(), Failure> {
        let is_trusted = match judged {
            Ok(Some(_)) | Err(StampRefusal::Ahead(_)) => true,
            Ok(None) | Err(_) => !self.signs() || self.role() == Role::Registry,
        };
        match is_trusted {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Corrupt,
                format!(
                    "cannot read {key} at {}: {}",
                    self.url(),
                    StampRefusal::Unsigned
                ),
            )),
        }
    }

    /// Waits for an operation that changes the store, as [`Self::by`] does, unless the store takes
    /// only pushes that another key has signed.
    pub(in crate::store) async fn writing<T>(
        &self,
        deadline: Instant,
        attempt: &str,
        operation: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.check_identity(deadline).await?;
        match self.write_refusal() {
            Some(refusal) => Err(refusal),
            None => self.by(deadline, attempt, operation).await,
        }
    }
}
