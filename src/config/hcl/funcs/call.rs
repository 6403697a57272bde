//! A function's arguments, converted as in HCL, and its limits.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::super::error::{MAX_ITEMS, MAX_TEXT};
use super::super::number::Number;
use super::super::scope::Scope;
use super::super::types::unified;
use super::super::value::Value;

/// The failure of a function.
#[derive(Debug)]
pub(crate) enum FunctionError {
    /// The function fails in Atlas too; `try` goes on.
    Failed(String),
    /// The call exceeds a limit; `try` doesn't hide it.
    Refused(String),
}

impl From<String> for FunctionError {
    fn from(why: String) -> Self {
        FunctionError::Failed(why)
    }
}

impl From<&str> for FunctionError {
    fn from(why: &str) -> Self {
        FunctionError::Failed(why.into())
    }
}

/// The result of a function.
pub(super) type Answer = Result<Value, FunctionError>;

/// A function: it gets its evaluated arguments.
type Function = fn(&Call<'_>) -> Answer;

/// The number of arguments of a function, and the function.
pub(crate) type Definition = (RangeInclusive<usize>, Function);

/// One call: the arguments, and the scope for functions that read more than their arguments.
pub(crate) struct Call<'c> {
    pub(crate) args: &'c [Value],
    pub(crate) scope: &'c Scope<'c>,
}

impl<'c> Call<'c> {
    pub(crate) fn new(args: &'c [Value], scope: &'c Scope<'c>) -> Self {
        Self { args, scope }
    }

    /// Checks the number of arguments.
    pub(crate) fn takes(&self, counts: &RangeInclusive<usize>) -> Result<(), FunctionError> {
        if counts.contains(&self.args.len()) {
            return Ok(());
        }
        let (low, high) = (counts.start(), counts.end());
        let wanted = match (low == high, *high) {
            (true, _) => format!("{low}"),
            (false, usize::MAX) => format!("at least {low}"),
            (false, _) => format!("{low} to {high}"),
        };
        Err(format!("it takes {wanted} arguments, not {}", self.args.len()).into())
    }

    /// Returns an argument of any type.
    pub(crate) fn any(&self, index: usize) -> Result<&'c Value, FunctionError> {
        self.args
            .get(index)
            .ok_or_else(|| format!("argument {} is missing", index + 1).into())
    }

    pub(crate) fn mismatch(&self, index: usize, wanted: &str) -> FunctionError {
        let kind = self.args.get(index).map_or("missing", Value::kind);
        format!("argument {} must be {wanted}, it is {kind}", index + 1).into()
    }

    pub(crate) fn text(&self, index: usize) -> Result<String, FunctionError> {
        let text = self.any(index)?.to_text();
        text.ok_or_else(|| self.mismatch(index, "a string"))
    }

    pub(crate) fn number(&self, index: usize) -> Result<Number, FunctionError> {
        let number = self.any(index)?.to_number();
        number.ok_or_else(|| self.mismatch(index, "a number"))
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, FunctionError> {
        let number = self.number(index)?.to_i64();
        number.ok_or_else(|| self.mismatch(index, "a whole number"))
    }

    /// Returns the elements of a list or set.
    pub(crate) fn list(&self, index: usize) -> Result<Vec<Value>, FunctionError> {
        match self.any(index)? {
            Value::List(items) => Ok(items.clone()),
            Value::Set(items) => Ok(items.iter().cloned().collect()),
            _ => Err(self.mismatch(index, "a list")),
        }
    }

    /// Returns the elements of a list or set, converted to their common type.
    pub(crate) fn unified(&self, index: usize) -> Result<Vec<Value>, FunctionError> {
        let list = self.list(index)?;
        self.charge(list.iter().map(|item| item.measure().0).sum())?;
        unified(list).ok_or_else(|| {
            format!("the elements of argument {} have no common type", index + 1).into()
        })
    }

    /// Returns the elements of a list or set as strings.
    pub(crate) fn texts(&self, index: usize) -> Result<Vec<String>, FunctionError> {
        let texts = self
            .list(index)?
            .iter()
            .map(Value::to_text)
            .collect::<Option<_>>();
        texts.ok_or_else(|| format!("argument {} must be a list of strings", index + 1).into())
    }

    pub(crate) fn object(
        &self,
        index: usize,
    ) -> Result<&'c BTreeMap<String, Value>, FunctionError> {
        match self.any(index)? {
            Value::Object(items) => Ok(items),
            _ => Err(self.mismatch(index, "an object")),
        }
    }

    /// Allows a string of this length, and charges for it.
    pub(crate) fn bounded(&self, length: usize) -> Result<(), FunctionError> {
        if length > MAX_TEXT {
            return Err(FunctionError::Refused(
                "the string grows beyond 1 MiB".into(),
            ));
        }
        self.charge(length)
    }

    /// Allows this many elements, and charges for them.
    pub(crate) fn few(&self, count: usize) -> Result<(), FunctionError> {
        if count > MAX_ITEMS {
            return Err(FunctionError::Refused(format!(
                "it generates more than {MAX_ITEMS} elements"
            )));
        }
        self.charge(count)
    }

    /// Subtracts work from the budget.
    pub(crate) fn charge(&self, units: usize) -> Result<(), FunctionError> {
        self.scope
            .budget
            .charge(units)
            .map_err(FunctionError::Refused)
    }
}
