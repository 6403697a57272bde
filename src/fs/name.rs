//! Names: what a name in a directory of the mount stands for.

use std::ffi::OsStr;

use super::Error;
use crate::artifact::{Format, Item, MAX_NAME_BYTES, PLAN_SUFFIX, PlanName, RepoName};

/// The name of the directory with the control files.
pub(super) const CONTROL: &str = ".atlasfs";

/// What a name in the root directory stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InRoot {
    /// The control files.
    Control,
    /// A repository.
    Repo(RepoName),
    /// Nothing of this contract.
    Foreign,
}

/// What a name in a repository's directory, or its `plans`, stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InRepo {
    /// The directory of the plans.
    Plans,
    /// An artifact, and the format that the name's suffix says.
    Artifact(Item, Option<Format>),
    /// Nothing of this contract.
    Foreign,
}

/// Checks what every name must keep.
fn text(name: &OsStr) -> Result<Option<&str>, Error> {
    match name.len() {
        0..=MAX_NAME_BYTES => Ok(name.to_str()),
        _ => Err(Error::NameTooLong),
    }
}

/// Parses a name in the root directory.
pub(super) fn in_root(name: &OsStr) -> Result<InRoot, Error> {
    Ok(match text(name)? {
        Some(CONTROL) => InRoot::Control,
        Some(name) => RepoName::parse(name).map_or(InRoot::Foreign, InRoot::Repo),
        None => InRoot::Foreign,
    })
}

/// Parses a name in a repository's directory.
pub(super) fn in_repo(name: &OsStr) -> Result<InRepo, Error> {
    Ok(match text(name)? {
        Some("plans") => InRepo::Plans,
        Some("schema") => InRepo::Artifact(Item::Schema, None),
        Some("schema.hcl") => InRepo::Artifact(Item::Schema, Some(Format::Hcl)),
        Some("schema.sql") => InRepo::Artifact(Item::Schema, Some(Format::Sql)),
        _ => InRepo::Foreign,
    })
}

/// Parses a name in a directory of plans.
pub(super) fn in_plans(name: &OsStr) -> Result<InRepo, Error> {
    let Some(name) = text(name)? else {
        return Ok(InRepo::Foreign);
    };
    let plan = PlanName::parse(name.strip_suffix(PLAN_SUFFIX).unwrap_or(name));
    Ok(plan.map_or(InRepo::Foreign, |plan| {
        InRepo::Artifact(Item::Plan(plan), None)
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn plan(name: &str) -> InRepo {
        InRepo::Artifact(Item::Plan(PlanName::parse(name).unwrap()), None)
    }

    #[test]
    fn the_suffix_says_the_format_of_a_schema() {
        for (name, suffix) in [
            ("schema", None),
            ("schema.hcl", Some(Format::Hcl)),
            ("schema.sql", Some(Format::Sql)),
        ] {
            let parsed = in_repo(OsStr::new(name)).unwrap();
            assert_eq!(parsed, InRepo::Artifact(Item::Schema, suffix));
        }
    }

    #[test]
    fn a_plan_has_two_names() {
        assert_eq!(in_plans(OsStr::new("p1")), Ok(plan("p1")));
        assert_eq!(in_plans(OsStr::new("p1.plan.hcl")), Ok(plan("p1")));
        assert_eq!(in_plans(OsStr::new("p1.hcl")), Ok(plan("p1.hcl")));
    }

    #[test]
    fn what_is_not_of_the_contract_is_foreign() {
        let not_utf8 = OsStr::from_bytes(b"a\xff");
        assert_eq!(in_root(not_utf8), Ok(InRoot::Foreign));
        assert_eq!(in_repo(not_utf8), Ok(InRepo::Foreign));
        assert_eq!(in_plans(not_utf8), Ok(InRepo::Foreign));
        assert_eq!(in_root(OsStr::new(".git")), Ok(InRoot::Foreign));
        assert_eq!(in_repo(OsStr::new("README")), Ok(InRepo::Foreign));
        assert_eq!(in_plans(OsStr::new("-x")), Ok(InRepo::Foreign));
        assert_eq!(in_plans(OsStr::new(".plan.hcl")), Ok(InRepo::Foreign));
    }

    #[test]
    fn a_name_of_256_bytes_is_too_long() {
        let name = "a".repeat(256);
        assert_eq!(in_root(OsStr::new(&name)), Err(Error::NameTooLong));
        assert_eq!(in_plans(OsStr::new(&name)), Err(Error::NameTooLong));
    }
}
