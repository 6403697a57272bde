//! The history of a repository: its versions, which never change, and the tags that name them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::name::{InRepo, MIGRATIONS, in_repo, schema_name};
use super::namespace::format;
use super::node::Node;
use super::{Error, Fs, LookupEntry, Result};
use crate::model::{ArtifactId, Item, LATEST, RepoName, Section, Version};
use crate::registry::{Event, Level, PushDetails, Revision, Wait};

/// The link of a tag, up to the version's name.
const TO_VERSIONS: &str = "../versions/";

/// The length of each tag's link, in bytes: every version's name has 23.
pub(super) const TAG_BYTES: u64 = TO_VERSIONS.len() as u64 + 23;

impl Fs {
    /// Finds a version among those of a repository.
    pub(super) async fn find_version(&self, repo: &RepoName, name: &OsStr) -> Result<Node> {
        let version = name.to_str().and_then(|name| Version::parse(name).ok());
        let version = version.ok_or(Error::NotFound)?;
        match self.registry.has_version(repo, &version).await? {
            true => Ok(self.version_node(repo, version)),
            false => Err(Error::NotFound),
        }
    }

    /// Lists the versions of a repository.
    pub(super) async fn versions(&self, repo: &RepoName) -> Result<Vec<(OsString, Node)>> {
        let versions = match self.registry.versions(repo).await {
            Err(error) if self.is_new(&Section::current(repo), &error) => BTreeSet::new(),
            versions => versions?,
        };
        let entry = |version: Version| (version.as_str().into(), self.version_node(repo, version));
        Ok(versions.into_iter().map(entry).collect())
    }

    /// Finds a name in a version.
    pub(super) async fn find_in_version(&self, id: &ArtifactId, name: &OsStr) -> Result<Node> {
        match in_repo(name)? {
            InRepo::Artifact(Item::Schema, suffix) => {
                let section = Section::versions(&id.repo);
                let part = self.part_at(section, id).await?.ok_or(Error::NotFound)?;
                let known = self.version_part(&part).await?;
                match suffix.is_none_or(|suffix| suffix == format(&known)) {
                    true => Ok(Node::Content(part, known)),
                    false => Err(Error::NotFound),
                }
            }
            InRepo::Migrations => {
                let part = self.part_at(Section::archives(&id.repo), id).await?;
                part.map(Node::Archive).ok_or(Error::NotFound)
            }
            _ => Err(Error::NotFound),
        }
    }

    /// Lists a version: the newest schema up to it, under both of its names, and the newest migration
    /// directory.
    pub(super) async fn list_version(&self, id: &ArtifactId) -> Result<Vec<(OsString, Node)>> {
        let mut entries = Vec::new();
        if let Some(part) = self.part_at(Section::versions(&id.repo), id).await? {
            let known = self.version_part(&part).await?;
            let twin = schema_name(Some(format(&known)));
            let node = Node::Content(part, known);
            entries.push((schema_name(None).into(), node.clone()));
            entries.push((twin.into(), node));
        }
        if let Some(part) = self.part_at(Section::archives(&id.repo), id).await? {
            entries.push((MIGRATIONS.into(), Node::Archive(part)));
        }
        Ok(entries)
    }

    async fn part_at(&self, section: Section, id: &ArtifactId) -> Result<Option<ArtifactId>> {
        let version = id.item.version().ok_or(Error::NotFound)?;
        Ok(self.registry.part_at(&section, version).await?)
    }

    /// Lists the tags of a repository.
    pub(super) async fn list_tags(&self, repo: &RepoName) -> Result<Vec<(OsString, Node)>> {
        let tags = match self.registry.tags(repo).await {
            Err(error) if self.is_new(&Section::current(repo), &error) => Vec::new(),
            tags => tags?,
        };
        let mut entries = Vec::new();
        // A link that leads nowhere would end tar, and every other program that reads each link.
        if !self.versions(repo).await?.is_empty() {
            entries.push((LATEST.into(), Node::Latest(repo.clone())));
        }
        for (item, known) in tags {
            if let Item::Tag(tag) = &item {
                let name = tag.as_str().into();
                let repo = repo.clone();
                entries.push((name, Node::Content(ArtifactId { repo, item }, known)));
            }
        }
        Ok(entries)
    }

    /// Reads the link that shows a tag.
    pub(super) async fn read_tag(&self, node: &Node) -> Result<OsString> {
        let version = match node {
            Node::Latest(repo) => {
                let limit = self.registry.settings().read;
                let newest = timeout(limit, self.newest_version(repo)).await;
                newest.map_err(|_| Error::Io)??
            }
            Node::Content(id, _) if node.is_tag() => {
                let content = self.registry.pull(id).await?.bytes;
                let version = std::str::from_utf8(&content).ok();
                let version = version.and_then(|version| Version::parse(version).ok());
                version.ok_or(Error::Io)?
            }
            _ => return Err(Error::Invalid),
        };
        Ok(format!("{TO_VERSIONS}{version}").into())
    }

