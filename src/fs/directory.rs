//! Listing directories.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use super::handle::{Directory, Handle};
use super::node::Node;
use super::scratch::Kind;
use super::{DirEntry, Error, FileKind, Fs, ROOT, Result, lock};
use crate::artifact::{ArtifactId, Item, RepoName};

/// How many entries one call hands out at most. A kernel's buffer takes some hundred; each that it
/// doesn't take was made for nothing.
const CHUNK: usize = 256;

/// The offsets of `.` and `..`; the entries proper follow.
const DOTS: u64 = 2;

impl Fs {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// [`Error::NotDirectory`].
    pub async fn opendir(self: Arc<Self>, ino: u64) -> Result<u64> {
        if !self.node(ino)?.is_directory() {
            return Err(Error::NotDirectory);
        }
        let directory = Directory {
            ino,
            listing: Mutex::default(),
        };
        self.remember(ino);
        Ok(lock(&self.handles).insert(ino, Handle::Directory(Arc::new(directory))))
    }

    /// Lists a directory from `offset` on: as it is, when the offset is 0, and as it was then
    /// otherwise. With `plus`, each entry but `.` and `..` carries an [`Entry`](super::Entry); the
    /// caller calls [`Fs::remember`] for each one that it hands to the kernel.
    ///
    /// # Errors
    ///
    /// Why no target can say what is there.
    pub async fn readdir(
        self: Arc<Self>,
        fh: u64,
        offset: u64,
        plus: bool,
    ) -> Result<Vec<DirEntry>> {
        let directory = match lock(&self.handles).get(fh) {
            Some(Handle::Directory(directory)) => Arc::clone(directory),
            _ => return Err(Error::BadHandle),
        };
        self.let_go(&directory);
        if offset == 0 {
            let node = self.node(directory.ino)?;
            let mut entries = self.entries(&node).await?;
            entries.extend(self.list_scratch(&node));
            lock(&directory.listing).entries = entries.into();
        }
        let entries = Arc::clone(&lock(&directory.listing).entries);
        let mut answer: Vec<DirEntry> = [".", ".."]
            .into_iter()
            .zip(1..=DOTS)
            .filter(|(_, next)| *next > offset)
            .map(|(name, next)| DirEntry {
                ino: if next == 1 { directory.ino } else { ROOT },
                offset: next,
                kind: FileKind::Directory,
                name: name.into(),
                entry: None,
            })
            .collect();
        let skip = usize::try_from(offset.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let rest = entries.iter().zip(DOTS + 1..).skip(skip).take(CHUNK);
        for ((name, node), next) in rest {
            let entry = plus.then(|| self.hand_out(node.clone()));
            if let Some(entry) = entry {
                // Held until the next call, for between here and the kernel's buffer nobody else
                // does.
                lock(&directory.listing).held.push(entry.attr.ino);
            }
            answer.push(DirEntry {
                ino: entry.map_or_else(|| self.number_shown(node, next), |entry| entry.attr.ino),
                offset: next,
                kind: kind(node),
                name: name.clone(),
                entry,
            });
        }
        Ok(answer)
    }

    /// Closes a directory.
    pub fn releasedir(&self, fh: u64) {
        let removed = lock(&self.handles).remove(fh);
        if let Some((ino, Handle::Directory(directory))) = removed {
            self.let_go(&directory);
            self.forget(ino, 1);
        }
    }

    /// Returns the number that a plain listing shows: the inode's, if the node has one, and
    /// otherwise one that no inode will ever have.
    fn number_shown(&self, node: &Node, place: u64) -> u64 {
        let number = lock(&self.nodes).number_of(node);
        number.unwrap_or(u64::MAX - place)
    }

    /// Lets go of the inodes that the last call has handed out.
    fn let_go(&self, directory: &Directory) {
        let held = std::mem::take(&mut lock(&directory.listing).held);
        let mut nodes = lock(&self.nodes);
        for ino in held {
            nodes.forget(ino, 1);
        }
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
                let entries = self.artifacts(repo, |item| match item {
                    Item::Schema => Some("schema".into()),
                    Item::Plan(_) => None,
                });
                let mut entries = entries.await?;
                entries.push(("plans".into(), Node::Plans(repo.clone())));
                entries
            }
            Node::Plans(repo) => {
                let plans = self.artifacts(repo, |item| match item {
                    Item::Plan(name) => Some(name.as_str().into()),
                    Item::Schema => None,
                });
                plans.await?
            }
            Node::Control => self.list_control(),
            Node::KeptDir(dir) => self.list_kept(dir),
            Node::Scratch(_) => Vec::new(),
            _ => return Err(Error::NotDirectory),
        })
    }

    /// Lists those artifacts of a repository that `name` gives a name to.
    async fn artifacts(
        &self,
        repo: &RepoName,
        name: impl Fn(&Item) -> Option<OsString>,
    ) -> Result<Vec<(OsString, Node)>> {
        let id = |item: &Item| ArtifactId {
            repo: repo.clone(),
            item: item.clone(),
        };
        let listed = self.registry.list(repo).await?;
        let mut entries: Vec<(OsString, Node)> = listed
            .iter()
            .filter_map(|(item, known)| Some((name(item)?, Node::Content(id(item), known.clone()))))
            .collect();
        let local = lock(&self.local);
        let touched = local
            .touched(repo)
            .filter(|item| !listed.iter().any(|(other, _)| other == *item));
        entries.extend(touched.filter_map(|item| Some((name(item)?, Node::Blank(id(item))))));
        Ok(entries)
    }
}

/// Returns what a node is.
pub(super) fn kind(node: &Node) -> FileKind {
    match node {
        Node::Scratch(scratch) => match scratch.kind {
            Kind::File => FileKind::File,
            Kind::Directory => FileKind::Directory,
            Kind::Symlink(_) => FileKind::Symlink,
            Kind::Special { kind, .. } => kind,
        },
        node if node.is_directory() => FileKind::Directory,
        _ => FileKind::File,
    }
}
