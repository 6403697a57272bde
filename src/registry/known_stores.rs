//! The stores that mounts of this machine know: which id each location has, so that a mount finds
//! its state while every target is out.
//!
//! One small JSON file for each location, in `stores` of the state directory. A location is named as
//! the environment and profiles resolve it, so two servers behind one URL are two locations.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::dir::Dir;
use crate::model::Sha256;
use crate::store::{IdRecord, KnownId, StoreId};

/// The largest file to read, in bytes: far above that of a location with a hundred former ids.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// The folder of the files, below the state directory.
#[derive(Debug, Clone)]
pub struct KnownStores {
    dir: PathBuf,
}

/// A location with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownStore {
    /// The location as the environment resolves it, without secrets.
    pub location: String,
    /// Its id; a made-up one if no mount has reached it.
    pub record: IdRecord,
    /// Whether an earlier mount has used the location.
    pub is_known: bool,
}

impl KnownStores {
    /// Names the folder below a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join(STORES),
        }
    }

    /// Returns what earlier mounts know of a location. A new location gets a made-up id.
    ///
    /// # Errors
    ///
    /// The I/O error, with the path, if the file exists and can't be read or understood: with another
    /// id, the mount would not find the pushes that wait for this store.
    pub fn find(&self, location: &str) -> io::Result<KnownStore> {
        let failed = |error: io::Error| {
            let path = self.dir.join(file_name(location));
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let read =
            Dir::open(&self.dir).and_then(|dir| dir.read(file_name(location), MAX_RECORD_BYTES));
        let (record, is_known) = match read {
            Ok(bytes) => {
                let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
                (parse(&bytes).ok_or_else(damaged).map_err(failed)?, true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (IdRecord::made_up().map_err(failed)?, false)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(KnownStore {
            location: location.to_owned(),
            record,
            is_known,
        })
    }

    /// Keeps what this mount knows of a location.
    ///
    /// # Errors
    ///
    /// The I/O error; then the old file is still there.
    pub fn keep(&self, location: &str, record: &IdRecord) -> io::Result<()> {
        let former: Vec<&str> = record.former.iter().map(StoreId::as_str).collect();
        let value = json!({
            "location": location,
            "id": record.id.as_str(),
            "certain": record.is_certain,
            "former": former,
        });
        let mut dirs = fs::DirBuilder::new();
        dirs.recursive(true).mode(0o700).create(&self.dir)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        writeln!(file, "{value:#}")?;
        file.as_file().sync_all()?;
        file.persist(self.dir.join(file_name(location)))?;
        fs::File::open(&self.dir)?.sync_all()
    }

    /// Makes the id of a location, which keeps what the mount learns of it.
    pub fn known_id(&self, store: &KnownStore) -> KnownId {
        let (stores, location) = (self.clone(), store.location.clone());
        KnownId::new(store.record.clone(), move |record| {
            let (stores, location) = (stores.clone(), location.clone());
            // The request that has learned it must not wait for this machine's disk.
            std::thread::spawn(move || {
                if let Err(error) = stores.keep(&location, &record) {
                    let id = &record.id;
                    tracing::warn!("can't keep that {location} is store {id}: {error}");
                }
            });
        })
    }

    /// Returns the known locations, by the ids that they have or had. The status must not wait for
    /// the disk, so each mount reads them once.
    pub fn locations(&self) -> BTreeMap<String, String> {
        let dir = Dir::open(&self.dir);
        let names = dir.as_ref().map(|dir| dir.list("").unwrap_or_default());
        let mut locations = BTreeMap::new();
        for name in names.unwrap_or_default() {
            let read = dir.as_ref().ok();
            let read = read.and_then(|dir| dir.read(name, MAX_RECORD_BYTES).ok());
            let known = read.and_then(|bytes| Some((parse(&bytes)?, location(&bytes)?)));
            let Some((record, location)) = known else {
                continue;
            };
            for id in record.former.iter().chain([&record.id]) {
                locations.insert(id.to_string(), location.clone());
            }
        }
        locations
    }
}

/// The folder of the known stores, below the state directory.
pub(super) const STORES: &str = "stores";

/// A location may be longer than a file's name may be.
fn file_name(location: &str) -> String {
    format!("{}.json", Sha256::of(location.as_bytes()))
}

fn location(bytes: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    Some(value.get("location")?.as_str()?.to_owned())
}

fn parse(bytes: &[u8]) -> Option<IdRecord> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let id = |value: &Value| value.as_str()?.parse().ok();
    let former = value.get("former")?.as_array()?.iter().map(id);
    Some(IdRecord {
        id: id(value.get("id")?)?,
        is_certain: value.get("certain")?.as_bool()?,
        former: former.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let stores = KnownStores::new(dir.path());
        let new = stores.find("s3:bucket/r").unwrap();
        assert!(!new.is_known && !new.record.is_certain);
        let record = IdRecord {
            id: StoreId::random().unwrap(),
            is_certain: true,
            former: vec![new.record.id.clone()],
        };
        stores.keep("s3:bucket/r", &record).unwrap();
        let known = stores.find("s3:bucket/r").unwrap();
        assert_eq!((known.is_known, &known.record), (true, &record));
        assert!(!stores.find("other:bucket/r").unwrap().is_known);
        for id in [&record.id, &new.record.id] {
            let locations = stores.locations();
            let location = locations.get(id.as_str()).map(String::as_str);
            assert_eq!(location, Some("s3:bucket/r"));
        }
        assert_eq!(stores.locations().len(), 2);
    }

    #[test]
    fn a_damaged_record_is_no_new_store() {
        let dir = tempfile::tempdir().unwrap();
        let stores = KnownStores::new(dir.path());
        let id = StoreId::random().unwrap();
        let record = IdRecord {
            id,
            is_certain: false,
            former: Vec::new(),
        };
        stores.keep("file:/r", &record).unwrap();
        let path = stores.dir.join(file_name("file:/r"));
        for damage in ["", "{}", "{\"id\":\"x\",\"certain\":true,\"former\":[]}"] {
            fs::write(&path, damage).unwrap();
            let error = stores.find("file:/r").unwrap_err().to_string();
            assert!(error.contains("it is damaged"), "{error}");
        }
    }
}
