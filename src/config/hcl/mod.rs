//! `atlas.hcl`, evaluated with Atlas's own rules as far as a mount needs them.
//!
//! The parser is that of hcl-rs (`hcl::edit`, which keeps positions). The evaluator is not: that of
//! hcl-rs has no lazy references, so no graph of locals, no `try` and no unevaluated data source;
//! its arithmetic overflows; and its errors have no position.

mod block;
mod decimal;
mod env;
mod error;
mod eval;
mod file;
mod funcs;
mod graph;
mod number;
mod repo;
mod scope;
mod template;
#[cfg(test)]
mod tests;
mod traverse;
mod types;
mod value;

pub(super) use self::env::{instances, is_named, select, undefined};
pub(super) use self::file::ConfigFile;
pub(super) use self::repo::{RepoBlock, cloud, report, repos};
pub(super) use self::scope::{Inputs, Scope, parse_vars};
