//! What a folder does to be written: put and delete, each whole or not at all.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::disk::Effect;
use super::folder::{Folder, Found, OWN, nanos, token};
use super::lock::Mode;
use super::sidecar::{Entry, Sidecar, Unreadable};
use super::tree::hash;
use crate::artifact::Stamp;
use crate::target::{Condition, Failure, Kind, Token};

impl Folder {
    pub(super) fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &Stamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.valid(key)?;
        self.check()?;
        let failed = |error: io::Error| self.failure("write", key, &error);
        let own = self.root.join(OWN);
        let tmp = self.disk.make_dirs(&self.root, &own.join("tmp"));
        tmp.map_err(failed)?;
        let _lock = self.lock(Mode::Exclusive)?;
        // Again, for the wait may have been long.
        self.check()?;
        let path = self.root.join(key);
        if self.symlinked(key) {
            return Err(self.refusal(Kind::Invalid, "write", key, "it is a symbolic link"));
        }
        let current = self.find(key)?;
        let there = current.as_ref().map(|found| token(&found.meta));
        let met = match condition {
            Condition::None => true,
            Condition::Absent => there.is_none(),
            Condition::Unchanged(token) => there.as_ref() == Some(token),
        };
        if !met {
            let reason = match there {
                Some(_) => "somebody else has written it",
                None => "it is gone",
            };
            return Err(self.refusal(Kind::Conflict, "write", key, reason));
        }
        let before = match current {
            Some(found) => self.before(key, found)?,
            None => None,
        };

        let stamp_path = own.join("stamps").join(key);
        for path in [&path, &stamp_path] {
            if let Some(parent) = path.parent() {
                self.disk.make_dirs(&self.root, parent).map_err(failed)?;
            }
        }
        let temporary = self.temporary(&own);
        let put = || -> io::Result<Metadata> {
            let (new_content, new_sidecar) =
                (temporary.with_extension("c"), temporary.with_extension("s"));
            self.disk.apply(Effect::Write {
                path: new_content.clone(),
                content,
                modified: Some(stamp.time()),
            })?;
            let meta = fs::symlink_metadata(&new_content)?;
            self.disk.apply(Effect::Write {
                path: new_sidecar.clone(),
                content: Sidecar::new(before, *stamp).to_text().into(),
                modified: None,
            })?;
            // The sidecar first: until the content follows, it describes old and new alike.
            for (from, to) in [(new_sidecar, &stamp_path), (new_content, &path)] {
                self.disk.apply(Effect::Rename {
                    from,
                    to: to.clone(),
                })?;
                if let Some(parent) = to.parent() {
                    self.disk.apply(Effect::SyncDir(parent.to_path_buf()))?;
                }
            }
            Ok(meta)
        };
        put().map(|meta| Some(token(&meta))).map_err(|error| {
            for extension in ["c", "s"] {
                // What is left is swept at the next start.
                let _ = fs::remove_file(temporary.with_extension(extension));
            }
            match self.check() {
                Err(missing) => missing,
                Ok(()) => failed(error),
            }
        })
    }

    /// Describes the content that a put is about to replace, so that a crash leaves its stamp.
    fn before(&self, key: &str, found: Found) -> Result<Option<Entry>, Failure> {
        let failed = |error: io::Error| self.failure("read", key, &error);
        let (when, size) = (nanos(&found.meta), found.meta.len());
        let sidecar = match self.sidecar(key)? {
            // Corrupt before, corrupt after a crash: nothing is known of it that may be believed.
            Some(Err(Unreadable)) => return Ok(None),
            Some(Ok(sidecar)) => Some(sidecar),
            None => None,
        };
        if let Some(entry) = sidecar.as_ref().and_then(|known| known.by_time(when, size)) {
            return Ok(Some(entry));
        }
        let (sha256, size) = hash(found.file).map_err(failed)?;
        Ok(match sidecar {
            Some(sidecar) => sidecar.by_hash(sha256, size),
            None => Some(Entry::Plain { sha256, size }),
        })
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), Failure> {
        self.valid(key)?;
        self.check()?;
        let tmp = self.root.join(OWN).join("tmp");
        self.disk
            .make_dirs(&self.root, &tmp)
            .map_err(|error| self.failure("delete", key, &error))?;
        let _lock = self.lock(Mode::Exclusive)?;
        // Again, for the wait may have been long.
        self.check()?;
        if self.symlinked(key) {
            return Ok(());
        }
        let stamps = self.root.join(OWN).join("stamps");
        // The content first: amid a crash it is there with its stamp, or gone.
        for (base, path) in [
            (&self.root, self.root.join(key)),
            (&stamps, stamps.join(key)),
        ] {
            if !path.is_file() {
                continue;
            }
            let removed = self
                .disk
                .apply(Effect::Remove(path.clone()))
                .and_then(|()| {
                    let Some(parent) = path.parent() else {
                        return Ok(());
                    };
                    self.disk.apply(Effect::SyncDir(parent.to_path_buf()))?;
                    self.disk.remove_empty_dirs(base, parent)
                });
            removed.map_err(|error| self.failure("delete", key, &error))?;
        }
        Ok(())
    }

    /// Makes a name for temporary files that no other process has.
    fn temporary(&self, own: &Path) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        own.join("tmp").join(format!(
            "{}-{}-{}",
            std::process::id(),
            now.map_or(0, |since| since.as_nanos()),
            self.serial.fetch_add(1, Ordering::Relaxed)
        ))
    }
}
