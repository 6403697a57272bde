//! Room on a full disk: files that can be given up make way for those that must be written.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Makes room for this many bytes; returns `false` if nothing is left to give up.
type Make = dyn Fn(u64) -> bool + Send + Sync;

/// A way to make room on a full disk. The default has nothing to give up.
#[derive(Clone)]
pub struct Room(Arc<Make>);

impl Room {
    /// Wraps a function that makes room for this many bytes, and returns `false` if it can't.
    pub fn new(make: impl Fn(u64) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Writes `need` bytes, and tries again for as long as the disk is full and room can be made.
    ///
    /// # Errors
    ///
    /// The I/O error of the last attempt.
    pub fn find<T>(&self, need: u64, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) && (self.0)(need) => {}
                written => return written,
            }
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new(|_| false)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Room")
    }
}

/// Returns whether a disk, or a user's quota, is full.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_full_disk_is_tried_again_for_as_long_as_room_is_made() {
        let left = Arc::new(AtomicU64::new(3));
        let give = Arc::clone(&left);
        let room = Room::new(move |need| {
            assert_eq!(need, 7);
            give.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
        });
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let written = room.find(7, || match left.load(Ordering::Relaxed) {
            1 => Ok("written"),
            _ => Err(full()),
        });
        assert_eq!(written.unwrap(), "written");
        let never = room.find(7, || Err::<(), _>(full()));
        assert_eq!(never.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(left.load(Ordering::Relaxed), 0, "all of it was given up");
    }

    #[test]
    fn other_errors_take_no_room_away() {
        let room = Room::new(|_| panic!("nothing is full"));
        let error = room.find(1, || Err::<(), _>(io::ErrorKind::TimedOut.into()));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
