//! The stamp as user metadata of an object.

use object_store::{Attribute, AttributeValue, Attributes};

use super::quirks::Names;
use crate::model::{Stamp, when_from_text, when_to_text};
use crate::store::http::xml::Object;

/// An object has a hash of ours with it, and a stamp that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its stamp is unreadable")]
pub(super) struct Unreadable;

/// Writes a stamp, and the content's type for those who look at the object in a browser.
pub(super) fn to_attributes(stamp: &Stamp, content: &[u8], names: Names) -> Attributes {
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
    Attributes::from_iter([
        (Attribute::ContentType, AttributeValue::from(content_type)),
        entry(names.when, when_to_text(stamp.when)),
        entry(names.sha256, stamp.sha256.to_string()),
        entry(names.format, stamp.format.to_string()),
    ])
}

/// Reads the stamp of an object of `size` bytes; `None` if it has none.
///
/// The hash decides: without one nothing can be checked, so the object counts as put there by
/// hand; with one the rest must be there too, or somebody has damaged what we wrote.
pub(super) fn from_attributes(
    attributes: &Attributes,
    size: u64,
    names: Names,
) -> Result<Option<Stamp>, Unreadable> {
    read(size, names, |name| {
        let value = attributes.get(&Attribute::Metadata(name.into()));
        value.map(|value| value.as_ref())
    })
}

/// Reads the stamp of an object in a listing, if it shows one. One that can't be read is for
/// whoever reads the object to tell.
pub(super) fn from_listing(object: &Object, names: Names) -> Option<Stamp> {
    let stamp = read(object.size, names, |wanted| {
        // Azure's names have no case.
        let mut metadata = object.metadata.iter();
        let (_, value) = metadata.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(value)
    });
    stamp.unwrap_or_default()
}

fn read<'m>(
    size: u64,
    names: Names,
    get: impl Fn(&'static str) -> Option<&'m str>,
) -> Result<Option<Stamp>, Unreadable> {
    let Some(sha256) = get(names.sha256) else {
        return Ok(None);
    };
    let read = || {
        Some(Stamp {
            when: when_from_text(get(names.when)?)?,
            sha256: sha256.parse().ok()?,
            size,
            format: get(names.format)?.parse().ok()?,
        })
    };
    read().map(Some).ok_or(Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;
    use crate::store::cloud::quirks::Quirks;

    const ALL: [Quirks; 3] = [Quirks::S3, Quirks::Azure, Quirks::Gcs];

    #[test]
    fn a_stamp_survives_as_metadata() {
        let stamp = Stamp::new(1_725_989_864_000_000_001, b"x", Format::Sql);
        for names in ALL.map(Quirks::names) {
            let attributes = to_attributes(&stamp, b"x", names);
            assert_eq!(from_attributes(&attributes, 1, names), Ok(Some(stamp)));
            assert_eq!(from_attributes(&Attributes::new(), 1, names), Ok(None));
        }
    }

    #[test]
    fn a_listing_shows_a_stamp_that_is_whole_whatever_the_case_of_its_names() {
        let names = Quirks::Azure.names();
        let stamp = Stamp::new(1_725_989_864_000_000_001, b"x", Format::Hcl);
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let object = Object {
            size: 1,
            metadata: vec![
                pair("Atlas_Stamp", when_to_text(stamp.when)),
                pair("ATLAS_SHA256", stamp.sha256.to_string()),
                pair("atlas_format", "hcl".into()),
            ],
            ..Object::default()
        };
        assert_eq!(from_listing(&object, names), Some(stamp));
        for credential_error in 0..3 {
            let mut object = object.clone();
            object.metadata.remove(credential_error);
            assert_eq!(from_listing(&object, names), None, "{credential_error}");
        }
        assert_eq!(from_listing(&Object::default(), names), None);
    }

    #[test]
    fn a_hash_with_an_unreadable_stamp_is_an_error_and_a_stamp_without_a_hash_is_none() {
        let stamp = Stamp::new(7, b"x", Format::Sql);
        for names in ALL.map(Quirks::names) {
            for name in [names.when, names.sha256, names.format] {
                let mut attributes = to_attributes(&stamp, b"x", names);
                attributes.insert(Attribute::Metadata(name.into()), "nonsense".into());
                let read = from_attributes(&attributes, 1, names);
                assert_eq!(read, Err(Unreadable), "{name}");
            }
            let mut attributes = Attributes::new();
            let when = Attribute::Metadata(names.when.into());
            attributes.insert(when, when_to_text(7).into());
            assert_eq!(from_attributes(&attributes, 1, names), Ok(None));
        }
    }
}
