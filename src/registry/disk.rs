//! Work on this machine's disk, apart from the tasks that wait for targets.

use tokio::task::JoinHandle;

/// Does work on the disk on a thread of its own. It is done also when nobody waits for it.
pub(super) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}
