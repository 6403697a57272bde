//! Names in the directories of the mount, and the names that exist in this mount alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::types::Error;
use crate::model::{
    ArtifactId, Format, Item, LATEST, MAX_NAME_BYTES, MigrationName, PLAN_SUFFIX, PlanName,
    RepoName, TagName, is_made_of, is_probe, is_temporary,
};

/// The name of the directory with the control files.
pub(super) const CONTROL: &str = ".atlasfs";

/// The name of the migration directory.
pub(super) const MIGRATIONS: &str = "migrations";

/// A name in the root directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InRoot {
    /// The control files.
    Control,
    /// A repository.
    Repo(RepoName),
    /// A temporary file.
    TemporaryFile,
    /// An invalid name.
    Foreign,
}

/// A name in a repository's directory, or in one of the directories there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InRepo {
    /// The directory of the plans.
    Plans,
    /// The migration directory.
    Migrations,
    /// The directory of the versions.
    Versions,
    /// The directory of the tags.
    Tags,
    /// The tag of the newest version.
    Latest,
    /// An artifact, and the format of the name's suffix.
    Artifact(Item, Option<Format>),
    /// A temporary file.
    TemporaryFile,
    /// An invalid name.
    Foreign,
}

/// Checks the length of a name.
pub(super) fn text(name: &OsStr) -> Result<Option<&str>, Error> {
    match name.len() {
        0..=MAX_NAME_BYTES => Ok(name.to_str()),
        _ => Err(Error::NameTooLong),
    }
}

/// Parses a name in the root directory. A valid name of a repository is one, even if it looks
/// temporary: no tool writes beside an artifact here.
pub(super) fn in_root(name: &OsStr) -> Result<InRoot, Error> {
    let repo = match text(name)? {
        Some(CONTROL) => return Ok(InRoot::Control),
        Some(name) => RepoName::parse(name).ok(),
        None => None,
    };
    Ok(match repo {
        Some(repo) => InRoot::Repo(repo),
        None if is_temporary(name.as_bytes()) => InRoot::TemporaryFile,
        None => InRoot::Foreign,
    })
}

/// Parses a name in a repository's directory.
pub(super) fn in_repo(name: &OsStr) -> Result<InRepo, Error> {
    Ok(match text(name)? {
        Some("plans") => InRepo::Plans,
        Some(MIGRATIONS) => InRepo::Migrations,
        Some("versions") => InRepo::Versions,
        Some("tags") => InRepo::Tags,
        Some("schema") => InRepo::Artifact(Item::Schema, None),
        Some("schema.hcl") => InRepo::Artifact(Item::Schema, Some(Format::Hcl)),
        Some("schema.sql") => InRepo::Artifact(Item::Schema, Some(Format::Sql)),
        _ if is_temporary(name.as_bytes()) || is_beside_schema(name.as_bytes()) => {
            InRepo::TemporaryFile
        }
        _ => InRepo::Foreign,
    })
}

/// Parses a name in a directory of tags.
pub(super) fn in_tags(name: &OsStr) -> Result<InRepo, Error> {
    let tag = text(name)?;
    if is_temporary(name.as_bytes()) || is_made_by_ln(name.as_bytes()) {
        return Ok(InRepo::TemporaryFile);
    }
    Ok(match tag {
        Some(LATEST) => InRepo::Latest,
        Some(tag) => TagName::parse(tag).map_or(InRepo::Foreign, |tag| {
            InRepo::Artifact(Item::Tag(tag), None)
        }),
        None => InRepo::Foreign,
    })
}

/// Tells whether a name in a directory of tags is that of a tag, other than [`LATEST`].
pub fn is_tag(name: &OsStr) -> bool {
    matches!(in_tags(name), Ok(InRepo::Artifact(..)))
}

/// Tells whether a name is a link's that `ln -sf` renames: `CuAbC123` (force-link.c of coreutils). A
/// word (`Customer`) is not random.
fn is_made_by_ln(name: &[u8]) -> bool {
    let random = name.strip_prefix(b"Cu").unwrap_or_default();
    is_made_of(name, b"Cu") && is_random(random)
}

