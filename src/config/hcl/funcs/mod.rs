//! Atlas's functions, one file per family, with the semantics of HashiCorp's cty library.

mod call;
mod collection;
mod encoding;
mod file;
mod format;
mod number;
mod string;
mod time;
mod url;

pub(crate) use self::call::{Call, Definition, FunctionError};
#[cfg(test)]
pub(super) use self::encoding::json as json_of;

/// A function of Atlas that a mount doesn't need: it makes an expression for schemas.
const UNSUPPORTED: &str = "sql";

/// Functions that only move elements: they accept values with unknown parts.
const PASSES_UNKNOWN: [&str; 12] = [
    "coalescelist",
    "concat",
    "element",
    "empty",
    "index",
    "keys",
    "length",
    "merge",
    "print",
    "reverse",
    "slice",
    "values",
];

/// Finds a function by its name. `try` and `can` are not here, because they get unevaluated
/// arguments.
pub(crate) fn find(name: &str) -> Option<Definition> {
    string::find(name)
        .or_else(|| collection::find(name))
        .or_else(|| number::find(name))
        .or_else(|| encoding::find(name))
        .or_else(|| format::find(name))
        .or_else(|| url::find(name))
        .or_else(|| time::find(name))
        .or_else(|| file::find(name))
}

/// Tells whether Atlas has a function that is left out here.
pub(crate) fn is_left_out(name: &str) -> bool {
    name == UNSUPPORTED
}

/// Tells whether a function accepts values with unknown parts, and passes those on.
pub(crate) fn passes_unknown(name: &str) -> bool {
    PASSES_UNKNOWN.contains(&name)
}
