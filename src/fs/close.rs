//! Closing files: where a writer's bytes become a push.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::handle::Handle;
use super::process::{Opener, Processes};
use super::staged_file::{Left, StagedFile};
use super::temporary::TemporaryFile;
use super::{Error, Fs, Result, lock};
use crate::model::ArtifactId;
use crate::registry::{Event, Level, Wait};

/// How long a look at processes may take. The kernel may make it wait for a process that itself
/// waits for the answer to this close; then the close is a save, as without the look.
const LOOK: Duration = Duration::from_secs(1);

impl Fs {
    /// Pushes what the handle has not pushed yet (close of one descriptor by a thread), if that
    /// close is a save.
    ///
    /// # Errors
    ///
    /// What the push answers; [`Error::Io`] if a writer was killed amid its work.
    pub async fn flush(self: Arc<Self>, fh: u64, pid: u32) -> Result<()> {
        let handle = self.handle(fh)?;
        let opener = handle.opener();
        match (handle.staged(), handle) {
            (Some(staged), _) => {
                let is_changed = staged.is_changed();
                match opener.filter(|_| is_changed) {
                    Some(opener) if self.is_save(fh, &staged, opener, pid).await => {
                        self.save(staged).await
                    }
                    _ => Ok(()),
                }
            }
            (None, Handle::TemporaryFile { temporary, .. }) => self.refuse_plan(&temporary),
            (None, _) => Ok(()),
        }
    }

    /// Tells whether a close means that the document is whole.
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
        let look = move || is_save(&*processes, &staged, closer);
        let look = tokio::task::spawn_blocking(look);
        matches!(timeout(LOOK, look).await, Err(_) | Ok(Err(_) | Ok(true)))
    }

    async fn save(self: Arc<Self>, staged: Arc<StagedFile>) -> Result<()> {
        match staged.torn() {
            None => self.push_apart(staged).await,
            Some(signal) => {
                let keeping = tokio::spawn(async move { self.keep_torn(&staged, signal).await });
                keeping.await.unwrap_or(Err(Error::Io))
            }
        }
    }

    /// Keeps what a killed writer has left.
    async fn keep_torn(&self, staged: &StagedFile, signal: i32) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let turn = timeout_at(end, staged.turn.lock()).await;
        let _turn = turn.map_err(|_| Error::Io)?;
        let Some(snapshot) = staged.snapshot()? else {
            return Ok(());
        };
        let is_news = !staged.has_failed(snapshot.change);
        // A new name that nothing was written to is gone with its writer.
        if is_news && (!snapshot.bytes.is_empty() || self.registry.exists(staged.id())) {
            let keeping = self
                .registry
                .keep_torn(staged.id(), &snapshot.bytes, signal, end);
            keeping.await;
        }
        staged.note(snapshot.change, snapshot.base, false);
        Err(Error::Io)
    }

    /// Pushes what the handle has not pushed yet, whatever process asks.
    ///
    /// # Errors
    ///
    /// What the push answers.
    pub async fn fsync(self: Arc<Self>, fh: u64) -> Result<()> {
        let handle = self.handle(fh)?;
        match (handle.staged(), handle) {
            (Some(staged), _) => self.push_apart(staged).await,
            (None, Handle::TemporaryFile { temporary, .. }) => self.refuse_plan(&temporary),
            (None, _) => Ok(()),
        }
    }

    /// Refuses to keep as a scratch file what its writer must think is pushed by this close.
    fn refuse_plan(&self, temporary: &TemporaryFile) -> Result<()> {
        let Some(plan) = temporary.meant_as_plan(self.registry.settings().max_size) else {
            return Ok(());
        };
        let message = "a plan is not pushed under this name, for tools give such names to files \
                       of their own: write it as <name>.plan.hcl";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry.tell(event.with("plan", plan.to_string()));
        Err(Error::NotPermitted)
    }

    /// Drops a handle; pushes as a last resort what no close has tried to push.
    ///
    /// # Errors
    ///
    /// [`Error::BadHandle`]; nobody is told of anything else any more.
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
        // In a task of its own: who waits may give up, and the handle has to be given back.
        let ending = tokio::spawn(async move {
            self.clone().end(&staged, opener).await;
            staged.close();
            self.forget(ino, 1);
        });
        ending.await.map_err(|_| Error::Io)
    }

    /// Does what is left to do when a writer's last handle goes.
    async fn end(self: Arc<Self>, staged: &Arc<StagedFile>, opener: Option<Opener>) {
        if staged.left() == Left::Unpushed
            && let Some(signal) = self.killed(opener).await
        {
            staged.killed(signal, None, true);
        }
        match staged.left() {
            Left::Nothing => {}
            Left::Torn => {
                let signal = staged.torn().unwrap_or_default();
                // Nobody hears the answer any more.
                let _ = self.keep_torn(staged, signal).await;
            }
            Left::Unpushed => {
                let pushed = self.clone().push_apart(Arc::clone(staged)).await;
                self.tell_unreported(staged.id(), pushed);
            }
            Left::OnlyOpened => self.registry.refuse_empty(staged.id()).await,
            Left::Broken => self.registry.refuse_broken(staged.id()).await,
        }
    }

    /// Returns the signal that has ended the process which opened a file. One that has written
    /// through a mapping, its descriptor closed, is killed without a FLUSH.
    async fn killed(&self, opener: Option<Opener>) -> Option<i32> {
        let thread = opener.filter(|opener| opener.thread != 0)?.thread;
        let processes = Arc::clone(self.processes.get()?);
        let look = tokio::task::spawn_blocking(move || processes.killed_by(thread));
        timeout(LOOK, look).await.ok()?.ok()?
    }

    fn tell_unreported(&self, id: &ArtifactId, pushed: Result<()>) {
        self.registry.count_unreported();
        let message = match &pushed {
            Ok(()) => "pushed after the last close, which could not report it".to_owned(),
            Err(error) => format!("the push after the last close failed: {error}"),
        };
        let level = if pushed.is_ok() {
            Level::Warn
        } else {
            Level::Error
        };
        let event = Event::new(level, "unreported", message);
        self.registry.tell(event.with("artifact", id.to_string()));
    }

    /// Pushes in a task of its own: who waits for it may give up at a deadline, and the push goes
    /// on to its own.
    async fn push_apart(self: Arc<Self>, staged: Arc<StagedFile>) -> Result<()> {
        if !staged.is_changed() {
            return Ok(());
        }
        let push = tokio::spawn(async move {
            let _under_way = self.pushes.begin();
            self.push(&staged).await
        });
        push.await.unwrap_or(Err(Error::Io))
    }

    async fn push(&self, staged: &StagedFile) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let turn = timeout_at(end, staged.turn.lock()).await;
        let Ok(_turn) = turn else {
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
            // Somebody may have pushed it since.
            if !self.registry.exists(id) {
                lock(&self.local).touch(id.clone(), staged.suffix());
            }
            staged.note(change, base, true);
            return Ok(());
        }
        if snapshot.only_opened {
            // `release` tells of it, if it stays at that.
            return Err(Error::Invalid);
        }
        if base.is_absent() && !self.registry.was_listed(&id.repo) {
            // It was opened while no target could say what is there. One may be able to by now.
            let _ = timeout_at(end, self.registry.stat(id, false)).await;
        }
        let before = self.registry.newest(id);
        let (bytes, suffix) = (snapshot.bytes, staged.suffix());
        let push = self
            .registry
            .push(id, bytes, &mut base, suffix, end, Wait::ForAll);
        let pushed = push.await;
        self.outdate(id, before);
        staged.note(change, base, pushed.is_ok());
        pushed?;
        lock(&self.local).untouch(id);
        Ok(())
    }
}

