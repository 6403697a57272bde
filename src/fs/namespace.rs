//! Looking up, making and removing names.

use std::ffi::OsStr;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::name::{InRepo, InRoot, in_migrations, in_plans, in_repo, in_root, in_tags};
use super::node::{Node, number_of_content};
use super::staged_file::StagedFile;
use super::staging::{Reservation, StagedBytes, disk_error};
use super::temporary::TemporaryDir;
use super::threads::Intent;
use super::{CreateAttrs, Error, Fs, LookupEntry, Result, lock};
use crate::model::{ArtifactId, Format, RepoName, Section};
use crate::registry::{self, ErrorKind, Event, Level, Revision};

impl Fs {
    /// Finds a name in a directory; the caller holds one more reference on the inode afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], or the error of the targets.
    pub async fn lookup(
        self: Arc<Self>,
        parent: u64,
        name: &OsStr,
        pid: u32,
    ) -> Result<LookupEntry> {
        let parent = self.node(parent)?;
        if let Some(place) = Self::temporary_dir(&parent, name)? {
            return Ok(self.lookup_entry(self.find_temporary(&place, name)?));
        }
        let node = match parent {
            Node::Root => self.find_in_root(name).await?,
            parent @ (Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) | Node::Tags(_)) => {
                match in_directory(&parent, name)? {
                    InDirectory::Fixed(node) => node,
                    InDirectory::Artifact(id, suffix) => {
                        self.record_name(pid, &id, name);
                        self.find_artifact(&id, suffix, pid).await?
                    }
                    InDirectory::Foreign => return Err(Error::NotFound),
                }
            }
            Node::Versions(repo) => self.find_version(&repo, name).await?,
            Node::Version(id) => self.find_in_version(&id, name).await?,
            Node::Archive(id) => self.find_archived(&id, name).await?,
            Node::Control => self.find_control(name)?,
            Node::KeptDir(dir) => self.find_kept(&dir, name)?,
            _ => return Err(Error::NotDirectory),
        };
        Ok(self.lookup_entry(node))
    }

    async fn find_in_root(&self, name: &OsStr) -> Result<Node> {
        match in_root(name)? {
            InRoot::Control => Ok(Node::Control),
            InRoot::Repo(repo) => match self.has_repo(&repo).await {
                Ok(true) => Ok(Node::Repo(repo)),
                // No target has ever answered. mkdir(2) first looks the name up.
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
            // A save must reach the push, so that its bytes are kept; a read fails.
            Err(Error::Io) if !self.registry.was_listed(&id.section()) => Node::Blank(id.clone()),
            Err(error) => return Err(error),
        };
        if lock(&self.stale_retries).is_waiting(pid, id, Intent::Read) {
            return Ok(self.read_ahead(id, node, end).await);
        }
        if !lock(&self.stale_retries).is_waiting(pid, id, Intent::Write) {
            return Ok(node);
        }
        // Programs see the inode number that stat(2) shows for this content.
        let (size, shown) = match &node {
            Node::Content(_, known) => (known.size, Some(number_of_content(known))),
            _ => (0, None),
        };
        let staged = self.staged(id, suffix, size).showing(shown);
        Ok(Node::StagedFile(Arc::new(staged)))
    }

    /// Pulls the content for a reader that a push has overtaken: its open then finds it in memory,
    /// even after further pushes.
    async fn read_ahead(&self, id: &ArtifactId, node: Node, end: Instant) -> Node {
        match timeout_at(end, self.registry.pull(id)).await {
            Ok(Ok(pulled)) => Node::Content(id.clone(), pulled.known),
            Ok(Err(_)) | Err(_) => node,
        }
    }

    /// Makes a staged file, not open yet.
    pub(super) fn staged(&self, id: &ArtifactId, suffix: Option<Format>, size: u64) -> StagedFile {
        let max_size = self.registry.settings().max_size;
        let reservation = Reservation::new(&self.staged);
        let bytes = StagedBytes::new(size, reservation);
        StagedFile::new(id.clone(), suffix, max_size, bytes, self.now())
    }

    /// Returns the newest content of an artifact, if its format fits the name's suffix:
    /// `schema.sql` doesn't exist while the state is HCL.
    pub(super) async fn resolve(
        &self,
        id: &ArtifactId,
        suffix: Option<Format>,
    ) -> Result<Option<Revision>> {
        let known = match self.registry.stat(id, suffix.is_some()).await {
            Err(error) if self.is_new(&id.section(), &error) => None,
            known => known?,
        };
        Ok(known.filter(|known| suffix.is_none_or(|suffix| suffix == format(known))))
    }

    /// Tells whether a section is new for this mount: its repository was made here, and no target
    /// has ever listed it. A push to it still replaces nothing, because it requires an empty target.
    pub(super) fn is_new(&self, section: &Section, error: &registry::RegistryError) -> bool {
        error.kind == ErrorKind::Outage
            && !self.registry.was_listed(section)
            && lock(&self.local).has(&section.repo)
    }

    /// Tells whether an artifact unknown to all targets has a name here: it was touched, or its
    /// push has failed with an error to show.
    fn is_blank(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        !self.registry.exists(id)
            && (self.registry.has_error(id) || lock(&self.local).is_touched(id, suffix))
    }

    /// Tells whether an artifact was touched here, and not pushed since.
    pub(super) fn is_touched(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        !self.registry.exists(id) && lock(&self.local).is_touched(id, suffix)
    }

    /// Parses the name of a new artifact; refuses any other name.
    pub(super) fn parse_new(
        &self,
        parent: &Node,
        name: &OsStr,
    ) -> Result<(ArtifactId, Option<Format>)> {
        match parent {
            Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) => {
                match in_directory(parent, name)? {
                    InDirectory::Artifact(id, suffix) => Ok((id, suffix)),
                    InDirectory::Fixed(_) => Err(Error::IsDirectory),
                    InDirectory::Foreign => Err(self.refuse(name)),
                }
            }
            parent if parent.is_directory() => Err(self.refuse(name)),
            _ => Err(Error::NotDirectory),
        }
    }

    /// Refuses an invalid name, and reports the valid ones.
    pub(super) fn refuse(&self, name: &OsStr) -> Error {
        let message = "not a name of this mount: a repository holds schema (schema.hcl, \
                       schema.sql), plans/<name> (plans/<name>.plan.hcl), and migrations/ with \
                       <name>.sql and atlas.sum";
        let event = Event::new(Level::Warn, "refused", message);
        self.registry
            .report(event.with("name", name.to_string_lossy()));
        Error::NotPermitted
    }

    /// Makes a repository. It is local until its first push, because stores have no directories.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`]; [`Error::NotPermitted`] for an invalid name, or outside of the root.
    pub async fn mkdir(
        self: Arc<Self>,
        parent: u64,
        name: &OsStr,
        attrs: CreateAttrs,
    ) -> Result<LookupEntry> {
        self.writable()?;
        let parent = self.node(parent)?;
        if Self::temporary_dir(&parent, name)?.is_some() {
            return self.mkdir_temporary(&parent, name, attrs);
        }
        let repo = match parent {
            Node::Root => match in_root(name)? {
                InRoot::Repo(repo) => repo,
                InRoot::Control => return Err(Error::Exists),
                InRoot::TemporaryFile | InRoot::Foreign => return Err(self.refuse(name)),
            },
            parent @ (Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) | Node::Tags(_)) => {
                return Err(match in_directory(&parent, name)? {
                    InDirectory::Fixed(_) => Error::Exists,
                    InDirectory::Artifact(..) | InDirectory::Foreign => self.refuse(name),
                });
            }
            _ => return Err(self.refuse(name)),
        };
        let is_there = match self.has_repo(&repo).await {
            // The repository is local until its first push, which asks the targets.
            Err(Error::Io) => false,
            is_there => is_there?,
        };
        if is_there || !lock(&self.local).make(repo.clone()) {
            return Err(Error::Exists);
        }
        Ok(self.lookup_entry(Node::Repo(repo)))
    }

    /// Removes an empty repository that was made here.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`]; [`Error::NotPermitted`] for a configured repository, and for the fixed
    /// directories.
    pub async fn rmdir(self: Arc<Self>, parent: u64, name: &OsStr) -> Result<()> {
        self.writable()?;
        let parent = self.node(parent)?;
        if let Some(place) = Self::temporary_dir(&parent, name)? {
            return self.rmdir_temporary(&place, name);
        }
        let repo = match parent {
            Node::Root => match in_root(name)? {
                InRoot::Repo(repo) => repo,
                InRoot::Control => return Err(Error::NotPermitted),
                InRoot::TemporaryFile | InRoot::Foreign => return Err(Error::NotFound),
            },
            parent @ (Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) | Node::Tags(_)) => {
                return Err(match in_directory(&parent, name)? {
                    InDirectory::Fixed(_) => Error::NotPermitted,
                    InDirectory::Artifact(..) => Error::NotDirectory,
                    InDirectory::Foreign => Error::NotFound,
                });
            }
            _ => return Err(Error::NotPermitted),
        };
        if !self.has_repo(&repo).await? {
            return Err(Error::NotFound);
        }
        let touched = lock(&self.local).touched(&repo).next().is_some();
        let temporary = [
            TemporaryDir::Repo(repo.clone()),
            TemporaryDir::Plans(repo.clone()),
            TemporaryDir::Migrations(repo.clone()),
        ];
        let temporary = temporary
            .iter()
            .any(|place| !lock(&self.temporary).is_empty(place));
        if touched || temporary {
            return Err(Error::NotEmpty);
        }
        for section in [Section::current(&repo), Section::migrations(&repo)] {
            if !self.listed(&section).await?.is_empty() {
                return Err(Error::NotEmpty);
            }
        }
        match lock(&self.local).remove(&repo) {
            true => Ok(()),
            // The repository is in the configuration or the registry.
            false => Err(Error::NotPermitted),
        }
    }

    /// Deletes an artifact from every target, if the mount allows it. Local files can always be
    /// removed: touched ones, and those of failed pushes.
    ///
    /// # Errors
    ///
    /// [`Error::NotPermitted`] without `--allow-delete`; the error of the targets.
    pub async fn unlink(self: Arc<Self>, parent: u64, name: &OsStr, pid: u32) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        self.writable()?;
        let parent = self.node(parent)?;
        if let Some(place) = Self::temporary_dir(&parent, name)? {
            return self.unlink_temporary(&place, name);
        }
        let (id, suffix) = match parent {
            parent @ (Node::Repo(_) | Node::Plans(_) | Node::Migrations(_) | Node::Tags(_)) => {
                match in_directory(&parent, name)? {
                    InDirectory::Artifact(id, suffix) => (id, suffix),
                    InDirectory::Fixed(node) if node.is_directory() => {
                        return Err(Error::IsDirectory);
                    }
                    InDirectory::Fixed(_) => return Err(Error::NotPermitted),
                    InDirectory::Foreign => return Err(Error::NotFound),
                }
            }
            Node::KeptDir(dir) => return self.unlink_kept(&dir, name).await,
            Node::Root => return Err(Error::IsDirectory),
            _ => return Err(Error::NotPermitted),
        };
        let before = self.resolve(&id, suffix).await?;
        let allowed = self.settings.allow_delete || before.is_none();
        if allowed
            && self
                .removes_one_name(pid, &id, suffix, before.as_ref())
                .await
        {
            return Ok(());
        }
        let Some(before) = before else {
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
            self.registry.report(event.with("artifact", id.to_string()));
            return Err(Error::NotPermitted);
        }
        self.refuse_stray(pid, &id, name)?;
        let fs = Arc::clone(&self);
        let deletion = tokio::spawn(async move {
            let _in_flight = fs.pushes.begin();
            // The artifact exists: a touched file of that name must not outlive it, even if some
            // target misses the deletion.
            lock(&fs.local).untouch(&id);
            let deleted = fs.registry.delete(&id, end).await;
            fs.invalidate(&id, Some(before));
            fs.directory_changed(&id, None).await;
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
                .map_err(|error| disk_error(&error)),
            Node::Damaged { name, .. } => self
                .registry
                .remove_damaged(&name)
                .map_err(|error| disk_error(&error)),
            _ => Err(Error::IsDirectory),
        }
    }
}

