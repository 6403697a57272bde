//! HCL's tokens, one at a time, and its syntax errors.

use std::fmt;
use std::ops::Range;

/// A syntax error and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The description of the error.
    pub message: String,
}

impl Syntax {
    /// Describes an error at a byte offset of a text.
    pub(crate) fn at(text: &[u8], offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.iter().rposition(|&byte| byte == b'\n');
        let line = before.get(line_start.map_or(0, |at| at + 1)..);
        let is_first = |byte: &&u8| !(0x80..0xc0).contains(*byte);
        Self {
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: line.unwrap_or_default().iter().filter(is_first).count() + 1,
            message: message.into(),
        }
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
        } = self;
        write!(out, "line {line}, column {column}: {message}")
    }
}

/// A token outside of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HclToken {
    /// The end of the text.
    End,
    /// The end of a line, and the comment before it.
    Newline,
    /// An identifier.
    Name,
    /// A number. `is_decimal`: it has a decimal point.
    Number { is_decimal: bool },
    /// `"`. A quoted template follows.
    Quote,
    /// `<<EOT` and the end of its line. A heredoc follows.
    Heredoc,
    /// An operator of two characters between two operands.
    Operator,
    /// `=>`
    Arrow,
    /// `...`
    Ellipsis,
    /// `::`
    DoubleColon,
    /// `~}`
    TrimmingBrace,
    /// Any other single character of the language.
    Sign(u8),
}

/// The end of a literal part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The end of the template.
    End,
    /// `${` or `${~`
    Interpolation,
    /// `%{` or `%{~`
    Directive,
}

/// An error and its byte offset.
#[derive(Debug)]
pub(super) struct ScanError {
    pub(super) at: usize,
    pub(super) message: String,
}

impl ScanError {
    /// Fails at a byte offset.
    pub(super) fn at<T>(at: usize, message: impl Into<String>) -> Result<T, Self> {
        let message = message.into();
        Err(Self { at, message })
    }
}

/// A text, read from its start to its end.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    pub(super) text: &'a [u8],
    /// The start of the last token or literal part.
    pub(super) start: usize,
    /// The end of the last token or literal part.
    pub(super) at: usize,
    /// The comments and the line ends without a meaning, if the caller needs them.
    pub(super) ignored: Option<Vec<Range<usize>>>,
}

impl<'a> Scanner<'a> {
    /// Reads the next token. `newlines`: line ends count here.
    pub(super) fn next(&mut self, newlines: bool) -> Result<HclToken, ScanError> {
        loop {
            self.skip(|byte| matches!(byte, b' ' | b'\t'));
            self.start = self.at;
            let (len, token) = match self.rest() {
                [] => (0, HclToken::End),
                [b'\n', ..] if newlines => (1, HclToken::Newline),
                [b'\r', b'\n', ..] if newlines => (2, HclToken::Newline),
                [b'\n', ..] | [b'\r', b'\n', ..] | [b'#', ..] | [b'/', b'/', ..] => {
                    self.skip(|byte| byte != b'\n');
                    let ends = self.at < self.text.len();
                    self.ignore(self.start..self.at + usize::from(ends && !newlines));
                    self.at += usize::from(ends);
                    match ends && newlines {
                        true => return Ok(HclToken::Newline),
                        false => continue,
                    }
                }
                [b'/', b'*', body @ ..] => match body.windows(2).position(|two| two == b"*/") {
                    Some(end) => {
                        self.at += 2 + end + 2;
                        self.ignore(self.start..self.at);
                        continue;
                    }
                    None => return ScanError::at(self.at, "this comment has no end: write */"),
                },
                [b'"', ..] => (1, HclToken::Quote),
                [b'0'..=b'9', ..] => return self.number(),
                [b'.', b'.', b'.', ..] => (3, HclToken::Ellipsis),
                [b'=', b'>', ..] => (2, HclToken::Arrow),
                [b'~', b'}', ..] => (2, HclToken::TrimmingBrace),
                [b':', b':', ..] => (2, HclToken::DoubleColon),
                [b'=' | b'!' | b'<' | b'>', b'=', ..] | [b'&', b'&', ..] | [b'|', b'|', ..] => {
                    (2, HclToken::Operator)
                }
                [b'<', b'<', after @ ..] if let Some(len) = heredoc(after) => {
                    (2 + len, HclToken::Heredoc)
                }
                [sign, ..] if b"[](){}.,*/%+-=<>!?:".contains(sign) => (1, HclToken::Sign(*sign)),
                [b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.., ..] => return self.name(),
                _ => return self.foreign(),
            };
            self.at += len;
            return Ok(token);
        }
    }

