//! Closing files: a close of a changed file pushes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::handle::{Handle, Opener, Processes};
use super::staged_file::{Remainder, StagedFile};
use super::{Error, Fs, Result, lock};
use crate::model::ArtifactId;
use crate::registry::{Event, Level, PushDetails, Wait};

/// The time limit to read /proc. The kernel may make the reader wait for a process that itself
/// waits for this close. After the limit the close is a save, as without /proc.
pub(super) const PROCESS_LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

impl Fs {
    /// Pushes the unpushed changes at the close of one descriptor, if that close is a save.
    ///
    /// # Errors
    ///
    /// The error of the push; [`Error::Io`] if a writer was killed.
    pub async fn flush(self: Arc<Self>, fh: u64, pid: u32) -> Result<()> {
        let handle = self.handle(fh)?;
        let Some(staged) = handle.staged() else {
            return self.refuse_plan(&handle);
        };
        match handle.opener().filter(|_| staged.is_changed()) {
            Some(opener) if self.is_save(fh, &staged, opener, pid).await => self.save(staged).await,
            _ => Ok(()),
        }
    }

    /// Tells whether a close completes the document.
    async fn is_save(
        &self,
        fh: u64,
        staged: &Arc<StagedFile>,
        opener: Opener,
        thread: u32,
    ) -> bool {
        let Some(processes) = self.processes.get().filter(|_| thread != 0) else {
            return true;
        };
        let (processes, staged) = (Arc::clone(processes), Arc::clone(staged));
        let inodes = [opener.ino, staged.shown().unwrap_or(opener.ino)];
        let closer = Closer {
            opener,
            thread,
            inodes,
            is_alone: !lock(&self.handles).is_written_by_others(fh, inodes),
        };
        let judged = tokio::task::spawn_blocking(move || is_save(&*processes, &staged, closer));
        let judged = timeout(PROCESS_LOOKUP_TIMEOUT, judged).await;
        matches!(judged, Err(_) | Ok(Err(_) | Ok(true)))
    }

    async fn save(self: Arc<Self>, staged: Arc<StagedFile>) -> Result<()> {
        match staged.torn() {
            None => self.push_in_task(staged).await,
            Some(signal) => {
                let keeping = tokio::spawn(async move { self.keep_torn(&staged, signal).await });
                keeping.await.unwrap_or(Err(Error::Io))
            }
        }
    }