/// Tells whether a name is the schema's with a random suffix: `schema.hcl.AbC123` of QSaveFile
/// (Kate; qsavefile.cpp of qtbase) and mktemp(1), `schema.oAbC123` of patch. A plan's name with
/// such a suffix is another plan's. A word (`schema.backup`) or a date (`schema.202411`) is not
/// random, so the suffix needs a letter, and a digit or a capital letter.
fn is_beside_schema(name: &[u8]) -> bool {
    ["schema.", "schema.hcl.", "schema.sql."]
        .iter()
        .any(|stem| {
            let suffix = name.strip_prefix(stem.as_bytes());
            suffix.is_some_and(is_random_suffix)
        })
}

/// Tells whether a suffix is one of mktemp(1), QSaveFile or patch.
fn is_random_suffix(suffix: &[u8]) -> bool {
    let random = match suffix {
        [b'o', rest @ ..] if rest.len() == 6 => rest,
        random => random,
    };
    is_made_of(random, b"") && is_random(random)
}

fn is_random(text: &[u8]) -> bool {
    let lower = |byte: &u8| byte.is_ascii_lowercase();
    !text.iter().all(lower) && !text.iter().all(u8::is_ascii_digit)
}

/// Parses a name in a directory of plans.
pub(super) fn in_plans(name: &OsStr) -> Result<InRepo, Error> {
    let plan = text(name)?.map(|name| name.strip_suffix(PLAN_SUFFIX).unwrap_or(name));
    if is_temporary(name.as_bytes()) {
        return Ok(InRepo::TemporaryFile);
    }
    let plan = plan.and_then(|plan| PlanName::parse(plan).ok());
    Ok(plan.map_or(InRepo::Foreign, |plan| {
        InRepo::Artifact(Item::Plan(plan), None)
    }))
}

/// Parses a name in a migration directory. Behind a file's name, a random suffix makes a temporary
/// file, as behind a schema's.
pub(super) fn in_migrations(name: &OsStr) -> Result<InRepo, Error> {
    let file = text(name)?.unwrap_or_default();
    let beside = file.rsplit_once('.').filter(|(stem, suffix)| {
        MigrationName::parse(stem).is_ok() && is_random_suffix(suffix.as_bytes())
    });
    Ok(match MigrationName::parse(file) {
        Ok(file) => InRepo::Artifact(Item::Migration(file), None),
        Err(_) if is_temporary(name.as_bytes()) || beside.is_some() => InRepo::TemporaryFile,
        Err(_) => InRepo::Foreign,
    })
}

/// Returns the listed name of a plan: its own name, or the name with the suffix if its own looks
/// temporary. `None` if that name is too long.
pub(super) fn listed(plan: &PlanName) -> Option<OsString> {
    let plan = plan.as_str();
    match is_temporary(plan.as_bytes()) {
        false => Some(plan.into()),
        true => {
            let file = format!("{plan}{PLAN_SUFFIX}");
            (file.len() <= MAX_NAME_BYTES).then(|| file.into())
        }
    }
}

/// Returns the name of a schema, without a suffix or with that of its format.
pub(super) fn schema_name(suffix: Option<Format>) -> &'static str {
    match suffix {
        None => "schema",
        Some(Format::Hcl) => "schema.hcl",
        Some(Format::Sql) => "schema.sql",
    }
}

/// Returns the reason if this name is reserved and no temporary file may have it.
pub(super) fn reserved(name: &OsStr) -> Option<&'static str> {
    if is_probe(name.as_bytes()) {
        // Without its probe, vim writes in place, and the live name never disappears.
        return Some("vim's probe file: refused, so that vim saves in place");
    }
    (name == ".git").then_some(
        "a git repository in the mount would be lost at unmount: keep it elsewhere, and copy files \
         from its work tree",
    )
}

