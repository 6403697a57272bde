//! A line of JSON with its checksum before it: the format of the journal and of the index file.

use serde_json::Value;

use crate::model::Sha256;

/// How many hexadecimal digits of its SHA-256 precede a line.
const CHECKSUM: usize = 16;

/// Makes a line with its checksum before it.
pub fn line(value: &Value) -> String {
    let text = value.to_string();
    format!("{} {text}\n", checksum(text.as_bytes()))
}

/// Makes a line of `width` bytes, padded with blanks; `None` if it is longer.
pub fn padded_line(value: &Value, width: usize) -> Option<String> {
    let mut text = value.to_string();
    let blanks = width.checked_sub(CHECKSUM + 2 + text.len())?;
    text.push_str(&" ".repeat(blanks));
    Some(format!("{} {text}\n", checksum(text.as_bytes())))
}

/// Makes a line of `width` bytes that contains a text. A text that is too long is cut; `None` if
/// the rest of the line is too long already.
pub fn cut_line(text: &str, width: usize, value: impl Fn(&str) -> Value) -> Option<String> {
    let mut text: String = text.chars().take(width).collect();
    loop {
        if let Some(line) = padded_line(&value(&text), width) {
            return Some(line);
        }
        // Remove the mark of the last cut, and one more character.
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

/// Reads the first line of `bytes`. Returns it and the rest.
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
