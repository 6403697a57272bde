//! Dispatch of requests. The session's thread polls each request once; a pending one then goes to
//! the runtime. Each request gets exactly one answer, even after an error or a panic.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fuser::Errno;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::convert::errno;
use crate::fs::{self, InFlight};

/// The time that a request may take beyond its deadline. `fs` keeps the deadline itself. This
/// time-out fires only on a bug, so the margin is large enough to avoid a race.
const DEADLINE_SLACK: Duration = Duration::from_millis(50);

/// A reply that can be an error.
pub(super) trait ErrorReply: Send + 'static {
    /// Answers with an errno.
    fn fail(self, errno: Errno);
}

macro_rules! replies {
    ($($reply:ident),*) => {
        $(impl ErrorReply for fuser::$reply {
            fn fail(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

replies!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr
);

/// The deadline of each class of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Names and attributes.
    pub metadata: Duration,
    /// Opening (which may pull) and reading.
    pub read: Duration,
    /// Operations that may push.
    pub push: Duration,
}

/// Runs the requests of the session's threads.
#[derive(Debug, Clone)]
pub(super) struct Dispatcher {
    runtime: Handle,
    unanswered: InFlight,
}

impl Dispatcher {
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            unanswered: InFlight::default(),
        }
    }

    /// Returns the number of requests without an answer: the process must not end before the kernel
    /// has the answer to a finished push.
    pub(super) fn unanswered(&self) -> watch::Receiver<usize> {
        self.unanswered.count()
    }

    /// Answers at once if the future is ready at its first poll, and from the runtime otherwise.
    ///
    /// The first poll has a waker that does nothing: the task polls again and registers its own.
    pub(super) fn run<R, T, F>(
        &self,
        op: &'static str,
        deadline: Duration,
        reply: R,
        future: F,
        ok: impl FnOnce(R, T) + Send + 'static,
    ) where
        R: ErrorReply,
        T: Send + 'static,
        F: Future<Output = fs::Result<T>> + Send + 'static,
    {
        let _inside = self.runtime.enter();
        let mut future: Pin<Box<F>> = Box::pin(future);
        let first = catch_unwind(AssertUnwindSafe(|| {
            future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        }));
        match first {
            Ok(Poll::Ready(result)) => deliver(op, reply, result, ok),
            Ok(Poll::Pending) => {
                let unanswered = self.unanswered.begin();
                self.runtime.spawn(async move {
                    // Dropped last, whether the request got an answer or not.
                    let _unanswered = unanswered;
                    let guarded = AssertUnwindSafe(future).catch_unwind();
                    match tokio::time::timeout(deadline + DEADLINE_SLACK, guarded).await {
                        Ok(Ok(result)) => deliver(op, reply, result, ok),
                        Ok(Err(panic)) => fail_after_panic(op, reply, panic.as_ref()),
                        Err(_elapsed) => {
                            tracing::error!(op, ?deadline, "no answer within the deadline");
                            reply.fail(Errno::EIO);
                        }
                    }
                });
            }
            Err(panic) => fail_after_panic(op, reply, panic.as_ref()),
        }
    }

    /// Answers with the result of a function that never waits for a target.
    pub(super) fn run_here<R: ErrorReply, T>(
        &self,
        op: &'static str,
        reply: R,
        work: impl FnOnce() -> fs::Result<T>,
        ok: impl FnOnce(R, T),
    ) {
        let _inside = self.runtime.enter();
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => deliver(op, reply, result, ok),
            Err(panic) => fail_after_panic(op, reply, panic.as_ref()),
        }
    }

    /// Runs a request that has no reply.
    pub(super) fn run_silently(&self, op: &'static str, work: impl FnOnce()) {
        let _inside = self.runtime.enter();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            log_panic(op, panic.as_ref());
        }
    }
}

/// Sends the answer. If a panic in `ok` drops a reply, the reply answers EIO by itself.
fn deliver<R: ErrorReply, T>(
    op: &'static str,
    reply: R,
    result: fs::Result<T>,
    ok: impl FnOnce(R, T),
) {
    match result {
        Ok(value) => {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| ok(reply, value))) {
                log_panic(op, panic.as_ref());
            }
        }
        Err(error) => reply.fail(errno(error)),
    }
}

fn fail_after_panic(op: &'static str, reply: impl ErrorReply, panic: &(dyn Any + Send)) {
    log_panic(op, panic);
    reply.fail(Errno::EIO);
}

