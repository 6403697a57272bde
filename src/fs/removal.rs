//! Removing one of an artifact's two names.
//!
//! `rm` of either name deletes the artifact. But a program that takes the names for two files must
//! not delete by one name what it keeps under the other: `rsync --delete` finds `schema` beside the
//! `schema.hcl` that it has just written, and not in its source.
//!
//! Programs know both names of a schema from a listing, or from their command line. Such a program
//! removes them one by one, as hard links: the first removal changes nothing, and the second one
//! deletes the schema. So `rm -r`, `rm schema*` and `find -delete` work, and `rsync --delete` keeps
//! the content.
//!
//! A listing shows only one name of a plan. A program that has listed the directory and used the
//! other name may not delete the plan by its listed name.
//!
//! Threads of foreign pid namespaces all have the number 0, and count as one program.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use lru::LruCache;
use tokio::time::{Instant, timeout};

use super::close::PROCESS_LOOKUP_TIMEOUT;
use super::name::{listed, schema_name};
use super::namespace::format;
use super::{Error, Fs, Result, lock};
use crate::model::{ArtifactId, Format, Item, RepoName};
use crate::registry::{Event, Level, Revision};

/// The most listings, names or removals to remember: some hundred kilobytes each.
const MAX_ENTRIES: NonZeroUsize = match NonZeroUsize::new(1_000) {
    Some(many) => many,
    None => NonZeroUsize::MIN,
};

/// The lifetime of a record. One hour: longer than any program takes to copy a directory.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The listings, used names and removed names of programs.
#[derive(Debug)]
pub(super) struct Removals {
    listings: LruCache<(u32, RepoName), Listing>,
    names: LruCache<(u32, ArtifactId), Instant>,
    removed: LruCache<(u32, ArtifactId), RemovedName>,
}

/// A thread's listing of a repository, or of its plans.
#[derive(Debug)]
struct Listing {
    /// The program that the thread ran. After execve(2) it runs another one.
    program: Option<String>,
    at: Instant,
}

/// The one name of a schema that a program has removed.
#[derive(Debug)]
struct RemovedName {
    suffix: Option<Format>,
    /// The content then; `None` for a touched schema.
    revision: Option<u64>,
    at: Instant,
}

impl Default for Removals {
    fn default() -> Self {
        Self {
            listings: LruCache::new(MAX_ENTRIES),
            names: LruCache::new(MAX_ENTRIES),
            removed: LruCache::new(MAX_ENTRIES),
        }
    }
}

impl Removals {
    /// Records that a thread lists a repository, or its plans.
    pub(super) fn record_listing(&mut self, pid: u32, repo: RepoName) {
        let (program, at) = (running(pid), Instant::now());
        self.listings.put((pid, repo), Listing { program, at });
    }

    /// Tells whether a program has listed an artifact's repository, or the plans in it.
    fn is_listed_by(&self, program: &Program, id: &ArtifactId) -> bool {
        let mut listings = self.listings.iter();
        listings.any(|((pid, repo), listing)| {
            *repo == id.repo
                && is_recent(&listing.at)
                && program.has(*pid)
                && running(*pid) == listing.program
        })
    }

    /// Tells whether a program has used an unlisted name of an artifact.
    fn is_known_by(&self, program: &Program, id: &ArtifactId) -> bool {
        let mut names = self.names.iter();
        names.any(|((pid, other), at)| other == id && is_recent(at) && program.has(*pid))
    }

    /// Records that a program removes one name of a schema; `false` if it has already removed the
    /// other name of this content.
    fn remove_name(&mut self, program: &Program, id: &ArtifactId, name: RemovedName) -> bool {
        let key = (program.process.unwrap_or(program.thread), id.clone());
        let is_other = |before: &RemovedName| {
            before.suffix != name.suffix
                && before.revision == name.revision
                && is_recent(&before.at)
        };
        if self.removed.peek(&key).is_some_and(is_other) {
            return false;
        }
        self.removed.put(key, name);
        true
    }
}

fn is_recent(at: &Instant) -> bool {
    at.elapsed() < LIFETIME
}

impl Fs {
    /// Records that a thread uses an artifact by this name.
    pub(super) fn record_name(&self, pid: u32, id: &ArtifactId, name: &OsStr) {
        if is_unlisted(id, name) {
            let names = &mut lock(&self.removals).names;
            names.put((pid, id.clone()), Instant::now());
        }
    }

    /// Tells whether an unlink removes only one of a schema's two names: its program knows both,
    /// and has not removed the other one.
    pub(super) async fn removes_one_name(
        &self,
        pid: u32,
        id: &ArtifactId,
        suffix: Option<Format>,
        known: Option<&Revision>,
    ) -> bool {
        let touched = || lock(&self.local).format(id);
        let Some(format) = known.map(format).or_else(touched) else {
            return false;
        };
        let is_name = suffix.is_none_or(|suffix| suffix == format);
        if id.item != Item::Schema || !is_name {
            return false;
        }
        let found = tokio::task::spawn_blocking(move || Program::with_arguments(pid));
        let found = timeout(PROCESS_LOOKUP_TIMEOUT, found).await;
        let program = match found {
            Ok(Ok(program)) => program,
            Ok(Err(_)) | Err(_) => Program::of(pid),
        };
        let mut removals = lock(&self.removals);
        let names = [None, Some(format)].map(schema_name);
        if !removals.is_listed_by(&program, id) && !program.was_given(&id.repo, names) {
            return false;
        }
        let name = RemovedName {
            suffix,
            revision: known.map(|known| known.revision),
            at: Instant::now(),
        };
        if !removals.remove_name(&program, id, name) {
            return false;
        }
        drop(removals);
        let message = "kept: a program that knows both names of the schema has removed one of \
                       them; it deletes the schema by removing the other one too";
        let event = Event::new(Level::Info, "kept", message);
        let event = event.with("artifact", id.to_string());
        self.registry
            .report(event.with("name", schema_name(suffix)));
        true
    }

