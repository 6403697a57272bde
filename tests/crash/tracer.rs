//! A tracer: it stops every thread of a daemon at every system call, counts the calls that are
//! points, and kills the daemon at one of them.
//!
//! Of the existing tracers strace comes nearest. But it counts calls per thread, has no point after
//! a call, and can't filter calls by their object. So the tried point would depend on the thread
//! that happens to do the work.

use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::call::{self, Call};

/// The tracer's record after the daemon's end.
#[derive(Debug, Default)]
pub struct Seen {
    /// The number of points.
    pub points: usize,
    /// The point of the kill, if the daemon reached it.
    pub killed: Option<String>,
}

/// A tracer on a thread of its own: only the thread that attaches may trace.
#[derive(Debug)]
pub struct Tracer(mpsc::Receiver<Seen>);

/// Chooses a point.
pub trait At: FnMut(usize, &Call) -> bool + Send + 'static {}

impl<F: FnMut(usize, &Call) -> bool + Send + 'static> At for F {}

/// The longest time for a daemon's end. A daemon that waits for itself never ends.
const HANG_TIMEOUT: Duration = Duration::from_secs(30);

impl Tracer {
    /// Attaches to a daemon that works below `root`. `at` gets each point with its number, from 1,
    /// and chooses the point of the kill. Returns when every thread is traced.
    pub fn attach(pid: u32, root: &std::path::Path, at: impl At) -> Self {
        let pid = Pid::from_raw(pid.try_into().unwrap());
        let root = root.to_str().unwrap().to_owned();
        let (attached, wait) = mpsc::channel();
        let (end, seen) = mpsc::channel();
        std::thread::spawn(move || {
            seize_all(pid);
            attached.send(()).unwrap();
            let _ = end.send(trace(pid, &root, at));
        });
        wait.recv_timeout(Duration::from_secs(20))
            .expect("the tracer attaches");
        Self(seen)
    }

    /// Waits for the daemon's end.
    #[track_caller]
    pub fn end(self) -> Seen {
        let seen = self.0.recv_timeout(HANG_TIMEOUT);
        seen.expect("the daemon ends when it is killed")
    }
}

/// Attaches to every thread, including those that start meanwhile.
fn seize_all(pid: Pid) {
    let mut known = Vec::new();
    loop {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
        let threads = threads.map(|entry| entry.unwrap().file_name());
        let threads = threads.map(|name| Pid::from_raw(name.to_str().unwrap().parse().unwrap()));
        let new: Vec<Pid> = threads.filter(|thread| !known.contains(thread)).collect();
        if new.is_empty() {
            return;
        }
        for thread in new {
            known.push(thread);
            let options = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD;
            match ptrace::seize(thread, options) {
                // The thread stops at calls from its first stop on.
                Ok(()) => drop(ptrace::interrupt(thread)),
                // The thread has ended, or its parent was traced already.
                Err(Errno::ESRCH | Errno::EPERM) => {}
                Err(error) => panic!("can't trace: {error}"),
            }
        }
    }
}

fn trace(pid: Pid, root: &str, mut at: impl At) -> Seen {
    let mut seen = Seen::default();
    // Wait only for threads that this thread traces: other tests wait for their own programs.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let (thread, signal) = match waitpid(None, Some(flags)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                if seen.killed.is_none()
                    && let Some(call) = call::of(thread, root)
                {
                    seen.points += 1;
                    if at(seen.points, &call) {
                        seen.killed = Some(call.to_string());
                        // After SIGKILL, a call that has not begun never begins.
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                }
                (thread, None)
            }
            Ok(WaitStatus::PtraceEvent(thread, _, _)) => (thread, None),
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            // A thread has ended. After the last one, `waitpid` returns ECHILD.
            Ok(_) => continue,
            Err(Errno::EINTR | Errno::EINVAL) => continue,
            Err(Errno::ECHILD) => return seen,
            Err(error) => panic!("can't wait: {error}"),
        };
        match ptrace::syscall(thread, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("can't go on: {error}"),
        }
    }
}