    /// Continues in a quoted template.
    pub(super) fn quoted(&mut self) -> Result<Piece, ScanError> {
        loop {
            self.skip(|byte| matches!(byte, 0x20.. if byte < 0x80 && !b"\"\\$%".contains(&byte)));
            self.start = self.at;
            match self.rest() {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(Piece::End);
                }
                [b'\\', ..] => self.escape()?,
                [] | [b'\r' | b'\n', ..] => {
                    return ScanError::at(
                        self.at,
                        "a quoted string must end on its line: close it with \", or write \\n for \
                         a new line, or use a heredoc",
                    );
                }
                _ => {
                    if let Some(piece) = self.literal()? {
                        return Ok(piece);
                    }
                }
            }
        }
    }

    /// Continues in a heredoc, which ends at a line with its marker alone. `is_fresh`: a line
    /// starts here.
    pub(super) fn heredoc(
        &mut self,
        marker: &[u8],
        mut is_fresh: bool,
    ) -> Result<Piece, ScanError> {
        loop {
            self.start = self.at;
            if is_fresh && let Some(end) = self.closing_line(marker) {
                self.at = end;
                return Ok(Piece::End);
            }
            is_fresh = false;
            self.skip(|byte| matches!(byte, 0..0x80 if !b"\r\n$%".contains(&byte)));
            self.start = self.at;
            match self.rest() {
                [] => {
                    let marker = String::from_utf8_lossy(marker);
                    let what = format!("this heredoc has no end: no line is {marker} alone");
                    return ScanError::at(self.at, what);
                }
                [b'\n', ..] => (self.at, is_fresh) = (self.at + 1, true),
                [b'\r', b'\n', ..] => (self.at, is_fresh) = (self.at + 2, true),
                [b'\r', ..] => return self.foreign(),
                _ => {
                    if let Some(piece) = self.literal()? {
                        return Ok(piece);
                    }
                }
            }
        }
    }

    /// Returns the text of the last token.
    pub(super) fn slice(&self) -> &'a [u8] {
        self.text.get(self.start..self.at).unwrap_or_default()
    }

    /// Refuses the character at the current position.
    fn foreign<T>(&self) -> Result<T, ScanError> {
        let char = match self.text.get(self.at..).map(char_len) {
            Some(Some(len)) => self.text.get(self.at..self.at + len),
            _ => return ScanError::at(self.at, "invalid UTF-8: save the file as UTF-8"),
        };
        let char = String::from_utf8_lossy(char.unwrap_or_default()).into_owned();
        let hint = match char.as_str() {
            "'" | "\u{201c}" | "\u{201d}" => ": strings are written in \"",
            ";" => ": each attribute has a line of its own",
            "`" => ": a string of many lines is written as a heredoc",
            _ => "",
        };
        ScanError::at(self.at, format!("{char:?} is no part of HCL here{hint}"))
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, mut passes: impl FnMut(u8) -> bool) {
        let rest = self.rest();
        let end = rest.iter().position(|&byte| !passes(byte));
        self.at += end.unwrap_or(rest.len());
    }

    fn ignore(&mut self, range: Range<usize>) {
        if let Some(ignored) = &mut self.ignored {
            ignored.push(range);
        }
    }

    /// Like HashiCorp's scanner, takes the longest run of characters that numbers consist of. The
    /// run must be a number.
    fn number(&mut self) -> Result<HclToken, ScanError> {
        let mut end = self.at;
        loop {
            end += match self.text.get(end..).unwrap_or_default() {
                [b'0'..=b'9', ..] => 1,
                [b'.', ..] => {
                    end += 1;
                    continue;
                }
                [b'e' | b'E', b'0'..=b'9', ..] => 2,
                [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] => 3,
                _ => break,
            };
            self.at = end;
        }
        let text = String::from_utf8_lossy(self.slice());
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
        let is_decimal = text.contains('.');
        match digits.matches('.').count() < 2 && exponent.parse::<i32>().is_ok() {
            true => Ok(HclToken::Number { is_decimal }),
            false => ScanError::at(self.start, "this is no number"),
        }
    }

    fn name(&mut self) -> Result<HclToken, ScanError> {
        self.at += name_len(self.rest());
        if self.at > self.start {
            return Ok(HclToken::Name);
        }
        // Refuse the first character that no name contains.
        while let Some(len) = char_len(self.rest()) {
            let char = self.rest().get(..len).unwrap_or_default();
            if name_len(&[b"_", char].concat()) == 0 {
                return self.foreign();
            }
            self.at += len;
        }
        self.at = self.start;
        self.foreign()
    }

    /// Reads an escape sequence of a quoted template.
    fn escape(&mut self) -> Result<(), ScanError> {
        let (len, digits) = match self.rest() {
            [_, b'n' | b'r' | b't' | b'"' | b'\\', ..] => (2, None),
            [_, b'u', digits @ ..] => (6, digits.get(..4)),
            [_, b'U', digits @ ..] => (10, digits.get(..8)),
            _ => {
                return ScanError::at(
                    self.at,
                    "after \\ comes one of n, r, t, \", \\, u and U: write \\\\ for a backslash",
                );
            }
        };
        let code = digits.map(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            char::from_u32(u32::from_str_radix(digits, 16).ok().filter(|_| all)?)
        });
        if code == Some(None) || (len > 2 && digits.is_none()) {
            return ScanError::at(
                self.at,
                "\\u takes four and \\U eight hexadecimal digits of a Unicode character",
            );
        }
        self.at += len;
        Ok(())
    }

    /// Reads one literal character of a template, or the start of a sequence.
    fn literal(&mut self) -> Result<Option<Piece>, ScanError> {
        let piece = match self.rest() {
            [b'$', b'$', b'{', ..] | [b'%', b'%', b'{', ..] => {
                self.at += 3;
                return Ok(None);
            }
            [b'$', b'{', ..] => Piece::Interpolation,
            [b'%', b'{', ..] => Piece::Directive,
            rest => match char_len(rest) {
                Some(len) => {
                    self.at += len;
                    return Ok(None);
                }
                None => return self.foreign(),
            },
        };
        self.at += 2;
        self.at += usize::from(self.rest().starts_with(b"~"));
        Ok(Some(piece))
    }

    /// Returns the end of the line that starts here, if the line is the marker alone.
    fn closing_line(&self, marker: &[u8]) -> Option<usize> {
        let rest = self.rest();
        let line = rest.get(..rest.iter().position(|&byte| byte == b'\n')?)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).ok()?.trim();
        let is_marker = text.as_bytes() == marker && !line.contains(&b'\r');
        is_marker.then_some(self.at + line.len())
    }
}

