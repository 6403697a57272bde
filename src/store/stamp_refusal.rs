//! The reason why a stamp counts as none, so that its content counts as put by hand.

use std::fmt;

use crate::model::when_to_text;

/// Why a stamp counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StampRefusal {
    /// It can't be parsed.
    Unreadable,
    /// Its time, in nanoseconds since the epoch, is more than five minutes ahead.
    Ahead(u64),
    /// No key of this mount has signed it.
    Unsigned,
}

impl fmt::Display for StampRefusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StampRefusal::Unreadable => out.write_str("its stamp is unreadable"),
            StampRefusal::Ahead(when) => write!(
                out,
                "its stamp of {} is more than five minutes ahead of this machine's clock",
                when_to_text(*when)
            ),
            StampRefusal::Unsigned => out.write_str("no key of this mount has signed its stamp"),
        }
    }
}
