//! Finding, making and removing names.

use std::ffi::OsStr;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::name::{InRepo, InRoot, in_plans, in_repo, in_root};
use super::node::{Node, number_of_content};
use super::quota::Reservation;
use super::staged_file::StagedFile;
use super::stale_retry::Intent;
use super::temporary::Place;
use super::{CreateAttrs, Entry, Error, Fs, Result, lock};
use crate::model::{ArtifactId, Format, RepoName};
use crate::registry::{self, ErrorKind, Event, Level, Revision};

impl Fs {
    /// Finds a name in a directory; the caller holds one more reference on the inode afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], or why no target can say.
    pub async fn lookup(self: Arc<Self>, parent: u64, name: &OsStr, pid: u32) -> Result<Entry> {
        let parent = self.node(parent)?;
        if let Some(place) = Self::temporary_place(&parent, name)? {
            return Ok(self.hand_out(self.find_temporary(&place, name)?));
        }
        let node = match parent {
            Node::Root => self.find_in_root(name).await?,
            parent @ (Node::Repo(_) | Node::Plans(_)) => match in_directory(&parent, name)? {
                Found::Plans(repo) => Node::Plans(repo),
                Found::Artifact(id, suffix) => {
                    self.note_name(pid, &id, name);
                    self.find_artifact(&id, suffix, pid).await?
                }
                Found::Foreign => return Err(Error::NotFound),
            },
            Node::Control => self.find_control(name)?,
            Node::KeptDir(dir) => self.find_kept(&dir, name)?,
            _ => return Err(Error::NotDirectory),
        };
        Ok(self.hand_out(node))
    }

    async fn find_in_root(&self, name: &OsStr) -> Result<Node> {
        match in_root(name)? {
            InRoot::Control => Ok(Node::Control),
            InRoot::Repo(repo) => match self.has_repo(&repo).await {
                Ok(true) => Ok(Node::Repo(repo)),
                // No target can say, or ever could. mkdir(2) looks the name up first.
                Ok(false) | Err(Error::Io) => Err(Error::NotFound),
                Err(error) => Err(error),
            },
            InRoot::TemporaryFile | InRoot::Foreign => Err(Error::NotFound),
        }
    }

    async fn has_repo(&self, repo: &RepoName) -> Result<bool> {
        let made_here = lock(&self.local).has(repo);
        Ok(made_here || self.registry.has_repo(repo).await?)
    }

    async fn find_artifact(
        &self,
        id: &ArtifactId,
        suffix: Option<Format>,
        pid: u32,
    ) -> Result<Node> {
        let end = Instant::now() + self.registry.settings().metadata;
        let node = match self.resolve(id, suffix).await {
            Ok(Some(known)) => Node::Content(id.clone(), known),
            Ok(None) if self.is_blank(id, suffix) => Node::Blank(id.clone()),
            Ok(None) => return Err(Error::NotFound),
            // A name that can be saved to, so that the bytes are kept, and that can't be read.
            Err(Error::Io) if !self.registry.was_listed(&id.repo) => Node::Blank(id.clone()),
            Err(error) => return Err(error),
        };
        if lock(&self.stale_retries).is_waiting(pid, id, Intent::Read) {
            return Ok(self.read_ahead(id, node, end).await);
        }
        if !lock(&self.stale_retries).is_waiting(pid, id, Intent::Write) {
            return Ok(node);
        }
        // The number is the one that stat(2) tells of this content.
        let (size, shown) = match &node {
            Node::Content(_, known) => (known.size, Some(number_of_content(known))),
            _ => (0, None),
        };
        let staged = self.staged(id, suffix, size).showing(shown);
        Ok(Node::StagedFile(Arc::new(staged)))
    }

    /// Pulls the content for a reader who has been overtaken by a push already: its open finds it
    /// in memory then, however often it is overtaken again.
    async fn read_ahead(&self, id: &ArtifactId, node: Node, end: Instant) -> Node {
        match timeout_at(end, self.registry.pull(id)).await {
            Ok(Ok(pulled)) => Node::Content(id.clone(), pulled.known),
            Ok(Err(_)) | Err(_) => node,
        }
    }

    /// Makes a writer's view, not open yet.
    pub(super) fn staged(&self, id: &ArtifactId, suffix: Option<Format>, size: u64) -> StagedFile {
        let max_size = self.registry.settings().max_size;
        let reservation = Reservation::new(&self.staged);
        StagedFile::new(id.clone(), suffix, max_size, reservation, self.now(), size)
    }

