//! An artifact in an OCI registry: its tag, which encodes its key, and its manifest, which holds
//! the metadata. The content is a single blob.
//!
//! A tag has no slashes: a key's slashes become `_.`, its underscores `__`, and a leading dot `_-`;
//! the rest stays as it is. So `app/plans/p1` is the tag `app_.plans_.p1`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::model::{Author, Base, PlanStatus, Sha256, Stamp, when_from_text, when_to_text};
use crate::store::SignedStamp;

/// The media type of a manifest.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The type of an artifact.
pub(super) const ARTIFACT_TYPE: &str = "application/vnd.atlasfs.artifact.v1";
/// The type of a lease, which has no content.
const LEASE_TYPE: &str = "application/vnd.atlasfs.claim.v1";
/// The media type of the content: plain bytes.
pub(super) const CONTENT_TYPE: &str = "application/vnd.atlasfs.content.v1";
/// The media type and the content of the configuration, which every manifest must have.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
pub(super) const EMPTY_CONTENT: &[u8] = b"{}";

const WHEN: &str = "atlas-stamp";
const SHA256: &str = "atlas-sha256";
const FORMAT: &str = "atlas-format";
const BASE: &str = "atlas-base";
const AUTHOR: &str = "atlas-author";
const STATUS: &str = "atlas-status";
const MAC: &str = "atlas-hmac";
const CREATED: &str = "org.opencontainers.image.created";
const TITLE: &str = "org.opencontainers.image.title";

/// The content of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The digest of the content: `sha256:…`.
    pub(super) content: String,
    pub(super) size: u64,
    pub(super) stamp: Option<SignedStamp>,
    /// Whether there is a stamp that can't be read.
    pub(super) unreadable: bool,
    /// The creation time from the manifest: a registry keeps no times.
    pub(super) modified: SystemTime,
}

/// Writes a manifest. It includes the key, so the same content under two keys has two manifests,
/// and deleting one leaves the other.
pub(super) fn write(key: &str, signed: &SignedStamp) -> String {
    let SignedStamp { stamp, mac } = signed;
    let name = key.rsplit('/').next().unwrap_or(key);
    let when = when_to_text(stamp.when);
    let mut annotations = json!({
        "atlas-key": key,
        WHEN: when,
        SHA256: stamp.sha256.to_string(),
        FORMAT: stamp.format.to_string(),
        CREATED: when,
    });
    let optional = [
        (BASE, stamp.base.to_text()),
        (AUTHOR, stamp.author.map(|it| it.to_metadata())),
        (STATUS, stamp.status.to_text().map(str::to_owned)),
        (MAC, mac.as_ref().map(Sha256::to_string)),
    ];
    if let Some(annotations) = annotations.as_object_mut() {
        let optional = optional.into_iter();
        annotations.extend(optional.filter_map(|(name, it)| Some((name.into(), it?.into()))));
    }
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {
            "mediaType": EMPTY_TYPE,
            "digest": digest(EMPTY_CONTENT),
            "size": EMPTY_CONTENT.len(),
        },
        "layers": [{
            "mediaType": CONTENT_TYPE,
            "digest": format!("sha256:{}", stamp.sha256),
            "size": stamp.size,
            // Tools such as oras use it as the file name.
            "annotations": { TITLE: name },
        }],
        "annotations": annotations,
    })
    .to_string()
}

/// Writes the manifest of a lease. It is unique, so deleting one lease leaves the others.
pub(super) fn write_lease(tag: &str) -> String {
    let empty = json!({
        "mediaType": EMPTY_TYPE,
        "digest": digest(EMPTY_CONTENT),
        "size": EMPTY_CONTENT.len(),
    });
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": LEASE_TYPE,
        "config": empty,
        "layers": [empty],
        "annotations": { "atlas-claim": tag },
    })
    .to_string()
}

/// Reads a manifest. The error says why it is not an artifact's.
pub(super) fn read(document: &[u8]) -> Result<Manifest, &'static str> {
    let json: Value = serde_json::from_slice(document).map_err(|_| "its manifest is not json")?;
    let [layer] = json
        .get("layers")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice)
    else {
        return Err("its manifest does not have exactly one layer");
    };
    let content = layer.get("digest").and_then(Value::as_str).unwrap_or("");
    let hash = content.strip_prefix("sha256:").unwrap_or("");
    let Ok(hash) = hash.parse::<Sha256>() else {
        return Err("its layer has no sha256");
    };
    let Some(size) = layer.get("size").and_then(Value::as_u64) else {
        return Err("its layer has no size");
    };
    let note = |name: &str| json.get("annotations")?.get(name)?.as_str();
    let read = || {
        Some(Stamp {
            when: when_from_text(note(WHEN)?)?,
            sha256: note(SHA256)?.parse().ok().filter(|noted| *noted == hash)?,
            size,
            format: note(FORMAT)?.parse().ok()?,
            base: match note(BASE) {
                Some(base) => base.parse().ok()?,
                None => Base::Unknown,
            },
            author: note(AUTHOR).and_then(Author::from_metadata),
            status: PlanStatus::from_text(note(STATUS)).ok()?,
        })
    };
    let stamp = read();
    let created = note(CREATED).and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let mac = note(MAC).and_then(|mac| mac.parse().ok());
    Ok(Manifest {
        content: content.into(),
        size,
        stamp: stamp.map(|stamp| SignedStamp { stamp, mac }),
        unreadable: stamp.is_none() && note(SHA256).is_some(),
        modified: created.map_or(UNIX_EPOCH, |time| SystemTime::from(time).max(UNIX_EPOCH)),
    })
}

