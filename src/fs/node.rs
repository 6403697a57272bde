//! Inodes: their numbers, for as long as the kernel remembers them.
//!
//! The content of an inode never changes: a push makes a new inode, as a rename over the file
//! would. Readers keep the content that they opened, the kernel's pages of an inode are always
//! right, and a writer works on an inode of its own that no path leads to.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use super::archived_file::ArchivedFile;
use super::staged_file::StagedFile;
use super::temporary::TemporaryFile;
use super::types::{ROOT, lock};
use crate::model::{ArtifactId, Item, MigrationName, RepoName};
use crate::registry::Revision;

/// The files of `.atlasfs` that are rendered when they are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ControlFile {
    Status,
    Metrics,
    Events,
    /// The last requested job; a write to it requests one.
    Jobs,
}

/// The object that an inode stands for.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Root,
    Repo(RepoName),
    Plans(RepoName),
    /// The migration directory of a repository.
    Migrations(RepoName),
    /// The versions of a repository.
    Versions(RepoName),
    /// A version, by the artifact that is its own: its schema, or its migration directory.
    Version(ArtifactId),
    /// The migration directory of a version.
    Archive(ArtifactId),
    /// A file in it.
    Archived(Box<ArchivedFile>),
    /// The tags of a repository.
    Tags(RepoName),
    /// The tag of the newest version.
    Latest(RepoName),
    Control,
    ControlFile(ControlFile),
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
    /// A content of an artifact.
    Content(ArtifactId, Revision),
    /// An artifact unknown to all targets: only touched, or its first push has failed.
    Blank(ArtifactId),
    /// A staged file.
    StagedFile(Arc<StagedFile>),
    /// A temporary file, directory or symbolic link.
    TemporaryFile(Arc<TemporaryFile>),
}

/// The identity of an inode: two look-ups of the same object get the same inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum NodeKey {
    Root,
    Repo(RepoName),
    Plans(RepoName),
    Migrations(RepoName),
    Versions(RepoName),
    Version(Box<ArtifactId>),
    Archive(Box<ArtifactId>),
    Archived(Box<(ArtifactId, MigrationName)>),
    Tags(RepoName),
    Latest(RepoName),
    Control,
    ControlFile(ControlFile),
    KeptDir(Box<str>),
    Kept(u64),
    Damaged(Box<str>),
    Blank(Box<ArtifactId>),
    TemporaryFile(u64),
}

impl Node {
    fn key(&self) -> Option<NodeKey> {
        Some(match self {
            Node::Root => NodeKey::Root,
            Node::Repo(repo) => NodeKey::Repo(repo.clone()),
            Node::Plans(repo) => NodeKey::Plans(repo.clone()),
            Node::Migrations(repo) => NodeKey::Migrations(repo.clone()),
            Node::Versions(repo) => NodeKey::Versions(repo.clone()),
            Node::Version(id) => NodeKey::Version(Box::new(id.clone())),
            Node::Archive(id) => NodeKey::Archive(Box::new(id.clone())),
            Node::Archived(file) => {
                NodeKey::Archived(Box::new((file.archive.clone(), file.name.clone())))
            }
            Node::Tags(repo) => NodeKey::Tags(repo.clone()),
            Node::Latest(repo) => NodeKey::Latest(repo.clone()),
            Node::Control => NodeKey::Control,
            Node::ControlFile(report) => NodeKey::ControlFile(*report),
            Node::KeptDir(path) => NodeKey::KeptDir(path.as_str().into()),
            Node::Kept { when, .. } => NodeKey::Kept(*when),
            Node::Damaged { name, .. } => NodeKey::Damaged(name.as_str().into()),
            Node::Blank(id) => NodeKey::Blank(Box::new(id.clone())),
            Node::TemporaryFile(temporary) => NodeKey::TemporaryFile(temporary.number),
            Node::Content(..) | Node::StagedFile(_) => return None,
        })
    }

    /// Tells whether the node is a directory.
    pub(super) fn is_directory(&self) -> bool {
        match self {
            Node::Root | Node::Repo(_) | Node::Plans(_) | Node::Control | Node::KeptDir(_) => true,
            Node::Migrations(_) | Node::Versions(_) | Node::Version(_) => true,
            Node::Archive(_) | Node::Tags(_) => true,
            Node::TemporaryFile(temporary) => temporary.is_directory(),
            Node::ControlFile(_)
            | Node::Kept { .. }
            | Node::Damaged { .. }
            | Node::Archived(_)
            | Node::Latest(_)
            | Node::Content(..)
            | Node::Blank(_)
            | Node::StagedFile(_) => false,
        }
    }

