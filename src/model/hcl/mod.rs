//! HCL's native syntax, recognised as HashiCorp's own parser does.
//!
//! hcl-rs can't check documents for Atlas. It ends a heredoc too early, limits nesting and
//! operators, takes time in the square of an object's keys, and builds a tree of 48 times the
//! text's size. This recogniser builds no tree. It makes one pass, and keeps only the names of a
//! body's attributes and the open brackets in memory. Each rule follows `hclsyntax`
//! (scan_tokens.rl, parser.go, parser_template.go) of github.com/hashicorp/hcl.

mod expression;
#[cfg(test)]
mod hcl_rs_tests;
mod plain;
mod recogniser;
mod scanner;
#[cfg(test)]
mod tests;

pub(crate) use plain::plain;
pub(super) use recogniser::{Listener, ValueKind, recognise, sequence_sign};
pub use scanner::Syntax;
pub(super) use scanner::name_len;
