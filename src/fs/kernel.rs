//! The kernel, as far as it has to be told something without having asked.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::lock;

/// Makes the kernel forget the attributes of an inode.
type Forget = Arc<dyn Fn(u64) + Send + Sync>;

/// The way to the kernel, while there is one.
#[derive(Default)]
pub(super) struct Kernel(Mutex<Option<Forget>>);

impl Kernel {
    /// Says how the kernel is made to forget.
    pub(super) fn connect(&self, forget: impl Fn(u64) + Send + Sync + 'static) {
        *lock(&self.0) = Some(Arc::new(forget));
    }

    /// Forgets the way to the kernel.
    pub(super) fn disconnect(&self) {
        *lock(&self.0) = None;
    }

    /// Makes the kernel ask for an inode's attributes when it needs them next.
    pub(super) fn forget_attributes(&self, ino: u64) {
        // Not under the lock: the call may wait for the kernel.
        let forget = lock(&self.0).clone();
        if let Some(forget) = forget {
            forget(ino);
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Kernel")
    }
}
