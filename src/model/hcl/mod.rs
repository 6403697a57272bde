//! HCL's native syntax, recognised as HashiCorp's own parser does.
//!
//! hcl-rs can't check documents for Atlas: it ends a heredoc too early, bounds nesting and operators,
//! takes time in the square of an object's keys, and builds a tree of 48 times the text's size. This
//! recogniser builds no tree: one pass, with memory for the names of a body's attributes and for the
//! brackets that are open. Each rule follows `hclsyntax` (scan_tokens.rl, parser.go,
//! parser_template.go) of github.com/hashicorp/hcl.

mod expression;
#[cfg(test)]
mod hcl_rs_tests;
mod plain;
mod recogniser;
mod scanner;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use plain::plain;
pub(super) use recogniser::{Listener, Value, recognise, sequence_sign};
pub(super) use scanner::name_len;

/// A syntax error and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
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
