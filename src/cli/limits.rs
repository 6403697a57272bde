//! What a process inherits from the one that starts it, and a mount should not.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::fuse;

/// The most descriptors that a mount makes use of: every handle of the default limits, with a
/// connection each.
const DESCRIPTORS: u64 = 65_536;

/// Closes the descriptors that are the caller's, which would keep its locks and pipes for as long
/// as the mount lives, and raises the limit of descriptors as far as that is allowed. It comes
/// before anything is opened.
pub(super) fn adjust() {
    fuse::close_all();
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(DESCRIPTORS).max(soft);
        // Without it, the mount has as many as its caller.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}
