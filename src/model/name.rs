//! The names of repositories, plans and artifacts, their keys in a store, and the names of tools'
//! temporary files.

use std::fmt;
use std::sync::Arc;

use super::Sha256;
#[cfg(test)]
use crate::fault_injection::{Bug, injected};

/// The longest repository or plan name, in bytes. This is Linux's `NAME_MAX`, so a directory entry
/// can carry every name in a store.
pub const MAX_NAME_BYTES: usize = 255;

/// The reason why a string is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name {name:?}: {reason}")]
pub struct InvalidName {
    name: String,
    reason: &'static str,
}

/// The optional suffix of a plan's file: Atlas saves plans as `<name>.plan.hcl`.
pub const PLAN_SUFFIX: &str = ".plan.hcl";

fn check_plan(name: &str) -> Result<(), InvalidName> {
    check(name)?;
    match name.ends_with(PLAN_SUFFIX) {
        true => Err(InvalidName {
            name: name.into(),
            reason: "the suffix .plan.hcl is not part of a plan's name",
        }),
        false => Ok(()),
    }
}

/// Checks the rule for names of repositories and plans: letters, digits, `-`, `_` and `.`, a letter
/// or digit first, and at most [`MAX_NAME_BYTES`].
fn check(name: &str) -> Result<(), InvalidName> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 255 bytes"
    } else if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        "it must start with a letter or digit"
    } else if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        "only letters, digits, '-', '_' and '.' are allowed"
    } else {
        return Ok(());
    };
    Err(InvalidName {
        name: name.chars().take(MAX_NAME_BYTES).collect(),
        reason,
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Parses a name.
            ///
            /// # Errors
            ///
            /// [`InvalidName`] names the broken rule.
            pub fn parse(name: &str) -> Result<Self, InvalidName> {
                $check(name).map(|()| Self(name.into()))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, out)
            }
        }
    };
}

name! {
    /// The name (slug) of a repository: one application's entry in the registry.
    RepoName, check
}

name! {
    /// The name of a plan within its repository. It doesn't end in [`PLAN_SUFFIX`]: that would be
    /// the second name of another plan.
    PlanName, check_plan
}

fn check_version(name: &str) -> Result<(), InvalidName> {
    let is_version = name.split_once('-').is_some_and(|(time, sha256)| {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        time.len() == TO_THE_SECOND
            && time.bytes().all(|byte| byte.is_ascii_digit())
            && sha256.len() == 8
            && sha256.bytes().all(hex)
    });
    is_version.then_some(()).ok_or_else(|| InvalidName {
        name: name.chars().take(MAX_NAME_BYTES).collect(),
        reason: "a version is a time of 14 digits, '-' and 8 hexadecimal digits",
    })
}

/// The tag of the newest version, which every repository has.
pub const LATEST: &str = "latest";

fn check_tag(name: &str) -> Result<(), InvalidName> {
    check(name)?;
    match name == LATEST {
        true => Err(InvalidName {
            name: name.into(),
            reason: "the tag latest is computed",
        }),
        false => Ok(()),
    }
}

name! {
    /// The name of a tag, which names a version. [`LATEST`] is none of them.
    TagName, check_tag
}

/// How many digits an RFC 3339 time has up to its seconds.
const TO_THE_SECOND: usize = 14;

name! {
    /// The name of a version: the time of its push in UTC, and the first digits of its content's
    /// SHA-256, `20240910173744-0a1b2c3d`.
    Version, check_version
}

impl Version {
    /// Names the version of a push: an RFC 3339 time in UTC, and its content.
    pub(super) fn new(time: &str, sha256: Sha256) -> Self {
        let digits = time.chars().filter(char::is_ascii_digit);
        let time: String = digits.take(TO_THE_SECOND).collect();
        #[cfg(test)]
        if injected(Bug::VersionOverwritten) {
            return Self(format!("{time}-00000000").into());
        }
        Self(format!("{time}-{:.8}", sha256.to_string()).into())
    }

