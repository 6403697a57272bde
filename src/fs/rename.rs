//! Renaming: among temporary files, and of a temporary file onto an artifact's name, which is a
//! push.

use std::ffi::OsStr;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::namespace::{InDirectory, in_directory};
use super::node::Node;
use super::plan_status::STATUS_XATTR;
use super::staging::Reservation;
use super::temporary::{TemporaryDir, TemporaryFile, TemporaryKind};
use super::threads::Intent;
use super::{Caller, Error, Fs, Result, lock};
use crate::model::{ArtifactId, Format, Item, PlanStatus};
use crate::registry::{BaseVersion, Event, Level, PushDetails, Wait};

/// The kernel locks the directory during a rename, so look-ups of uncached names wait with it.
const RENAME_WAIT: Wait = Wait::ForVerdict;

/// The temporary file to rename, and its name.
struct RenameSource {
    place: TemporaryDir,
    name: std::ffi::OsString,
    temporary: Arc<TemporaryFile>,
}

/// The artifact to rename it onto, and the thread that renames.
struct RenameTarget {
    id: ArtifactId,
    suffix: Option<Format>,
    caller: Caller,
}

impl Fs {
    /// Renames. A temporary file that gets an artifact's name is pushed; it stays as it is if the
    /// push fails. An artifact is never renamed.
    ///
    /// # Errors
    ///
    /// The error of the push; [`Error::Exists`] with `no_replace`; [`Error::NotPermitted`] for an
    /// artifact, and [`Error::Invalid`] for a plan whose new name would not be its label.
    pub async fn rename(
        self: Arc<Self>,
        (parent, name): (u64, &OsStr),
        (new_parent, new_name): (u64, &OsStr),
        no_replace: bool,
        caller: impl Into<Caller>,
    ) -> Result<()> {
        let caller = caller.into();
        let pid = caller.pid;
        self.writable()?;
        let (parent, new_parent) = (self.node(parent)?, self.node(new_parent)?);
        let Some(place) = Self::temporary_dir(&parent, name)? else {
            return self
                .rename_other((&parent, name), (&new_parent, new_name), no_replace)
                .await;
        };
        if Self::temporary_dir(&new_parent, new_name)?.is_some() {
            return self.rename_temporary((&place, name), (&new_parent, new_name), no_replace);
        }
        let temporary = lock(&self.temporary).find(&place, name)?;
        let (id, suffix) = match &new_parent {
            Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) | Node::Tags(_) => {
                match in_directory(&new_parent, new_name)? {
                    InDirectory::Artifact(id, suffix) => (id, suffix),
                    InDirectory::Fixed(_) if temporary.is_directory() => {
                        return Err(Error::NotEmpty);
                    }
                    InDirectory::Fixed(node) if node.is_directory() => {
                        return Err(Error::IsDirectory);
                    }
                    InDirectory::Fixed(_) | InDirectory::Foreign => {
                        return Err(self.refuse(new_name));
                    }
                }
            }
            _ => return Err(self.refuse(new_name)),
        };
        self.record_name(pid, &id, new_name);
        match &temporary.kind {
            TemporaryKind::Symlink(_) if matches!(id.item, Item::Tag(_)) => {}
            TemporaryKind::File if !matches!(id.item, Item::Tag(_)) => {}
            TemporaryKind::Directory if self.resolve(&id, suffix).await?.is_some() => {
                return Err(Error::NotDirectory);
            }
            TemporaryKind::File
            | TemporaryKind::Directory
            | TemporaryKind::Symlink(_)
            | TemporaryKind::Special { .. } => {
                return Err(self.refuse(new_name));
            }
        }
        if lock(&self.stale_retries).take(pid, &id, Intent::Rename) {
            // The kernel retries after ESTALE: this is still the same conflict.
            return Err(Error::Stale);
        }
        if let TemporaryKind::Symlink(to) = &temporary.kind {
            let pushed = self.push_tag(&id, to, no_replace, caller.uid).await;
            if pushed == Err(Error::Stale) {
                self.retry_as_stale(pid, &id, Intent::Rename);
            }
            pushed?;
            lock(&self.temporary).remove_if(&place, name, &temporary, self.now());
            return Ok(());
        }
        if no_replace && self.is_there(&id, suffix).await? {
            return Err(Error::Exists);
        }
        let name = name.to_owned();
        let from = RenameSource {
            place,
            name,
            temporary,
        };
        // In a task of its own: the push goes on if the caller gives up.
        let to = RenameTarget { id, suffix, caller };
        let fs = Arc::clone(&self);
        let push = tokio::spawn(async move {
            let _in_flight = fs.pushes.begin();
            fs.push_temporary(&from, &to).await
        });
        push.await.unwrap_or(Err(Error::Io))
    }

    /// Tells whether an artifact exists, or was touched here.
    pub(super) async fn is_there(&self, id: &ArtifactId, suffix: Option<Format>) -> Result<bool> {
        Ok(self.resolve(id, suffix).await?.is_some() || self.is_touched(id, suffix))
    }

    /// Pushes a temporary file and turns it into a staged file of the artifact.
    async fn push_temporary(&self, from: &RenameSource, to: &RenameTarget) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let (temporary, id) = (&from.temporary, &to.id);
        let locked = timeout_at(end, temporary.push_lock.lock()).await;
        let _locked = locked.map_err(|_| Error::Io)?;
        let max_size = self.registry.settings().max_size;
        let (writer, tried) = temporary.origin(id);
        let read = {
            let reads = lock(&self.reads);
            reads.of(writer, id).or_else(|| reads.of(to.caller.pid, id))
        };
        let mut base = match tried.or(read) {
            Some(base) => base,
            None => self.newest(id).await,
        };
        let details = PushDetails {
            suffix: to.suffix,
            author: self.authors.of(to.caller.uid, end).await,
            status: self.status_of(id, temporary)?,
        };
        loop {
            let snapshot = temporary.snapshot(max_size);
            let (change, bytes) = snapshot.inspect_err(|error| self.report_too_big(id, *error))?;
            let before = self.registry.newest(id);
            let push = self
                .registry
                .push(id, bytes, &mut base, details, end, RENAME_WAIT);
            let pushed = push.await;
            self.invalidate(id, before);
            if let Err(error) = pushed {
                let error = Error::from(error);
                temporary.set_failed(id, base);
                if error == Error::Stale {
                    self.retry_as_stale(to.caller.pid, id, Intent::Rename);
                }
                return Err(error);
            }
            self.directory_changed(id, details.author).await;
            lock(&self.local).untouch(id);
            let reservation = Reservation::new(&self.staged);
            if temporary.become_staged(change, id.clone(), to.suffix, base, max_size, reservation) {
                break;
            }
            // The file was written and closed during the push: push those changes too.
        }
        let mut reads = lock(&self.reads);
        for pid in [writer, to.caller.pid] {
            reads.record(pid, id, base);
        }
        drop(reads);
        lock(&self.temporary).remove_if(&from.place, &from.name, temporary, self.now());
        Ok(())
    }

    /// Returns the status that a tool has set for a plan: `rsync -X` copies it before it renames.
    fn status_of(&self, id: &ArtifactId, temporary: &TemporaryFile) -> Result<Option<PlanStatus>> {
        match (&id.item, temporary.xattr(OsStr::new(STATUS_XATTR))) {
            (Item::Plan(_), Ok(status)) => self.parse_status(id, &status).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the newest known content as the base. If no target answers, the base is absent: the
    /// push then fails, and its bytes are kept.
    pub(super) async fn newest(&self, id: &ArtifactId) -> BaseVersion {
        let known = self.registry.stat(id, false).await;
        known.map_or_else(
            |_| BaseVersion::default(),
            |known| BaseVersion::of(known.as_ref()),
        )
    }

    fn report_too_big(&self, id: &ArtifactId, error: Error) {
        if error == Error::TooBig {
            let message = "larger than --max-size: the temporary file stays as it is";
            let event = Event::new(Level::Warn, "refused", message);
            self.registry.report(event.with("artifact", id.to_string()));
        }
    }

    /// Returns the answer to a rename of anything but a temporary file: nothing else can be
    /// renamed.
    async fn rename_other(
        &self,
        (parent, name): (&Node, &OsStr),
        (new_parent, new_name): (&Node, &OsStr),
        no_replace: bool,
    ) -> Result<()> {
        let old = match parent {
            Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) | Node::Tags(_) => {
                match in_directory(parent, name)? {
                    InDirectory::Artifact(id, suffix) => (id, suffix),
                    InDirectory::Fixed(_) => return Err(self.refuse_rename(name, new_name)),
                    InDirectory::Foreign => return Err(Error::NotFound),
                }
            }
            Node::KeptDir(dir) => {
                self.find_kept(dir, name)?;
                // mv(1) then copies, which is a push, and removes the kept bytes.
                return Err(Error::CrossDevice);
            }
            _ => return Err(self.refuse_rename(name, new_name)),
        };
        if !self.is_there(&old.0, old.1).await? {
            return Err(Error::NotFound);
        }
        let new = match new_parent {
            Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) | Node::Tags(_) => {
                match in_directory(new_parent, new_name)? {
                    InDirectory::Artifact(id, suffix) => Some((id, suffix)),
                    InDirectory::Fixed(_) | InDirectory::Foreign => None,
                }
            }
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
        // A checked plan's label is its name.
        match plans && self.registry.settings().validate {
            true => Err(Error::Invalid),
            false => Err(refused),
        }
    }

    fn refuse_rename(&self, name: &OsStr, new_name: &OsStr) -> Error {
        let message = "an artifact can't be renamed: copy it (a copy is a push), and give a plan \
                       its new name as label";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry.report(
            event
                .with("name", name.to_string_lossy())
                .with("new_name", new_name.to_string_lossy()),
        );
        Error::NotPermitted
    }
}
