//! How much of this machine scratch files may take, all together.

use std::sync::Mutex;

use crate::fs::{Error, Result, lock};

/// How many scratch files, directories and symbolic links there may be. 10,000: ten times the
/// plans of a large repository, all on their way at once, and a few megabytes of memory.
const MAX_FILES: u64 = 10_000;

/// What is left, and what was there in the beginning.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: Mutex<Used>,
}

/// What scratch files take now.
#[derive(Debug, Default)]
struct Used {
    bytes: u64,
    files: u64,
}

impl Budget {
    /// Makes a budget of so many bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: Mutex::default(),
        }
    }

    /// Takes one file.
    pub(super) fn take_file(&self) -> Result<()> {
        let mut used = lock(&self.used);
        if used.files >= MAX_FILES {
            return Err(Error::NoSpace);
        }
        used.files += 1;
        Ok(())
    }

    /// Takes bytes; none if they are not all there.
    pub(super) fn take(&self, bytes: u64) -> Result<()> {
        let mut used = lock(&self.used);
        let wanted = used.bytes.checked_add(bytes);
        used.bytes = wanted
            .filter(|wanted| *wanted <= self.limit)
            .ok_or(Error::NoSpace)?;
        Ok(())
    }

    /// Gives bytes back.
    pub(super) fn give(&self, bytes: u64) {
        let mut used = lock(&self.used);
        used.bytes = used.bytes.saturating_sub(bytes);
    }

    /// Gives one file back.
    pub(super) fn give_file(&self) {
        let mut used = lock(&self.used);
        used.files = used.files.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_up_to_the_limit_and_given_back() {
        let budget = Budget::new(10);
        assert_eq!(budget.take(11), Err(Error::NoSpace));
        assert_eq!(budget.take(10), Ok(()));
        assert_eq!(budget.take(1), Err(Error::NoSpace));
        assert_eq!(budget.take(u64::MAX), Err(Error::NoSpace));
        budget.give(3);
        assert_eq!(budget.take(3), Ok(()));
    }

    #[test]
    fn files_are_counted_too() {
        let budget = Budget::new(0);
        for _ in 0..MAX_FILES {
            assert_eq!(budget.take_file(), Ok(()));
        }
        assert_eq!(budget.take_file(), Err(Error::NoSpace));
        budget.give_file();
        assert_eq!(budget.take_file(), Ok(()));
    }
}
