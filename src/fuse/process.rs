//! Processes, from /proc.

use std::fs;
use std::path::Path;

use super::convert::Owner;
use super::mountinfo::{self, Device};
use crate::fs::Processes;

/// The flag of a thread that a signal ends, in `stat`.
const PF_SIGNALED: u32 = 0x400;

/// Fields of `stat`, counted from 0 behind the name of the program.
const FLAGS: usize = 6;
const EXIT_CODE: usize = 49;

/// The access mode of the flags of open(2).
const O_ACCMODE: u64 = 0o3;

/// The visible processes, and their files in one mount.
#[derive(Debug)]
pub(super) struct Proc {
    device: Device,
    owner: Owner,
}

impl Proc {
    /// Reads /proc for the mount with this device; `None` if /proc belongs to another pid
    /// namespace, where the kernel's numbers mean other processes.
    pub(super) fn new(device: Device) -> Option<Self> {
        let own = fs::read_link("/proc/self").ok()?;
        let is_ours = own == Path::new(&std::process::id().to_string());
        is_ours.then(|| Self {
            device,
            owner: Owner::of_this_process(),
        })
    }

    /// Tells whether the kernel shows this process the exit code of another one.
    fn shows_exit_code(&self, thread: u32) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Owner { uid, gid } = self.owner;
        let meta = fs::metadata(format!("/proc/{thread}"));
        uid == 0 || meta.is_ok_and(|meta| (meta.uid(), meta.gid()) == (uid, gid))
    }

    /// Returns the ids of this mount and its bind mounts, as a process sees them.
    fn mounts(&self, process: u32) -> Vec<u64> {
        let mounts = fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
        let mounts = mountinfo::parse(&mounts).into_iter();
        let mounts = mounts.filter(|entry| entry.device == self.device);
        mounts.map(|entry| entry.id).collect()
    }
}

impl Processes for Proc {
    fn process_of(&self, thread: u32) -> Option<u32> {
        let status = read(&format!("{thread}/status"))?;
        field(&status, "Tgid:")?.parse().ok()
    }

    fn killed_by(&self, thread: u32) -> Option<i32> {
        // A process that closes files while it ends has no memory left. Don't read `stat` of a
        // process with memory: while execve(2) closes files, readers of `stat` wait.
        if field(&read(&format!("{thread}/status"))?, "VmSize:").is_some() {
            return None;
        }
        let stat = read(&format!("{thread}/stat"))?;
        // The program's name may contain blanks and parentheses.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let flags: u32 = fields.get(FLAGS)?.parse().ok()?;
        let exit_code: i32 = fields.get(EXIT_CODE)?.parse().ok()?;
        if flags & PF_SIGNALED == 0 {
            return None;
        }
        // An exit ends the other threads of a process as a signal would; only the exit code tells
        // the difference. The code is also 0 if the kernel hides it.
        match exit_code & 0x7f {
            0 if exit_code != 0 || self.shows_exit_code(thread) => None,
            signal => Some(signal),
        }
    }

    fn holds(&self, process: u32, inodes: [u64; 2]) -> bool {
        let is_it = |file: &OpenFile| inodes.contains(&file.ino) && file.flags & O_ACCMODE != 0;
        let files = open_files(process);
        let mut mounts = files
            .iter()
            .filter(|file| is_it(file))
            .map(|file| file.mount);
        mounts.any(|mount| self.mounts(process).contains(&mount))
    }

    fn open_inodes(&self, thread: u32) -> Option<Vec<u64>> {
        let (files, mounts) = (open_files(thread), self.mounts(thread));
        if files.is_empty() || mounts.is_empty() {
            return None;
        }
        let files = files.iter().filter(|file| mounts.contains(&file.mount));
        Some(files.map(|file| file.ino).collect())
    }
}

/// An open file of a process, from `fdinfo`. A stat of the file itself would be a request to this
/// mount.
#[derive(Debug)]
struct OpenFile {
    flags: u64,
    mount: u64,
    ino: u64,
}