/// Returns the length of a heredoc's start after `<<`, if this is a heredoc.
fn heredoc(after: &[u8]) -> Option<usize> {
    let dash = usize::from(after.starts_with(b"-"));
    let name = name_len(after.get(dash..)?);
    match after.get(dash + name..)? {
        _ if name == 0 => None,
        [b'\n', ..] => Some(dash + name + 1),
        [b'\r', b'\n', ..] => Some(dash + name + 2),
        _ => None,
    }
}

/// Returns the length of the identifier at the start of a text, or 0.
pub(in crate::model) fn name_len(text: &[u8]) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'_' | b'-' | 0x80..) || byte.is_ascii_alphanumeric();
    let end = text.iter().position(|byte| !is_part(byte));
    let name = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
    let is_name = match name {
        [first, ..] if name.is_ascii() => *first == b'_' || first.is_ascii_alphabetic(),
        _ => std::str::from_utf8(name).is_ok_and(|name| hcl::edit::Ident::try_new(name).is_ok()),
    };
    if is_name { name.len() } else { 0 }
}

/// Returns the length of the character at the start of a text. The rule is as loose as in
/// HashiCorp's scanner: it checks the first byte, and the number of bytes that follow.
fn char_len(text: &[u8]) -> Option<usize> {
    let len = match text.first()? {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return None,
    };
    let follow = text.get(1..len)?;
    let is_following = |byte: &u8| (0x80..0xc0).contains(byte);
    follow.iter().all(is_following).then_some(len)
}
