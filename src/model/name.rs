//! The names of repositories and of what they hold, and the names of tools' temporary files.

use std::fmt;
use std::sync::Arc;

use super::{SUM_FILE, Sha256};
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

/// The suffix of a migration file.
const MIGRATION_SUFFIX: &str = ".sql";

fn check_migration(name: &str) -> Result<(), InvalidName> {
    check(name)?;
    match name.ends_with(MIGRATION_SUFFIX) || name == SUM_FILE {
        true => Ok(()),
        false => Err(InvalidName {
            name: name.into(),
            reason: "a migration file ends in .sql, or is atlas.sum",
        }),
    }
}

name! {
    /// The name of a file in a migration directory: `atlas.sum`, or a migration file of any format.
    MigrationName, check_migration
}

impl MigrationName {
    /// Tells whether it is the file with the checksums.
    pub fn is_sum(&self) -> bool {
        self.as_str() == SUM_FILE
    }
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