/// Returns the format of a content. Assumes HCL if it is unknown, as a push does.
pub(super) fn format(known: &Revision) -> Format {
    known.stamp().map_or(Format::Hcl, |stamp| stamp.format)
}

/// A name in a repository, or in one of its directories.
pub(super) enum InDirectory {
    /// A directory or a tag that is always there.
    Fixed(Node),
    Artifact(ArtifactId, Option<Format>),
    Foreign,
}

/// Parses a name in a repository, or in one of its directories.
pub(super) fn in_directory(parent: &Node, name: &OsStr) -> Result<InDirectory> {
    let (repo, found) = match parent {
        Node::Repo(repo) => (repo, in_repo(name)?),
        Node::Plans(repo) => (repo, in_plans(name)?),
        Node::Migrations(repo) => (repo, in_migrations(name)?),
        Node::Tags(repo) => (repo, in_tags(name)?),
        _ => return Err(Error::NotDirectory),
    };
    let repo = repo.clone();
    Ok(match found {
        InRepo::Plans => InDirectory::Fixed(Node::Plans(repo)),
        InRepo::Migrations => InDirectory::Fixed(Node::Migrations(repo)),
        InRepo::Versions => InDirectory::Fixed(Node::Versions(repo)),
        InRepo::Tags => InDirectory::Fixed(Node::Tags(repo)),
        InRepo::Latest => InDirectory::Fixed(Node::Latest(repo)),
        InRepo::Artifact(item, suffix) => InDirectory::Artifact(ArtifactId { repo, item }, suffix),
        InRepo::TemporaryFile | InRepo::Foreign => InDirectory::Foreign,
    })
}
