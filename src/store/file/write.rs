//! Writes to a folder: put and delete, each complete or not done at all.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::disk::Effect;
use super::folder::{Folder, OpenObject, STAMPS, TMP, nanos, token};
use super::lock::LockMode;
use super::read::hash;
use super::sidecar::{Sidecar, SidecarEntry};
use crate::dir::Dir;
use crate::store::{Condition, Failure, Kind, SignedStamp, Token};

/// The largest content without a stamp that a put hashes under the lock before replacing it. A
/// larger content also has no entry after a crash during the put.
const MAX_HASHED_UNDER_LOCK: u64 = 64 << 20;

impl Folder {
    pub(super) fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.valid(key)?;
        let root = self.enter()?;
        let failed = |error: io::Error| self.failure("write", key, &error);
        let tmp = self.disk.make_dirs(&root, Path::new(TMP));
        tmp.map_err(failed)?;
        let _lock = self.lock(&root, LockMode::Exclusive)?;
        // Check again, because the wait may have been long.
        self.check()?;
        let path = PathBuf::from(key);
        if root.meta(&path).is_ok_and(|meta| meta.is_symlink()) {
            return Err(self.refusal(Kind::Invalid, "write", key, "it is a symbolic link"));
        }
        let current = self.find(&root, key)?;
        let there = current.as_ref().map(|found| token(&found.meta));
        let met = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Unchanged(token) => there.as_ref() == Some(token),
        };
        if !met {
            let reason = match there {
                Some(_) => "another writer has changed it",
                None => "it is gone",
            };
            return Err(self.refusal(Kind::Conflict, "write", key, reason));
        }
        let before = match current {
            Some(found) => self.before(&root, key, found)?,
            None => None,
        };

        let stamp_path = Path::new(STAMPS).join(key);
        for path in [&path, &stamp_path] {
            if let Some(parent) = path.parent() {
                self.disk.make_dirs(&root, parent).map_err(failed)?;
            }
        }
        let temporary = self.temporary();
        let put = || -> io::Result<Metadata> {
            let (new_content, new_sidecar) =
                (temporary.with_extension("c"), temporary.with_extension("s"));
            self.disk.apply(
                &root,
                Effect::Write {
                    path: new_content.clone(),
                    content,
                    modified: Some(stamp.stamp.time()),
                },
            )?;
            let meta = root.meta(&new_content)?;
            self.disk.apply(
                &root,
                Effect::Write {
                    path: new_sidecar.clone(),
                    content: Sidecar::new(before, *stamp).to_text().into(),
                    modified: None,
                },
            )?;
            // The sidecar first: until the content follows, it describes both old and new.
            for (from, to) in [(new_sidecar, &stamp_path), (new_content, &path)] {
                self.disk.apply(
                    &root,
                    Effect::Rename {
                        from,
                        to: to.clone(),
                    },
                )?;
                if let Some(parent) = to.parent() {
                    self.disk
                        .apply(&root, Effect::SyncDir(parent.to_path_buf()))?;
                }
            }
            Ok(meta)
        };
        put().map(|meta| Some(token(&meta))).map_err(|error| {
            for extension in ["c", "s"] {
                // The next start removes any leftovers.
                let _ = root.remove(temporary.with_extension(extension));
            }
            match self.check() {
                Err(missing) => missing,
                Ok(()) => failed(error),
            }
        })
    }

    /// Describes the content that a put will replace, so that a crash leaves its stamp.
    fn before(
        &self,
        root: &Dir,
        key: &str,
        found: OpenObject,
    ) -> Result<Option<SidecarEntry>, Failure> {
        let failed = |error: io::Error| self.failure("read", key, &error);
        let (when, size) = (nanos(&found.meta), found.meta.len());
        // Content with an unreadable stamp counts as put by hand, also after a crash.
        let sidecar = self.sidecar(root, key)?;
        let sidecar = sidecar.and_then(|sidecar| sidecar.ok());
        if let Some(entry) = sidecar.as_ref().and_then(|known| known.by_time(when, size)) {
            return Ok(Some(entry));
        }
        if size > MAX_HASHED_UNDER_LOCK {
            return Ok(None);
        }
        let (sha256, size) = hash(found.file, size).map_err(failed)?;
        Ok(match sidecar {
            Some(sidecar) => sidecar.by_hash(sha256, size),
            None => Some(SidecarEntry::Plain { sha256, size }),
        })
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), Failure> {
        self.valid(key)?;
        let root = self.enter()?;
        let failed = |error: io::Error| self.failure("delete", key, &error);
        self.disk.make_dirs(&root, Path::new(TMP)).map_err(failed)?;
        let _lock = self.lock(&root, LockMode::Exclusive)?;
        // Check again, because the wait may have been long.
        self.check()?;
        if root.meta(key).is_ok_and(|meta| meta.is_symlink()) {
            return Ok(());
        }
        // The content first: after a crash the object is there with its stamp, or gone.
        for top in ["", STAMPS] {
            let path = Path::new(top).join(key);
            if !root.meta(&path).is_ok_and(|meta| meta.is_file()) {
                continue;
            }
            let removed = self
                .disk
                .apply(&root, Effect::Remove(path.clone()))
                .and_then(|()| {
                    let Some(parent) = path.parent() else {
                        return Ok(());
                    };
                    self.disk
                        .apply(&root, Effect::SyncDir(parent.to_path_buf()))?;
                    self.disk.remove_empty_dirs(&root, Path::new(top), parent)
                });
            removed.map_err(failed)?;
        }
        Ok(())
    }

    /// Makes a unique name for temporary files.
    fn temporary(&self) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Path::new(TMP).join(format!(
            "{}-{}-{}",
            std::process::id(),
            now.map_or(0, |since| since.as_nanos()),
            self.serial.fetch_add(1, Ordering::Relaxed)
        ))
    }
}
