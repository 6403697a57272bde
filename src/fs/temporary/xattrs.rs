//! Extended attributes of a temporary file: stored as set, for tools that copy them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;

use crate::fs::staging::Reservation;
use crate::fs::types::{Error, Result, XattrFlag};

/// The longest value of an extended attribute: Linux's own limit (XATTR_SIZE_MAX).
const MAX_XATTR_BYTES: usize = 64 << 10;

/// The extended attributes of one file.
#[derive(Debug)]
pub(super) struct Xattrs {
    values: BTreeMap<OsString, Bytes>,
    reservation: Reservation,
}

impl Xattrs {
    /// Makes an empty set, which will take its space from this reservation.
    pub(super) fn new(reservation: Reservation) -> Self {
        Self {
            values: BTreeMap::new(),
            reservation,
        }
    }

    /// Sets one attribute.
    pub(super) fn set(&mut self, name: &OsStr, value: &[u8], flag: XattrFlag) -> Result<()> {
        if !name.as_bytes().starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        if value.len() > MAX_XATTR_BYTES {
            return Err(Error::NoSpace);
        }
        let before = self.values.get(name).map(|value| size(name, value));
        match (flag, before) {
            (XattrFlag::Create, Some(_)) => return Err(Error::Exists),
            (XattrFlag::Replace, None) => return Err(Error::NoAttribute),
            _ => {}
        }
        self.reservation.grow(size(name, value))?;
        self.reservation.shrink(before.unwrap_or_default());
        self.values
            .insert(name.to_owned(), Bytes::copy_from_slice(value));
        Ok(())
    }

    /// Returns one attribute.
    pub(super) fn get(&self, name: &OsStr) -> Result<Bytes> {
        self.values.get(name).cloned().ok_or(Error::NoAttribute)
    }

    /// Lists their names.
    pub(super) fn names(&self) -> Vec<OsString> {
        self.values.keys().cloned().collect()
    }

    /// Removes one attribute.
    pub(super) fn remove(&mut self, name: &OsStr) -> Result<()> {
        let removed = self.values.remove(name).ok_or(Error::NoAttribute)?;
        self.reservation.shrink(size(name, &removed));
        Ok(())
    }
}

fn size(name: &OsStr, value: &[u8]) -> u64 {
    (name.len() + value.len()) as u64
}
