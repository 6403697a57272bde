//! The quirks of each provider in an open store: its tokens, and the stamp in an object's metadata.

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Attribute, AttributeValue, Attributes, UpdateVersion};
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};

use crate::model::{Author, Base, PlanStatus, Stamp, when_from_text, when_to_text};
use crate::store::http::reply::Provider;
use crate::store::http::xml::ListedObject;
use crate::store::{SignedStamp, Token};

/// The provider whose rules apply.
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
    fn from(quirks: Quirks) -> Self {
        match quirks {
            Quirks::S3 => Self::S3,
            Quirks::Azure => Self::Azure,
            Quirks::Gcs => Self::Gcs,
        }
    }
}

/// The names of the stamp's parts in an object's metadata.
#[derive(Debug, Clone, Copy)]
pub(super) struct StampNames {
    pub(super) when: &'static str,
    pub(super) sha256: &'static str,
    pub(super) format: &'static str,
    pub(super) base: &'static str,
    pub(super) author: &'static str,
    pub(super) status: &'static str,
    pub(super) mac: &'static str,
}

impl Quirks {
    /// Returns the names of the stamp's parts.
    pub(super) fn names(self) -> StampNames {
        match self {
            Quirks::S3 | Quirks::Gcs => StampNames {
                when: "atlas-stamp",
                sha256: "atlas-sha256",
                format: "atlas-format",
                base: "atlas-base",
                author: "atlas-author",
                status: "atlas-status",
                mac: "atlas-hmac",
            },
            // Azure accepts C# identifiers only, so no hyphens.
            Quirks::Azure => StampNames {
                when: "atlas_stamp",
                sha256: "atlas_sha256",
                format: "atlas_format",
                base: "atlas_base",
                author: "atlas_author",
                status: "atlas_status",
                mac: "atlas_hmac",
            },
        }
    }

    /// Makes a token from a store's reply.
    pub(super) fn token(self, e_tag: Option<&str>, generation: Option<&str>) -> Option<Token> {
        match self {
            Quirks::S3 | Quirks::Azure => e_tag.and_then(of_e_tag),
            Quirks::Gcs => generation.and_then(of_generation),
        }
    }

    /// Returns the condition for a token; `None` if the token is not the store's and must not get
    /// into a request header.
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

    /// Tells whether the store keeps a key distinct from all others.
    pub(super) fn keeps(self, key: &str) -> bool {
        // Azure's documentation warns that a dot at the end of a segment may get lost; then the key
        // would be another one's.
        self != Quirks::Azure || !key.split('/').any(|segment| segment.ends_with('.'))
    }
}

/// Makes a token from an ETag, always with HTTP's quotes, which some stores leave out in listings.
/// `None` if the ETag can't be a header value.
fn of_e_tag(e_tag: &str) -> Option<Token> {
    let bare = e_tag.trim_matches('"');
    let fits = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| match bare.starts_with("W/") {
        true => Token(e_tag.into()),
        false => Token(format!("\"{bare}\"")),
    })
}

/// Makes a token from a generation: a number except 0, which as a condition means "absent".
fn of_generation(generation: &str) -> Option<Token> {
    let number = generation.parse::<u64>().ok().filter(|number| *number > 0);
    number.map(|number| Token(number.to_string()))
}

/// The object has a hash from atlasfs, but an unreadable stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its stamp is unreadable")]
pub(super) struct StampError;

/// Writes a stamp, and the content type for browsers.
pub(super) fn stamp_to_attributes(
    signed: &SignedStamp,
    content: &[u8],
    names: StampNames,
) -> Attributes {
    let SignedStamp { stamp, mac } = signed;
    let content_type = match std::str::from_utf8(content) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    let entry = |name: &'static str, value: String| {
        (
            Attribute::Metadata(name.into()),
            AttributeValue::from(value),
        )
    };
    let optional = [
        (names.base, stamp.base.to_text()),
        (names.author, stamp.author.map(|it| it.to_metadata())),
        (names.status, stamp.status.to_text().map(str::to_owned)),
        (names.mac, mac.map(|mac| mac.to_string())),
    ];
    let optional = optional.into_iter();
    let optional = optional.filter_map(|(name, value)| Some(entry(name, value?)));
    let parts = [
        (Attribute::ContentType, AttributeValue::from(content_type)),
        entry(names.when, when_to_text(stamp.when)),
        entry(names.sha256, stamp.sha256.to_string()),
        entry(names.format, stamp.format.to_string()),
    ];
    parts.into_iter().chain(optional).collect()
}

/// Reads the stamp of an object of `size` bytes; `None` if it has none.
///
/// The hash decides. Without one there is nothing to check, so the object counts as put there by
/// hand. With one the rest must be there too, or the metadata was damaged.
pub(super) fn stamp_from_attributes(
    attributes: &Attributes,
    size: u64,
    names: StampNames,
) -> Result<Option<SignedStamp>, StampError> {
    read(size, names, |name| {
        let value = attributes.get(&Attribute::Metadata(name.into()));
        value.map(|value| value.as_ref())
    })
}

