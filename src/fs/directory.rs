//! Listing directories.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex};

use tokio::time::{Instant, timeout_at};

use super::handle::{DirListing, Directory, Handle};
use super::name::{MIGRATIONS, listed, schema_name};
use super::namespace::format;
use super::node::Node;
use super::{DirEntry, Error, FileKind, Fs, ROOT, Result, lock};
use crate::model::{ArtifactId, Format, Item, RepoName, Section};
use crate::registry::Revision;

/// The number of the entries `.` and `..`, which come first.
const DOT_ENTRIES: u64 = 2;

impl Fs {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// [`Error::NotDirectory`].
    pub async fn opendir(self: Arc<Self>, ino: u64, pid: u32) -> Result<u64> {
        let node = self.node(ino)?;
        if !node.is_directory() {
            return Err(Error::NotDirectory);
        }
        if let Node::Repo(repo) | Node::Plans(repo) = node {
            lock(&self.removals).record_listing(pid, repo);
        }
        let directory = Directory {
            ino,
            entries: Mutex::default(),
        };
        self.remember(ino);
        Ok(lock(&self.handles).insert(ino, Handle::Directory(Arc::new(directory))))
    }

    /// Lists a directory: its current entries for offset 0, and the same entries again for any
    /// other offset.
    ///
    /// # Errors
    ///
    /// The error of the targets.
    pub async fn readdir(self: Arc<Self>, fh: u64, offset: u64) -> Result<DirListing> {
        let directory = match lock(&self.handles).get(fh) {
            Some(Handle::Directory(directory)) => Arc::clone(directory),
            _ => return Err(Error::BadHandle),
        };
        if offset == 0 {
            let node = self.node(directory.ino)?;
            let mut entries = self.entries(&node).await?;
            entries.extend(self.list_temporary(&node));
            *lock(&directory.entries) = Arc::new(entries);
        }
        let entries = Arc::clone(&lock(&directory.entries));
        Ok(DirListing {
            ino: directory.ino,
            entries,
        })
    }

