//! What each provider does its own way, as far as an open store is concerned.

use md5::{Digest, Md5};
use object_store::UpdateVersion;

use crate::store::http::permission::Provider;
use crate::store::{Stored, Token};

/// A provider's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quirks {
    /// Conditions by ETag.
    S3,
    /// Conditions by ETag; metadata names are identifiers; no name ends with a dot.
    Azure,
    /// Conditions by generation.
    Gcs,
}

impl From<Quirks> for Provider {
    fn from(dialect: Quirks) -> Self {
        match dialect {
            Quirks::S3 => Self::S3,
            Quirks::Azure => Self::Azure,
            Quirks::Gcs => Self::Gcs,
        }
    }
}

/// The names of the stamp's parts in an object's metadata.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) when: &'static str,
    pub(super) sha256: &'static str,
    pub(super) format: &'static str,
}

impl Quirks {
    /// Returns the names of the stamp's parts.
    pub(super) fn names(self) -> Names {
        match self {
            Quirks::S3 | Quirks::Gcs => Names {
                when: "atlas-stamp",
                sha256: "atlas-sha256",
                format: "atlas-format",
            },
            // Azure takes C#'s identifiers, and nothing with a hyphen.
            Quirks::Azure => Names {
                when: "atlas_stamp",
                sha256: "atlas_sha256",
                format: "atlas_format",
            },
        }
    }

    /// Makes a token of what a store tells of a content.
    pub(super) fn token(self, e_tag: Option<&str>, generation: Option<&str>) -> Option<Token> {
        match self {
            Quirks::S3 | Quirks::Azure => e_tag.and_then(of_e_tag),
            Quirks::Gcs => generation.and_then(of_generation),
        }
    }

    /// Returns the condition that a token stands for; `None` if it is not one of the store's, for
    /// then it must not get into a request's header.
    pub(super) fn version(self, token: &Token) -> Option<UpdateVersion> {
        let known = match self {
            Quirks::S3 | Quirks::Azure => of_e_tag(&token.0),
            Quirks::Gcs => of_generation(&token.0),
        };
        let (e_tag, version) = match self {
            Quirks::S3 | Quirks::Azure => (known?.0.into(), None),
            Quirks::Gcs => (None, known?.0.into()),
        };
        Some(UpdateVersion { e_tag, version })
    }

    /// Tells whether bytes must be those of what came with them: by their stamp, by an ETag that
    /// is their MD5, as S3's is where nothing else was asked for, or by whose store it is.
    pub(super) fn vouches(self, stored: &Stored) -> bool {
        let md5 = || {
            let digits = Md5::digest(&stored.content);
            let digits = digits.iter().map(|byte| format!("{byte:02x}"));
            of_e_tag(&digits.collect::<String>())
        };
        self != Quirks::S3 || stored.stamp.is_some() || stored.token == md5()
    }

    /// Tells whether the store keeps a key apart from all others.
    pub(super) fn keeps(self, key: &str) -> bool {
        // Azure's documents warn of a dot at the end of a segment: it may get lost, and the key
        // would then be another one's.
        self != Quirks::Azure || !key.split('/').any(|segment| segment.ends_with('.'))
    }
}

/// Makes a token of an ETag, always in the quotes that HTTP wants around it; some stores leave
/// them out of their listings. What can't be a header's value is no token.
fn of_e_tag(e_tag: &str) -> Option<Token> {
    let bare = e_tag.trim_matches('"');
    let fits = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| match bare.starts_with("W/") {
        true => Token(e_tag.into()),
        false => Token(format!("\"{bare}\"")),
    })
}

/// Makes a token of a generation: a number, and not 0, which as a condition means "absent".
fn of_generation(generation: &str) -> Option<Token> {
    let number = generation.parse::<u64>().ok().filter(|number| *number > 0);
    number.map(|number| Token(number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Format, Stamp};

    #[test]
    fn an_e_tag_is_one_token_with_and_without_its_quotes() {
        for dialect in [Quirks::S3, Quirks::Azure] {
            let token = dialect.token(Some("0x8D1"), Some("7"));
            assert_eq!(token, Some(Token("\"0x8D1\"".into())));
            assert_eq!(token, dialect.token(Some("\"0x8D1\""), None));
            let version = dialect.version(&token.unwrap()).unwrap();
            assert_eq!(version.e_tag.as_deref(), Some("\"0x8D1\""));
            assert_eq!(version.version, None);
        }
    }

    #[test]
    fn a_generation_is_a_number_and_never_the_one_that_means_absent() {
        let token = Quirks::Gcs.token(Some("\"etag\""), Some("1726"));
        assert_eq!(token, Some(Token("1726".into())));
        let version = Quirks::Gcs.version(&token.unwrap()).unwrap();
        assert_eq!(
            (version.e_tag, version.version),
            (None, Some("1726".into()))
        );
        for foreign in ["0", "00", "", "-1", "\"etag\"", "1\r\n2"] {
            assert_eq!(Quirks::Gcs.token(None, Some(foreign)), None, "{foreign:?}");
            assert!(Quirks::Gcs.version(&Token(foreign.into())).is_none());
        }
    }

    #[test]
    fn bytes_without_a_stamp_that_the_e_tag_of_s3_may_not_be_of_are_not_vouched_for() {
        let (hello, other) = ("5d41402abc4b2a76b9719d911017c592", "5d41402a-2");
        for (dialect, stamped, e_tag, vouched) in [
            (Quirks::S3, false, hello, true),
            (Quirks::S3, false, other, false),
            (Quirks::S3, true, other, true),
            (Quirks::Azure, false, other, true),
            (Quirks::Gcs, false, other, true),
        ] {
            let stored = Stored {
                content: "hello".into(),
                stamp: stamped.then(|| Stamp::new(1, b"hello", Format::Sql)),
                token: of_e_tag(e_tag),
                modified: std::time::UNIX_EPOCH,
            };
            assert_eq!(dialect.vouches(&stored), vouched, "{dialect:?} {e_tag}");
        }
    }

    #[test]
    fn azure_keeps_no_name_that_ends_with_a_dot() {
        for (key, kept) in [
            ("app/plans/a.b", true),
            ("app/plans/a.", false),
            ("a./b", false),
        ] {
            assert_eq!(Quirks::Azure.keeps(key), kept, "{key}");
            assert!(Quirks::S3.keeps(key) && Quirks::Gcs.keeps(key));
        }
    }
}
