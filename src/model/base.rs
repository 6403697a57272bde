//! The base of a push: the content that it replaces.

use std::str::FromStr;

use super::Sha256;
use super::sha256::InvalidSha256;

/// The content that a push replaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// Unknown: a stamp of an earlier version, or a content that nobody could read.
    #[default]
    Unknown,
    /// Nothing: the artifact is new.
    New,
    /// The content with this hash.
    Content(Sha256),
    /// Nothing, since the content with this hash was deleted.
    Deleted(Sha256),
}

impl Base {
    /// Returns the base in the form that stores keep; `None` if it is unknown.
    pub fn to_text(self) -> Option<String> {
        match self {
            Base::Unknown => None,
            Base::New => Some("none".into()),
            Base::Content(sha256) => Some(sha256.to_string()),
            Base::Deleted(sha256) => Some(format!("deleted:{sha256}")),
        }
    }

    /// Returns the hash of the content that the push replaces, if it replaces one.
    pub fn content(self) -> Option<Sha256> {
        match self {
            Base::Content(sha256) => Some(sha256),
            Base::Unknown | Base::New | Base::Deleted(_) => None,
        }
    }
}

impl FromStr for Base {
    type Err = InvalidSha256;

    fn from_str(text: &str) -> Result<Self, InvalidSha256> {
        match text.strip_prefix("deleted:") {
            Some(sha256) => Ok(Base::Deleted(sha256.parse()?)),
            None if text == "none" => Ok(Base::New),
            None => Ok(Base::Content(text.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_survives_its_text_form() {
        let sha256 = Sha256::of(b"x");
        for base in [Base::New, Base::Content(sha256), Base::Deleted(sha256)] {
            assert_eq!(base.to_text().unwrap().parse(), Ok(base));
        }
        assert_eq!(Base::Unknown.to_text(), None);
        for bad in ["", "new", "deleted:", "deleted:none"] {
            assert_eq!(bad.parse::<Base>(), Err(InvalidSha256), "{bad}");
        }
    }
}