/// Returns the digest of some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::of(bytes))
}

/// The longest tag, by the distribution specification.
const MAX_TAG_LENGTH: usize = 128;

/// Returns the tag of a key; `None` if the key has no tag, for example because it is too long.
pub(super) fn tag_of(key: &str) -> Option<String> {
    let mut tag = String::with_capacity(key.len() + 8);
    for (place, letter) in key.chars().enumerate() {
        match letter {
            '/' => tag.push_str("_."),
            '_' => tag.push_str("__"),
            '.' if place == 0 => tag.push_str("_-"),
            '-' if place == 0 => return None,
            letter if letter.is_ascii_alphanumeric() || ".-".contains(letter) => tag.push(letter),
            _ => return None,
        }
    }
    (!tag.is_empty() && tag.len() <= MAX_TAG_LENGTH).then_some(tag)
}

/// Returns the key of a tag; `None` if the tag encodes no key.
pub(super) fn key_of(tag: &str) -> Option<String> {
    let mut key = String::with_capacity(tag.len());
    let mut letters = tag.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '_' => match letters.next()? {
                '.' => key.push('/'),
                '_' => key.push('_'),
                '-' if key.is_empty() => key.push('.'),
                _ => return None,
            },
            letter => key.push(letter),
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;

    #[test]
    fn a_stamp_survives_in_a_manifest() {
        let stamp = Stamp::new(1_726_000_000_123_456_789, b"x", Format::Sql);
        let signed = SignedStamp {
            stamp,
            mac: Some(Sha256::of(b"signature")),
        };
        let author = "Zoë <z@x.org>".parse().ok();
        let by = Stamp {
            author,
            status: PlanStatus::Pending,
            ..stamp
        };
        for stamp in [stamp.into(), signed, by.into()] {
            let manifest = write("app/schema", &stamp);
            assert!(manifest.is_ascii(), "{manifest}");
            let read = read(manifest.as_bytes()).unwrap().stamp.unwrap();
            assert_eq!((read, read.stamp.author), (stamp, stamp.stamp.author));
        }
        let manifest = read(write("app/schema", &signed).as_bytes()).unwrap();
        assert_eq!((manifest.size, &*manifest.content), (1, &*digest(b"x")));
        assert_eq!(manifest.modified, stamp.time());
        assert_ne!(write("app/schema", &signed), write("app2/schema", &signed));
    }

    #[test]
    fn a_manifest_of_somebody_elses_has_no_stamp_and_a_damaged_one_is_refused() {
        let stamp = Stamp::new(7, b"x", Format::Hcl);
        let ours = write("app/schema", &stamp.into());
        let by_hand = ours.replace("atlas-", "other-");
        assert_eq!(read(by_hand.as_bytes()).unwrap().stamp, None);
        let unreadable = ours.replace("\"atlas-format\":\"hcl\"", "\"atlas-format\":\"?\"");
        let pending = Stamp {
            status: PlanStatus::Pending,
            ..stamp
        };
        let other = write("app/plans/p", &pending.into()).replace("PENDING", "OTHER");
        for unreadable in [unreadable, other] {
            let unreadable = read(unreadable.as_bytes()).unwrap();
            assert_eq!((unreadable.stamp, unreadable.unreadable), (None, true));
        }
        for (from, to) in [
            ("\"layers\":[{", "\"layers\":[{},{"),
            ("\"size\":1", "\"size\":\"1\""),
            ("\"layers\"", "\"manifests\""),
        ] {
            assert!(ours.contains(from), "{from} not in {ours}");
            assert!(read(ours.replace(from, to).as_bytes()).is_err(), "{from}");
        }
        assert!(read(b"<html>").is_err());
    }

    #[test]
    fn a_key_has_one_tag_and_a_tag_one_key() {
        for (key, tag) in [
            ("app/schema", "app_.schema"),
            ("app/plans/a_b..c-", "app_.plans_.a__b..c-"),
            (
                ".atlasfs/deleted/a/schema/1",
                "_-atlasfs_.deleted_.a_.schema_.1",
            ),
            ("a_/.b", "a___..b"),
        ] {
            assert_eq!(tag_of(key).as_deref(), Some(tag));
            assert_eq!(key_of(tag).as_deref(), Some(key));
        }
        let long = "n".repeat(128);
        assert_eq!(tag_of(&long).as_ref(), Some(&long));
        for none in ["", "-a", "a b", "\u{e9}", &format!("{long}n")] {
            assert_eq!(tag_of(none), None, "{none:?}");
        }
        for foreign in ["_a", "a_", "a_-b", "_"] {
            assert_eq!(key_of(foreign), None, "{foreign}");
        }
    }
}
