//! The author of a push.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The longest author in bytes: room for a user on a host with the longest name that Linux allows, or
/// for the URL of a build. Each stamp in memory takes this much.
pub const MAX_AUTHOR_BYTES: usize = 95;

/// The bytes that stay as they are in a store: no other is safe in a header, in an annotation and as
/// a word of a folder's stamp alike.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b'+');

/// The author of a push, for people to read: `alice@build-7`. It is one line of visible text, and
/// decides nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Author {
    length: NonZeroU8,
    bytes: [u8; MAX_AUTHOR_BYTES],
}

impl Author {
    /// Names a user of a host. A name that is no author's is left out.
    pub fn of(user: &str, host: &str) -> Option<Self> {
        let both = format!("{user}@{host}").parse().ok();
        both.filter(|_| !host.is_empty())
            .or_else(|| user.parse().ok())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.length.get()));
        str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }

    /// Returns the form that stores keep: printable ASCII without blanks.
    pub fn to_metadata(&self) -> String {
        utf8_percent_encode(self.as_str(), ENCODED).to_string()
    }

    /// Reads the form that stores keep. A text that is no author's counts as none.
    pub fn from_metadata(text: &str) -> Option<Self> {
        percent_decode_str(text).decode_utf8().ok()?.parse().ok()
    }
}

impl fmt::Display for Author {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for Author {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), out)
    }
}

/// The text can't be an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an author is 1 to {MAX_AUTHOR_BYTES} bytes of text without control characters")]
pub struct InvalidAuthor;

impl FromStr for Author {
    type Err = InvalidAuthor;

    fn from_str(text: &str) -> Result<Self, InvalidAuthor> {
        if text.chars().any(is_invisible) {
            return Err(InvalidAuthor);
        }
        let length = u8::try_from(text.len()).map_err(|_| InvalidAuthor)?;
        let mut bytes = [0; MAX_AUTHOR_BYTES];
        let place = bytes.get_mut(..text.len()).ok_or(InvalidAuthor)?;
        place.copy_from_slice(text.as_bytes());
        Ok(Self {
            length: NonZeroU8::new(length).ok_or(InvalidAuthor)?,
            bytes,
        })
    }
}

/// Tells whether a character could change a terminal, or the text around it: a control character, a
/// line separator, or a mark of the direction of writing.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_survives_in_metadata() {
        let longest = "é".repeat(MAX_AUTHOR_BYTES / 2);
        for text in [
            "alice@build-7",
            "Zoë Müller <z@x.org>",
            "100% a=b,c;\"d\"",
            &longest,
        ] {
            let author: Author = text.parse().unwrap();
            let kept = author.to_metadata();
            assert!(kept.bytes().all(|byte| byte.is_ascii_graphic()), "{kept}");
            assert_eq!(Author::from_metadata(&kept).unwrap().as_str(), text);
        }
        let plain: Author = "alice@build-7".parse().unwrap();
        assert_eq!(plain.to_metadata(), "alice@build-7");
    }

    #[test]
    fn text_that_could_change_a_terminal_is_no_author() {
        let long = "a".repeat(MAX_AUTHOR_BYTES + 1);
        for text in [
            "",
            "a\nb",
            "a\x1b[2J",
            "\u{9b}2J",
            "a\0",
            "a\u{202e}b",
            "a\u{2028}b",
            &long,
        ] {
            assert_eq!(text.parse::<Author>(), Err(InvalidAuthor), "{text:?}");
        }
        for kept in ["", "%0A", "%1b%5b2J", "%ff", "a\tb", &long] {
            assert_eq!(Author::from_metadata(kept), None, "{kept:?}");
        }
    }

    #[test]
    fn a_user_without_a_usable_host_is_still_named() {
        let of = |user, host| Author::of(user, host).map(|it| it.to_string());
        let long = "h".repeat(MAX_AUTHOR_BYTES);
        assert_eq!(of("alice", "build-7").unwrap(), "alice@build-7");
        for host in ["", "a\nb", &long] {
            assert_eq!(of("alice", host).unwrap(), "alice");
        }
        assert_eq!(of("a\x07", "build-7"), None);
        assert_eq!(of("", ""), None);
    }
}
