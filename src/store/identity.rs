//! The identity of a store: the object `.atlasfs/store` says what the store is, and which registry
//! it belongs to.

use std::fmt;
use std::io::Read;
use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Value, json};

use super::stamp_keys::StampKeyId;
use crate::model::{nanos, when_from_text, when_to_text};

/// The key of the identity, below the target's URL.
pub(super) const KEY: &str = ".atlasfs/store";

/// The format of the identity that this version writes, and the newest that it reads.
const FORMAT_VERSION: u64 = 1;

/// The largest identity, in bytes: far above that of a backup of a hundred registries.
pub(super) const MAX_IDENTITY_BYTES: u64 = 64 << 10;

/// The id of a store: 128 random bits as 32 hexadecimal digits. A registry's id is its store's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(String);

impl StoreId {
    /// Makes a new id.
    ///
    /// # Errors
    ///
    /// The I/O error if the machine has no source of randomness.
    pub fn random() -> std::io::Result<Self> {
        let mut bits = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bits)?;
        let digits = bits.iter().map(|byte| format!("{byte:02x}"));
        Ok(Self(digits.collect()))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a store's id is 32 hexadecimal digits")]
pub struct InvalidStoreId;

impl FromStr for StoreId {
    type Err = InvalidStoreId;

    fn from_str(text: &str) -> Result<Self, InvalidStoreId> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 32 && text.bytes().all(digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidStoreId),
        }
    }
}

/// The role that a store has for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreRole {
    /// It is a registry.
    Registry,
    /// It is a backup.
    Backup,
    /// A person has taken its role away: the next mount that names it gives it one.
    Unassigned,
}

impl StoreRole {
    fn as_str(self) -> &'static str {
        match self {
            StoreRole::Registry => "registry",
            StoreRole::Backup => "backup",
            StoreRole::Unassigned => "unassigned",
        }
    }
}

/// The identity that a store carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: StoreId,
    /// Its role.
    pub role: StoreRole,
    /// The registries that it belongs to: a registry to itself, a backup to one, or to all registries
    /// of the configuration that shares it.
    pub registries: Vec<StoreId>,
    /// When it was made, in nanoseconds since the Unix epoch.
    pub when: u64,
    /// The key that signs the stamps of its pushes, if they are signed.
    pub stamp_key: Option<StampKeyId>,
}

impl Identity {
    /// Makes the identity of a store, as of now.
    pub fn new(id: StoreId, role: StoreRole, registries: Vec<StoreId>) -> Self {
        let when = nanos(SystemTime::now());
        Self {
            id,
            role,
            registries,
            when,
            stamp_key: None,
        }
    }

    /// Describes the store in a message: `a backup of registry 0123…`.
    pub fn describe(&self) -> String {
        let registries: Vec<&str> = self.registries.iter().map(StoreId::as_str).collect();
        match self.role {
            StoreRole::Registry => format!("registry {}", self.id),
            StoreRole::Backup => format!("a backup of registry {}", registries.join(" and ")),
            StoreRole::Unassigned => "a store without a role".into(),
        }
    }

    fn to_json(&self) -> Value {
        let mut registries = self.registries.iter().map(StoreId::as_str);
        let mut json = json!({
            "version": FORMAT_VERSION,
            "id": self.id.as_str(),
            "role": self.role.as_str(),
            "registry": registries.next(),
            "shared_with": registries.collect::<Vec<_>>(),
            "time": when_to_text(self.when),
        });
        if let (Some(key), Some(json)) = (&self.stamp_key, json.as_object_mut()) {
            json.insert("stamp_key".into(), key.as_str().into());
        }
        json
    }

    /// Returns the content of the object.
    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::from(format!("{:#}\n", self.to_json()))
    }

    /// Reads an identity; the error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let damaged = || "it is damaged".to_owned();
        let value: Value = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        match value.get("version").and_then(Value::as_u64) {
            Some(FORMAT_VERSION) => {}
            Some(newer) if newer > FORMAT_VERSION => {
                return Err(format!("a newer atlasfs wrote it (format {newer})"));
            }
            _ => return Err(damaged()),
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let id = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        let roles = [
            StoreRole::Registry,
            StoreRole::Backup,
            StoreRole::Unassigned,
        ];
        let role = roles
            .into_iter()
            .find(|role| text("role") == Some(role.as_str()));
        let shared = value.get("shared_with").and_then(Value::as_array);
        let shared = shared.into_iter().flatten().map(Value::as_str);
        let registries = std::iter::once(text("registry")).chain(shared);
        let stamp_key = value.get("stamp_key");
        let stamp_key = stamp_key.map(|key| key.as_str().and_then(StampKeyId::parse));
        let identity = Self {
            id: id(text("id")).ok_or_else(damaged)?,
            role: role.ok_or_else(damaged)?,
            registries: registries.filter_map(id).collect(),
            when: text("time").and_then(when_from_text).ok_or_else(damaged)?,
            stamp_key: match stamp_key {
                Some(key) => Some(key.ok_or_else(damaged)?),
                None => None,
            },
        };
        let is_whole = match identity.role {
            StoreRole::Registry => identity.registries == [identity.id.clone()],
            StoreRole::Backup => !identity.registries.is_empty(),
            StoreRole::Unassigned => true,
        };
        is_whole.then_some(identity).ok_or_else(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text_form() {
        let ids: Vec<StoreId> = (0..3).map(|_| StoreId::random().unwrap()).collect();
        for (role, registries) in [
            (StoreRole::Registry, &ids[..1]),
            (StoreRole::Backup, &ids[1..2]),
            (StoreRole::Backup, &ids[1..]),
            (StoreRole::Unassigned, &[]),
        ] {
            let identity = Identity::new(ids[0].clone(), role, registries.to_vec());
            let signed = Identity {
                stamp_key: StampKeyId::parse("0123456789abcdef"),
                ..identity.clone()
            };
            for identity in [identity, signed] {
                let text = identity.to_json().to_string();
                assert_eq!(Identity::parse(text.as_bytes()), Ok(identity));
            }
        }
    }

    #[test]
    fn a_damaged_or_newer_identity_is_told() {
        let id = StoreId::random().unwrap();
        let whole = Identity::new(id.clone(), StoreRole::Registry, vec![id]).to_json();
        for (key, value) in [
            ("version", json!(0)),
            ("version", json!("1")),
            ("id", json!("x")),
            ("id", json!(StoreId::random().unwrap().as_str())),
            ("role", json!("king")),
            ("role", Value::Null),
            ("registry", Value::Null),
            ("time", json!("yesterday")),
            ("stamp_key", json!("0123")),
            ("stamp_key", Value::Null),
        ] {
            let mut damaged = whole.clone();
            damaged[key] = value;
            let read = Identity::parse(damaged.to_string().as_bytes());
            assert_eq!(read, Err("it is damaged".into()), "{damaged}");
        }
        let mut newer = whole;
        newer["version"] = json!(2);
        let read = Identity::parse(newer.to_string().as_bytes());
        assert_eq!(read, Err("a newer atlasfs wrote it (format 2)".into()));
        assert!(Identity::parse(b"<html>").is_err());
    }

    #[test]
    fn no_two_stores_have_one_id() {
        let ids: std::collections::BTreeSet<_> =
            (0..1000).map(|_| StoreId::random().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.as_str().parse() == Ok(id.clone())));
        for bad in ["", "0", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert_eq!(bad.parse::<StoreId>(), Err(InvalidStoreId));
        }
    }
}
