//! The expectations: the required outcome of each cell, and its mark in the table.

use std::fmt;
use std::time::Duration;

use super::cell::{Affected, Cell, Ending};
use super::observation::{Held, Observation, ReadBack};
use super::programs::{Kind, OnError};
use super::trouble::Errno;

/// The mark of a cell that meets the expectations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Exit 0, and every target has the content.
    Complete,
    /// Exit 0, the rule holds, and some target misses the push.
    Degraded,
    /// Another exit, and the right error.
    Error(Errno),
    /// Exit 0 of a program that ignores the error of close. The mount reports the error elsewhere.
    Reported(Errno),
    /// Another exit: the push met the rule just after its deadline.
    Late,
}

/// The pushes of fsync and of close with a deadline each, and a reserve for a busy machine. A mount
/// that hangs never ends.
const TIME_LIMIT: Duration = Duration::from_secs(2 * 15 + 15);

/// The reason why a cell does not meet the expectations.
#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    /// The cell took too long, or could not start. A machine can stand still for a minute (Linux
    /// 6.18 does when many processes end at once), so the mount need not be the cause.
    Slow(String),
    /// The expectation, and the observation.
    Wrong(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Violation::Slow(why) | Violation::Wrong(why)) = self;
        out.write_str(why)
    }
}

/// Checks a cell.
pub fn check(cell: &Cell, seen: &Observation) -> Result<Mark, Violation> {
    let checked = check_expectations(cell, seen);
    checked.map_err(|why| match seen.took < TIME_LIMIT {
        true => Violation::Wrong(why),
        false => Violation::Slow(why),
    })
}

