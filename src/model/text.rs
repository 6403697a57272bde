//! The bytes of a document as text: byte-order marks, UTF-16, and documents that say nothing.

use super::hcl::name_len;

/// The byte-order mark that some editors write before the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The document is UTF-16, which neither Atlas nor a database reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is UTF-16; save it as UTF-8")]
pub(crate) struct Utf16(
    /// The text, as far as it can be told.
    pub(super) String,
);

/// Returns a document's text as Atlas reads it: without its byte-order mark.
///
/// # Errors
///
/// [`Utf16`], with a byte-order mark or without: no text begins with two characters that are NUL
/// every other time.
pub(crate) fn decode(content: &[u8]) -> Result<&[u8], Utf16> {
    let (is_little, rest) = match content {
        [0xff, 0xfe, rest @ ..] => (true, rest),
        [0xfe, 0xff, rest @ ..] => (false, rest),
        [1..=255, 0] | [1..=255, 0, 1..=255, 0, ..] => (true, content),
        [0, 1..=255] | [0, 1..=255, 0, 1..=255, ..] => (false, content),
        _ => return Ok(content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content)),
    };
    let units = rest.chunks(2).map(|pair| match (pair, is_little) {
        ([low, high], true) | ([high, low], false) => u16::from_be_bytes([*high, *low]),
        _ => u16::from(b'?'),
    });
    let chars = char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER));
    Err(Utf16(chars.collect()))
}

/// Returns a document's text for the question whether it says anything.
fn readable(content: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let mut text: std::borrow::Cow<'_, [u8]> = match decode(content) {
        Ok(text) => text.into(),
        Err(Utf16(text)) => text.into_bytes().into(),
    };
    if text.contains(&0) {
        // Without them, UTF-32 is readable too.
        text.to_mut().retain(|&byte| byte != 0);
    }
    text
}

/// The declarations of a document, whatever its language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declares {
    Something,
    Nothing,
    /// Nothing but other files to read: Atlas's `-- atlas:import FILE`.
    Imports,
}

/// Tells whether a document has anything besides white space, comments and semicolons. It has
/// nothing if any dialect of SQL, or HCL, finds nothing in it.
pub(super) fn declares(content: &[u8]) -> Declares {
    let text = readable(content);
    let (flat, nested) = (Skipped::of(&text, false), Skipped::of(&text, true));
    match flat.rest.is_empty() || (nested.rest.is_empty() && !nested.is_open) {
        false => Declares::Something,
        true if flat.imports => Declares::Imports,
        true => Declares::Nothing,
    }
}

/// The rest of a text behind its first white space and comments.
struct Skipped<'a> {
    rest: &'a [u8],
    /// A comment was one of `atlas:import`.
    imports: bool,
    /// The last comment has no end.
    is_open: bool,
}

impl<'a> Skipped<'a> {
    /// `nests` tells whether a comment may hold another one: PostgreSQL's and SQL Server's may,
    /// and end at the outer `*/`; those of others and of HCL end at the first.
    fn of(text: &'a [u8], nests: bool) -> Self {
        let mut skipped = Self {
            rest: text,
            imports: false,
            is_open: false,
        };
        // Within /*! … */, which MySQL executes and MariaDB too, as /*M! … */.
        let mut is_executed = false;
        loop {
            let rest = skipped.rest;
            let len = match rest {
                [] => return skipped,
                [b'/', b'*', b'!', digits @ ..] | [b'/', b'*', b'M', b'!', digits @ ..] => {
                    is_executed = true;
                    let version = digits.iter().take_while(|digit| digit.is_ascii_digit());
                    rest.len() - digits.len() + version.count()
                }
                [b'*', b'/', ..] if is_executed => {
                    is_executed = false;
                    2
                }
                [b'/', b'*', ..] => match comment_len(rest, nests) {
                    Some(len) => len,
                    None => {
                        skipped.is_open = true;
                        rest.len()
                    }
                },
                // MySQL's, everybody's, and HCL's and Snowflake's.
                [b'#', ..] | [b'-', b'-', ..] | [b'/', b'/', ..] => rest
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .unwrap_or(rest.len()),
                _ => match blank_len(rest) {
                    0 => return skipped,
                    len => len,
                },
            };
            let (gone, rest) = rest.split_at_checked(len).unwrap_or((rest, b""));
            let directive = b"atlas:import ";
            let is_comment = gone.len() > directive.len();
            skipped.imports |= is_comment
                && gone
                    .windows(directive.len())
                    .take(80)
                    .any(|part| part == directive);
            skipped.rest = rest;
        }
    }
}