    /// Refuses to delete a plan by its listed name for a program that knows its other name.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`].
    pub(super) fn refuse_stray(&self, pid: u32, id: &ArtifactId, name: &OsStr) -> Result<()> {
        if id.item == Item::Schema || is_unlisted(id, name) {
            return Ok(());
        }
        let program = Program::of(pid);
        let removals = lock(&self.removals);
        if !removals.is_known_by(&program, id) || !removals.is_listed_by(&program, id) {
            return Ok(());
        }
        drop(removals);
        let message = "the deleting program listed the directory and used the artifact's other \
                       name, so it mistakes one file for two: exclude this name from the deletion, \
                       or delete the artifact with rm";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry.report(event.with("artifact", id.to_string()));
        Err(Error::NotPermitted)
    }
}

/// Tells whether a listing lacks this name of an artifact. It shows both names of a schema.
fn is_unlisted(id: &ArtifactId, name: &OsStr) -> bool {
    match &id.item {
        Item::Plan(plan) => listed(plan).is_none_or(|listed| listed != name),
        _ => false,
    }
}

/// A running program: a process, and its child processes.
struct Program {
    thread: u32,
    process: Option<u32>,
    /// The paths on its command line.
    arguments: Vec<PathBuf>,
}

impl Program {
    fn of(thread: u32) -> Self {
        Self {
            thread,
            process: process(thread).map(|(process, _)| process),
            arguments: Vec::new(),
        }
    }

    fn with_arguments(thread: u32) -> Self {
        let line = std::fs::read(format!("/proc/{thread}/cmdline")).unwrap_or_default();
        let dir = std::fs::read_link(format!("/proc/{thread}/cwd")).unwrap_or_default();
        let words = line.split(|byte| *byte == 0);
        let words = words.map(|word| dir.join(OsString::from_vec(word.to_vec())));
        Self {
            arguments: words.collect(),
            ..Self::of(thread)
        }
    }

    /// Tells whether a thread belongs to the program. rsync writes in a child of the process that
    /// lists and deletes.
    fn has(&self, thread: u32) -> bool {
        if thread == self.thread {
            return true;
        }
        let other = self.process.and_then(|_| process(thread));
        other.is_some_and(|(process, parent)| [Some(process), Some(parent)].contains(&self.process))
    }

    /// Tells whether its command line has both of these names of one repository.
    fn was_given(&self, repo: &RepoName, names: [&str; 2]) -> bool {
        let mut dirs = self.arguments.iter().filter_map(|path| {
            let dir = path.parent()?;
            let is_it = path.file_name()? == names[0] && dir.file_name()? == repo.as_str();
            is_it.then_some(dir)
        });
        dirs.any(|dir| self.arguments.contains(&dir.join(names[1])))
    }
}

/// Returns the name of the program that a thread runs.
fn running(thread: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{thread}/comm")).ok()
}

/// Returns the process of a thread, and its parent.
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
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Starts a shell that waits for a line and then runs `cat`, with these words behind its
    /// command.
    fn start(dir: &str, words: &[&str]) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; read line; exec cat", "sh"]);
        command.args(words).current_dir(dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A process shows its command line a moment after it has started.
        let mut ready = [0; 6];
        let output = child.stdout.as_mut().unwrap();
        output.read_exact(&mut ready).unwrap();
        child
    }

    #[tokio::test]
    async fn a_listing_is_not_that_of_the_program_run_next() {
        let id = ArtifactId {
            repo: RepoName::parse("app").unwrap(),
            item: Item::Schema,
        };
        let mut removals = Removals::default();
        let mut child = start("/", &[]);
        let pid = child.id();
        removals.record_listing(pid, id.repo.clone());
        assert!(removals.is_listed_by(&Program::of(pid), &id));
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        while running(pid).as_deref() != Some("cat\n") {
            std::thread::yield_now();
        }
        assert!(!removals.is_listed_by(&Program::of(pid), &id));
        end(child);
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_program_has_its_threads_and_child_processes() {
        let program = Program::of(std::process::id());
        let thread = std::thread::spawn(|| Program::of(nix::unistd::gettid().as_raw() as u32));
        let thread = thread.join().unwrap();
        assert_eq!(thread.process, program.process);
        let child = start("/", &[]);
        assert!(program.has(child.id()) && thread.has(child.id()));
        assert!(!Program::of(child.id()).has(std::process::id()));
        assert!(!program.has(1) || std::process::id() == 1);
        end(child);
    }

    #[test]
    fn a_command_line_names_both_names_in_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("app")).unwrap();
        let dir = dir.path().to_str().unwrap();
        let inside = format!("{dir}/app");
        let app = RepoName::parse("app").unwrap();
        for (dir, words, both) in [
            (dir, ["app/schema", "app/schema.hcl"], true),
            (&*inside, ["schema.hcl", "./schema"], true),
            (dir, [&format!("{inside}/schema"), "app/schema.hcl"], true),
            (dir, ["app/schema", "app/schema.sql"], false),
            (dir, ["app/schema", "other/schema.hcl"], false),
            (dir, ["other/schema", "other/schema.hcl"], false),
            (dir, ["schema", "schema.hcl"], false),
            (dir, ["app/schema", "app/schema"], false),
        ] {
            let child = start(dir, &words);
            let program = Program::with_arguments(child.id());
            assert_eq!(
                program.was_given(&app, ["schema", "schema.hcl"]),
                both,
                "{words:?}"
            );
            end(child);
        }
    }
}
