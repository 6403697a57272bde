//! The processes that hold files open: which of them has opened a file, and which were killed.

use std::fmt::Debug;

/// What the machine tells of processes. Each answer may be missing: a process of a foreign pid
/// namespace, or of another user, can be out of sight.
pub trait Processes: Debug + Send + Sync {
    /// Returns the process that a thread belongs to.
    fn process_of(&self, thread: u32) -> Option<u32>;

    /// Returns the signal that ends the process of a thread; 0 if it is unknown which.
    fn killed_by(&self, thread: u32) -> Option<i32>;

    /// Tells whether a process has a file with one of these inode numbers open for writing.
    fn holds(&self, process: u32, inodes: [u64; 2]) -> bool;
}

/// The process that opened a file for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opener {
    /// The thread that called open(2); 0 if it is out of sight.
    pub(super) thread: u32,
    /// Its process, where it was looked up while the thread was surely there.
    pub(super) process: Option<u32>,
    /// The inode.
    pub(super) ino: u64,
}

impl Opener {
    /// Returns the process, looked up now if it has not been before.
    pub(super) fn process(&self, processes: &dyn Processes) -> Option<u32> {
        let looked_up = || processes.process_of(self.thread);
        self.process
            .or_else(|| looked_up().filter(|_| self.thread != 0))
    }
}