/// Returns the length of the comment that starts here, if it has an end.
fn comment_len(text: &[u8], nests: bool) -> Option<usize> {
    let (mut at, mut depth) = (2, 1_usize);
    loop {
        let rest = text.get(at..)?;
        at += rest.iter().position(|byte| matches!(byte, b'*' | b'/'))?;
        match text.get(at..)? {
            [b'*', b'/', ..] => {
                (at, depth) = (at + 2, depth - 1);
                if depth == 0 {
                    return Some(at);
                }
            }
            [b'/', b'*', ..] if nests => (at, depth) = (at + 2, depth + 1),
            _ => at += 1,
        }
    }
}

/// Returns the length of the blank that starts here: white space, control characters such as NUL,
/// characters without width, semicolons.
fn blank_len(text: &[u8]) -> usize {
    let is_blank = |byte: &&u8| matches!(byte, 0..=b' ' | b';' | 0x7f);
    let ascii = text.iter().take_while(is_blank).count();
    let char = |len| std::str::from_utf8(text.get(..len)?).ok()?.chars().next();
    let wide = (2..=4)
        .find_map(char)
        .filter(|char| char.is_whitespace() || char.is_control() || is_invisible(*char));
    match (ascii, wide, text) {
        (0, Some(char), _) => char.len_utf8(),
        // A no-break space or control character of Latin-1, or a byte-order mark of UTF-32.
        (0, None, [0x80..=0xa0 | 0xfe..=0xff, ..]) => 1,
        _ => ascii,
    }
}

/// Tells whether a character is never shown: Unicode's default ignorables, and blanks that Unicode
/// counts among symbols and letters.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Tells whether a text is meant as HCL although it doesn't parse: it begins as a block or an
/// attribute does, and as no statement of SQL does.
pub(super) fn looks_like_hcl(text: &[u8]) -> bool {
    let mut rest = Skipped::of(text, false).rest;
    // How many words there are before the brace, how many of them follow another word, and
    // whether the last token is a string.
    let (mut words, mut loose, mut is_label) = (0, 0, false);
    // A block's header, and one within it, have fewer tokens.
    for _ in 0..16 {
        rest = rest.trim_ascii_start();
        let (len, is_string) = match rest {
            [b'=', b'=', ..] => return false,
            [b'=', ..] => return words == 1 && !is_label,
            [b'{', ..] if words > 0 && loose == 0 && is_label => return true,
            // ClickHouse has `SELECT {name:Type}`, ODBC `{d '…'}`: go on inside.
            [b'{', body @ ..] if words > 0 => {
                rest = Skipped::of(body, false).rest;
                (words, loose, is_label) = (0, 0, false);
                continue;
            }
            [quote @ (b'"' | b'\'' | b'`'), label @ ..] if words > 0 => {
                let line = label
                    .split(|&byte| byte == b'\n')
                    .next()
                    .unwrap_or_default();
                match line.iter().position(|byte| byte == quote) {
                    Some(end) => (end + 2, true),
                    None => {
                        let ends_in_brace = line.trim_ascii_end().ends_with(b"{");
                        return *quote == b'"' && words == 1 && ends_in_brace;
                    }
                }
            }
            _ => match name_len(rest) {
                0 => return false,
                len => (len, false),
            },
        };
        if !is_string {
            loose += usize::from(words > 0 && !is_label);
            words += 1;
        }
        is_label = is_string;
        rest = rest.get(len..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
