//! The model of a registry's content: names, stamps, documents and formats.

#[cfg(test)]
mod arbitrary_tests;
mod archive;
mod author;
mod base;
mod document;
mod hcl;
mod item;
mod lineage;
mod migration_directory;
mod name;
mod plan_status;
mod section;
mod sha256;
mod stamp;
mod sum_file;
mod text;
mod wall_clock;

pub use archive::InvalidArchive;
pub use author::{Author, InvalidAuthor, MAX_AUTHOR_BYTES};
pub use base::Base;
pub use document::{Format, Rejection, check_plan, check_schema, guess_format};
pub use hcl::Syntax;
pub(crate) use hcl::plain;
pub use item::{ArtifactId, Item};
pub use lineage::Lineage;
pub use migration_directory::{MigrationDirectory, SumState};
pub use name::{
    InvalidName, LATEST, MAX_NAME_BYTES, MigrationName, PLAN_SUFFIX, PlanName, RepoName, TagName,
    Version, is_made_of, is_probe, is_temporary,
};
pub use plan_status::{InvalidStatus, PlanStatus};
pub use section::{Part, Section};
pub use sha256::Sha256;
pub use stamp::{MAX_AHEAD, Stamp, StampClock, when_from_text, when_to_text};
pub(crate) use stamp::{is_ahead, nanos};
pub use sum_file::{InvalidSum, SUM_FILE, SumDifference, SumFile};
pub(crate) use text::decode;
pub use wall_clock::WallClock;