    /// Returns the second of its push, in nanoseconds since the Unix epoch.
    pub fn when(&self) -> u64 {
        let digits = self.as_str().split('-').next().unwrap_or_default();
        let time = chrono::NaiveDateTime::parse_from_str(digits, "%Y%m%d%H%M%S");
        let seconds = time.map_or(0, |time| time.and_utc().timestamp());
        u64::try_from(seconds)
            .unwrap_or(0)
            .saturating_mul(1_000_000_000)
    }

    /// Tells whether a content can be that of the version.
    pub fn is_of(&self, sha256: Sha256) -> bool {
        let digits = self.as_str().rsplit('-').next();
        digits.is_some_and(|digits| sha256.to_string().starts_with(digits))
    }
}

/// One thing that a repository holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// The schema state.
    Schema,
    /// A pre-planned migration.
    Plan(PlanName),
    /// The schema state of a version.
    Version(Version),
    /// A tag. Its content is the name of a version.
    Tag(TagName),
}

impl Item {
    /// Parses the part of a store's key that follows the repository: `schema` or `plans/<name>`.
    pub fn from_key(key: &str) -> Option<Self> {
        match key.split_once('/') {
            None => (key == "schema").then_some(Item::Schema),
            Some(("plans", name)) => PlanName::parse(name).ok().map(Item::Plan),
            Some(("tags", name)) => TagName::parse(name).ok().map(Item::Tag),
            Some(("versions", rest)) => {
                let version = rest.strip_suffix("/schema")?;
                Version::parse(version).ok().map(Item::Version)
            }
            Some(_) => None,
        }
    }
}

impl Item {
    /// Tells whether it never changes once it is there.
    pub fn is_immutable(&self) -> bool {
        matches!(self, Item::Version(_))
    }

    /// Tells whether each push of it makes a version.
    pub fn has_versions(&self) -> bool {
        matches!(self, Item::Schema)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Schema => out.write_str("schema"),
            Item::Plan(name) => write!(out, "plans/{name}"),
            Item::Version(version) => write!(out, "versions/{version}/schema"),
            Item::Tag(tag) => write!(out, "tags/{tag}"),
        }
    }
}

/// An artifact's identity: which item of which repository.
///
/// Its `Display` is the artifact's key in a store, relative to the target's URL: `app/schema`,
/// `app/plans/20240910173744`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId {
    /// The repository that holds the artifact.
    pub repo: RepoName,
    /// The artifact of that repository.
    pub item: Item,
}

impl ArtifactId {
    /// Returns the artifact's URL in Atlas's own notation: `atlas://app`, `atlas://app/plans/p1`.
    pub fn atlas_url(&self) -> String {
        match &self.item {
            Item::Schema => format!("atlas://{}", self.repo),
            Item::Plan(name) => format!("atlas://{}/plans/{name}", self.repo),
            Item::Version(version) => format!("atlas://{}?version={version}", self.repo),
            Item::Tag(tag) => format!("atlas://{}?tag={tag}", self.repo),
        }
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.repo, self.item)
    }
}

/// The suffixes of documents.
const DOCUMENTS: [&[u8]; 2] = [b".hcl", b".sql"];

