//! Strays: artifacts that a program would delete because it takes their listed name for a file that
//! its source lacks.
//!
//! An artifact is listed by one name and answers to two. A program that makes a directory the same
//! as another one, as `rsync --delete` does, writes `schema.hcl`, finds `schema` in the listing and
//! deletes it: the very content that it has just written. Such a program is told by what it has
//! done: it has listed the directory, and used the other name.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::name::listed_name;
use super::{Error, Fs, Result, lock};
use crate::model::{ArtifactId, RepoName};
use crate::registry::{Event, Level};

/// For how long a listing and the use of a name count. One hour: longer than any program takes to
/// make one directory like another.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// How many listings and uses of names are remembered: some hundred kilobytes.
const MANY: NonZeroUsize = match NonZeroUsize::new(1_000) {
    Some(many) => many,
    None => NonZeroUsize::MIN,
};

/// Which thread has listed what, and used which artifact by a name that is not listed.
#[derive(Debug)]
pub(super) struct Strays {
    listings: LruCache<(u32, RepoName), Instant>,
    names: LruCache<(u32, ArtifactId), Instant>,
}

impl Default for Strays {
    fn default() -> Self {
        Self {
            listings: LruCache::new(MANY),
            names: LruCache::new(MANY),
        }
    }
}

impl Strays {
    /// Takes note that a thread lists a repository, or its plans. Threads of foreign pid
    /// namespaces all come as 0, and are not remembered.
    pub(super) fn note_listing(&mut self, pid: u32, repo: RepoName) {
        if pid != 0 {
            self.listings.put((pid, repo), Instant::now());
        }
    }

    /// Takes note that a thread uses a name of an artifact that is not listed.
    fn note_name(&mut self, pid: u32, id: &ArtifactId) {
        if pid != 0 {
            self.names.put((pid, id.clone()), Instant::now());
        }
    }

    /// Returns the threads that have listed an artifact's repository, and those that have used a
    /// name of the artifact that is not listed.
    fn of(&self, id: &ArtifactId) -> (Vec<u32>, Vec<u32>) {
        let listings = self.listings.iter();
        let listings = listings.filter(|((_, repo), at)| *repo == id.repo && is_recent(at));
        let names = self.names.iter();
        let names = names.filter(|((_, other), at)| other == id && is_recent(at));
        (
            listings.map(|((pid, _), _)| *pid).collect(),
            names.map(|((pid, _), _)| *pid).collect(),
        )
    }
}

fn is_recent(at: &Instant) -> bool {
    at.elapsed() < MEMORY
}

impl Fs {
    /// Takes note of the name by which a thread uses an artifact.
    pub(super) fn note_name(&self, pid: u32, id: &ArtifactId, name: &OsStr) {
        if listed_name(&id.item).is_none_or(|listed| listed != name) {
            lock(&self.strays).note_name(pid, id);
        }
    }

    /// Refuses to delete an artifact by its listed name for a program that knows it by the other.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`].
    pub(super) fn refuse_stray(&self, pid: u32, id: &ArtifactId, name: &OsStr) -> Result<()> {
        if listed_name(&id.item).is_none_or(|listed| listed != name) {
            return Ok(());
        }
        let (listings, names) = lock(&self.strays).of(id);
        let program = Program::of(pid);
        let is_its_own = |pids: &[u32]| pids.iter().any(|&other| program.has(other));
        if !is_its_own(&listings) || !is_its_own(&names) {
            return Ok(());
        }
        let message = "the program that deletes this has listed the directory and used the \
                       artifact's other name, so it takes one file for two: exclude this name from \
                       what it deletes, or delete the artifact with rm";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry.tell(event.with("artifact", id.to_string()));
        Err(Error::NotPermitted)
    }
}

/// A running program: a process, and the processes that it has started.
struct Program {
    thread: u32,
    process: Option<u32>,
}

impl Program {
    fn of(thread: u32) -> Self {
        let process = process(thread).map(|(process, _)| process);
        Self { thread, process }
    }

    /// Tells whether a thread is one of the program's. rsync writes in a child of the process that
    /// lists and deletes.
    fn has(&self, thread: u32) -> bool {
        if thread == self.thread {
            return true;
        }
        let other = self.process.and_then(|_| process(thread));
        other.is_some_and(|(process, parent)| [Some(process), Some(parent)].contains(&self.process))
    }
}

/// Returns the process that a thread is of, and that process's parent.
fn process(thread: u32) -> Option<(u32, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let field = |name: &str| {
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        value.trim().parse().ok()
    };
    Some((field("Tgid:")?, field("PPid:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_its_threads_and_the_processes_it_starts() {
        let program = Program::of(std::process::id());
        let thread = std::thread::spawn(|| Program::of(nix::unistd::gettid().as_raw() as u32));
        let thread = thread.join().unwrap();
        assert_eq!(thread.process, program.process);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(program.has(child.id()) && thread.has(child.id()));
        assert!(!Program::of(child.id()).has(std::process::id()));
        assert!(!program.has(1) || std::process::id() == 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
