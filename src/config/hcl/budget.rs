//! The bound on what one evaluation may use, so that no configuration can hang a mount.

use std::cell::Cell;

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
