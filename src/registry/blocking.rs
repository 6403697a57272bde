//! Work on this machine's disk, or its processors, apart from the tasks that wait for targets.

use tokio::task::JoinHandle;

/// Does work on the disk on a thread of its own. It is done also when nobody waits for it.
pub(super) fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(test)]
    if let Some(time) = SIMULATED.get() {
        return simulated(time, work);
    }
    tokio::task::spawn_blocking(work)
}

/// Does work that takes a processor, and no disk, on a thread of its own.
pub(super) fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    #[cfg(test)]
    if SIMULATED.get().is_some() {
        return simulated(COMPUTING.get(), work);
    }
    tokio::task::spawn_blocking(work)
}

/// Does work on the disk that nobody waits for, after whatever is ready to go on by now: on a small
/// machine it would take the processor that an answer is on its way out with.
pub(super) fn run_later(work: impl FnOnce() + Send + 'static) {
    drop(tokio::spawn(async move {
        tokio::task::yield_now().await;
        let _ = run(work).await;
    }));
}

#[cfg(test)]
thread_local! {
    static SIMULATED: std::cell::Cell<Option<std::time::Duration>> =
        const { std::cell::Cell::new(None) };
    static COMPUTING: std::cell::Cell<std::time::Duration> =
        const { std::cell::Cell::new(std::time::Duration::ZERO) };
}

/// Takes the time before the work, and once more after it.
#[cfg(test)]
fn simulated<T: Send + 'static>(
    time: std::time::Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        let done = work();
        tokio::time::sleep(time).await;
        done
    })
}

/// Has the disk take simulated time in this thread, for the same order of things every time.
#[cfg(test)]
pub(crate) fn simulate_disk(time: impl Into<Option<std::time::Duration>>) {
    SIMULATED.set(time.into());
}

/// Has work for a processor take simulated time in this thread, while the disk is simulated.
#[cfg(test)]
pub(crate) fn simulate_computing(time: std::time::Duration) {
    COMPUTING.set(time);
}
