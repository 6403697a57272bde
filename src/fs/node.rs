//! Inodes: which number stands for what, for as long as the kernel remembers it.
//!
//! A content never changes under its inode: a push makes a new inode, as a rename over the file
//! would. Readers keep what they opened, the kernel's pages of an inode are always right, and a
//! writer works on an inode of its own that no path leads to.

use std::collections::HashMap;
use std::sync::Arc;

use super::ROOT;
use super::staged_file::StagedFile;
use super::temporary::TemporaryFile;
use crate::model::{ArtifactId, RepoName};
use crate::registry::Revision;

/// The files of `.atlasfs` that are rendered when they are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Report {
    Status,
    Metrics,
    Events,
    /// The job that somebody has asked for; whoever writes to it asks for one.
    Jobs,
}

/// What an inode stands for.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Root,
    Repo(RepoName),
    Plans(RepoName),
    Control,
    Report(Report),
    /// A directory below `.atlasfs/unpushed`, by its path there.
    KeptDir(String),
    /// A failed push whose bytes are kept.
    Kept {
        when: u64,
        size: u64,
    },
    /// A damaged file of the journal, by its name.
    Damaged {
        name: String,
        size: u64,
    },
    /// One content of an artifact.
    Content(ArtifactId, Revision),
    /// An artifact that no target knows: it was only touched, or its first push has failed.
    Blank(ArtifactId),
    /// A writer's own view of an artifact.
    StagedFile(Arc<StagedFile>),
    /// A scratch file, directory or symbolic link.
    TemporaryFile(Arc<TemporaryFile>),
}

/// What tells inodes apart: two look-ups that mean the same thing get the same inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Root,
    Repo(RepoName),
    Plans(RepoName),
    Control,
    Report(Report),
    KeptDir(Box<str>),
    Kept(u64),
    Damaged(Box<str>),
    Blank(Box<ArtifactId>),
    TemporaryFile(u64),
}

impl Node {
    fn key(&self) -> Option<Key> {
        Some(match self {
            Node::Root => Key::Root,
            Node::Repo(repo) => Key::Repo(repo.clone()),
            Node::Plans(repo) => Key::Plans(repo.clone()),
            Node::Control => Key::Control,
            Node::Report(report) => Key::Report(*report),
            Node::KeptDir(path) => Key::KeptDir(path.as_str().into()),
            Node::Kept { when, .. } => Key::Kept(*when),
            Node::Damaged { name, .. } => Key::Damaged(name.as_str().into()),
            Node::Blank(id) => Key::Blank(Box::new(id.clone())),
            Node::TemporaryFile(temporary) => Key::TemporaryFile(temporary.number),
            Node::Content(..) | Node::StagedFile(_) => return None,
        })
    }

    /// Tells whether the node is a directory.
    pub(super) fn is_directory(&self) -> bool {
        match self {
            Node::Root | Node::Repo(_) | Node::Plans(_) | Node::Control | Node::KeptDir(_) => true,
            Node::TemporaryFile(temporary) => temporary.is_directory(),
            Node::Report(_)
            | Node::Kept { .. }
            | Node::Damaged { .. }
            | Node::Content(..)
            | Node::Blank(_)
            | Node::StagedFile(_) => false,
        }
    }