    /// Returns the newest content of an artifact, if the artifact answers to a name with this
    /// suffix: `schema.sql` isn't there while the state is HCL.
    pub(super) async fn resolve(
        &self,
        id: &ArtifactId,
        suffix: Option<Format>,
    ) -> Result<Option<Revision>> {
        let known = match self.registry.stat(id, suffix.is_some()).await {
            Err(error) if self.is_new(&id.repo, &error) => None,
            known => known?,
        };
        // A format that nobody can tell now is taken for HCL, as it is in a push.
        let format = |known: &Revision| known.stamp().map_or(Format::Hcl, |stamp| stamp.format);
        Ok(known.filter(|known| suffix.is_none_or(|suffix| suffix == format(known))))
    }

    /// Tells whether a repository is new, as far as this mount can know: it was made here, and no
    /// target could ever say otherwise. A push to it still replaces nothing, for it demands that
    /// the target hold nothing.
    pub(super) fn is_new(&self, repo: &RepoName, error: &registry::Error) -> bool {
        error.kind == ErrorKind::Outage
            && !self.registry.was_listed(repo)
            && lock(&self.local).has(repo)
    }

    /// Tells whether an artifact that no target knows is there all the same: touched, or with a
    /// failed push whose error somebody will want to read.
    fn is_blank(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        !self.registry.exists(id)
            && (self.registry.has_error(id) || lock(&self.local).is_touched(id, suffix))
    }

    /// Tells whether an artifact was touched here and has not been pushed since, by anybody.
    pub(super) fn is_touched(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        !self.registry.exists(id) && lock(&self.local).is_touched(id, suffix)
    }

    /// Finds out what a name to be created is for; refuses what is not of the contract.
    pub(super) fn parse_new(
        &self,
        parent: &Node,
        name: &OsStr,
    ) -> Result<(ArtifactId, Option<Format>)> {
        match parent {
            Node::Repo(_) | Node::Plans(_) => match in_directory(parent, name)? {
                Found::Artifact(id, suffix) => Ok((id, suffix)),
                Found::Plans(_) => Err(Error::IsDirectory),
                Found::Foreign => Err(self.refuse(name)),
            },
            Node::Root | Node::Control | Node::KeptDir(_) => Err(self.refuse(name)),
            _ => Err(Error::NotDirectory),
        }
    }

    /// Refuses a name that is not of the contract, and says what is.
    pub(super) fn refuse(&self, name: &OsStr) -> Error {
        let message = "not a name of this mount: a repository holds schema (schema.hcl, \
                       schema.sql) and plans/<name> (plans/<name>.plan.hcl)";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry
            .tell(event.with("name", name.to_string_lossy()));
        Error::NotPermitted
    }

