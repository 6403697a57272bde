//! Work on this machine's disk or processors, apart from the tasks that wait for targets.

use tokio::task::JoinHandle;

/// Runs disk work on a thread of its own. The work completes even if its handle is dropped.
pub(super) fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(test)]
    if let Some(time) = SIMULATED.get() {
        return simulated(time, work);
    }
    tokio::task::spawn_blocking(work)
}

/// Runs work that needs a processor, and no disk, on a thread of its own.
pub(super) fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    #[cfg(test)]
    if SIMULATED.get().is_some() {
        return simulated(COMPUTING.get(), work);
    }
    tokio::task::spawn_blocking(work)
}

/// Runs disk work without a waiter, after all tasks that are ready by now: on a small machine the
/// work would take the processor from an answer that is on its way out.
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

/// Sleeps for the given time before the work, and once more after it.
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

/// Makes disk work on this thread take simulated time, so that events have the same order each
/// time.
#[cfg(test)]
pub(crate) fn simulate_disk(time: impl Into<Option<std::time::Duration>>) {
    SIMULATED.set(time.into());
}

/// Makes processor work on this thread take simulated time, while the disk is simulated.
#[cfg(test)]
pub(crate) fn simulate_computing(time: std::time::Duration) {
    COMPUTING.set(time);
}
