//! Closing files: where a writer's bytes become a push.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::handle::Handle;
use super::process::{Opener, Processes};
use super::staged_file::{Left, Working};
use super::temporary::Scratch;
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
        match (handle.working(), handle) {
            (Some(working), _) => {
                let is_changed = working.is_changed();
                match opener.filter(|_| is_changed) {
                    Some(opener) if self.is_save(fh, &working, opener, pid).await => {
                        self.save(working).await
                    }
                    _ => Ok(()),
                }
            }
            (None, Handle::Scratch { scratch, .. }) => self.refuse_plan(&scratch),
            (None, _) => Ok(()),
        }
    }

    /// Tells whether a close means that the document is whole.
    async fn is_save(&self, fh: u64, working: &Arc<Working>, opener: Opener, thread: u32) -> bool {
        let Some(processes) = self.processes.get().filter(|_| thread != 0) else {
            return true;
        };
        let (processes, working) = (Arc::clone(processes), Arc::clone(working));
        let inodes = [opener.ino, working.shown().unwrap_or(opener.ino)];
        let closer = Closer {
            opener,
            thread,
            inodes,
            is_alone: !lock(&self.handles).is_written_by_others(fh, inodes),
        };
        let look = move || is_save(&*processes, &working, closer);
        let look = tokio::task::spawn_blocking(look);
        matches!(timeout(LOOK, look).await, Err(_) | Ok(Err(_) | Ok(true)))
    }

    async fn save(self: Arc<Self>, working: Arc<Working>) -> Result<()> {
        match working.torn() {
            None => self.push_apart(working).await,
            Some(signal) => {
                let keeping = tokio::spawn(async move { self.keep_torn(&working, signal).await });
                keeping.await.unwrap_or(Err(Error::Io))
            }
        }
    }

    /// Keeps what a killed writer has left.
    async fn keep_torn(&self, working: &Working, signal: i32) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let turn = timeout_at(end, working.turn.lock()).await;
        let _turn = turn.map_err(|_| Error::Io)?;
        let Some(snapshot) = working.snapshot()? else {
            return Ok(());
        };
        let is_news = !working.has_failed(snapshot.change);
        // A new name that nothing was written to is gone with its writer.
        if is_news && (!snapshot.bytes.is_empty() || self.registry.exists(working.id())) {
            let keeping = self
                .registry
                .keep_torn(working.id(), &snapshot.bytes, signal, end);
            keeping.await;
        }
        working.note(snapshot.change, snapshot.base, false);
        Err(Error::Io)
    }

    /// Pushes what the handle has not pushed yet, whatever process asks.
    ///
    /// # Errors
    ///
    /// What the push answers.
    pub async fn fsync(self: Arc<Self>, fh: u64) -> Result<()> {
        let handle = self.handle(fh)?;
        match (handle.working(), handle) {
            (Some(working), _) => self.push_apart(working).await,
            (None, Handle::Scratch { scratch, .. }) => self.refuse_plan(&scratch),
            (None, _) => Ok(()),
        }
    }

    /// Refuses to keep as a scratch file what its writer must think is pushed by this close.
    fn refuse_plan(&self, scratch: &Scratch) -> Result<()> {
        let Some(plan) = scratch.meant_as_plan(self.registry.settings().max_size) else {
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
        let Some(working) = handle.working() else {
            if let Handle::Scratch { scratch, .. } = handle {
                scratch.close();
            }
            self.forget(ino, 1);
            return Ok(());
        };
        // In a task of its own: who waits may give up, and the handle has to be given back.
        let ending = tokio::spawn(async move {
            self.clone().end(&working, opener).await;
            working.close();
            self.forget(ino, 1);
        });
        ending.await.map_err(|_| Error::Io)
    }

    /// Does what is left to do when a writer's last handle goes.
    async fn end(self: Arc<Self>, working: &Arc<Working>, opener: Option<Opener>) {
        if working.left() == Left::Unpushed
            && let Some(signal) = self.killed(opener).await
        {
            working.killed(signal, None, true);
        }
        match working.left() {
            Left::Nothing => {}
            Left::Torn => {
                let signal = working.torn().unwrap_or_default();
                // Nobody hears the answer any more.
                let _ = self.keep_torn(working, signal).await;
            }
            Left::Unpushed => {
                let pushed = self.clone().push_apart(Arc::clone(working)).await;
                self.tell_unreported(working.id(), pushed);
            }
            Left::OnlyOpened => self.registry.refuse_empty(working.id()).await,
            Left::Broken => self.registry.refuse_broken(working.id()).await,
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
    async fn push_apart(self: Arc<Self>, working: Arc<Working>) -> Result<()> {
        if !working.is_changed() {
            return Ok(());
        }
        let push = tokio::spawn(async move {
            let _under_way = self.pushes.begin();
            self.push(&working).await
        });
        push.await.unwrap_or(Err(Error::Io))
    }

    async fn push(&self, working: &Working) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let turn = timeout_at(end, working.turn.lock()).await;
        let Ok(_turn) = turn else {
            if let Some(snapshot) = working.snapshot()?.filter(|it| !it.only_opened) {
                let refused = self.registry.refuse(working.id(), &snapshot.bytes, end);
                refused.await;
            }
            return Err(Error::Io);
        };
        let Some(snapshot) = working.snapshot()? else {
            return Ok(());
        };
        let (id, change, mut base) = (working.id(), snapshot.change, snapshot.base);
        if snapshot.only_touched && base.is_absent() {
            // Somebody may have pushed it since.
            if !self.registry.exists(id) {
                lock(&self.local).touch(id.clone(), working.suffix());
            }
            working.note(change, base, true);
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
        let (bytes, suffix) = (snapshot.bytes, working.suffix());
        let push = self
            .registry
            .push(id, bytes, &mut base, suffix, end, Wait::ForAll);
        let pushed = push.await;
        self.outdate(id, before);
        working.note(change, base, pushed.is_ok());
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
fn is_save(processes: &dyn Processes, working: &Working, closer: Closer) -> bool {
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
        working.killed(signal, process, is_opener || signal != libc::SIGPIPE);
        return false;
    }
    // The opener's descriptors may be those of another open file that looks the same.
    let may_share = process.is_some() && (!is_opener || closer.is_alone);
    let holder = opened_by.filter(|_| may_share);
    !holder.is_some_and(|opened_by| processes.holds(opened_by, closer.inodes))
}