    /// Returns the artifact that the node is a view of.
    pub(super) fn artifact(&self) -> Option<&ArtifactId> {
        match self {
            Node::Content(id, _) | Node::Blank(id) => Some(id),
            Node::StagedFile(staged) => Some(staged.id()),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Slot {
    node: Node,
    /// References that the kernel holds, plus one for each open handle.
    references: u64,
}

/// Returns the number of a content's inode. It follows from the revision, which no two contents of
/// a mount share, so it can be told before the kernel looks the content up. Everything else has
/// odd numbers.
pub(super) fn number_of_content(known: &Revision) -> u64 {
    known.revision * 2
}

/// The inodes that are alive.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Boxed, for up to half of a hash table's places are empty.
    slots: HashMap<u64, Box<Slot>>,
    numbers: HashMap<Key, u64>,
    next: u64,
}

impl Nodes {
    /// Makes the table with the root directory in it, for good.
    pub(super) fn new() -> Self {
        let mut nodes = Self {
            slots: HashMap::new(),
            numbers: HashMap::new(),
            next: ROOT,
        };
        nodes.intern(Node::Root);
        nodes.remember(ROOT);
        nodes
    }

    /// Returns the inode number of a node; a new one gets a number that was never used for another.
    /// Without a reference it is kept until [`Nodes::drop_unused`].
    pub(super) fn intern(&mut self, node: Node) -> u64 {
        let known = self.number_of(&node);
        if let Some(number) = known
            && let Some(slot) = self.slots.get_mut(&number)
        {
            slot.node = node;
            return number;
        }
        let number = known.unwrap_or(self.next);
        if known.is_none() {
            self.next += 2;
        }
        if let Some(key) = node.key() {
            self.numbers.insert(key, number);
        }
        let slot = Slot {
            node,
            references: 0,
        };
        self.slots.insert(number, Box::new(slot));
        number
    }

    /// Returns the inode number of a node, if it has one.
    pub(super) fn number_of(&self, node: &Node) -> Option<u64> {
        match node {
            Node::Content(_, known) => Some(number_of_content(known)),
            node => self.numbers.get(&node.key()?).copied(),
        }
    }

    /// Returns what an inode stands for.
    pub(super) fn get(&self, number: u64) -> Option<&Node> {
        self.slots.get(&number).map(|slot| &slot.node)
    }

    /// Takes a reference.
    pub(super) fn remember(&mut self, number: u64) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.references += 1;
        }
    }

    /// Gives references back; the last one frees the inode.
    pub(super) fn forget(&mut self, number: u64, count: u64) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.references = slot.references.saturating_sub(count);
            self.drop_unused(number);
        }
    }

    /// Frees an inode that nobody refers to.
    pub(super) fn drop_unused(&mut self, number: u64) {
        let unused = self
            .slots
            .get(&number)
            .is_some_and(|slot| slot.references == 0);
        if unused
            && let Some(slot) = self.slots.remove(&number)
            && let Some(key) = slot.node.key()
        {
            self.numbers.remove(&key);
        }
    }

    /// Returns how many inodes are alive.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(name: &str) -> Node {
        Node::Repo(RepoName::parse(name).unwrap())
    }

    #[test]
    fn the_same_thing_has_the_same_inode_for_as_long_as_it_is_remembered() {
        let mut nodes = Nodes::new();
        let app = nodes.intern(repo("app"));
        nodes.remember(app);
        assert_eq!(nodes.intern(repo("app")), app);
        assert_ne!(nodes.intern(repo("other")), app);
    }

    #[test]
    fn an_inode_is_freed_with_its_last_reference_and_its_number_not_used_again() {
        let mut nodes = Nodes::new();
        let app = nodes.intern(repo("app"));
        nodes.remember(app);
        nodes.remember(app);
        nodes.forget(app, 1);
        assert!(nodes.get(app).is_some());
        nodes.forget(app, 1);
        assert!(nodes.get(app).is_none());
        assert_ne!(nodes.intern(repo("app")), app);
    }

    #[test]
    fn the_root_is_never_forgotten_below_its_own_reference() {
        let mut nodes = Nodes::new();
        nodes.remember(ROOT);
        nodes.forget(ROOT, 1);
        assert!(nodes.get(ROOT).is_some());
    }

    /// The kernel remembers an inode for each artifact that somebody has listed.
    #[test]
    fn an_inode_takes_no_more_than_it_needs() {
        assert!(size_of::<Slot>() <= 104, "{}", size_of::<Slot>());
        assert!(size_of::<Key>() <= 24, "{}", size_of::<Key>());
    }
}
