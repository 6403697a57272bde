//! Keys as tags: an OCI registry has no folders, and its tags no slashes.
//!
//! A key's slashes become `_.`, its underscores `__`, and a dot at its front `_-`; the rest stays
//! as it is. So `app/plans/p1` is the tag `app_.plans_.p1`.

/// The longest tag, by the distribution specification.
const LONGEST: usize = 128;

/// Returns the tag of a key; `None` if the key is too long for one.
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
    (!tag.is_empty() && tag.len() <= LONGEST).then_some(tag)
}

/// Returns the key of a tag; `None` for a tag that is no key's.
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
