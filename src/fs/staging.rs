//! Bytes in the staging directory, and their share of this machine's space.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tempfile::TempPath;

use super::types::{Error, Result, lock};
use crate::registry::Room;

/// The size of a disk's blocks; a file occupies whole blocks.
const BLOCK_SIZE: u64 = 4096;

/// The most temporary files, directories and symbolic links. 10,000: ten times the plans of a large
/// repository, all in transit at once, and a few megabytes of memory.
const MAX_FILES: u64 = 10_000;

/// A limit of bytes and files, and the amount in use.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u64,
    used: Mutex<QuotaUse>,
}

/// The amount in use.
#[derive(Debug, Default)]
struct QuotaUse {
    bytes: u64,
    files: u64,
}

impl Quota {
    /// Makes a quota of this many bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: Mutex::default(),
        }
    }

    /// Reserves one file.
    pub(super) fn take_file(&self) -> Result<()> {
        let mut used = lock(&self.used);
        if used.files >= MAX_FILES {
            return Err(Error::NoSpace);
        }
        used.files += 1;
        Ok(())
    }

    /// Reserves all of these bytes, or none.
    fn take(&self, bytes: u64) -> Result<()> {
        let mut used = lock(&self.used);
        let wanted = used.bytes.checked_add(bytes);
        used.bytes = wanted
            .filter(|wanted| *wanted <= self.limit)
            .ok_or(Error::NoSpace)?;
        Ok(())
    }

    /// Releases bytes.
    fn give(&self, bytes: u64) {
        let mut used = lock(&self.used);
        used.bytes = used.bytes.saturating_sub(bytes);
    }

    /// Releases one file.
    pub(super) fn give_file(&self) {
        let mut used = lock(&self.used);
        used.files = used.files.saturating_sub(1);
    }
}

/// The bytes that one file reserves in a quota; dropping it releases them.
#[derive(Debug)]
pub(super) struct Reservation {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Reservation {
    /// Makes an empty reservation.
    pub(super) fn new(quota: &Arc<Quota>) -> Self {
        Self {
            quota: Arc::clone(quota),
            bytes: 0,
        }
    }

    /// Changes the reservation to this many bytes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], and the reservation is unchanged.
    fn resize(&mut self, bytes: u64) -> Result<()> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.quota.take(more)?,
            None => self.quota.give(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Reservation {
    /// Reserves this many bytes more.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<()> {
        self.resize(self.bytes.saturating_add(bytes))
    }

    /// Releases this many bytes.
    pub(super) fn shrink(&mut self, bytes: u64) {
        // A reservation can always shrink.
        let _ = self.resize(self.bytes.saturating_sub(bytes));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.give(self.bytes);
    }
}

/// The bytes of a file that is not pushed yet.
#[derive(Debug)]
pub(super) struct StagedBytes {
    /// Open while a handle needs it.
    file: Option<File>,
    /// The name of the file; without one, the file lives only while it is open.
    path: Option<TempPath>,
    size: u64,
    reservation: Reservation,
}

impl StagedBytes {
    /// Makes bytes without a file yet, whose attributes show this size.
    pub(super) fn new(size: u64, reservation: Reservation) -> Self {
        Self {
            file: None,
            path: None,
            size,
            reservation,
        }
    }

    /// Makes an empty file with a name that begins with `prefix`.
    pub(super) fn named(dir: &Path, prefix: &str, reservation: Reservation) -> Result<Self> {
        let make = || tempfile::Builder::new().prefix(prefix).tempfile_in(dir);
        let made = in_staging(dir, make).map_err(|error| disk_error(&error))?;
        Ok(Self {
            path: Some(made.into_temp_path()),
            ..Self::new(0, reservation)
        })
    }

    /// Removes the name. The bytes move to another reservation, and none stay here.
    pub(super) fn take_unnamed(&mut self, mut reservation: Reservation) -> Self {
        // The bytes exist already. If the quota is full, the next write has to reserve all of them.
        let _ = reservation.resize(self.size);
        self.path = None;
        self.reservation.shrink(self.size);
        Self {
            file: self.file.take(),
            ..Self::new(self.size, reservation)
        }
    }