    /// Makes a repository; it is local until its first push, for stores have no directories.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`]; [`Error::NotPermitted`] for what isn't a repository's name, or elsewhere
    /// than in the root.
    pub async fn mkdir(
        self: Arc<Self>,
        parent: u64,
        name: &OsStr,
        attrs: CreateAttrs,
    ) -> Result<Entry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::temporary_place(&parent, name)?.is_some() {
            return self.mkdir_temporary(&parent, name, attrs);
        }
        let repo = match parent {
            Node::Root => match in_root(name)? {
                InRoot::Repo(repo) => repo,
                InRoot::Control => return Err(Error::Exists),
                InRoot::TemporaryFile | InRoot::Foreign => return Err(self.refuse(name)),
            },
            parent @ (Node::Repo(_) | Node::Plans(_)) => {
                return Err(match in_directory(&parent, name)? {
                    Found::Plans(_) => Error::Exists,
                    Found::Artifact(..) | Found::Foreign => self.refuse(name),
                });
            }
            _ => return Err(self.refuse(name)),
        };
        let is_there = match self.has_repo(&repo).await {
            // It is local until its first push, which finds out what the targets hold.
            Err(Error::Io) => false,
            is_there => is_there?,
        };
        if is_there || !lock(&self.local).make(repo.clone()) {
            return Err(Error::Exists);
        }
        Ok(self.hand_out(Node::Repo(repo)))
    }

    /// Removes an empty repository that was made here.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`]; [`Error::NotPermitted`] for one of the configuration, and for the
    /// directories that are always there.
    pub async fn rmdir(self: Arc<Self>, parent: u64, name: &OsStr) -> Result<()> {
        self.writable()?;
        let parent = self.node(parent)?;
        if let Some(place) = Self::temporary_place(&parent, name)? {
            return self.rmdir_temporary(&place, name);
        }
        let repo = match parent {
            Node::Root => match in_root(name)? {
                InRoot::Repo(repo) => repo,
                InRoot::Control => return Err(Error::NotPermitted),
                InRoot::TemporaryFile | InRoot::Foreign => return Err(Error::NotFound),
            },
            parent @ (Node::Repo(_) | Node::Plans(_)) => {
                return Err(match in_directory(&parent, name)? {
                    Found::Plans(_) => Error::NotPermitted,
                    Found::Artifact(..) => Error::NotDirectory,
                    Found::Foreign => Error::NotFound,
                });
            }
            _ => return Err(Error::NotPermitted),
        };
        if !self.has_repo(&repo).await? {
            return Err(Error::NotFound);
        }
        let touched = lock(&self.local).touched(&repo).next().is_some();
        let temporary = [Place::Repo(repo.clone()), Place::Plans(repo.clone())];
        let temporary = temporary
            .iter()
            .any(|place| !lock(&self.temporary).is_empty(place));
        if touched || temporary || !self.listed(&repo).await?.is_empty() {
            return Err(Error::NotEmpty);
        }
        match lock(&self.local).remove(&repo) {
            true => Ok(()),
            // It is there because the configuration, or the registry, says so.
            false => Err(Error::NotPermitted),
        }
    }

    /// Deletes an artifact from every target, if the mount allows it. What is local can always be
    /// removed: touched files, traces of failed pushes, and the bytes kept of these.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] without `--allow-delete`; what the targets answered.
    pub async fn unlink(self: Arc<Self>, parent: u64, name: &OsStr, pid: u32) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        self.writable()?;
        let parent = self.node(parent)?;
        if let Some(place) = Self::temporary_place(&parent, name)? {
            return self.unlink_temporary(&place, name);
        }
        let (id, suffix) = match parent {
            parent @ (Node::Repo(_) | Node::Plans(_)) => match in_directory(&parent, name)? {
                Found::Artifact(id, suffix) => (id, suffix),
                Found::Plans(_) => return Err(Error::IsDirectory),
                Found::Foreign => return Err(Error::NotFound),
            },
            Node::KeptDir(dir) => return self.unlink_kept(&dir, name).await,
            Node::Root => return Err(Error::IsDirectory),
            _ => return Err(Error::NotPermitted),
        };
        let Some(before) = self.resolve(&id, suffix).await? else {
            let touched = lock(&self.local).untouch(&id);
            let failed = self.registry.forget_error(&id).await;
            return match touched || failed {
                true => Ok(()),
                false => Err(Error::NotFound),
            };
        };
        if !self.settings.allow_delete {
            let message = "deleting an artifact would remove it from the registry and every \
                           backup: mount with --allow-delete to allow that";
            let event = Event::new(Level::Warn, "refused", message);
            self.registry.tell(event.with("artifact", id.to_string()));
            return Err(Error::NotPermitted);
        }
        self.refuse_stray(pid, &id, name)?;
        let fs = Arc::clone(&self);
        let deletion = tokio::spawn(async move {
            let _under_way = fs.pushes.begin();
            let deleted = fs.registry.delete(&id, end).await;
            if deleted.is_ok() {
                // It may have been touched here before somebody else pushed it.
                lock(&fs.local).untouch(&id);
            }
            fs.outdate(&id, Some(before));
            deleted
        });
        Ok(deletion.await.map_err(|_| Error::Io)??)
    }

    async fn unlink_kept(&self, dir: &str, name: &OsStr) -> Result<()> {
        match self.find_kept(dir, name)? {
            Node::Kept { when, .. } => self
                .registry
                .remove_unpushed(when)
                .await
                .map_err(|error| super::staged_file::local(&error)),
            Node::Damaged { name, .. } => self
                .registry
                .remove_damaged(&name)
                .map_err(|error| super::staged_file::local(&error)),
            _ => Err(Error::IsDirectory),
        }
    }
}

/// What a name in a repository, or in its plans, stands for.
pub(super) enum Found {
    Plans(RepoName),
    Artifact(ArtifactId, Option<Format>),
    Foreign,
}

/// Finds out what a name in a repository, or in its plans, stands for.
pub(super) fn in_directory(parent: &Node, name: &OsStr) -> Result<Found> {
    let (repo, found) = match parent {
        Node::Repo(repo) => (repo, in_repo(name)?),
        Node::Plans(repo) => (repo, in_plans(name)?),
        _ => return Err(Error::NotDirectory),
    };
    let repo = repo.clone();
    Ok(match found {
        InRepo::Plans => Found::Plans(repo),
        InRepo::Artifact(item, suffix) => Found::Artifact(ArtifactId { repo, item }, suffix),
        InRepo::TemporaryFile | InRepo::Foreign => Found::Foreign,
    })
}
