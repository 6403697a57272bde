//! What a folder does to be read: get, head and the listings.

use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use super::folder::{Folder, Found, OWN, modified, nanos, reserved, token};
use super::lock::Mode;
use super::sidecar::{Entry, Unreadable};
use super::tree::{has_file, hash, walk};
use crate::artifact::Sha256;
use crate::target::{Failure, Kind, Listed, Stored};

/// A listing hashes contents whose file has lost its time (a restored copy, say) up to this size,
/// so that their stamps are shown without the listing ever reading much.
const HASHED_IN_LISTING: u64 = 16 << 20;

impl Folder {
    pub(super) fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        self.valid(key)?;
        // Without the lock first: a put between the two reads is noticed and the next try is made
        // under the lock, where nothing moves.
        match self.read(key, limit, false)? {
            Some(stored) => Ok(stored),
            None => {
                let _lock = self.lock(Mode::Shared)?;
                self.read(key, limit, true)?.ok_or_else(|| {
                    self.refusal(Kind::Corrupt, "read", key, "its stamp does not fit")
                })
            }
        }
    }

    /// Reads an object; `None` if content and sidecar don't fit and a put may be the reason.
    fn read(&self, key: &str, limit: u64, locked: bool) -> Result<Option<Stored>, Failure> {
        let path = self.root.join(key);
        let Some(Found { file, meta }) = self.find(key)? else {
            return Err(self.refusal(Kind::NotFound, "read", key, "not found"));
        };
        let mut content = Vec::new();
        // One byte more than allowed tells a file that grew while it was read.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut content);
        read.map_err(|error| self.failure("read", key, &error))?;
        if meta.len() > limit || content.len() as u64 > limit {
            let size = meta.len().max(content.len() as u64);
            let why = format!("it has {size} bytes, more than the {limit} allowed");
            return Err(self.refusal(Kind::TooBig, "read", key, &why));
        }
        let stamp = match self.sidecar(key)? {
            None if locked || self.same(&path, &meta) => None,
            None => return Ok(None),
            Some(Err(Unreadable)) if locked => {
                return Err(self.refusal(Kind::Corrupt, "read", key, "its stamp is unreadable"));
            }
            Some(Err(Unreadable)) => return Ok(None),
            Some(Ok(sidecar)) => {
                let (sha256, size) = (Sha256::of(&content), content.len() as u64);
                match sidecar.find(nanos(&meta), sha256, size) {
                    Some(entry) => entry.stamp(),
                    // The caller compares, and finds that the content is corrupt.
                    None if locked => Some(sidecar.newest()),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Stored {
            content: content.into(),
            stamp,
            token: Some(token(&meta)),
            modified: modified(&meta),
        }))
    }

    pub(super) fn head(&self, key: &str) -> Result<Listed, Failure> {
        self.valid(key)?;
        match self.find(key)? {
            Some(found) => self.listed(key, &found.meta),
            None => Err(self.refusal(Kind::NotFound, "look up", key, "not found")),
        }
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failure> {
        if !prefix.is_empty() {
            self.valid(prefix)?;
        }
        let top = self.root.join(prefix);
        let mut files = Vec::new();
        if !self.symlinked(prefix) {
            walk(&top, &mut |path, meta| {
                files.push((path.to_path_buf(), meta.clone()));
                ControlFlow::Continue(())
            })
            .map_err(|error| self.failure("list", prefix, &error))?;
        }
        if files.is_empty() {
            self.check()?;
        }
        let mut listed = Vec::new();
        for (path, meta) in files {
            let Ok(below) = path.strip_prefix(&self.root) else {
                continue;
            };
            let key = below.to_string_lossy().into_owned();
            if reserved(&key) {
                continue;
            }
            if meta.is_file() && below.to_str().is_some() {
                listed.push(self.listed(&key, &meta)?);
            } else {
                // Never followed; the blank in its name keeps it from being taken for an object.
                listed.push(Listed {
                    key: format!("{key} (not a file)"),
                    size: meta.len(),
                    stamp: None,
                    token: None,
                    modified: modified(&meta),
                });
            }
        }
        Ok(listed)
    }

    pub(super) fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let failed = |error: io::Error| self.failure("list", "the repositories", &error);
        self.check()?;
        let mut prefixes = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // A directory without a file in it is not the prefix of any key; our own is none anyway.
            if is_dir && entry.file_name() != OWN && has_file(&entry.path()).map_err(failed)? {
                prefixes.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(prefixes)
    }

    /// Describes an object for a listing.
    fn listed(&self, key: &str, meta: &Metadata) -> Result<Listed, Failure> {
        let stamp = match self.sidecar(key)? {
            Some(Ok(sidecar)) => match sidecar.by_time(nanos(meta), meta.len()) {
                Some(entry) => entry.stamp(),
                None if meta.len() > HASHED_IN_LISTING => None,
                None => self
                    .find(key)?
                    .and_then(|found| hash(found.file).ok())
                    .and_then(|(sha256, size)| sidecar.by_hash(sha256, size))
                    .and_then(Entry::stamp),
            },
            Some(Err(Unreadable)) | None => None,
        };
        Ok(Listed {
            key: key.into(),
            size: meta.len(),
            stamp,
            token: Some(token(meta)),
            modified: modified(meta),
        })
    }

    /// Tells whether a path is still the file that was opened.
    fn same(&self, path: &Path, opened: &Metadata) -> bool {
        fs::symlink_metadata(path).is_ok_and(|now| token(&now) == token(opened))
    }
}