/// The names that exist in this mount alone: new repositories, and touched artifacts.
#[derive(Debug, Default)]
pub(super) struct LocalNames {
    repos: BTreeSet<RepoName>,
    touched: BTreeMap<ArtifactId, Option<Format>>,
}

impl LocalNames {
    /// Makes a repository; `false` if it was already made here.
    pub(super) fn make(&mut self, repo: RepoName) -> bool {
        self.repos.insert(repo)
    }

    /// Tells whether a repository was made here.
    pub(super) fn has(&self, repo: &RepoName) -> bool {
        self.repos.contains(repo)
    }

    /// Removes a repository; `false` if it wasn't made here.
    pub(super) fn remove(&mut self, repo: &RepoName) -> bool {
        self.repos.remove(repo)
    }

    /// Lists the repositories made here.
    pub(super) fn repos(&self) -> impl Iterator<Item = &RepoName> {
        self.repos.iter()
    }

    /// Adds an artifact that was made and left empty, with the suffix of its name.
    pub(super) fn touch(&mut self, id: ArtifactId, suffix: Option<Format>) {
        self.touched.insert(id, suffix);
    }

    /// Forgets a touched artifact; `false` if it wasn't touched.
    pub(super) fn untouch(&mut self, id: &ArtifactId) -> bool {
        self.touched.remove(id).is_some()
    }

    /// Returns the format of a touched artifact: its suffix's, or HCL.
    pub(super) fn format(&self, id: &ArtifactId) -> Option<Format> {
        let touched = self.touched.get(id);
        touched.map(|suffix| suffix.unwrap_or(Format::Hcl))
    }

    /// Tells whether a name with this suffix is that of a touched artifact.
    pub(super) fn is_touched(&self, id: &ArtifactId, suffix: Option<Format>) -> bool {
        let format = self.format(id);
        format.is_some_and(|format| suffix.is_none_or(|suffix| suffix == format))
    }

