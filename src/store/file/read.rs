//! Reads from a folder: get, head and the listings.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use super::disk::{has_file, walk};
use super::folder::{Folder, OWN, OpenObject, modified, nanos, reserved, token};
use super::lock::LockMode;
use super::sidecar::{SidecarEntry, SidecarError};
use crate::dir::Dir;
use crate::model::Sha256;
use crate::store::{Failure, Kind, Listed, Stored};

/// The largest content that a listing hashes to show its stamp, if the file has lost its time (for
/// example a restored copy). The limit keeps listings from reading much.
const MAX_HASHED_IN_LISTING: u64 = 16 << 20;

/// Hashes a file of `size` bytes. It reads one byte more at most, so a growing file can't keep it
/// busy.
pub(super) fn hash(file: File, size: u64) -> io::Result<(Sha256, u64)> {
    Sha256::of_all(file.take(size.saturating_add(1)))
}

impl Folder {
    pub(super) fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        self.valid(key)?;
        // Try first without the lock. If a put comes between the two reads, the next try runs under
        // the lock, which excludes puts.
        let root = self.enter()?;
        match self.read(&root, key, limit, false)? {
            Some(stored) => Ok(stored),
            None => {
                let _lock = self.lock(&root, LockMode::Shared)?;
                self.read(&root, key, limit, true)?.ok_or_else(|| {
                    self.refusal(Kind::Corrupt, "read", key, "its stamp does not match")
                })
            }
        }
    }

    /// Reads an object; `None` if content and sidecar don't match, perhaps because of a running
    /// put.
    fn read(
        &self,
        root: &Dir,
        key: &str,
        limit: u64,
        locked: bool,
    ) -> Result<Option<Stored>, Failure> {
        let Some(OpenObject { file, meta }) = self.find(root, key)? else {
            return Err(self.refusal(Kind::NotFound, "read", key, "not found"));
        };
        let mut content = Vec::new();
        if meta.len() <= limit {
            // One extra byte reveals a file that grew during the read.
            let read = file.take(limit.saturating_add(1)).read_to_end(&mut content);
            read.map_err(|error| self.failure("read", key, &error))?;
        }
        if meta.len() > limit || content.len() as u64 > limit {
            let size = meta.len().max(content.len() as u64);
            let why = format!("it has {size} bytes, more than the {limit} allowed");
            return Err(self.refusal(Kind::TooBig, "read", key, &why));
        }
        let mut unreadable = false;
        let stamp = match self.sidecar(root, key)? {
            None if locked || same(root, key, &meta) => None,
            Some(Err(SidecarError)) if locked => {
                unreadable = true;
                None
            }
            None | Some(Err(SidecarError)) => return Ok(None),
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
            unreadable,
            token: Some(token(&meta)),
            modified: modified(&meta),
        }))
    }

    pub(super) fn head(&self, key: &str) -> Result<Listed, Failure> {
        self.valid(key)?;
        let root = self.enter()?;
        match self.find(&root, key)? {
            Some(found) => self.listed(&root, key, &found.meta),
            None => Err(self.refusal(Kind::NotFound, "look up", key, "not found")),
        }
    }

    #[cfg(test)]
    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failure> {
        self.list_up_to(prefix, None)
    }

    pub(super) fn list_up_to(
        &self,
        prefix: &str,
        last: Option<&str>,
    ) -> Result<Vec<Listed>, Failure> {
        if !prefix.is_empty() {
            self.valid(prefix)?;
        }
        let root = self.enter()?;
        let mut files = Vec::new();
        walk(&root, Path::new(prefix), last, &mut |path, meta| {
            files.push((path.to_path_buf(), meta.clone()));
            ControlFlow::Continue(())
        })
        .map_err(|error| self.failure("list", prefix, &error))?;
        if files.is_empty() {
            self.check()?;
        }
        let mut listed = Vec::new();
        for (path, meta) in files {
            let key = path.to_string_lossy().into_owned();
            if reserved(&key) {
                continue;
            }
            if meta.is_file() && path.to_str().is_some() {
                listed.push(self.listed(&root, &key, &meta)?);
            } else {
                // Links are not followed. The blank in the key keeps the entry from counting as an
                // object.
                listed.push(Listed {
                    key: format!("{key} (not a file)"),
                    size: meta.len(),
                    stamp: None,
                    unreadable: false,
                    token: None,
                    modified: modified(&meta),
                });
            }
        }
        Ok(listed)
    }

    pub(super) fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        let failed = |error: io::Error| self.failure("list", "the repositories", &error);
        let root = self.enter()?;
        let mut prefixes = Vec::new();
        for name in root.list("").map_err(failed)? {
            let path = Path::new(&name);
            // A directory without files is not the prefix of any key, and `.atlasfs` is not a
            // repository. `has_file` is false for plain files, and does not follow links.
            if name != OWN && has_file(&root, path).map_err(failed)? {
                prefixes.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(prefixes)
    }

    /// Describes an object for a listing.
    fn listed(&self, root: &Dir, key: &str, meta: &Metadata) -> Result<Listed, Failure> {
        let sidecar = self.sidecar(root, key)?;
        let unreadable = matches!(sidecar, Some(Err(SidecarError)));
        let stamp = match sidecar {
            Some(Ok(sidecar)) => match sidecar.by_time(nanos(meta), meta.len()) {
                Some(entry) => entry.stamp(),
                None if meta.len() > MAX_HASHED_IN_LISTING => None,
                None => self
                    .find(root, key)?
                    .and_then(|found| hash(found.file, found.meta.len()).ok())
                    .and_then(|(sha256, size)| sidecar.by_hash(sha256, size))
                    .and_then(SidecarEntry::stamp),
            },
            Some(Err(SidecarError)) | None => None,
        };
        Ok(Listed {
            key: key.into(),
            size: meta.len(),
            stamp,
            unreadable,
            token: Some(token(meta)),
            modified: modified(meta),
        })
    }
}

/// Tells whether a key is still the opened file.
fn same(root: &Dir, key: &str, opened: &Metadata) -> bool {
    root.meta(key).is_ok_and(|now| token(&now) == token(opened))
}
