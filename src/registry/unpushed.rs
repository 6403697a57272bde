//! The bytes of pushes that failed: kept on this machine's disk until they are pushed or removed.
//!
//! Each is one folder `<when>` under `unpushed/` of the state directory, with the bytes in
//! `content` and what they are in `about.json`. A folder gets its name by a rename, when all of
//! it is on disk, so a crash leaves it there whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};

use super::lock;
use crate::artifact::{ArtifactId, Item, PlanName, RepoName, Sha256, when_from_text, when_to_text};

/// One failed push whose bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpushed {
    /// The artifact that it was to become.
    pub id: ArtifactId,
    /// When the push failed, in nanoseconds since the epoch.
    pub when: u64,
    /// The size in bytes.
    pub size: u64,
    /// The hash of the bytes.
    pub sha256: Sha256,
    /// Why the push failed.
    pub reason: String,
}

impl Unpushed {
    /// Returns where the bytes are below `.atlasfs/unpushed`: the artifact's key, `@` and the
    /// time, `app/schema@20240910T173744.000000001Z`.
    pub fn path(&self) -> String {
        let time = when_to_text(self.when).replace(['-', ':'], "");
        format!("{}@{time}", self.id)
    }
}

/// The failed pushes of one mount.
#[derive(Debug)]
pub struct UnpushedStore {
    dir: PathBuf,
    kept: Mutex<BTreeMap<u64, Unpushed>>,
}

impl UnpushedStore {
    /// Opens the store in `dir`, with what earlier mounts left there. A folder that can't be read
    /// is left alone and reported by name.
    ///
    /// # Errors
    ///
    /// The I/O error if the directory can't be made or read.
    pub fn open(dir: PathBuf) -> io::Result<(Self, Vec<PathBuf>)> {
        fs::create_dir_all(&dir)?;
        let mut kept = BTreeMap::new();
        let mut unreadable = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "tmp") {
                // A push that was being kept when the machine stopped: its close was never
                // answered.
                fs::remove_dir_all(&path)?;
                continue;
            }
            match read_about(&path) {
                Some(unpushed) => {
                    kept.insert(unpushed.when, unpushed);
                }
                None => unreadable.push(path),
            }
        }
        let kept = Mutex::new(kept);
        Ok((Self { dir, kept }, unreadable))
    }

    /// Keeps the bytes of a failed push, durably. The same bytes for the same artifact are kept
    /// once, with the newest reason.
    ///
    /// # Errors
    ///
    /// The I/O error; then nothing is kept, and the failed close says so in the log.
    pub fn keep(&self, unpushed: Unpushed, content: &Bytes) -> io::Result<()> {
        let mut kept = lock(&self.kept);
        let twin = kept
            .values()
            .find(|other| other.id == unpushed.id && other.sha256 == unpushed.sha256)
            .map(|twin| twin.when);
        let name = when_to_text(unpushed.when);
        let staging = self.dir.join(format!("{name}.tmp"));
        let place = self.dir.join(name);
        fs::create_dir_all(&staging)?;
        let written = write_durably(&staging.join("content"), content)
            .and_then(|()| {
                let about = about(&unpushed).to_string();
                write_durably(&staging.join("about.json"), about.as_bytes())
            })
            .and_then(|()| File::open(&staging)?.sync_all())
            .and_then(|()| fs::rename(&staging, &place))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        if let Err(error) = written {
            // A full disk: what was written of it must not take the room of the next one.
            let _ = fs::remove_dir_all(&staging);
            return Err(error);
        }
        kept.insert(unpushed.when, unpushed);
        if let Some(twin) = twin {
            self.remove_locked(&mut kept, twin)?;
        }
        Ok(())
    }

    /// Forgets the failed pushes of these very bytes: they have been pushed now.
    pub fn pushed(&self, id: &ArtifactId, sha256: &Sha256) {
        let mut kept = lock(&self.kept);
        let done: Vec<u64> = kept
            .values()
            .filter(|unpushed| unpushed.id == *id && unpushed.sha256 == *sha256)
            .map(|unpushed| unpushed.when)
            .collect();
        for when in done {
            if let Err(error) = self.remove_locked(&mut kept, when) {
                tracing::warn!("can't remove the kept bytes of {id}, pushed by now: {error}");
            }
        }
    }

    /// Lists the failed pushes, oldest first.
    pub fn list(&self) -> Vec<Unpushed> {
        lock(&self.kept).values().cloned().collect()
    }

    /// Reads the bytes of a failed push.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such push.
    pub fn read(&self, when: u64) -> io::Result<Bytes> {
        fs::read(self.dir.join(when_to_text(when)).join("content")).map(Bytes::from)
    }

    /// Removes a failed push, for good.
    ///
    /// # Errors
    ///
    /// The I/O error, `NotFound` if there is no such push.
    pub fn remove(&self, when: u64) -> io::Result<()> {
        self.remove_locked(&mut lock(&self.kept), when)
    }

    fn remove_locked(&self, kept: &mut BTreeMap<u64, Unpushed>, when: u64) -> io::Result<()> {
        let place = self.dir.join(when_to_text(when));
        // Renamed first, or a crash in between would leave half of it behind.
        let doomed = place.with_extension("tmp");
        fs::rename(&place, &doomed)?;
        kept.remove(&when);
        fs::remove_dir_all(&doomed)
    }
}

fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn about(unpushed: &Unpushed) -> Value {
    json!({
        "repo": unpushed.id.repo.as_str(),
        "artifact": unpushed.id.item.to_string(),
        "time": when_to_text(unpushed.when),
        "size": unpushed.size,
        "sha256": unpushed.sha256.to_string(),
        "reason": unpushed.reason,
    })
}

fn read_about(place: &Path) -> Option<Unpushed> {
    let about: Value = serde_json::from_slice(&fs::read(place.join("about.json")).ok()?).ok()?;
    let text = |key: &str| about.get(key).and_then(Value::as_str);
    let item = match text("artifact")?.split_once('/') {
        None => Item::Schema,
        Some((_, name)) => Item::Plan(PlanName::parse(name).ok()?),
    };
    Some(Unpushed {
        id: ArtifactId {
            repo: RepoName::parse(text("repo")?).ok()?,
            item,
        },
        when: when_from_text(text("time")?)?,
        size: about.get("size").and_then(Value::as_u64)?,
        sha256: text("sha256")?.parse().ok()?,
        reason: text("reason")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(when: u64, content: &[u8]) -> Unpushed {
        Unpushed {
            id: ArtifactId {
                repo: RepoName::parse("app").unwrap(),
                item: Item::Plan(PlanName::parse("p1").unwrap()),
            },
            when,
            size: content.len() as u64,
            sha256: Sha256::of(content),
            reason: "every target is out".into(),
        }
    }

    #[test]
    fn kept_bytes_survive_a_restart_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = UnpushedStore::open(dir.path().into()).unwrap();
        let entry = failed(5, b"x");
        store
            .keep(entry.clone(), &Bytes::from_static(b"x"))
            .unwrap();
        drop(store);
        let (store, unreadable) = UnpushedStore::open(dir.path().into()).unwrap();
        assert!(unreadable.is_empty());
        assert_eq!(store.list(), [entry]);
        assert_eq!(store.read(5).unwrap(), "x");
        store.remove(5).unwrap();
        assert!(store.list().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_same_bytes_are_kept_once_and_gone_when_pushed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = UnpushedStore::open(dir.path().into()).unwrap();
        for when in [1, 2] {
            store
                .keep(failed(when, b"x"), &Bytes::from_static(b"x"))
                .unwrap();
        }
        store
            .keep(failed(3, b"y"), &Bytes::from_static(b"y"))
            .unwrap();
        let times: Vec<u64> = store.list().iter().map(|kept| kept.when).collect();
        assert_eq!(times, [2, 3]);
        store.pushed(&failed(0, b"x").id, &Sha256::of(b"x"));
        let times: Vec<u64> = store.list().iter().map(|kept| kept.when).collect();
        assert_eq!(times, [3]);
    }

    #[test]
    fn a_torn_folder_is_removed_and_a_foreign_one_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("torn.tmp")).unwrap();
        fs::create_dir_all(dir.path().join("foreign")).unwrap();
        let (store, unreadable) = UnpushedStore::open(dir.path().into()).unwrap();
        assert!(store.list().is_empty());
        assert_eq!(unreadable, [dir.path().join("foreign")]);
        assert!(!dir.path().join("torn.tmp").exists());
    }

    #[test]
    fn the_path_names_artifact_and_time() {
        let path = failed(1_725_989_864_000_000_001, b"").path();
        assert_eq!(path, "app/plans/p1@20240910T173744.000000001Z");
    }
}