    /// Keeps the bytes of a killed writer without a push.
    async fn keep_torn(&self, staged: &StagedFile, signal: i32) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let locked = timeout_at(end, staged.push_lock.lock()).await;
        let _locked = locked.map_err(|_| Error::Io)?;
        let Some(snapshot) = staged.snapshot()? else {
            return Ok(());
        };
        let is_news = !staged.has_failed(snapshot.change);
        // An empty new name disappears with its writer.
        if is_news && (!snapshot.bytes.is_empty() || self.registry.exists(staged.id())) {
            let keeping = self
                .registry
                .keep_torn(staged.id(), &snapshot.bytes, signal, end);
            keeping.await;
        }
        staged.push_ended(snapshot.change, snapshot.base, false);
        Err(Error::Io)
    }

    /// Pushes the unpushed changes, for any process.
    ///
    /// # Errors
    ///
    /// The error of the push.
    pub async fn fsync(self: Arc<Self>, fh: u64) -> Result<()> {
        let handle = self.handle(fh)?;
        match handle.staged() {
            Some(staged) => self.push_in_task(staged).await,
            None => self.refuse_plan(&handle),
        }
    }

    /// Refuses the close of a temporary file with a plan in it. Otherwise its writer would assume
    /// that the close has pushed the plan.
    fn refuse_plan(&self, handle: &Handle) -> Result<()> {
        let Handle::TemporaryFile { temporary, .. } = handle else {
            return Ok(());
        };
        let Some(plan) = temporary.plan(self.registry.settings().max_size) else {
            return Ok(());
        };
        let message = "not pushed, because tools give such names to their own files: write the \
                       plan as <name>.plan.hcl";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry.report(event.with("plan", plan.to_string()));
        Err(Error::NotPermitted)
    }

    /// Drops a handle; pushes, as a last resort, changes that no close has tried to push.
    ///
    /// # Errors
    ///
    /// [`Error::BadHandle`]; the kernel ignores all other errors.
    pub async fn release(self: Arc<Self>, fh: u64) -> Result<()> {
        let removed = lock(&self.handles).remove(fh);
        let (ino, handle) = removed.ok_or(Error::BadHandle)?;
        let opener = handle.opener();
        let Some(staged) = handle.staged() else {
            if let Handle::TemporaryFile { temporary, .. } = handle {
                temporary.close();
            }
            self.forget(ino, 1);
            return Ok(());
        };
        // In a task of its own: the handle must be released even if the caller gives up.
        let ending = tokio::spawn(async move {
            self.clone().last_push(&staged, opener).await;
            staged.close();
            self.forget(ino, 1);
        });
        ending.await.map_err(|_| Error::Io)
    }

    /// Pushes or keeps the unpushed changes of a staged file's last handle.
    async fn last_push(self: Arc<Self>, staged: &Arc<StagedFile>, opener: Option<Opener>) {
        if staged.remainder() == Remainder::Unpushed
            && let Some(signal) = self.killed(opener).await
        {
            staged.killed(signal, None, true);
        }
        match staged.remainder() {
            Remainder::Nothing => {}
            Remainder::Torn => {
                let signal = staged.torn().unwrap_or_default();
                // A release reports no errors.
                let _ = self.keep_torn(staged, signal).await;
            }
            Remainder::Unpushed => {
                let pushed = self.clone().push_in_task(Arc::clone(staged)).await;
                self.report_unreported(staged.id(), pushed);
            }
            Remainder::OnlyOpened => self.registry.refuse_empty(staged.id()).await,
            Remainder::Broken => self.registry.refuse_broken(staged.id()).await,
        }
    }

    /// Returns the signal that killed the process that opened a file. A process that writes through
    /// a mapping, its descriptor closed, is killed without a FLUSH.
    async fn killed(&self, opener: Option<Opener>) -> Option<i32> {
        let thread = opener.filter(|opener| opener.thread != 0)?.thread;
        let processes = Arc::clone(self.processes.get()?);
        let killed_by = tokio::task::spawn_blocking(move || processes.killed_by(thread));
        timeout(PROCESS_LOOKUP_TIMEOUT, killed_by)
            .await
            .ok()?
            .ok()?
    }

    fn report_unreported(&self, id: &ArtifactId, pushed: Result<()>) {
        self.registry.count_unreported();
        let message = match &pushed {
            Ok(()) => "pushed after the last close, which could not report it".to_owned(),
            Err(error) => format!("the push after the last close failed: {error}"),
        };
        let level = match pushed {
            Ok(()) => Level::Warn,
            Err(_) => Level::Error,
        };
        let event = Event::new(level, "unreported", message);
        self.registry.report(event.with("artifact", id.to_string()));
    }

    /// Pushes in a task of its own: the push goes on if the caller gives up at its deadline.
    async fn push_in_task(self: Arc<Self>, staged: Arc<StagedFile>) -> Result<()> {
        if !staged.is_changed() {
            return Ok(());
        }
        let push = tokio::spawn(async move {
            let _in_flight = self.pushes.begin();
            self.push(&staged).await
        });
        push.await.unwrap_or(Err(Error::Io))
    }

    async fn push(&self, staged: &StagedFile) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let locked = timeout_at(end, staged.push_lock.lock()).await;
        let Ok(_locked) = locked else {
            if let Some(snapshot) = staged.snapshot()?.filter(|it| !it.only_opened) {
                let refused = self.registry.refuse(staged.id(), &snapshot.bytes, end);
                refused.await;
            }
            return Err(Error::Io);
        };
        let Some(snapshot) = staged.snapshot()? else {
            return Ok(());
        };
        let (id, change, mut base) = (staged.id(), snapshot.change, snapshot.base);
        if snapshot.only_touched && base.is_absent() {
            // Another mount may have pushed the artifact since.
            if !self.registry.exists(id) {
                lock(&self.local).touch(id.clone(), staged.suffix());
            }
            staged.push_ended(change, base, true);
            return Ok(());
        }
        if snapshot.only_opened && !id.item.may_be_empty() {
            // `release` reports the failure if nothing follows.
            return Err(Error::Invalid);
        }
        if base.is_absent() && !self.registry.was_listed(&id.section()) {
            // No target answered at the open; one may answer now.
            let _ = timeout_at(end, self.registry.stat(id, false)).await;
        }
        let before = self.registry.newest(id);
        let details = PushDetails {
            suffix: staged.suffix(),
            author: self.authors.of(staged.user(), end).await,
            status: snapshot.status,
        };
        let (bytes, wait) = (snapshot.bytes, Wait::ForAll);
        let push = self.registry.push(id, bytes, &mut base, details, end, wait);
        let pushed = push.await;
        self.invalidate(id, before);
        staged.push_ended(change, base, pushed.is_ok());
        pushed?;
        self.directory_changed(id, details.author).await;
        lock(&self.local).untouch(id);
        Ok(())
    }
}

/// A close of one descriptor.
struct Closer {
    /// The process that opened the file.
    opener: Opener,
    /// The thread that calls close(2).
    thread: u32,
    /// The inode numbers that the file's descriptors show.
    inodes: [u64; 2],
    /// Whether no other open file shows these inode numbers.
    is_alone: bool,
}

/// Tells whether a close completes the document. It doesn't if a signal has killed the process, nor
/// while the process that opened the file still has it open: in a shell's `{ cat a; cat b; } >
/// file` each cat closes before the shell, and dash's `exec 3> file; cat a >&3` closes duplicates
/// of its own descriptor.
fn is_save(processes: &dyn Processes, staged: &StagedFile, closer: Closer) -> bool {
    let (opener, thread) = (closer.opener, closer.thread);
    let opened_by = opener.process(processes);
    let process = match thread == opener.thread {
        true => opened_by,
        false => processes.process_of(thread),
    };
    let is_opener = thread == opener.thread || (process.is_some() && process == opened_by);
    if let Some(signal) = processes.killed_by(thread) {
        // If a reader ends early, SIGPIPE kills the rest of its pipeline. Any other signal cuts off
        // work, even that of a script whose children write.
        staged.killed(signal, process, is_opener || signal != libc::SIGPIPE);
        return false;
    }
    // The opener's descriptors may belong to another open file with the same inode.
    let may_share = process.is_some() && (!is_opener || closer.is_alone);
    let holder = opened_by.filter(|_| may_share);
    !holder.is_some_and(|opened_by| processes.holds(opened_by, closer.inodes))
}
