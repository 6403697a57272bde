//! How much of this machine the files of one kind may take, all together.

use std::sync::{Arc, Mutex};

use super::{Error, Result, lock};

/// How many scratch files, directories and symbolic links there may be. 10,000: ten times the
/// plans of a large repository, all on their way at once, and a few megabytes of memory.
const MAX_FILES: u64 = 10_000;

/// What is left, and what was there in the beginning.
#[derive(Debug)]
pub(in crate::fs) struct Quota {
    limit: u64,
    used: Mutex<Used>,
}

/// What is taken now.
#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    files: u64,
}

impl Quota {
    /// Makes a budget of so many bytes.
    pub(in crate::fs) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: Mutex::default(),
        }
    }

    /// Takes one file.
    pub(in crate::fs) fn take_file(&self) -> Result<()> {
        let mut used = lock(&self.used);
        if used.files >= MAX_FILES {
            return Err(Error::NoSpace);
        }
        used.files += 1;
        Ok(())
    }

    /// Takes bytes; none if they are not all there.
    pub(in crate::fs) fn take(&self, bytes: u64) -> Result<()> {
        let mut used = lock(&self.used);
        let wanted = used.bytes.checked_add(bytes);
        used.bytes = wanted
            .filter(|wanted| *wanted <= self.limit)
            .ok_or(Error::NoSpace)?;
        Ok(())
    }

    /// Gives bytes back.
    pub(in crate::fs) fn give(&self, bytes: u64) {
        let mut used = lock(&self.used);
        used.bytes = used.bytes.saturating_sub(bytes);
    }

    /// Gives one file back.
    pub(in crate::fs) fn give_file(&self) {
        let mut used = lock(&self.used);
        used.files = used.files.saturating_sub(1);
    }
}

/// What one file has taken of a budget. It is given back with it.
#[derive(Debug)]
pub(in crate::fs) struct Reservation {
    budget: Arc<Quota>,
    bytes: u64,
}

impl Reservation {
    /// Begins with nothing.
    pub(in crate::fs) fn new(budget: &Arc<Quota>) -> Self {
        Self {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Takes what a file of so many bytes needs more than before, or gives back what it needs less.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]; then nothing has changed.
    pub(in crate::fs) fn resize(&mut self, bytes: u64) -> Result<()> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.take(more)?,
            None => self.budget.give(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_up_to_the_limit_and_given_back() {
        let budget = Quota::new(10);
        assert_eq!(budget.take(11), Err(Error::NoSpace));
        assert_eq!(budget.take(10), Ok(()));
        assert_eq!(budget.take(1), Err(Error::NoSpace));
        assert_eq!(budget.take(u64::MAX), Err(Error::NoSpace));
        budget.give(3);
        assert_eq!(budget.take(3), Ok(()));
    }

    #[test]
    fn files_are_counted_too() {
        let budget = Quota::new(0);
        for _ in 0..MAX_FILES {
            assert_eq!(budget.take_file(), Ok(()));
        }
        assert_eq!(budget.take_file(), Err(Error::NoSpace));
        budget.give_file();
        assert_eq!(budget.take_file(), Ok(()));
    }

    #[test]
    fn what_a_file_has_taken_is_given_back_with_it() {
        let budget = Arc::new(Quota::new(10));
        let mut first = Reservation::new(&budget);
        assert_eq!(first.resize(8), Ok(()));
        let mut second = Reservation::new(&budget);
        assert_eq!(second.resize(3), Err(Error::NoSpace));
        assert_eq!(first.resize(7), Ok(()));
        assert_eq!(second.resize(3), Ok(()));
        drop(first);
        assert_eq!(second.resize(10), Ok(()));
    }
}