/// Checks a cell; an error holds the expectation and the observation.
fn check_expectations(cell: &Cell, seen: &Observation) -> Result<Mark, String> {
    let has: Vec<bool> = seen.held.iter().map(|held| *held == Held::After).collect();
    let rule_holds = cell.case.durability.holds(&has);
    let ended_well = seen.code == Some(0);
    let (kind, on_error) = (cell.program.kind, cell.program.on_error);
    let must = |holds: bool, expected: &str| match holds {
        true => Ok(()),
        false => Err(format!("expected {expected}; found {seen:?}")),
    };

    must(seen.took < TIME_LIMIT, "an end within the deadlines")?;
    let is_whole = |held: &Held| match held {
        Held::Torn(_) => false,
        Held::Nothing => !cell.is_there_before(),
        Held::Before => cell.is_there_before(),
        Held::After => true,
    };
    must(
        seen.held.iter().all(is_whole),
        "each target to hold the old content or the new one, and nothing else",
    )?;
    must(
        seen.read_back != Some(ReadBack::Wrong),
        "a reader to get the right bytes or an error",
    )?;
    must(
        ended_well || kind != Kind::Moves || seen.source_is_there,
        "what can't be moved to stay where it was",
    )?;
    let errno = match cell.ending() {
        Ending::Fails(errno) | Ending::NotOpened(errno) => errno,
        ending => {
            // If a target takes all the time, the push ends a little before the deadline. On a busy
            // machine it ends too late. That breaks no promise.
            if !ended_well && cell.case.trouble.takes_all_the_time() && rule_holds {
                must(
                    on_error != OnError::Repeats || seen.stderr.contains(Errno::Io.text()),
                    "exit 0",
                )?;
                return Ok(Mark::Late);
            }
            must(ended_well, "exit 0")?;
            must(rule_holds, "the bytes where the rule says")?;
            if seen.read_back.is_some() && cell.case.affected != Affected::All {
                let newest = seen.read_back == Some(ReadBack::After);
                must(newest, "a reader to get the newest content")?;
            }
            if ending == Ending::Complete {
                must(!has.contains(&false), "the bytes on every target")?;
                return Ok(Mark::Complete);
            }
            return Ok(Mark::Degraded);
        }
    };
    must(
        !ended_well || on_error == OnError::Ignores,
        "another exit than 0",
    )?;
    // A failed open leaves no bytes to keep, and every program sees its error.
    let not_opened = !ended_well && matches!(cell.ending(), Ending::NotOpened(_));
    must(
        seen.reports.is_complete()
            || (not_opened && seen.reports.is_silent() && !has.contains(&true)),
        "the failure in status, events, metrics and user.atlas.error, and the bytes in unpushed",
    )?;
    if ended_well {
        return Ok(Mark::Reported(errno));
    }
    must(
        on_error != OnError::Repeats || seen.stderr.contains(errno.text()),
        errno.text(),
    )?;
    Ok(Mark::Error(errno))
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Case, Durability, Names};
    use super::super::observation::Reports;
    use super::super::programs::PROGRAMS;
    use super::super::trouble::Trouble;
    use super::*;

    fn cell(program: &str, trouble: Trouble, durability: Durability) -> Cell {
        let mut programs = PROGRAMS.iter();
        Cell {
            program: programs.find(|it| it.name == program).unwrap(),
            case: Case {
                trouble,
                affected: Affected::Registry,
                durability,
                names: Names::Known,
            },
        }
    }

    fn seen(code: i32, held: [Held; 3], stderr: &str) -> Observation {
        let told = code != 0 || held.contains(&Held::Nothing);
        Observation {
            code: Some(code),
            stderr: stderr.into(),
            took: Duration::from_secs(1),
            held: held.into(),
            source_is_there: true,
            reports: Reports {
                status: told,
                events: told,
                metrics: told,
                attribute: told,
                bytes: told,
            },
            reported_after: None,
            read_back: None,
        }
    }

    use Held::{After, Before, Nothing, Torn};

    #[test]
    fn a_cell_that_meets_the_expectations_has_its_mark() {
        let refused = |rule| cell("install", Trouble::Refused, rule);
        for (cell, seen, mark) in [
            (
                cell("install", Trouble::None, Durability::All),
                seen(0, [After, After, After], ""),
                Mark::Complete,
            ),
            (
                refused(Durability::Any),
                seen(0, [Nothing, After, After], ""),
                Mark::Degraded,
            ),
            (
                refused(Durability::Registry),
                seen(
                    1,
                    [Nothing, Nothing, Nothing],
                    "install: Input/output error",
                ),
                Mark::Error(Errno::Io),
            ),
            (
                cell("dash-printf", Trouble::Refused, Durability::All),
                seen(0, [Nothing, After, After], ""),
                Mark::Reported(Errno::Io),
            ),
            (
                cell("install", Trouble::Hang, Durability::Any),
                seen(1, [Nothing, After, After], "install: Input/output error"),
                Mark::Late,
            ),
        ] {
            assert_eq!(check(&cell, &seen), Ok(mark), "{cell}");
        }
    }

    #[test]
    fn every_wrong_or_missing_report_is_caught() {
        let nothing = [Nothing; 3];
        let eio = "Input/output error";
        let registry = |program| cell(program, Trouble::Refused, Durability::Registry);
        let fine = |program| cell(program, Trouble::None, Durability::Any);
        let with = |mut seen: Observation, change: fn(&mut Observation)| {
            change(&mut seen);
            seen
        };
        for (why, expected, cell, seen) in [
            (
                "exit 0 and nothing stored",
                "the bytes where the rule says",
                fine("install"),
                seen(0, nothing, ""),
            ),
            (
                "one target forgotten",
                "the bytes on every target",
                fine("install"),
                seen(0, [After, After, Nothing], ""),
            ),
            (
                "a failure that nothing explains",
                "exit 0",
                fine("install"),
                seen(1, [After; 3], eio),
            ),
            (
                "torn",
                "each target to hold",
                fine("install"),
                seen(0, [After, After, Torn(7)], ""),
            ),
            (
                "torn by a failed push",
                "each target to hold",
                registry("install"),
                seen(1, [Torn(7), Nothing, Nothing], eio),
            ),
            (
                "an old content where there was none",
                "each target to hold",
                fine("install"),
                seen(0, [After, After, Before], ""),
            ),
            (
                "an edited file is lost",
                "each target to hold",
                registry("sed-i"),
                seen(1, nothing, eio),
            ),
            (
                "exit 0 after a failed close",
                "another exit than 0",
                registry("install"),
                seen(0, nothing, ""),
            ),
            (
                "exit 0 and the registry has it not",
                "another exit than 0",
                registry("install"),
                seen(0, [Nothing, After, After], ""),
            ),
            (
                "the wrong error",
                "Input/output error",
                registry("install"),
                seen(1, nothing, "install: Permission denied"),
            ),
            (
                "no bytes kept",
                "the failure in status",
                registry("install"),
                with(seen(1, nothing, eio), |seen| seen.reports.bytes = false),
            ),
            (
                "status is silent",
                "the failure in status",
                registry("dash-printf"),
                with(seen(0, nothing, ""), |seen| seen.reports.status = false),
            ),
            (
                "the events are silent",
                "the failure in status",
                registry("dash-printf"),
                with(seen(0, nothing, ""), |seen| seen.reports.events = false),
            ),
            (
                "the metrics are silent",
                "the failure in status",
                registry("dash-printf"),
                with(seen(0, nothing, ""), |seen| seen.reports.metrics = false),
            ),
            (
                "the attribute is silent",
                "the failure in status",
                registry("git"),
                with(seen(0, nothing, ""), |seen| seen.reports.attribute = false),
            ),
            (
                "the source is gone",
                "what can't be moved",
                registry("mv"),
                with(seen(1, nothing, eio), |seen| seen.source_is_there = false),
            ),
            (
                "a hang",
                "an end within",
                fine("install"),
                with(seen(0, [After; 3], ""), |seen| seen.took = TIME_LIMIT),
            ),
            (
                "wrong bytes",
                "a reader to get the right",
                fine("install"),
                with(seen(0, [After; 3], ""), |seen| {
                    seen.read_back = Some(ReadBack::Wrong)
                }),
            ),
            (
                "back in time",
                "a reader to get the newest",
                cell("install", Trouble::WrongHash, Durability::Any),
                with(seen(0, [After; 3], ""), |seen| {
                    seen.read_back = Some(ReadBack::Before)
                }),
            ),
            (
                "no fallback",
                "a reader to get the newest",
                cell("install", Trouble::WrongHash, Durability::Any),
                with(seen(0, [After; 3], ""), |seen| {
                    seen.read_back = Some(ReadBack::Failed)
                }),
            ),
        ] {
            let violation = check(&cell, &seen).unwrap_err();
            let expected = format!("expected {expected}");
            assert!(
                violation.to_string().starts_with(&expected),
                "{why}: {cell}: {violation}"
            );
            // Only slow cells run again.
            let is_slow = matches!(violation, Violation::Slow(_));
            assert_eq!(is_slow, seen.took >= TIME_LIMIT, "{why}");
        }
    }
}
