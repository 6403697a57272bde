//! Closing files: where a writer's bytes become a push.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::handle::Handle;
use super::scratch::Scratch;
use super::working::{Left, Working};
use super::{Error, Fs, Result, lock};
use crate::artifact::ArtifactId;
use crate::registry::{Event, Level, Wait};

impl Fs {
    /// Pushes what the handle has not pushed yet (close of one descriptor).
    ///
    /// # Errors
    ///
    /// What the push answers.
    pub async fn flush(self: Arc<Self>, fh: u64) -> Result<()> {
        let handle = self.handle(fh)?;
        match (handle.working(), handle) {
            (Some(working), _) => self.push_apart(working).await,
            (None, Handle::Scratch { scratch, .. }) => self.refuse_plan(&scratch),
            (None, _) => Ok(()),
        }
    }

    /// Pushes what the handle has not pushed yet.
    ///
    /// # Errors
    ///
    /// What the push answers.
    pub async fn fsync(self: Arc<Self>, fh: u64) -> Result<()> {
        self.flush(fh).await
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
        let Some(working) = handle.working() else {
            if let Handle::Scratch { scratch, .. } = handle {
                scratch.close();
            }
            self.forget(ino, 1);
            return Ok(());
        };
        // In a task of its own: who waits may give up, and the handle has to be given back.
        let ending = tokio::spawn(async move {
            self.clone().end(&working).await;
            working.close();
            self.forget(ino, 1);
        });
        ending.await.map_err(|_| Error::Io)
    }

    /// Does what is left to do when a writer's last handle goes.
    async fn end(self: Arc<Self>, working: &Arc<Working>) {
        match working.left() {
            Left::Nothing => {}
            Left::Unpushed => {
                let pushed = self.clone().push_apart(Arc::clone(working)).await;
                self.tell_unreported(working.id(), pushed);
            }
            Left::OnlyOpened => self.registry.refuse_empty(working.id()),
            Left::Broken => self.registry.refuse_broken(working.id()),
        }
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
