//! The keys of `--stamp-key`, and the signatures of stamps that they make and check.
//!
//! With keys, only a signed stamp counts as a push: write access to one store gives no power over
//! the others. A signature covers the object's key, so no stamp can be moved to another artifact.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};

use crate::model::{Author, Sha256, Stamp, when_to_text};

/// The first part of each signed text: the format of the others.
const FORMAT: &str = "atlasfs stamp 1";

/// The format of the text of a stamp with an author or a status. Others keep the first format, so
/// that signatures of earlier versions hold.
const FORMAT_WITH_AUTHOR: &str = "atlasfs stamp 2";

/// The label of a key's id, so that the id is no hash of the key alone.
const ID_LABEL: &str = "atlasfs stamp key ";

/// The fewest bytes of a key: those of the hash.
const MIN_KEY_BYTES: usize = 32;

/// The most bytes of a key file that are read: two keys, and long comments.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// A stamp as a store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedStamp {
    /// The stamp. Above the store, only [`Target`](super::Target) decides whether it counts.
    pub stamp: Stamp,
    /// The HMAC-SHA-256 of the stamp and the object's key, if the push was signed.
    pub mac: Option<Sha256>,
}

impl From<Stamp> for SignedStamp {
    fn from(stamp: Stamp) -> Self {
        Self { stamp, mac: None }
    }
}

/// The public name of a key: 16 hexadecimal digits that don't tell the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampKeyId(String);

impl StampKeyId {
    fn of(key: &[u8]) -> Self {
        let id = Sha256::of(&[ID_LABEL.as_bytes(), key].concat()).to_string();
        Self(id.chars().take(16).collect())
    }

    /// Reads an id from its text form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 16 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StampKeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The key file can't be used: what is wrong with it, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't use the stamp key {path}: {why}")]
pub struct StampKeysError {
    path: String,
    why: String,
}

struct StampKey {
    id: StampKeyId,
    /// The state of a computation with this key.
    state: Hmac<sha2::Sha256>,
}

/// The keys of a mount. The first one signs; a stamp that any of them has signed counts.
pub struct StampKeys {
    signing: StampKey,
    /// The next key, or the last one, while keys change.
    other: Option<StampKey>,
}

impl fmt::Debug for StampKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.all().map(|key| &key.id);
        out.debug_list().entries(ids).finish()
    }
}

impl StampKeys {
    /// Reads a key file: one key a line, as `openssl rand -hex 32` prints it, and `#` comments.
    ///
    /// # Errors
    ///
    /// [`StampKeysError`] if the file can't be read, is not private, or holds no key, a malformed
    /// one, or more than two.
    pub fn read(path: &Path) -> Result<Self, StampKeysError> {
        let refused = |why: String| StampKeysError {
            path: path.display().to_string(),
            why,
        };
        let read = || -> std::io::Result<Result<String, String>> {
            let meta = std::fs::metadata(path)?;
            if !meta.is_file() {
                return Ok(Err("it is not a regular file".into()));
            }
            // As ssh does: a file of another user may be shared with this one by its group.
            let is_own = meta.uid() == nix::unistd::geteuid().as_raw();
            let mode = meta.mode() & 0o777;
            if mode & 0o007 != 0 || (is_own && mode & 0o070 != 0) {
                let why = format!("other users have access to it (mode {mode:o}): chmod 600 it");
                return Ok(Err(why));
            }
            let mut text = String::new();
            File::open(path)?
                .take(MAX_FILE_BYTES)
                .read_to_string(&mut text)?;
            Ok(Ok(text))
        };
        let text = read().map_err(|error| refused(error.to_string()))?;
        text.and_then(|text| Self::parse(&text)).map_err(refused)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const ADVICE: &str = "make a key with: openssl rand -hex 32";
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = key_of(line);
            keys.push(key.ok_or_else(|| {
                format!("line {number} is not 64 or more hexadecimal digits: {ADVICE}")
            })?);
        }
        let mut keys = keys.into_iter();
        let signing = keys
            .next()
            .ok_or_else(|| format!("it holds no key: {ADVICE}"))?;
        let other = keys.next();
        match keys.next() {
            Some(_) => Err("it holds more than two keys: remove those that sign no more".into()),
            None => Ok(Self { signing, other }),
        }
    }

    fn all(&self) -> impl Iterator<Item = &StampKey> {
        std::iter::once(&self.signing).chain(&self.other)
    }

    /// Returns the id of the key that signs.
    pub(super) fn signing(&self) -> &StampKeyId {
        &self.signing.id
    }

    /// Tells whether one of the keys has this id.
    pub(super) fn knows(&self, id: &StampKeyId) -> bool {
        self.all().any(|key| key.id == *id)
    }

    /// Signs the stamp of an object.
    pub(super) fn sign(&self, object: &str, stamp: &Stamp) -> SignedStamp {
        let mac = computed(&self.signing, object, stamp).finalize();
        let mac: [u8; 32] = mac.into_bytes().into();
        SignedStamp {
            stamp: *stamp,
            mac: Some(mac.into()),
        }
    }

    /// Tells whether one of the keys has signed the stamp for this object.
    pub(super) fn has_signed(&self, object: &str, signed: &SignedStamp) -> bool {
        let Some(mac) = &signed.mac else {
            return false;
        };
        self.all().any(|key| {
            let computed = computed(key, object, &signed.stamp);
            computed.verify_slice(mac.as_bytes()).is_ok()
        })
    }
}

fn key_of(line: &str) -> Option<StampKey> {
    let is_whole = line.len() >= 2 * MIN_KEY_BYTES
        && line.len().is_multiple_of(2)
        && line.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_whole {
        return None;
    }
    let pairs = (0..line.len()).step_by(2);
    let bytes = pairs.map(|at| u8::from_str_radix(line.get(at..at + 2)?, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    Some(StampKey {
        id: StampKeyId::of(&bytes),
        state: Hmac::new_from_slice(&bytes).ok()?,
    })
}

/// Computes the signature of a stamp. Each part comes after its length, so no two stamps have the
/// same text; a format with more parts gets a name of its own.
fn computed(key: &StampKey, object: &str, stamp: &Stamp) -> Hmac<sha2::Sha256> {
    let mut state = key.state.clone();
    let author = stamp.author.as_ref().map(Author::as_str);
    let status = stamp.status.to_text();
    let author = author.or(status.map(|_| ""));
    let parts = [
        author.map_or(FORMAT, |_| FORMAT_WITH_AUTHOR),
        object,
        &when_to_text(stamp.when),
        &stamp.sha256.to_string(),
        &stamp.size.to_string(),
        stamp.format.as_str(),
        &stamp.base.to_text().unwrap_or_default(),
    ];
    for part in parts.into_iter().chain(author).chain(status) {
        state.update(&(part.len() as u64).to_be_bytes());
        state.update(part.as_bytes());
    }
    state
}

#[cfg(test)]
#[path = "stamp_keys_tests.rs"]
mod tests;