/// Reads the stamp of an object in a listing, if the listing shows it. An unreadable stamp is left
/// out here; reading the object reports it.
pub(super) fn stamp_from_listing(object: &ListedObject, names: StampNames) -> Option<SignedStamp> {
    let stamp = read(object.size, names, |wanted| {
        // Azure's metadata names are case-insensitive.
        let mut metadata = object.metadata.iter();
        let (_, value) = metadata.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(value)
    });
    stamp.unwrap_or_default()
}

fn read<'m>(
    size: u64,
    names: StampNames,
    get: impl Fn(&'static str) -> Option<&'m str>,
) -> Result<Option<SignedStamp>, StampError> {
    let Some(sha256) = get(names.sha256) else {
        return Ok(None);
    };
    let read = || {
        Some(Stamp {
            when: when_from_text(get(names.when)?)?,
            sha256: sha256.parse().ok()?,
            size,
            format: get(names.format)?.parse().ok()?,
            // Stamps of earlier versions have none.
            base: match get(names.base) {
                Some(base) => base.parse().ok()?,
                None => Base::Unknown,
            },
            author: get(names.author).and_then(Author::from_metadata),
            status: PlanStatus::from_text(get(names.status)).ok()?,
        })
    };
    let mac = get(names.mac).and_then(|mac| mac.parse().ok());
    let signed = |stamp| Some(SignedStamp { stamp, mac });
    read().map(signed).ok_or(StampError)
}

/// Deletes objects.
#[async_trait]
pub(super) trait RemoveObject: Send + Sync {
    /// Deletes an object; a missing one may be an error.
    async fn remove(&self, path: &Path) -> Result<(), StoreError>;
}

#[async_trait]
impl<S: ObjectStore> RemoveObject for S {
    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.delete(path).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Format, Sha256, Stamp};

    #[test]
    fn an_e_tag_is_one_token_with_and_without_its_quotes() {
        for quirks in [Quirks::S3, Quirks::Azure] {
            let token = quirks.token(Some("0x8D1"), Some("7"));
            assert_eq!(token, Some(Token("\"0x8D1\"".into())));
            assert_eq!(token, quirks.token(Some("\"0x8D1\""), None));
            let version = quirks.version(&token.unwrap()).unwrap();
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

    const ALL: [Quirks; 3] = [Quirks::S3, Quirks::Azure, Quirks::Gcs];

    #[test]
    fn a_stamp_survives_as_metadata() {
        let stamp = Stamp::new(1_725_989_864_000_000_001, b"x", Format::Sql);
        let mac = Some(Sha256::of(b"signature"));
        let author = "Zoë <z@x.org>".parse().ok();
        let by = Stamp {
            author,
            status: PlanStatus::Pending,
            ..stamp
        };
        for names in ALL.map(Quirks::names) {
            for signed in [stamp.into(), SignedStamp { stamp, mac }, by.into()] {
                let attributes = stamp_to_attributes(&signed, b"x", names);
                assert!(attributes.iter().all(|(_, value)| value.is_ascii()));
                let read = stamp_from_attributes(&attributes, 1, names)
                    .unwrap()
                    .unwrap();
                assert_eq!((read, read.stamp.author), (signed, signed.stamp.author));
            }
            assert_eq!(
                stamp_from_attributes(&Attributes::new(), 1, names),
                Ok(None)
            );
        }
    }

    #[test]
    fn a_listing_shows_a_stamp_that_is_whole_whatever_the_case_of_its_names() {
        let names = Quirks::Azure.names();
        let stamp = Stamp::new(1_725_989_864_000_000_001, b"x", Format::Hcl);
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let object = ListedObject {
            size: 1,
            metadata: vec![
                pair("Atlas_Stamp", when_to_text(stamp.when)),
                pair("ATLAS_SHA256", stamp.sha256.to_string()),
                pair("atlas_format", "hcl".into()),
            ],
            ..ListedObject::default()
        };
        assert_eq!(stamp_from_listing(&object, names), Some(stamp.into()));
        let mut object_by = object.clone();
        object_by
            .metadata
            .push(pair("Atlas_Author", "alice%40x".into()));
        let by = stamp_from_listing(&object_by, names).unwrap().stamp.author;
        assert_eq!(by.unwrap().as_str(), "alice@x");
        for missing in 0..3 {
            let mut object = object.clone();
            object.metadata.remove(missing);
            assert_eq!(stamp_from_listing(&object, names), None, "{missing}");
        }
        assert_eq!(stamp_from_listing(&ListedObject::default(), names), None);
    }

    #[test]
    fn a_hash_with_an_unreadable_stamp_is_an_error_and_a_stamp_without_a_hash_is_none() {
        let stamp = Stamp::new(7, b"x", Format::Sql);
        for names in ALL.map(Quirks::names) {
            for name in [names.when, names.sha256, names.format, names.status] {
                let mut attributes = stamp_to_attributes(&stamp.into(), b"x", names);
                attributes.insert(Attribute::Metadata(name.into()), "nonsense".into());
                let read = stamp_from_attributes(&attributes, 1, names);
                assert_eq!(read, Err(StampError), "{name}");
            }
            let mut attributes = Attributes::new();
            let when = Attribute::Metadata(names.when.into());
            attributes.insert(when, when_to_text(7).into());
            assert_eq!(stamp_from_attributes(&attributes, 1, names), Ok(None));
        }
    }
}