fn log_panic(op: &'static str, panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(op, "a bug made one request fail: {message}");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Reports every answer. Like fuser's replies, it answers EIO if it is dropped without an
    /// answer.
    struct FakeReply(Option<Sender<Result<u32, i32>>>);

    impl FakeReply {
        fn new() -> (Self, Receiver<Result<u32, i32>>) {
            let (sender, receiver) = channel();
            (Self(Some(sender)), receiver)
        }

        fn ok(mut self, value: u32) {
            self.0.take().unwrap().send(Ok(value)).unwrap();
        }
    }

    impl ErrorReply for FakeReply {
        fn fail(mut self, errno: Errno) {
            self.0.take().unwrap().send(Err(errno.code())).unwrap();
        }
    }

    impl Drop for FakeReply {
        fn drop(&mut self) {
            if let Some(sender) = self.0.take() {
                sender.send(Err(libc::EIO)).unwrap();
            }
        }
    }

    const DEADLINE: Duration = Duration::from_secs(2);

    fn start<F>(future: F) -> Receiver<Result<u32, i32>>
    where
        F: Future<Output = fs::Result<u32>> + Send + 'static,
    {
        let (reply, answers) = FakeReply::new();
        Dispatcher::new(Handle::current()).run("test", DEADLINE, reply, future, FakeReply::ok);
        answers
    }

    /// Returns the answers so far, and whether more can come.
    fn drain(answers: &Receiver<Result<u32, i32>>) -> (Vec<Result<u32, i32>>, bool) {
        let mut all = Vec::new();
        loop {
            match answers.try_recv() {
                Ok(answer) => all.push(answer),
                Err(std::sync::mpsc::TryRecvError::Empty) => return (all, true),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return (all, false),
            }
        }
    }

    #[tokio::test]
    async fn a_ready_future_is_answered_before_run_returns() {
        let answers = start(async { Ok(7) });
        assert_eq!(drain(&answers), (vec![Ok(7)], false));
        let answers = start(async { Err(fs::Error::Stale) });
        assert_eq!(drain(&answers), (vec![Err(libc::ESTALE)], false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pending_future_is_answered_once_when_ready() {
        let answers = start(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(8)
        });
        assert_eq!(drain(&answers), (vec![], true));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(drain(&answers), (vec![Ok(8)], false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_unanswered_until_its_answer_is_sent() {
        let (reply, answers) = FakeReply::new();
        let dispatcher = Dispatcher::new(Handle::current());
        let mut unanswered = dispatcher.unanswered();
        let future = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(8)
        };
        dispatcher.run("test", DEADLINE, reply, future, FakeReply::ok);
        assert_eq!(*unanswered.borrow(), 1);
        unanswered.wait_for(|count| *count == 0).await.unwrap();
        assert_eq!(drain(&answers), (vec![Ok(8)], false));
    }

    #[tokio::test]
    async fn the_task_registers_its_own_waker() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let answers = start(async move { receiver.await.map_err(|_| fs::Error::Io) });
        assert_eq!(drain(&answers), (vec![], true));
        tokio::task::yield_now().await;
        sender.send(9).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(drain(&answers), (vec![Ok(9)], false));
    }

    #[tokio::test]
    async fn a_panic_at_the_first_poll_answers_eio_and_spares_the_thread() {
        let answers = start(async { panic!("first poll") });
        assert_eq!(drain(&answers), (vec![Err(libc::EIO)], false));
        let answers = start(async { Ok(1) });
        assert_eq!(drain(&answers), (vec![Ok(1)], false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_the_task_answers_one_eio() {
        let answers = start(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            panic!("later")
        });
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(drain(&answers), (vec![Err(libc::EIO)], false));
    }

    #[tokio::test]
    async fn a_panic_while_replying_answers_one_eio() {
        let (reply, answers) = FakeReply::new();
        let dispatcher = Dispatcher::new(Handle::current());
        dispatcher.run("test", DEADLINE, reply, async { Ok(1) }, |_reply, _| {
            panic!("reply")
        });
        assert_eq!(drain(&answers), (vec![Err(libc::EIO)], false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_ends_in_eio_after_its_deadline() {
        let answers = start(futures::future::pending());
        tokio::time::sleep(DEADLINE + DEADLINE_SLACK - Duration::from_millis(5)).await;
        assert_eq!(drain(&answers), (vec![], true));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(drain(&answers), (vec![Err(libc::EIO)], false));
    }

    #[tokio::test]
    async fn a_panic_in_immediate_work_answers_one_eio() {
        let dispatcher = Dispatcher::new(Handle::current());
        let (reply, answers) = FakeReply::new();
        dispatcher.run_here("test", reply, || panic!("write"), FakeReply::ok);
        assert_eq!(drain(&answers), (vec![Err(libc::EIO)], false));
        let (reply, answers) = FakeReply::new();
        dispatcher.run_here("test", reply, || Ok(4), FakeReply::ok);
        assert_eq!(drain(&answers), (vec![Ok(4)], false));
        dispatcher.run_silently("test", || panic!("forget"));
    }

    #[test]
    fn a_stopped_runtime_still_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let dispatcher = Dispatcher::new(runtime.handle().clone());
        drop(runtime);
        let (reply, answers) = FakeReply::new();
        dispatcher.run(
            "test",
            DEADLINE,
            reply,
            futures::future::pending(),
            FakeReply::ok,
        );
        assert_eq!(drain(&answers), (vec![Err(libc::EIO)], false));
    }
}
