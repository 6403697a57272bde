//! `atlas.hcl`, evaluated with Atlas's own rules as far as a mount needs it.
//!
//! The parser is hcl-rs's own (`hcl::edit`, which keeps places). The evaluator is not: hcl-rs's
//! has no lazy references, so no graph of locals, no `try` and no unevaluated data source; its
//! arithmetic overflows; and its errors have no place.

mod block;
mod budget;
mod cloud;
mod decimal;
mod env;
mod eval;
mod failure;
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
mod variable;

pub(super) use self::cloud::cloud;
pub(super) use self::env::{instances, is_named, select, undefined};
pub use self::file::Place;
pub(super) use self::file::{DEFAULT_URL, File};
pub(super) use self::repo::{Found, report, repos};
pub(super) use self::scope::{Inputs, Scope};
pub(super) use self::variable::parse_vars;
