//! Why an evaluation fails, and the bound on its work.

use std::cell::Cell;

/// What kind of failure it is: `try` and `can` catch only one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EvalErrorKind {
    /// What Atlas would answer too: `try` goes on to its next argument.
    Error,
    /// A data source is needed, by its address. `try` must not hide it: Atlas would have gone on
    /// with the source's value.
    Data(String),
    /// What Atlas can do and this evaluator can't, or a bound reached.
    Refused,
}

/// A failed evaluation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EvalError {
    /// Where in the file, as a byte offset.
    pub(crate) offset: usize,
    pub(crate) kind: EvalErrorKind,
    /// What went wrong; never a value, for values may be secrets.
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
            message: format!("{address} is not evaluated by atlasfs"),
            kind: EvalErrorKind::Data(address),
        }
    }
}

/// The longest string that an evaluation may make, in bytes: far beyond any URL.
pub(crate) const MAX_TEXT: usize = 1 << 20;

/// The most elements that a function may make. Far beyond any list of targets.
pub(crate) const MAX_ITEMS: usize = 10_000;

/// The work that one load may do: a unit an expression evaluated, a unit a value's node or byte
/// made. A real configuration uses some thousands; this many takes about a second.
const UNITS: usize = 16 << 20;

/// What is left of the work that one load may do.
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Cell::new(UNITS))
    }

    /// Takes units off.
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
