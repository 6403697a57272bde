//! Atlas's functions, one file a family, with the semantics of HashiCorp's cty library.

mod call;
mod collection;
mod encoding;
mod file;
mod format;
mod glob;
mod number;
mod regex;
mod set;
mod string;
mod time;
mod url;

pub(crate) use self::call::{Call, FunctionError};
#[cfg(test)]
pub(super) use self::encoding::json as json_of;
use super::value::Value;

/// A function: it gets its evaluated arguments.
pub(crate) type Function = fn(&Call<'_>) -> Result<Value, FunctionError>;

/// Functions that Atlas has and a mount has no use for: `sql` makes an expression for schemas,
/// and what `yamlmerge` does exactly isn't public.
const LEFT_OUT: [&str; 2] = ["sql", "yamlmerge"];

/// Finds a function by its name. `try` and `can` are not here: they get unevaluated arguments.
pub(crate) fn find(name: &str) -> Option<Function> {
    string::find(name)
        .or_else(|| collection::find(name))
        .or_else(|| set::find(name))
        .or_else(|| number::find(name))
        .or_else(|| encoding::find(name))
        .or_else(|| format::find(name))
        .or_else(|| regex::find(name))
        .or_else(|| url::find(name))
        .or_else(|| time::find(name))
        .or_else(|| file::find(name))
}

/// Tells whether Atlas has a function that is left out here.
pub(crate) fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name)
}