    /// Passes the entries of a listing, from `offset` on, to `add`, until `add` returns false for
    /// lack of room. With `plus`, each entry but `.` and `..` carries its
    /// [`LookupEntry`](super::LookupEntry), and the caller holds one more reference on the inode of
    /// each added entry.
    pub fn for_each_entry(
        &self,
        listing: &DirListing,
        offset: u64,
        plus: bool,
        mut add: impl FnMut(DirEntry<'_>) -> bool,
    ) {
        let dots = [(".", listing.ino), ("..", ROOT)].into_iter().zip(1..);
        for ((name, ino), next) in dots.filter(|(_, next)| *next > offset) {
            let entry = DirEntry {
                ino,
                offset: next,
                kind: FileKind::Directory,
                name: OsStr::new(name),
                entry: None,
            };
            if !add(entry) {
                return;
            }
        }
        let skip = usize::try_from(offset.saturating_sub(DOT_ENTRIES)).unwrap_or(usize::MAX);
        for ((name, node), next) in listing.entries.iter().zip(DOT_ENTRIES + 1..).skip(skip) {
            let entry = plus.then(|| self.lookup_entry(node.clone()));
            let ino = entry.map_or_else(|| self.number_shown(node, next), |entry| entry.attr.ino);
            let has_room = add(DirEntry {
                ino,
                offset: next,
                kind: kind(node),
                name,
                entry,
            });
            if !has_room {
                if plus {
                    self.forget(ino, 1);
                }
                return;
            }
        }
    }

    /// Closes a directory.
    pub fn releasedir(&self, fh: u64) {
        let removed = lock(&self.handles).remove(fh);
        if let Some((ino, _)) = removed {
            self.forget(ino, 1);
        }
    }

    /// Returns the inode number for a plain listing: the node's, or a number that no inode ever
    /// gets.
    fn number_shown(&self, node: &Node, place: u64) -> u64 {
        let mut nodes = lock(&self.nodes);
        let number = match node {
            // Both names of a touched schema must show the same number.
            Node::Blank(_) => Some(nodes.intern(node.clone())),
            node => nodes.number_of(node),
        };
        number.unwrap_or(u64::MAX - place)
    }

    async fn entries(&self, node: &Node) -> Result<Vec<(OsString, Node)>> {
        Ok(match node {
            Node::Root => {
                let mut repos = self.registry.repos().await?;
                repos.extend(lock(&self.local).repos().cloned());
                repos.sort();
                repos.dedup();
                let repos = repos.into_iter();
                repos
                    .map(|repo| (repo.as_str().into(), Node::Repo(repo)))
                    .collect()
            }
            Node::Repo(repo) => {
                let mut entries = self.schema_entries(repo).await?;
                entries.push(("plans".into(), Node::Plans(repo.clone())));
                entries.push((MIGRATIONS.into(), Node::Migrations(repo.clone())));
                entries.push(("versions".into(), Node::Versions(repo.clone())));
                entries.push(("tags".into(), Node::Tags(repo.clone())));
                entries
            }
            Node::Plans(repo) => {
                let section = Section::current(repo);
                let plans = self.artifacts(&section, |item| match item {
                    Item::Plan(name) => listed(name),
                    _ => None,
                });
                plans.await?
            }
            Node::Migrations(repo) => {
                let section = Section::migrations(repo);
                let files = self.artifacts(&section, |item| match item {
                    Item::Migration(name) => Some(name.as_str().into()),
                    _ => None,
                });
                files.await?
            }
            Node::Versions(repo) => self.versions(repo).await?,
            Node::Version(id) => self.list_version(id).await?,
            Node::Archive(id) => self.list_archive(id).await?,
            Node::Tags(repo) => self.list_tags(repo).await?,
            Node::Control => self.list_control(),
            Node::KeptDir(dir) => self.list_kept(dir),
            Node::TemporaryFile(_) => Vec::new(),
            _ => return Err(Error::NotDirectory),
        })
    }

    /// Lists a repository's schema under both of its names.
    async fn schema_entries(&self, repo: &RepoName) -> Result<Vec<(OsString, Node)>> {
        let end = Instant::now() + self.registry.settings().metadata;
        let section = Section::current(repo);
        let schema = self.artifacts(&section, |item| match item {
            Item::Schema => Some(schema_name(None).into()),
            _ => None,
        });
        let schema = schema.await?.into_iter();
        let mut entries = Vec::new();
        for (name, node) in schema {
            let Some((node, format)) = self.with_format(node, end).await else {
                continue;
            };
            entries.push((name, node.clone()));
            entries.push((schema_name(Some(format)).into(), node));
        }
        Ok(entries)
    }

    /// Finds out the format of a listed schema; `None` if the schema turns out to be gone.
    async fn with_format(&self, node: Node, end: Instant) -> Option<(Node, Format)> {
        Some(match node {
            Node::Content(id, known) => {
                let known = match known.stamp() {
                    Some(_) => known,
                    // The store's listing carries no stamp, and may be outdated.
                    None => match timeout_at(end, self.registry.stat(&id, true)).await {
                        Ok(Ok(newest)) => newest?,
                        Ok(Err(_)) | Err(_) => known,
                    },
                };
                let format = format(&known);
                (Node::Content(id, known), format)
            }
            node => {
                let touched = node.artifact().and_then(|id| lock(&self.local).format(id));
                (node, touched.unwrap_or(Format::Hcl))
            }
        })
    }

    /// Lists the artifacts of a section that the targets hold.
    pub(super) async fn listed(&self, section: &Section) -> Result<Vec<(Item, Revision)>> {
        match self.registry.list(section).await {
            Err(error) if self.is_new(section, &error) => Ok(Vec::new()),
            listed => Ok(listed?),
        }
    }

    /// Lists the artifacts of a section for which `name` returns a name.
    async fn artifacts(
        &self,
        section: &Section,
        name: impl Fn(&Item) -> Option<OsString>,
    ) -> Result<Vec<(OsString, Node)>> {
        let id = |item: Item| ArtifactId {
            repo: section.repo.clone(),
            item,
        };
        let listed = self.listed(section).await?;
        let local = lock(&self.local);
        let touched = local
            .touched(&section.repo)
            .filter(|item| !listed.iter().any(|(other, _)| other == *item));
        let touched: Vec<_> = touched
            .filter_map(|item| Some((name(item)?, Node::Blank(id(item.clone())))))
            .collect();
        let listed = listed.into_iter();
        let mut entries: Vec<_> = listed
            .filter_map(|(item, known)| Some((name(&item)?, Node::Content(id(item), known))))
            .collect();
        entries.extend(touched);
        Ok(entries)
    }
}

/// Returns the kind of a node.
fn kind(node: &Node) -> FileKind {
    match node {
        Node::TemporaryFile(temporary) => temporary.file_kind(),
        node if node.is_directory() => FileKind::Directory,
        node if node.is_tag() => FileKind::Symlink,
        _ => FileKind::File,
    }
}
