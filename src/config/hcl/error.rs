//! The errors of an evaluation, and the limit of its work.

use std::cell::Cell;

/// The kind of an error: `try` and `can` catch only one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EvalErrorKind {
    /// Atlas fails here too: `try` goes on to its next argument.
    Error,
    /// The evaluation needs a data source; this is its address. `try` must not hide it: Atlas would
    /// have used the source's value.
    Data(String),
    /// This evaluator lacks a feature of Atlas, or has reached a limit.
    Refused,
}

/// A failed evaluation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EvalError {
    /// The byte offset in the file.
    pub(crate) offset: usize,
    pub(crate) kind: EvalErrorKind,
    /// The error text. It never holds a value, because values may be secrets.
    pub(crate) message: String,
}

impl EvalError {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            kind: EvalErrorKind::Error,
            message: message.into(),
        }
    }

    pub(crate) fn refused(offset: usize, message: impl Into<String>) -> Self {
        Self {
            kind: EvalErrorKind::Refused,
            ..Self::new(offset, message)
        }
    }

    pub(crate) fn data(offset: usize, address: String) -> Self {
        Self {
            offset,
            message: format!("atlasfs does not evaluate {address}"),
            kind: EvalErrorKind::Data(address),
        }
    }
}

/// The longest string that an evaluation may make, in bytes: far beyond any URL.
pub(crate) const MAX_TEXT: usize = 1 << 20;

/// The most elements that a function may make. Far beyond any list of targets.
pub(crate) const MAX_ITEMS: usize = 10_000;

/// The most work that one load may do: one unit for each evaluated expression, and one for each
/// node or byte of a new value. A real configuration uses some thousands; the limit takes about a
/// second.
const MAX_WORK: usize = 16 << 20;

/// The work that one load may still do.
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Cell::new(MAX_WORK))
    }

    /// Subtracts units.
    ///
    /// # Errors
    ///
    /// A message once there are none left.
    pub(crate) fn charge(&self, units: usize) -> Result<(), String> {
        match self.0.get().checked_sub(units) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => {
                self.0.set(0);
                Err(
                    "evaluating the configuration takes too much work: make its lists and strings \
                     smaller"
                        .into(),
                )
            }
        }
    }
}
