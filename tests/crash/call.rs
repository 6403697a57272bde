//! The system calls that are points: those that change a disk, a connection or the kernel's view.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// The position of a thread that is stopped at a point.
#[derive(Debug)]
pub struct Call {
    name: &'static str,
    on: String,
    done: bool,
}

impl std::fmt::Display for Call {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let when = if self.done { "after" } else { "before" };
        write!(out, "{when} {}({})", self.name, self.on)
    }
}

/// The arguments that name the object of a call.
#[derive(Debug, Clone, Copy)]
enum On {
    /// The first argument, a descriptor.
    Descriptor,
    /// The argument of this number, a path.
    Path(usize),
}

const CALLS: [(libc::c_long, &str, On); 19] = [
    (libc::SYS_openat, "openat", On::Path(1)),
    (libc::SYS_openat2, "openat2", On::Path(1)),
    (libc::SYS_mkdirat, "mkdirat", On::Path(1)),
    (libc::SYS_renameat, "renameat", On::Path(3)),
    (libc::SYS_renameat2, "renameat2", On::Path(3)),
    (libc::SYS_linkat, "linkat", On::Path(3)),
    (libc::SYS_unlinkat, "unlinkat", On::Path(1)),
    (libc::SYS_utimensat, "utimensat", On::Descriptor),
    (libc::SYS_write, "write", On::Descriptor),
    (libc::SYS_writev, "writev", On::Descriptor),
    (libc::SYS_pwrite64, "pwrite64", On::Descriptor),
    (libc::SYS_pwritev, "pwritev", On::Descriptor),
    (libc::SYS_ftruncate, "ftruncate", On::Descriptor),
    (libc::SYS_fsync, "fsync", On::Descriptor),
    (libc::SYS_fdatasync, "fdatasync", On::Descriptor),
    (libc::SYS_flock, "flock", On::Descriptor),
    (libc::SYS_connect, "connect", On::Descriptor),
    (libc::SYS_sendto, "sendto", On::Descriptor),
    (libc::SYS_sendmsg, "sendmsg", On::Descriptor),
];

/// The calls older than `*at`. The C library still uses them where the kernel has them.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: [(libc::c_long, &str, On); 6] = [
    (libc::SYS_open, "open", On::Path(0)),
    (libc::SYS_mkdir, "mkdir", On::Path(0)),
    (libc::SYS_rename, "rename", On::Path(1)),
    (libc::SYS_link, "link", On::Path(1)),
    (libc::SYS_unlink, "unlink", On::Path(0)),
    (libc::SYS_rmdir, "rmdir", On::Path(0)),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: [(libc::c_long, &str, On); 0] = [];

/// Returns the call that a stopped thread is about to make, or has just made, if it is a point of
/// the work below `root`.
pub fn of(thread: Pid, root: &str) -> Option<Call> {
    let (number, arguments) = registers(thread)?;
    let mut calls = CALLS.iter().chain(&OLD_CALLS);
    let (_, name, on) = calls.find(|(known, _, _)| *known == number)?;
    let on = match on {
        On::Descriptor => descriptor(thread, arguments[0])?,
        // Look-ups of names change nothing, and would be most of the points.
        On::Path(_) if number == libc::SYS_openat2 && !creates(thread, arguments[2]) => {
            return None;
        }
        On::Path(place) => {
            let path = path(thread, arguments[*place])?;
            match place.checked_sub(1).filter(|_| !path.starts_with('/')) {
                // The path is relative to the descriptor before it.
                Some(before) => match descriptor(thread, arguments[before]) {
                    Some(dir) => format!("{dir}/{path}"),
                    None => path,
                },
                None => path,
            }
        }
    };
    // Other calls wake threads, log, or read the machine's own files.
    let is_point = on == "/dev/fuse" || on.starts_with("socket:") || on.starts_with(root);
    if !is_point || on.ends_with(".log") {
        return None;
    }
    let info = ptrace::syscall_info(thread).ok()?;
    Some(Call {
        name,
        on: on.replace(root, ""),
        done: info.op == libc::PTRACE_SYSCALL_INFO_EXIT,
    })
}

#[cfg(target_arch = "x86_64")]
fn registers(thread: Pid) -> Option<(libc::c_long, [u64; 4])> {
    let of = ptrace::getregs(thread).ok()?;
    Some((
        of.orig_rax as libc::c_long,
        [of.rdi, of.rsi, of.rdx, of.r10],
    ))
}

#[cfg(target_arch = "aarch64")]
fn registers(thread: Pid) -> Option<(libc::c_long, [u64; 4])> {
    let of = ptrace::getregs(thread).ok()?.regs;
    Some((of[8] as libc::c_long, [of[0], of[1], of[2], of[3]]))
}

fn descriptor(thread: Pid, number: u64) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{thread}/fd/{}", number as i32));
    Some(link.ok()?.to_string_lossy().into_owned())
}

/// Returns whether the `open_how` at this address makes `openat2` create a file.
fn creates(thread: Pid, address: u64) -> bool {
    let mut flags = [0; 8];
    let memory = File::open(format!("/proc/{thread}/mem"));
    let read = memory.and_then(|memory| memory.read_exact_at(&mut flags, address));
    read.is_ok() && u64::from_ne_bytes(flags) & libc::O_CREAT as u64 != 0
}

fn path(thread: Pid, address: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = [0; 512];
    // The text may end where the mapped memory ends.
    let mut read = 0;
    for piece in [512, 256, 64, 16] {
        if let Ok(length) = memory.read_at(&mut bytes[..piece], address) {
            read = length;
            break;
        }
    }
    let end = bytes[..read].iter().position(|&byte| byte == 0)?;
    let path = PathBuf::from(String::from_utf8_lossy(&bytes[..end]).into_owned());
    Some(path.to_string_lossy().into_owned())
}