/// A close of one descriptor.
struct Closer {
    /// The process that opened the file.
    opener: Opener,
    /// The thread that closes.
    thread: u32,
    /// The numbers that the file's descriptors show.
    inodes: [u64; 2],
    /// Whether no other open file shows these numbers.
    is_alone: bool,
}

/// Tells whether a close means that the document is whole. It doesn't when a signal has ended the
/// process, nor while the process that opened the file goes on with it: a shell's
/// `{ cat a; cat b; } > file` has a close by each cat before its own, and dash's
/// `exec 3> file; cat a >&3` closes duplicates of its own descriptor.
fn is_save(processes: &dyn Processes, staged: &StagedFile, closer: Closer) -> bool {
    let (opener, thread) = (closer.opener, closer.thread);
    let opened_by = opener.process(processes);
    let process = match thread == opener.thread {
        true => opened_by,
        false => processes.process_of(thread),
    };
    let is_opener = thread == opener.thread || (process.is_some() && process == opened_by);
    if let Some(signal) = processes.killed_by(thread) {
        // A reader that has seen enough ends a pipeline's other part by SIGPIPE. Any other signal
        // cuts work off, also that of a script whose children do the writing.
        staged.killed(signal, process, is_opener || signal != libc::SIGPIPE);
        return false;
    }
    // The opener's descriptors may be those of another open file that looks the same.
    let may_share = process.is_some() && (!is_opener || closer.is_alone);
    let holder = opened_by.filter(|_| may_share);
    !holder.is_some_and(|opened_by| processes.holds(opened_by, closer.inodes))
}