/// Returns whether a name is that of a tool's temporary file. Such a file stays in the mount, in
/// every directory.
///
/// The name alone must tell a writer whether a close is a push. So a document's suffix always means
/// a document, and a plan whose name looks like a temporary file is reachable only by its name with
/// the suffix.
pub fn is_temporary(name: &[u8]) -> bool {
    // Dot files: .f.swp (vim), .f.XXXXXX (rsync), .~tmp~ (rsync --delay-updates), .#f (emacs'
    // lock), .goutputstream-XXXXXX (GLib, so gedit and GNOME's editor), .fXXXXXX (Go's renameio).
    if name.starts_with(b".") {
        return true;
    }
    if DOCUMENTS.iter().any(|suffix| name.ends_with(suffix)) {
        return false;
    }
    let inside = |middle: &[u8]| name.windows(middle.len()).any(|part| part == middle);
    // Backup files of vim, emacs, gedit and Kate.
    name.ends_with(b"~")
        // Auto-save files of emacs.
        || (name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#"))
        // sed -i, and perl -i, whose template is XXXXXXXX: the C library replaces six of these.
        || is_made_of(name, b"sed")
        || is_made_of(name, b"XX")
        || name.ends_with(b".tmp")
        || inside(b".tmp.")
        // JetBrains' safe write: SafeFileOutputStream.java of intellij-community.
        || [&b"___jb_tmp___"[..], b"___jb_old___", b"___jb_bak___"]
            .iter()
            .any(|end| name.ends_with(end))
        || is_probe(name)
}

/// Returns whether a name is the probe of vim, which tests whether vim can create files here.
pub fn is_probe(name: &[u8]) -> bool {
    name == b"4913"
}

/// Returns whether a name is a prefix and six letters or digits, as mkstemp(3) makes it.
pub fn is_made_of(name: &[u8], prefix: &[u8]) -> bool {
    let filled = name.strip_prefix(prefix);
    filled.is_some_and(|filled| filled.len() == 6 && filled.iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_dash_underscore_dot_with_a_letter_or_digit_first() {
        for good in ["a", "0", "app", "20240910173744", "a-b_c.d", "A.", "x..y"] {
            assert!(RepoName::parse(good).is_ok(), "{good}");
            assert!(PlanName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "", ".", "..", ".a", "-a", "_a", "a/b", "a b", "a\n", "a\0", "é", "a%2f", "a:b", "~a",
        ] {
            assert!(RepoName::parse(bad).is_err(), "{bad:?}");
            assert!(PlanName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_may_have_255_bytes_and_not_256() {
        assert!(PlanName::parse(&"a".repeat(255)).is_ok());
        let error = PlanName::parse(&"a".repeat(256)).unwrap_err();
        assert!(error.to_string().contains("longer than 255 bytes"));
    }

    #[test]
    fn no_plan_has_the_second_name_of_another_plan() {
        assert!(PlanName::parse("p1.plan.hcl").is_err());
        assert!(PlanName::parse("p1.hcl").is_ok());
        assert!(RepoName::parse("p1.plan.hcl").is_ok());
    }

    #[test]
    fn the_key_of_an_item_parses_back() {
        for key in [
            "schema",
            "plans/20240910173744",
            "plans/sedAbC123",
            "plans/p1.tmp",
            "versions/20240910173744-0a1b2c3d/schema",
            "tags/prod",
        ] {
            assert_eq!(Item::from_key(key).unwrap().to_string(), key);
        }
        for foreign in [
            "",
            "plans",
            "plans/",
            "plans/a/b",
            "schema/x",
            "other",
            "plans/../x",
            "versions",
            "versions/20240910173744-0a1b2c3d",
            "versions/20240910173744-0a1b2c3d/other",
            "versions/20240910173744-0A1B2C3D/schema",
            "versions/2024091017374-0a1b2c3d/schema",
            "versions/20240910173744-0a1b2c3/schema",
            "versions/20240910173744/schema",
            "tags/latest",
            "tags/a/b",
        ] {
            assert_eq!(Item::from_key(foreign), None, "{foreign:?}");
        }
    }

    #[test]
    fn names_that_tools_make_are_told_from_names_that_people_give() {
        for temporary in [
            ".schema.swp",
            ".schema.hcl.AbC123",
            ".goutputstream-X1Y2Z3",
            ".~tmp~",
            ".#schema",
            "schema~",
            "#schema#",
            "sedAbC123",
            "XXAbC123",
            "schema.tmp",
            "schema.tmp.1234",
            "schema___jb_tmp___",
            "schema___jb_old___",
            "schema___jb_bak___",
            "schema.hcl___jb_tmp___",
            "schema.hcl~",
            "p1.plan.hcl.tmp",
            ".p1.tmp.plan.hcl",
            "4913",
        ] {
            assert!(is_temporary(temporary.as_bytes()), "{temporary}");
        }
        for given in [
            "schema",
            "20240910173744",
            "sed",
            "sed12345",
            "sed1234567",
            "sedan-123",
            "#",
            "tmp",
            "schema.tmpl",
            "49130",
            "add-users",
            "schema.tmp.hcl",
            "x.tmp.sql",
            "v2.tmp.plan.hcl",
            "sedAbC.hcl",
        ] {
            assert!(!is_temporary(given.as_bytes()), "{given}");
        }
    }
}