    /// Finds the newest version. Names alone don't order the versions of one second, so their stamps
    /// decide.
    async fn newest_version(&self, repo: &RepoName) -> Result<Version> {
        let mut versions = self.registry.versions(repo).await?;
        let mut newest = versions.pop_last().ok_or(Error::NotFound)?;
        let second = newest.when();
        versions.retain(|version| version.when() == second);
        if versions.is_empty() {
            return Ok(newest);
        }
        let mut newest_when = self.pushed_at(repo, &newest).await?;
        for version in versions {
            let when = self.pushed_at(repo, &version).await?;
            if when > newest_when {
                (newest, newest_when) = (version, when);
            }
        }
        Ok(newest)
    }

    /// Returns the time of a version's push, to the nanosecond.
    async fn pushed_at(&self, repo: &RepoName, version: &Version) -> Result<u64> {
        let parts = [
            Item::Version(version.clone()),
            Item::Archive(version.clone()),
        ];
        for item in parts {
            let repo = repo.clone();
            let known = self.registry.stat(&ArtifactId { repo, item }, true).await?;
            if let Some(stamp) = known.and_then(|known| known.stamp()) {
                return Ok(stamp.when);
            }
        }
        Ok(version.when())
    }

    /// Looks a tag up that was just made.
    pub(super) async fn lookup_tag(&self, id: &ArtifactId) -> Result<LookupEntry> {
        let known = self.registry.stat(id, false).await?;
        let known = known.ok_or(Error::NotFound)?;
        Ok(self.lookup_entry(Node::Content(id.clone(), known)))
    }

    /// Makes a tag, or moves it unless `is_new`: a push of `user`. `to`: where its link leads.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if that is no version of the repository, [`Error::NotFound`] if the version
    /// does not exist; the error of the push.
    pub(super) async fn push_tag(
        self: &Arc<Self>,
        id: &ArtifactId,
        to: &OsStr,
        is_new: bool,
        user: Option<u32>,
    ) -> Result<()> {
        let end = Instant::now() + self.registry.settings().push_budget();
        let version = to.to_str().and_then(|to| to.strip_prefix(TO_VERSIONS));
        let version = version.and_then(|name| Version::parse(name.trim_end_matches('/')).ok());
        let Some(version) = version else {
            let message = "a tag is a link to ../versions/<version> of the same repository";
            let event = Event::new(Level::Warn, "refused", message);
            self.registry.report(event.with("artifact", id.to_string()));
            return Err(Error::Invalid);
        };
        if !self.registry.may_tag(&id.repo, &version).await? {
            let message = format!(
                "the targets of tags have no version {version}: ls ../versions shows all; one of \
                 migrations alone can't be named if those have targets of their own"
            );
            let event = Event::new(Level::Warn, "refused", message);
            self.registry.report(event.with("artifact", id.to_string()));
            return Err(Error::NotFound);
        }
        let mut base = self.newest(id).await;
        if is_new && !base.is_absent() {
            return Err(Error::Exists);
        }
        let (fs, id) = (Arc::clone(self), id.clone());
        // In a task of its own: the push goes on if the caller gives up.
        let push = tokio::spawn(async move {
            let _in_flight = fs.pushes.begin();
            let details = PushDetails {
                author: fs.authors.of(user, end).await,
                ..PushDetails::default()
            };
            let (before, content) = (fs.registry.newest(&id), version.to_string().into());
            let push = fs
                .registry
                .push(&id, content, &mut base, details, end, Wait::ForVerdict);
            let pushed = push.await;
            fs.invalidate(&id, before);
            pushed.map_err(Error::from)
        });
        match push.await.unwrap_or(Err(Error::Io)) {
            // Another mount was faster.
            Err(Error::Stale) if is_new => Err(Error::Exists),
            pushed => pushed,
        }
    }

    async fn version_part(&self, id: &ArtifactId) -> Result<Revision> {
        self.registry.stat(id, true).await?.ok_or(Error::NotFound)
    }

    /// Returns the node of a version: it stands for its schema, or for its migration directory.
    fn version_node(&self, repo: &RepoName, version: Version) -> Node {
        let id = |item| ArtifactId {
            repo: repo.clone(),
            item,
        };
        let archive = id(Item::Archive(version.clone()));
        Node::Version(match self.registry.exists(&archive) {
            true => archive,
            false => id(Item::Version(version)),
        })
    }
}
