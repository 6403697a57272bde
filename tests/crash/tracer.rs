//! A tracer: it stops every thread of a daemon at every system call, counts those that are points,
//! and kills the daemon at one of them.
//!
//! Of the ready-made tracers strace comes nearest, but it counts calls a thread, knows no point
//! after a call, and can't leave out calls by what they are on; so which point is tried would
//! depend on which thread happens to do the work.

use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::call::{self, Call};

/// The tracer's record when the daemon is dead.
#[derive(Debug, Default)]
pub struct Seen {
    /// How many points there were.
    pub points: usize,
    /// The point at which the daemon was killed, if it came as far as that.
    pub killed: Option<String>,
}

/// A tracer on a thread of its own, for only the thread that attaches may trace.
#[derive(Debug)]
pub struct Tracer(mpsc::Receiver<Seen>);

/// Chooses a point.
pub trait At: FnMut(usize, &Call) -> bool + Send + 'static {}

impl<F: FnMut(usize, &Call) -> bool + Send + 'static> At for F {}

/// How long a daemon may take to end: it doesn't, if it waits for itself.
const HANG_TIMEOUT: Duration = Duration::from_secs(30);

impl Tracer {
    /// Attaches to a daemon that works below `root`, to kill it at the first point that is chosen
    /// by its number, counted from 1, and what it is. Returns when every thread is traced.
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

    /// Waits for the end of the daemon.
    #[track_caller]
    pub fn end(self) -> Seen {
        let seen = self.0.recv_timeout(HANG_TIMEOUT);
        seen.expect("the daemon ends when it is killed")
    }
}

/// Attaches to every thread, those included that are begun meanwhile.
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
                // It stops at calls from its first stop on.
                Ok(()) => drop(ptrace::interrupt(thread)),
                // It has ended, or its parent was traced already.
                Err(Errno::ESRCH | Errno::EPERM) => {}
                Err(error) => panic!("can't trace: {error}"),
            }
        }
    }
}

fn trace(pid: Pid, root: &str, mut at: impl At) -> Seen {
    let mut seen = Seen::default();
    // Only what this thread traces: the programs of other threads are theirs to wait for.
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
                        // A call that has not begun is not begun any more.
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                }
                (thread, None)
            }
            Ok(WaitStatus::PtraceEvent(thread, _, _)) => (thread, None),
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            // A thread has ended, or all have: then there is nobody left to wait for.
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