impl OpenFile {
    fn parse(text: &str) -> Option<Self> {
        Some(Self {
            flags: u64::from_str_radix(field(text, "flags:")?, 8).ok()?,
            mount: field(text, "mnt_id:")?.parse().ok()?,
            ino: field(text, "ino:")?.parse().ok()?,
        })
    }
}

/// Returns the open files of a process. A first thread that has ended shows none, so the other
/// threads are read too.
fn open_files(process: u32) -> Vec<OpenFile> {
    let threads = names(&format!("{process}/task"));
    let mut tables = threads.iter().map(|thread| {
        let dir = format!("{process}/task/{thread}/fdinfo");
        let files = names(&dir);
        let files = files.iter().filter_map(|fd| read(&format!("{dir}/{fd}")));
        files.filter_map(|text| OpenFile::parse(&text)).collect()
    });
    let table: Option<Vec<OpenFile>> = tables.find(|files: &Vec<OpenFile>| !files.is_empty());
    table.unwrap_or_default()
}

fn read(path: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{path}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{dir}")).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.into_string().ok()).collect()
}

/// Returns the value of the line that begins with this name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
    values.next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::*;

    fn proc_of(path: &Path) -> Proc {
        let device = fs::metadata(path).unwrap().dev();
        Proc::new(Device {
            major: nix::sys::stat::major(device) as u32,
            minor: nix::sys::stat::minor(device) as u32,
        })
        .unwrap()
    }

    fn python(script: &str) -> Child {
        let mut command = Command::new("python3");
        command.args(["-c", script]).stdin(Stdio::null());
        command.spawn().unwrap()
    }

    /// Waits until a process has ended and is a zombie, which /proc still shows.
    fn ended(child: &Child) -> u32 {
        let begun = Instant::now();
        loop {
            let stat = read(&format!("{}/stat", child.id())).unwrap();
            if stat.rsplit_once(')').unwrap().1.starts_with(" Z") {
                return child.id();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{stat}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end_of(script: &str) -> Option<i32> {
        let mut child = python(script);
        let killed_by = proc_of(Path::new("/")).killed_by(ended(&child));
        child.wait().unwrap();
        killed_by
    }

    #[test]
    fn a_process_ended_by_a_signal_is_killed() {
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
            let script = format!("import os; os.kill(os.getpid(), {signal})");
            assert_eq!(end_of(&script), Some(signal));
        }
        let threads = "import os, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
os.kill(os.getpid(), 9)";
        assert_eq!(end_of(threads), Some(libc::SIGKILL));
    }

    #[test]
    fn a_process_that_exits_is_not_killed() {
        for code in [0, 1, 137] {
            assert_eq!(end_of(&format!("import os; os._exit({code})")), None);
        }
    }

    #[test]
    fn an_exit_by_one_thread_of_several_is_no_kill() {
        for code in [0, 3] {
            let script = format!(
                "import os, threading, time
threading.Thread(target=lambda: os._exit({code})).start()
time.sleep(60)"
            );
            assert_eq!(end_of(&script), None);
        }
    }

    #[test]
    fn a_thread_belongs_to_its_process() {
        let (sender, tid) = channel();
        let (end, wait) = channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = wait.recv();
        });
        let tid = u32::try_from(tid.recv().unwrap()).unwrap();
        assert_ne!(tid, std::process::id());
        let proc = proc_of(Path::new("/"));
        assert_eq!(proc.process_of(tid), Some(std::process::id()));
        drop(end);
        thread.join().unwrap();
        assert_eq!(proc.process_of(0), None);
    }

    #[test]
    fn a_process_holds_the_files_it_has_open_for_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let proc = proc_of(dir.path());
        let own = std::process::id();
        let writer = File::create(&path).unwrap();
        let ino = writer.metadata().unwrap().ino();
        assert!(proc.holds(own, [0, ino]));
        assert!(!proc.holds(own, [0, 1]));
        let elsewhere = Proc {
            device: Device { major: 0, minor: 0 },
            ..proc
        };
        assert!(!elsewhere.holds(own, [0, ino]), "another mount's inode");
        drop(writer);
        let proc = proc_of(dir.path());
        let _reader = File::open(&path).unwrap();
        assert!(!proc.holds(own, [0, ino]));
    }
}
