//! Why an evaluation failed, and where.

/// What kind of failure it is: `try` and `can` catch only one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
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
pub(crate) struct Failure {
    /// Where in the file, as a byte offset.
    pub(crate) offset: usize,
    pub(crate) kind: Kind,
    /// What went wrong; never a value, for values may be secrets.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            kind: Kind::Error,
            message: message.into(),
        }
    }

    pub(crate) fn refused(offset: usize, message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Refused,
            ..Self::new(offset, message)
        }
    }

    pub(crate) fn data(offset: usize, address: String) -> Self {
        Self {
            offset,
            message: format!("{address} is not evaluated by atlasfs"),
            kind: Kind::Data(address),
        }
    }
}
