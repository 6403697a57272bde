//! Listing the sections of a repository.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Meta, Target};
use crate::model::{Item, Part, RepoName, Section};
use crate::store::{Failure, Listed};

/// The content of one repository at a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepoListing {
    /// The artifacts.
    pub items: BTreeMap<Item, Meta>,
    /// The keys below the repository that are outside the layout, in the store's order.
    pub hidden: Vec<String>,
}

/// Parts of the layout that are not artifacts of this mount yet, but not foreign either.
const OTHER_LAYOUT: [&str; 2] = ["versions/", "tags/"];

impl Target {
    /// Lists a section of a repository. A missing one is empty.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn list_section(
        &self,
        section: &Section,
        deadline: Instant,
    ) -> Result<RepoListing, Failure> {
        match section.part {
            Part::Current => self.list_current(&section.repo, deadline).await,
            Part::Versions | Part::Archives => self.list_versions(&section.repo, deadline).await,
            Part::Tags | Part::Migrations => {
                let (repo, prefix) = (&section.repo, section.to_string());
                let attempt = format!("listing {prefix}");
                let listed = self
                    .by(deadline, &attempt, self.driver.list(&prefix))
                    .await?;
                Ok(self.listing(repo, listed))
            }
        }
    }

    /// Lists the schema and the plans of a repository. A missing repository is an empty one.
    async fn list_current(
        &self,
        repo: &RepoName,
        deadline: Instant,
    ) -> Result<RepoListing, Failure> {
        let attempt = format!("listing {repo}");
        let (without, last) = (
            Section::migrations(repo).to_string(),
            format!("{repo}/{}", Item::Schema),
        );
        let listed = self
            .driver
            .list_without(repo.as_str(), &without, Some(&last));
        let listed = self.by(deadline, &attempt, listed).await?;
        if listed.is_empty() {
            self.confirm(deadline).await?;
        }
        Ok(self.listing(repo, listed))
    }

    /// Lists the schema, the plans and the migration directory of a repository. A missing repository
    /// is an empty one.
    ///
    /// # Errors
    ///
    /// The target's failing answer.
    pub async fn list(&self, repo: &RepoName, deadline: Instant) -> Result<RepoListing, Failure> {
        let attempt = format!("listing {repo}");
        // Keys after the schema's are those of history, which may be long.
        let last = format!("{repo}/{}", Item::Schema);
        let listed = self.driver.list_up_to(repo.as_str(), Some(&last));
        let listed = self.by(deadline, &attempt, listed).await?;
        if listed.is_empty() {
            self.confirm(deadline).await?;
        }
        Ok(self.listing(repo, listed))
    }

    /// Sorts the objects of a repository into artifacts and foreign ones.
    fn listing(&self, repo: &RepoName, listed: Vec<Listed>) -> RepoListing {
        let mut listing = RepoListing::default();
        for object in listed {
            let key = object.key.strip_prefix(repo.as_str());
            let Some(key) = key.and_then(|rest| rest.strip_prefix('/')) else {
                listing.hidden.push(object.key);
                continue;
            };
            if let Some(item) = Item::from_key(key) {
                listing.items.insert(item, self.meta(object));
            } else if !known(key) {
                listing.hidden.push(object.key);
            }
        }
        listing
    }
}

/// Tells whether a key below a repository belongs to the layout without being an artifact of this
/// mount. The empty "section" objects that some consoles create belong to it.
fn known(key: &str) -> bool {
    matches!(key, "" | "plans/" | "migrations/")
        || OTHER_LAYOUT.iter().any(|part| key.starts_with(part))
}