    /// Lists the touched artifacts of a repository.
    pub(super) fn touched(&self, repo: &RepoName) -> impl Iterator<Item = &Item> {
        let all = self.touched.keys();
        all.filter(move |id| id.repo == *repo).map(|id| &id.item)
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(schema_name(suffix), name);
        }
    }

    #[test]
    fn a_plan_has_two_names() {
        assert_eq!(in_plans(OsStr::new("p1")), Ok(plan("p1")));
        assert_eq!(in_plans(OsStr::new("p1.plan.hcl")), Ok(plan("p1")));
        assert_eq!(in_plans(OsStr::new("p1.hcl")), Ok(plan("p1.hcl")));
    }

    #[test]
    fn an_invalid_name_is_foreign() {
        let not_utf8 = OsStr::from_bytes(b"a\xff");
        assert_eq!(in_root(not_utf8), Ok(InRoot::Foreign));
        assert_eq!(in_repo(not_utf8), Ok(InRepo::Foreign));
        assert_eq!(in_plans(not_utf8), Ok(InRepo::Foreign));
        assert_eq!(in_root(OsStr::new("-x")), Ok(InRoot::Foreign));
        assert_eq!(in_repo(OsStr::new("README")), Ok(InRepo::Foreign));
        assert_eq!(in_plans(OsStr::new("-x")), Ok(InRepo::Foreign));
        assert_eq!(in_repo(OsStr::new("x.tmp.sql")), Ok(InRepo::Foreign));
        assert_eq!(in_repo(OsStr::new("schema.tmp.hcl")), Ok(InRepo::Foreign));
    }

    #[test]
    fn a_plans_file_name_is_never_a_temporary_files() {
        for name in ["sedAbC123", "XXAbC123", "v2.tmp", "v2.tmp.1", "4913"] {
            let file = format!("{name}{PLAN_SUFFIX}");
            assert_eq!(in_plans(OsStr::new(&file)), Ok(plan(name)), "{file}");
            assert_eq!(
                in_plans(OsStr::new(name)),
                Ok(InRepo::TemporaryFile),
                "{name}"
            );
            let parsed = PlanName::parse(name).unwrap();
            assert_eq!(listed(&parsed), Some(file.into()), "{name}");
        }
        assert_eq!(listed(&PlanName::parse("p1").unwrap()), Some("p1".into()));
        let long = format!("{}.tmp", "a".repeat(250));
        assert_eq!(listed(&PlanName::parse(&long).unwrap()), None);
    }

    #[test]
    fn temporary_names_are_told_from_artifacts_in_every_directory() {
        for name in [".swp", "schema~", "#schema#", ".schema.hcl.AbC123"] {
            let name = OsStr::new(name);
            assert_eq!(in_root(name), Ok(InRoot::TemporaryFile), "{name:?}");
            assert_eq!(in_repo(name), Ok(InRepo::TemporaryFile), "{name:?}");
            assert_eq!(in_plans(name), Ok(InRepo::TemporaryFile), "{name:?}");
        }
        assert_eq!(in_root(OsStr::new(".atlasfs")), Ok(InRoot::Control));
        assert_eq!(in_repo(OsStr::new(".atlasfs")), Ok(InRepo::TemporaryFile));
        for name in ["sedAbC123", "XXAbC123", "p1.tmp", "p1.tmp.7", "4913"] {
            let name = OsStr::new(name);
            assert!(matches!(in_root(name), Ok(InRoot::Repo(_))), "{name:?}");
            assert_eq!(in_repo(name), Ok(InRepo::TemporaryFile), "{name:?}");
            assert_eq!(in_plans(name), Ok(InRepo::TemporaryFile), "{name:?}");
        }
    }

    #[test]
    fn a_random_suffix_of_the_schema_is_temporary_and_a_word_is_not() {
        for name in [
            "schema.AbCdEf",
            "schema.hcl.a1b2c3",
            "schema.oa1b2c3",
            "schema.sql.oa1b2c3",
        ] {
            assert_eq!(
                in_repo(OsStr::new(name)),
                Ok(InRepo::TemporaryFile),
                "{name}"
            );
        }
        for name in [
            "schema.backup",
            "schema.sqlite",
            "schema.hcl.bak",
            "schema.202411",
            "schema.1",
            "schemas",
        ] {
            assert_eq!(in_repo(OsStr::new(name)), Ok(InRepo::Foreign), "{name}");
        }
        assert_eq!(in_plans(OsStr::new("p1.AbCdEf")), Ok(plan("p1.AbCdEf")));
    }

    #[test]
    fn a_migration_directory_holds_sql_files_and_atlas_sum() {
        for name in [
            "20241018.sql",
            "V1__x.sql",
            "R__x.sql",
            "1_x.up.sql",
            "x.tmp.sql",
            "atlas.sum",
        ] {
            let file = InRepo::Artifact(Item::Migration(MigrationName::parse(name).unwrap()), None);
            assert_eq!(in_migrations(OsStr::new(name)), Ok(file), "{name}");
        }
        for name in [
            ".1.sql.AbC123",
            ".sql",
            "1.sql~",
            "1.sql.AbC123",
            "atlas.sum.oa1b2c3",
            "x.tmp",
            "4913",
        ] {
            let parsed = in_migrations(OsStr::new(name));
            assert_eq!(parsed, Ok(InRepo::TemporaryFile), "{name}");
        }
        for name in [
            "README.md",
            "1.sql.backup",
            "1.sql.202411",
            "-1.sql",
            "a b.sql",
            "x.AbC123",
            "sql",
        ] {
            assert_eq!(
                in_migrations(OsStr::new(name)),
                Ok(InRepo::Foreign),
                "{name}"
            );
        }
    }

    #[test]
    fn a_name_of_256_bytes_is_too_long() {
        let name = "a".repeat(256);
        assert_eq!(in_root(OsStr::new(&name)), Err(Error::NameTooLong));
        assert_eq!(in_plans(OsStr::new(&name)), Err(Error::NameTooLong));
    }
}