    /// Tells whether nobody may change the node.
    pub(super) fn is_immutable(&self) -> bool {
        match self {
            Node::Versions(_) | Node::Version(_) | Node::Latest(_) => true,
            Node::Archive(_) | Node::Archived(_) => true,
            Node::Content(id, _) => id.item.is_immutable(),
            _ => false,
        }
    }

    /// Tells whether the node is a tag, which the mount shows as a symbolic link.
    pub(super) fn is_tag(&self) -> bool {
        match self {
            Node::Latest(_) => true,
            Node::Content(id, _) => matches!(id.item, Item::Tag(_)),
            _ => false,
        }
    }

    /// Returns the artifact of a content, of a version, or of a staged file.
    pub(super) fn artifact(&self) -> Option<&ArtifactId> {
        match self {
            Node::Content(id, _) | Node::Blank(id) => Some(id),
            Node::Version(id) | Node::Archive(id) => Some(id),
            Node::StagedFile(staged) => Some(staged.id()),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct NodeSlot {
    node: Node,
    /// References that the kernel holds, plus one for each open handle.
    references: u64,
}

/// Returns the inode number of a content. The number comes from the revision, which is unique in a
/// mount, so it is known before the kernel looks the content up. All other inodes have odd numbers.
pub(super) fn number_of_content(known: &Revision) -> u64 {
    known.revision * 2
}

/// Tells whether an inode number is that of a content.
pub(super) fn is_number_of_content(number: u64) -> bool {
    number.is_multiple_of(2)
}

/// The inodes that are alive.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Boxed, because up to half of a hash table is empty.
    slots: HashMap<u64, Box<NodeSlot>>,
    numbers: HashMap<NodeKey, u64>,
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

    /// Returns the inode number of a node; a new node gets a number that was never used. A node
    /// without a reference is kept until [`Nodes::drop_unused`].
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
        let slot = NodeSlot {
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

    /// Returns the node of an inode.
    pub(super) fn get(&self, number: u64) -> Option<&Node> {
        self.slots.get(&number).map(|slot| &slot.node)
    }

    /// Adds a reference.
    pub(super) fn remember(&mut self, number: u64) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.references += 1;
        }
    }

    /// Drops references; the last one frees the inode.
    pub(super) fn forget(&mut self, number: u64, count: u64) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.references = slot.references.saturating_sub(count);
            self.drop_unused(number);
        }
    }

    /// Frees an inode without references.
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

/// A function that makes the kernel forget the attributes of an inode.
type ForgetAttributes = Arc<dyn Fn(u64) + Send + Sync>;

/// Notifications to the kernel, while it is connected.
#[derive(Default)]
pub(super) struct KernelNotifier(Mutex<Option<ForgetAttributes>>);

impl KernelNotifier {
    /// Sets the function that makes the kernel forget.
    pub(super) fn connect(&self, forget: impl Fn(u64) + Send + Sync + 'static) {
        *lock(&self.0) = Some(Arc::new(forget));
    }

    /// Sends no more notifications.
    pub(super) fn disconnect(&self) {
        *lock(&self.0) = None;
    }

    /// Makes the kernel ask for an inode's attributes at their next use.
    pub(super) fn forget_attributes(&self, ino: u64) {
        // Not under the lock: the call may wait for the kernel.
        let forget = lock(&self.0).clone();
        if let Some(forget) = forget {
            forget(ino);
        }
    }
}

impl fmt::Debug for KernelNotifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("KernelNotifier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(name: &str) -> Node {
        Node::Repo(RepoName::parse(name).unwrap())
    }

    #[test]
    fn the_same_object_has_the_same_inode() {
        let mut nodes = Nodes::new();
        let app = nodes.intern(repo("app"));
        nodes.remember(app);
        assert_eq!(nodes.intern(repo("app")), app);
        assert_ne!(nodes.intern(repo("other")), app);
    }

    #[test]
    fn an_inode_number_is_never_used_again() {
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
    fn the_root_is_never_freed() {
        let mut nodes = Nodes::new();
        nodes.remember(ROOT);
        nodes.forget(ROOT, 1);
        assert!(nodes.get(ROOT).is_some());
    }

    /// The kernel remembers an inode for each listed artifact.
    #[test]
    fn an_inode_takes_little_memory() {
        assert!(size_of::<NodeSlot>() <= 104, "{}", size_of::<NodeSlot>());
        assert!(size_of::<NodeKey>() <= 24, "{}", size_of::<NodeKey>());
    }
}
