//! Extended attributes of scratch files: kept as they are set, for tools that copy them along.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use bytes::Bytes;

use super::TemporaryFile;
use crate::fs::{Error, Result, XattrFlag, lock};

/// The longest value, in bytes: Linux's own bound (XATTR_SIZE_MAX).
const MAX_VALUE: usize = 64 << 10;

impl TemporaryFile {
    /// Sets an extended attribute.
    pub(in crate::fs) fn set_xattr(
        &self,
        name: &OsStr,
        value: &[u8],
        flag: XattrFlag,
        now: SystemTime,
    ) -> Result<()> {
        if !name.as_bytes().starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        if value.len() > MAX_VALUE {
            return Err(Error::NoSpace);
        }
        let mut state = lock(&self.state);
        let before = state.xattrs.get(name).map(|value| size(name, value));
        match (flag, before) {
            (XattrFlag::Create, Some(_)) => return Err(Error::Exists),
            (XattrFlag::Replace, None) => return Err(Error::NoAttribute),
            _ => {}
        }
        self.budget.take(size(name, value))?;
        self.budget.give(before.unwrap_or_default());
        let value = Bytes::copy_from_slice(value);
        state.xattrs.insert(name.to_owned(), value);
        state.changed = now;
        Ok(())
    }

    /// Returns an extended attribute.
    pub(in crate::fs) fn xattr(&self, name: &OsStr) -> Result<Bytes> {
        let state = lock(&self.state);
        state.xattrs.get(name).cloned().ok_or(Error::NoAttribute)
    }

    /// Lists the names of the extended attributes.
    pub(in crate::fs) fn xattrs(&self) -> Vec<OsString> {
        lock(&self.state).xattrs.keys().cloned().collect()
    }

    /// Removes an extended attribute.
    pub(in crate::fs) fn remove_xattr(&self, name: &OsStr, now: SystemTime) -> Result<()> {
        let mut state = lock(&self.state);
        let removed = state.xattrs.remove(name).ok_or(Error::NoAttribute)?;
        self.budget.give(size(name, &removed));
        state.changed = now;
        Ok(())
    }
}

fn size(name: &OsStr, value: &[u8]) -> u64 {
    (name.len() + value.len()) as u64
}
