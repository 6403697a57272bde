//! Renaming: among scratch files, and of a scratch file onto an artifact's name, which is a push.

use std::ffi::OsStr;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::namespace::{Found, in_directory};
use super::node::Node;
use super::quota::Reservation;
use super::stale_retry::Intent;
use super::temporary::{Kind, Place, TemporaryFile};
use super::{Error, Fs, Result, lock};
use crate::model::{ArtifactId, Format, Item};
use crate::registry::{BaseVersion, Event, Level, Wait};

/// The kernel locks the directory until the rename is answered, and whoever looks up a name there
/// that the kernel does not remember waits with it.
const WAIT: Wait = Wait::ForVerdict;

/// A scratch file's name, and what the name stands for.
struct From {
    place: Place,
    name: std::ffi::OsString,
    temporary: Arc<TemporaryFile>,
}

/// Where it goes, and who sends it there.
struct To {
    id: ArtifactId,
    suffix: Option<Format>,
    pid: u32,
}

impl Fs {
    /// Renames. A scratch file that gets an artifact's name is pushed, and stays what it was if
    /// that fails. An artifact never leaves its name.
    ///
    /// # Errors
    ///
    /// What the push answers; [`Error::Exists`] with `no_replace`; [`Error::NotPermitted`] for an
    /// artifact, and [`Error::Invalid`] for a plan that would get a name which is not its label.
    pub async fn rename(
        self: Arc<Self>,
        (parent, name): (u64, &OsStr),
        (new_parent, new_name): (u64, &OsStr),
        no_replace: bool,
        pid: u32,
    ) -> Result<()> {
        self.writable()?;
        let (parent, new_parent) = (self.node(parent)?, self.node(new_parent)?);
        let Some(place) = Self::temporary_place(&parent, name)? else {
            return self
                .rename_other((&parent, name), (&new_parent, new_name), no_replace)
                .await;
        };
        if Self::temporary_place(&new_parent, new_name)?.is_some() {
            return self.rename_temporary((&place, name), (&new_parent, new_name), no_replace);
        }
        let temporary = lock(&self.temporary).find(&place, name)?;
        let (id, suffix) = match &new_parent {
            Node::Repo(_) | Node::Plans(_) => match in_directory(&new_parent, new_name)? {
                Found::Artifact(id, suffix) => (id, suffix),
                Found::Plans(_) if temporary.is_directory() => return Err(Error::NotEmpty),
                Found::Plans(_) => return Err(Error::IsDirectory),
                Found::Foreign => return Err(self.refuse(new_name)),
            },
            _ => return Err(self.refuse(new_name)),
        };
        self.note_name(pid, &id, new_name);
        match temporary.kind {
            Kind::File => {}
            Kind::Directory if self.resolve(&id, suffix).await?.is_some() => {
                return Err(Error::NotDirectory);
            }
            Kind::Directory | Kind::Symlink(_) | Kind::Special { .. } => {
                return Err(self.refuse(new_name));
            }
        }
        if lock(&self.stale_retries).take(pid, &id, Intent::Rename) {
            // The kernel answers ESTALE by asking once more: it has been a conflict, and is one.
            return Err(Error::Stale);
        }
        if no_replace && self.is_there(&id, suffix).await? {
            return Err(Error::Exists);
        }
        let name = name.to_owned();
        let from = From {
            place,
            name,
            temporary,
        };
        // In a task of its own: who waits may give up, and the push goes on to its own end.
        let to = To { id, suffix, pid };
        let fs = Arc::clone(&self);
        let push = tokio::spawn(async move {
            let _under_way = fs.pushes.begin();
            fs.push_temporary(&from, &to).await
        });
        push.await.unwrap_or(Err(Error::Io))
    }

    pub(super) async fn is_there(&self, id: &ArtifactId, suffix: Option<Format>) -> Result<bool> {
        Ok(self.resolve(id, suffix).await?.is_some() || self.is_touched(id, suffix))
    }

