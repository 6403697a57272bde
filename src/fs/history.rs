//! The history of a repository: its versions, which never change, and the tags that name them.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use tokio::time::Instant;

use super::name::{in_version, schema_name};
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
        let id = ArtifactId {
            repo: repo.clone(),
            item: Item::Version(version.ok_or(Error::NotFound)?),
        };
        match self.registry.has_version(&id).await? {
            true => Ok(Node::Version(id)),
            false => Err(Error::NotFound),
        }
    }

    /// Lists the versions of a repository.
    pub(super) async fn versions(&self, repo: &RepoName) -> Result<Vec<(OsString, Node)>> {
        let versions = match self.registry.versions(repo).await {
            Err(error) if self.is_new(&Section::current(repo), &error) => Vec::new(),
            versions => versions?,
        };
        let entry = |version: Version| {
            let name = version.as_str().into();
            let repo = repo.clone();
            let item = Item::Version(version);
            (name, Node::Version(ArtifactId { repo, item }))
        };
        Ok(versions.into_iter().map(entry).collect())
    }

    /// Finds a file of a version.
    pub(super) async fn find_in_version(&self, id: &ArtifactId, name: &OsStr) -> Result<Node> {
        let suffix = in_version(name)?.ok_or(Error::NotFound)?;
        let known = self.version_schema(id).await?;
        match suffix.is_none_or(|suffix| suffix == format(&known)) {
            true => Ok(Node::Content(id.clone(), known)),
            false => Err(Error::NotFound),
        }
    }

    /// Lists the files of a version: its schema under both of its names.
    pub(super) async fn list_version(&self, id: &ArtifactId) -> Result<Vec<(OsString, Node)>> {
        let known = self.version_schema(id).await?;
        let twin = schema_name(Some(format(&known)));
        let node = Node::Content(id.clone(), known);
        Ok(vec![
            (schema_name(None).into(), node.clone()),
            (twin.into(), node),
        ])
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
            Node::Latest(repo) => self.newest_version(repo).await?,
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
        let mut newest = versions.pop().ok_or(Error::NotFound)?;
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
        let (repo, item) = (repo.clone(), Item::Version(version.clone()));
        let known = self.version_schema(&ArtifactId { repo, item }).await?;
        Ok(known.stamp().map_or(version.when(), |stamp| stamp.when))
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
        let repo = id.repo.clone();
        let item = Item::Version(version.clone());
        if !self
            .registry
            .has_version(&ArtifactId { repo, item })
            .await?
        {
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

    async fn version_schema(&self, id: &ArtifactId) -> Result<Revision> {
        self.registry.stat(id, true).await?.ok_or(Error::NotFound)
    }
}
