//! What the process behind a mount tells the one that the user started: one JSON object a line.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::exit::Exit;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// It goes on, but the user should know.
    Warning(String),
    /// The mount answers.
    Ready,
    /// There is no mount, and this is why.
    Failed(String, Exit),
}

impl Report {
    /// Writes the message as a line.
    pub(super) fn send(&self, mut to: impl Write) -> io::Result<()> {
        let value = match self {
            Self::Warning(text) => json!({ "warn": text }),
            Self::Ready => json!({ "ready": true }),
            Self::Failed(text, exit) => json!({ "error": text, "code": exit.code() }),
        };
        writeln!(to, "{value}")?;
        to.flush()
    }

    /// Reads a line; nothing if it isn't one of ours.
    pub(super) fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        if let Some(text) = value.get("warn").and_then(Value::as_str) {
            return Some(Self::Warning(text.to_owned()));
        }
        if let Some(text) = value.get("error").and_then(Value::as_str) {
            let code = value.get("code").and_then(Value::as_u64).unwrap_or(1);
            return Some(Self::Failed(text.to_owned(), Exit::from_code(code)));
        }
        let ready = value.get("ready").and_then(Value::as_bool);
        (ready == Some(true)).then_some(Self::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_through_as_one_line() {
        for report in [
            Report::Warning("a\n\"b\"".to_owned()),
            Report::Ready,
            Report::Failed("c".to_owned(), Exit::Usage),
        ] {
            let mut out = Vec::new();
            report.send(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches('\n').count(), 1);
            assert_eq!(Report::read(&text), Some(report));
        }
    }

    #[test]
    fn other_lines_are_no_messages() {
        for line in ["", "x", "{}", "[]", "{\"ready\":false}"] {
            assert_eq!(Report::read(line), None);
        }
    }
}
