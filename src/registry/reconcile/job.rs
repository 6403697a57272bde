//! A job: one comparison of all targets, as a background round or at a user's request, with its
//! findings so far.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::diff::Problem;
use crate::model::{ArtifactId, when_to_text};
use crate::registry::lock;

/// How many differences a report names; it counts all of them. 10,000: every artifact of a large
/// site, in some megabytes of JSON.
const NAMED: usize = 10_000;

/// The task of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Report the differences.
    Verify,
    /// Repair them.
    Sync,
}

/// A job as it was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The task.
    pub task: Task,
    /// Whether to compare only names and stamps, without reading any content.
    pub quick: bool,
    /// Whether to give targets that have lost their identity the expected one first, and so fill
    /// them again.
    pub refill: bool,
}

/// The error for a text that is no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a job: write verify, verify quick, sync, sync quick or sync refill")]
pub struct UnknownOrder;

impl FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(text: &str) -> Result<Self, UnknownOrder> {
        let (task, quick) = match text.strip_suffix(" quick") {
            Some(task) => (task, true),
            None => (text, false),
        };
        let refill = task == "sync refill";
        let task = match task {
            "verify" => Task::Verify,
            "sync" | "sync refill" => Task::Sync,
            _ => return Err(UnknownOrder),
        };
        Ok(Self {
            task,
            quick,
            refill,
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.task {
            Task::Verify => "verify",
            Task::Sync => "sync",
        })?;
        out.write_str(if self.refill { " refill" } else { "" })?;
        out.write_str(if self.quick { " quick" } else { "" })
    }
}

/// The problem that one target has with one artifact.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    pub(super) artifact: ArtifactId,
    pub(super) target: String,
    pub(super) problem: Problem,
    /// Whether it is repaired; if not, the reason, if there is one.
    pub(super) repaired: Result<(), Option<String>>,
}

/// The progress of a job.
#[derive(Debug, Default)]
struct Report {
    state: JobState,
    ended: Option<u64>,
    /// Artifacts compared so far, and (`of`) all those to compare.
    compared: u64,
    of: u64,
    differences: u64,
    repaired: u64,
    /// Artifacts that could not be compared: only the registry knows whether they are deleted.
    unsure: u64,
    named: Vec<Difference>,
    unheard: Vec<(String, String)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum JobState {
    #[default]
    Running,
    Done,
    Stopped,
}

/// One comparison of all targets.
#[derive(Debug)]
pub(super) struct ReconcileJob {
    pub(super) id: u64,
    pub(super) order: Order,
    begun: u64,
    report: Mutex<Report>,
    pub(super) stop: Notify,
}

impl ReconcileJob {
    pub(super) fn new(id: u64, order: Order, begun: u64) -> Self {
        Self {
            id,
            order,
            begun,
            report: Mutex::default(),
            stop: Notify::new(),
        }
    }

    pub(super) fn repairs(&self) -> bool {
        self.order.task == Task::Sync
    }

    pub(super) fn expect(&self, artifacts: usize) {
        lock(&self.report).of += artifacts as u64;
    }

    pub(super) fn compared(&self) {
        lock(&self.report).compared += 1;
    }

    pub(super) fn unsure(&self) {
        lock(&self.report).unsure += 1;
    }

    /// Records a target that can't be compared now, with the first reason.
    pub(super) fn unheard(&self, target: &str, reason: &str) {
        let mut report = lock(&self.report);
        if !report.unheard.iter().any(|(url, _)| url == target) {
            report.unheard.push((target.into(), reason.into()));
        }
    }

    pub(super) fn found(&self, difference: Difference) {
        let mut report = lock(&self.report);
        report.differences += 1;
        report.repaired += u64::from(difference.repaired.is_ok());
        if report.named.len() < NAMED {
            report.named.push(difference);
        }
    }

    pub(super) fn end(&self, now: u64, stopped: bool) {
        let mut report = lock(&self.report);
        report.ended = Some(now);
        report.state = match stopped {
            true => JobState::Stopped,
            false => JobState::Done,
        };
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.report).state == JobState::Running
    }

    /// Returns how many differences were found, and how many of them are repaired.
    pub(super) fn figures(&self) -> (u64, u64) {
        let report = lock(&self.report);
        (report.differences, report.repaired)
    }

    /// Returns the report as JSON; if `whole`, with every difference that it names.
    pub(super) fn to_json(&self, whole: bool) -> Value {
        let report = lock(&self.report);
        let unheard = report.unheard.iter();
        let unheard = unheard.map(|(url, reason)| json!({ "target": url, "reason": reason }));
        let mut json = json!({
            "id": self.id,
            "job": self.order.to_string(),
            "state": match report.state {
                JobState::Running => "running",
                JobState::Done => "done",
                JobState::Stopped => "stopped",
            },
            "started": when_to_text(self.begun),
            "ended": report.ended.map(when_to_text),
            "compared": report.compared,
            "of": report.of,
            "differences": report.differences,
            "repaired": report.repaired,
            "unsure": report.unsure,
            "unheard": unheard.collect::<Vec<_>>(),
        });
        if whole && let Some(fields) = json.as_object_mut() {
            let named = report.named.iter().map(|difference| {
                json!({
                    "artifact": difference.artifact.to_string(),
                    "target": difference.target,
                    "problem": difference.problem.as_str(),
                    "repaired": difference.repaired.is_ok(),
                    "error": difference.repaired.clone().err().flatten(),
                })
            });
            fields.insert("found".into(), named.collect());
        }
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_as_it_is_written() {
        for text in ["verify", "verify quick", "sync", "sync quick"] {
            let order: Order = text.parse().unwrap();
            assert_eq!(order.to_string(), text);
        }
        for text in ["", "quick", "sync  quick", "verify all", "Sync"] {
            assert_eq!(text.parse::<Order>(), Err(UnknownOrder), "{text:?}");
        }
    }
}