    /// Pushes a scratch file, which then is no scratch file any more.
    async fn push_temporary(&self, from: &From, to: &To) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let (temporary, id) = (&from.temporary, &to.id);
        let turn = timeout_at(end, temporary.turn.lock()).await;
        let _turn = turn.map_err(|_| Error::Io)?;
        let max_size = self.registry.settings().max_size;
        let (writer, tried) = temporary.origin(id);
        let read = {
            let reads = lock(&self.reads);
            reads.of(writer, id).or_else(|| reads.of(to.pid, id))
        };
        let mut base = match tried.or(read) {
            Some(base) => base,
            None => self.newest(id).await,
        };
        loop {
            let snapshot = temporary.snapshot(max_size);
            let snapshot = snapshot.inspect_err(|error| self.tell_too_big(id, *error))?;
            let before = self.registry.newest(id);
            let push = self
                .registry
                .push(id, snapshot.bytes, &mut base, to.suffix, end, WAIT);
            let pushed = push.await;
            self.outdate(id, before);
            if let Err(error) = pushed {
                let error = Error::from(error);
                temporary.has_failed(id, base);
                if error == Error::Stale {
                    self.send_back(to.pid, id, Intent::Rename);
                }
                return Err(error);
            }
            lock(&self.local).untouch(id);
            let reservation = Reservation::new(&self.staged);
            if temporary.becomes(
                snapshot.change,
                id.clone(),
                to.suffix,
                base,
                max_size,
                reservation,
            ) {
                break;
            }
            // Written to, and closed, while the push was under way: that is to be pushed too.
        }
        let mut reads = lock(&self.reads);
        for pid in [writer, to.pid] {
            reads.note(pid, id, base);
        }
        drop(reads);
        lock(&self.temporary).remove_if(&from.place, &from.name, temporary, self.now());
        Ok(())
    }

    /// Returns the newest content that the mount knows as what may be replaced. Where nobody can
    /// tell now, that is nothing: the push will hardly succeed, and its bytes are kept.
    async fn newest(&self, id: &ArtifactId) -> BaseVersion {
        let known = self.registry.stat(id, false).await;
        known.map_or_else(
            |_| BaseVersion::default(),
            |known| BaseVersion::of(known.as_ref()),
        )
    }

    fn tell_too_big(&self, id: &ArtifactId, error: Error) {
        if error == Error::TooBig {
            let message = "larger than --max-size: the scratch file stays what it is";
            let event = Event::new(Level::Warn, "refused", message);
            self.registry.tell(event.with("artifact", id.to_string()));
        }
    }

    /// Answers for everything that is no scratch file: nothing else leaves its name.
    async fn rename_other(
        &self,
        (parent, name): (&Node, &OsStr),
        (new_parent, new_name): (&Node, &OsStr),
        no_replace: bool,
    ) -> Result<()> {
        let old = match parent {
            Node::Repo(_) | Node::Plans(_) => match in_directory(parent, name)? {
                Found::Artifact(id, suffix) => (id, suffix),
                Found::Plans(_) => return Err(self.refuse_rename(name, new_name)),
                Found::Foreign => return Err(Error::NotFound),
            },
            Node::KeptDir(dir) => {
                self.find_kept(dir, name)?;
                // mv(1) then copies, which is a push, and removes what was kept.
                return Err(Error::CrossDevice);
            }
            _ => return Err(self.refuse_rename(name, new_name)),
        };
        if !self.is_there(&old.0, old.1).await? {
            return Err(Error::NotFound);
        }
        let new = match new_parent {
            Node::Repo(_) | Node::Plans(_) => match in_directory(new_parent, new_name)? {
                Found::Artifact(id, suffix) => Some((id, suffix)),
                Found::Plans(_) | Found::Foreign => None,
            },
            _ => None,
        };
        let Some(new) = new else {
            return Err(self.refuse_rename(name, new_name));
        };
        if new.0 == old.0 && self.is_there(&new.0, new.1).await? {
            return match no_replace {
                true => Err(Error::Exists),
                // Two names of one file: POSIX leaves both.
                false => Ok(()),
            };
        }
        let plans = matches!((&old.0.item, &new.0.item), (Item::Plan(a), Item::Plan(b)) if a != b);
        let refused = self.refuse_rename(name, new_name);
        // The label of what has been checked is its name.
        match plans && self.registry.settings().validate {
            true => Err(Error::Invalid),
            false => Err(refused),
        }
    }

    fn refuse_rename(&self, name: &OsStr, new_name: &OsStr) -> Error {
        let message = "an artifact can't be renamed: copy it, for a copy is a push, and give a \
                       plan its new name as label";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry.tell(
            event
                .with("name", name.to_string_lossy())
                .with("new_name", new_name.to_string_lossy()),
        );
        Error::NotPermitted
    }
}
