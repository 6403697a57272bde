//! The status of a plan.

use std::fmt;
use std::str::FromStr;

/// The status of a plan, in Atlas's words. A plan's file has no field for it, so the stamp carries it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlanStatus {
    /// It may be applied: the status of a plan that is pushed without one, and of every schema.
    #[default]
    Approved,
    /// It waits for a review.
    Pending,
}

impl PlanStatus {
    /// Returns Atlas's word for the status.
    pub fn as_str(self) -> &'static str {
        match self {
            PlanStatus::Approved => "APPROVED",
            PlanStatus::Pending => "PENDING",
        }
    }

    /// Returns the form that stores keep; `None` for the status that goes without saying.
    pub fn to_text(self) -> Option<&'static str> {
        (self != PlanStatus::default()).then(|| self.as_str())
    }

    /// Reads the form that stores keep. A text that is no status is an error: such a plan must not
    /// count as approved.
    ///
    /// # Errors
    ///
    /// [`InvalidStatus`].
    pub fn from_text(text: Option<&str>) -> Result<Self, InvalidStatus> {
        text.map_or(Ok(Self::default()), str::parse)
    }
}

impl fmt::Display for PlanStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The text is no status of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a plan's status is PENDING or APPROVED")]
pub struct InvalidStatus;

impl FromStr for PlanStatus {
    type Err = InvalidStatus;

    fn from_str(text: &str) -> Result<Self, InvalidStatus> {
        [PlanStatus::Approved, PlanStatus::Pending]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(InvalidStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_its_text_form() {
        for status in [PlanStatus::Approved, PlanStatus::Pending] {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(PlanStatus::from_text(status.to_text()), Ok(status));
        }
        assert_eq!(PlanStatus::Approved.to_text(), None);
        for bad in ["", "pending", "PENDING\n", "ABORTED"] {
            assert_eq!(bad.parse::<PlanStatus>(), Err(InvalidStatus), "{bad:?}");
            assert_eq!(PlanStatus::from_text(Some(bad)), Err(InvalidStatus));
        }
    }
}
