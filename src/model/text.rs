//! The bytes of a document as text: byte-order marks, UTF-16, and documents that declare nothing.

use super::hcl::name_len;

/// The byte-order mark that some editors write before the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The document is UTF-16. Neither Atlas nor a database reads UTF-16.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is UTF-16; save it as UTF-8")]
pub(crate) struct Utf16(
    /// The text, as far as it can be decoded.
    pub(super) String,
);

/// Returns a document's text without its byte-order mark, as Atlas reads it.
///
/// # Errors
///
/// [`Utf16`], with a byte-order mark or without: no text begins with two characters of which every
/// other byte is NUL.
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

/// Returns a document's text for the check whether it declares something.
fn readable(content: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let mut text: std::borrow::Cow<'_, [u8]> = match decode(content) {
        Ok(text) => text.into(),
        Err(Utf16(text)) => text.into_bytes().into(),
    };
    if text.contains(&0) {
        // Without NUL bytes, UTF-32 is readable too.
        text.to_mut().retain(|&byte| byte != 0);
    }
    text
}

/// The kind of a document's declarations, in any language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declares {
    Something,
    Nothing,
    /// Only imports of other files: Atlas's `-- atlas:import FILE`.
    Imports,
}

/// Returns whether a document has anything besides white space, comments and semicolons. It has
/// nothing if HCL or any dialect of SQL finds nothing.
pub(super) fn declares(content: &[u8]) -> Declares {
    let text = readable(content);
    let (flat, nested) = (Skipped::of(&text, false), Skipped::of(&text, true));
    match flat.rest.is_empty() || (nested.rest.is_empty() && !nested.is_open) {
        false => Declares::Something,
        true if flat.imports => Declares::Imports,
        true => Declares::Nothing,
    }
}

/// A text without its leading white space and comments.
struct Skipped<'a> {
    rest: &'a [u8],
    /// One of the comments was `atlas:import`.
    imports: bool,
    /// The last comment has no end.
    is_open: bool,
}

impl<'a> Skipped<'a> {
    /// `nests`: a comment may contain another one. Comments of PostgreSQL and SQL Server nest, and
    /// end at the outer `*/`. Comments of other databases and of HCL end at the first `*/`.
    fn of(text: &'a [u8], nests: bool) -> Self {
        let mut skipped = Self {
            rest: text,
            imports: false,
            is_open: false,
        };
        // Within `/*! … */`, which MySQL executes. MariaDB also executes `/*M! … */`.
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
                // `#` is a comment of MySQL, `--` of every dialect, and `//` of HCL and Snowflake.
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

/// Returns the length of the blank that starts here. Blanks are white space, control characters
/// such as NUL, characters without width, and semicolons.
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

/// Returns whether a character is never shown. These are Unicode's default ignorables, and blanks
/// that Unicode counts among symbols and letters.
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

/// Returns whether a text is meant as HCL although it doesn't parse: it begins like a block or an
/// attribute, and like no statement of SQL.
pub(super) fn looks_like_hcl(text: &[u8]) -> bool {
    let mut rest = Skipped::of(text, false).rest;
    // The number of words before the brace, the number of words that follow another word, and
    // whether the last token is a string.
    let (mut words, mut loose, mut is_label) = (0, 0, false);
    // The headers of a block and of a block inside it have fewer tokens.
    for _ in 0..16 {
        rest = rest.trim_ascii_start();
        let (len, is_string) = match rest {
            [b'=', b'=', ..] => return false,
            [b'=', ..] => return words == 1 && !is_label,
            [b'{', ..] if words > 0 && loose == 0 && is_label => return true,
            // ClickHouse has `SELECT {name:Type}`, and ODBC `{d '…'}`: continue inside the brace.
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
