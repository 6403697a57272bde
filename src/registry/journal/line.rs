//! A line of JSON with its checksum before it: what the journal and the catalogue's file are made of.

use serde_json::Value;

use crate::model::Sha256;

/// How many hexadecimal digits of a line's SHA-256 stand before it.
const CHECKSUM: usize = 16;

/// Writes a line with its checksum before it.
pub fn line(value: &Value) -> String {
    let text = value.to_string();
    format!("{} {text}\n", checksum(text.as_bytes()))
}

/// Writes a line that is `width` bytes long, filled up with blanks; `None` if it is longer.
pub fn padded_line(value: &Value, width: usize) -> Option<String> {
    let mut text = value.to_string();
    let blanks = width.checked_sub(CHECKSUM + 2 + text.len())?;
    text.push_str(&" ".repeat(blanks));
    Some(format!("{} {text}\n", checksum(text.as_bytes())))
}

/// Writes a line about a text that is `width` bytes long. A text that is too long for it is cut;
/// `None` if the rest of the line is too long already.
pub fn cut_line(text: &str, width: usize, value: impl Fn(&str) -> Value) -> Option<String> {
    let mut text: String = text.chars().take(width).collect();
    loop {
        if let Some(line) = padded_line(&value(&text), width) {
            return Some(line);
        }
        // The mark of the last cut, and what is still too much.
        let _ = (text.pop(), text.pop());
        if text.is_empty() {
            return None;
        }
        text.push('…');
    }
}

fn checksum(text: &[u8]) -> String {
    let mut digits = Sha256::of(text).to_string();
    digits.truncate(CHECKSUM);
    digits
}

/// Reads the line that `bytes` begin with; returns it and what follows.
pub fn read_line(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (text, rest) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let sum = text.get(..CHECKSUM)?;
    let text = text.get(CHECKSUM..)?.strip_prefix(b" ")?;
    match checksum(text).as_bytes() == sum {
        true => Some((serde_json::from_slice(text).ok()?, rest)),
        false => None,
    }
}