    /// Makes and opens a file without a name, with this content.
    pub(super) fn create(&mut self, dir: &Path, room: &Room, content: &[u8]) -> Result<()> {
        let size = content.len() as u64;
        self.reservation.resize(size)?;
        let make = || in_staging(dir, || tempfile::tempfile_in(dir));
        let made = room.find(BLOCK_SIZE, make);
        let file = made.map_err(|error| disk_error(&error))?;
        write_in(room, &file, content, 0)?;
        self.file = Some(file);
        self.size = size;
        Ok(())
    }

    /// Opens the file by its name.
    pub(super) fn open(&mut self) -> Result<()> {
        if let (None, Some(path)) = (&self.file, &self.path) {
            let opened = OpenOptions::new().read(true).write(true).open(path);
            self.file = Some(opened.map_err(|error| disk_error(&error))?);
        }
        Ok(())
    }

    /// Closes the file; a file without a name then disappears.
    pub(super) fn close(&mut self) {
        self.file = None;
        if self.path.is_none() {
            // A reservation can always shrink.
            let _ = self.reservation.resize(0);
        }
    }

    /// Tells whether the file is open.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Returns the size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads up to this many bytes; fewer at the end of the file.
    pub(super) fn read(&self, offset: u64, size: u64) -> Result<Bytes> {
        let file = self.file.as_ref().ok_or(Error::BadHandle)?;
        let size = self.size.saturating_sub(offset).min(size);
        let read = || {
            let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes.into())
        };
        read().map_err(|error| disk_error(&error))
    }

    /// Writes all of `data`, unless the file would be larger than `max_size`.
    pub(super) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        max_size: u64,
        room: &Room,
    ) -> Result<()> {
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|&end| end <= max_size)
            .ok_or(Error::TooBig)?;
        let file = self.file.as_ref().ok_or(Error::BadHandle)?;
        let size = self.size.max(end);
        self.reservation.resize(size)?;
        if let Err(error) = write_in(room, file, data, offset) {
            let _ = self.reservation.resize(self.size);
            return Err(error);
        }
        self.size = size;
        Ok(())
    }

    /// Cuts the file, or extends it with zeroes.
    pub(super) fn set_size(&mut self, size: u64) -> Result<()> {
        let file = self.file.as_ref().ok_or(Error::BadHandle)?;
        self.reservation.resize(size)?;
        if let Err(error) = file.set_len(size) {
            let _ = self.reservation.resize(self.size);
            return Err(disk_error(&error));
        }
        self.size = size;
        Ok(())
    }
}

/// Makes a file in the staging directory. The directory may be missing if the disk was full before.
fn in_staging<T>(dir: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            make()
        }
        made => made,
    }
}

/// Writes all of the data; on a full disk, `room` removes other files first.
fn write_in(room: &Room, file: &File, data: &[u8], offset: u64) -> Result<()> {
    let need = data.len() as u64 + BLOCK_SIZE;
    let written = room.find(need, || file.write_all_at(data, offset));
    written.map_err(|error| disk_error(&error))
}

/// Maps an error of this machine's disk, and logs it.
pub(super) fn disk_error(error: &io::Error) -> Error {
    tracing::error!("can't use the staging directory: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace,
        io::ErrorKind::NotFound => Error::NotFound,
        _ => Error::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_up_to_the_limit() {
        let quota = Quota::new(10);
        assert_eq!(quota.take(11), Err(Error::NoSpace));
        assert_eq!(quota.take(10), Ok(()));
        assert_eq!(quota.take(1), Err(Error::NoSpace));
        assert_eq!(quota.take(u64::MAX), Err(Error::NoSpace));
        quota.give(3);
        assert_eq!(quota.take(3), Ok(()));
    }

    #[test]
    fn files_are_counted_too() {
        let quota = Quota::new(0);
        for _ in 0..MAX_FILES {
            assert_eq!(quota.take_file(), Ok(()));
        }
        assert_eq!(quota.take_file(), Err(Error::NoSpace));
        quota.give_file();
        assert_eq!(quota.take_file(), Ok(()));
    }

    #[test]
    fn a_dropped_reservation_gives_its_bytes_back() {
        let quota = Arc::new(Quota::new(10));
        let mut first = Reservation::new(&quota);
        assert_eq!(first.resize(8), Ok(()));
        let mut second = Reservation::new(&quota);
        assert_eq!(second.resize(3), Err(Error::NoSpace));
        assert_eq!(first.resize(7), Ok(()));
        assert_eq!(second.resize(3), Ok(()));
        drop(first);
        assert_eq!(second.resize(10), Ok(()));
    }
}
