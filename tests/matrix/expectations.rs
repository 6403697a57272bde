//! The law: what may be seen of a cell, and what it is called in the table.

use std::fmt;
use std::time::Duration;

use super::cell::{Affected, Cell, Ending};
use super::programs::{Ear, Kind};
use super::seen::{Held, ReadBack, Seen};
use super::trouble::Errno;

/// What a lawful cell is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Exit 0, and every target has it.
    Complete,
    /// Exit 0, the rule holds, and some target misses it.
    Degraded,
    /// Another exit, and the error is the right one.
    Error(Errno),
    /// Exit 0 of a program that ignores what close says, and the error is told elsewhere.
    Told(Errno),
    /// Another exit: what the rule asks for was done just as the deadline was over.
    Late,
}

/// Two pushes, of fsync and of close, with a deadline each; and what a machine in trouble may take
/// beyond them. A mount that hangs takes for ever.
const LIMIT: Duration = Duration::from_secs(2 * 15 + 15);

/// Why a cell is not lawful.
#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    /// It took too long, or could not be begun. On a machine that stands still for a minute, as
    /// Linux 6.18 was seen to do where many processes end at once, that says nothing of the mount.
    Slow(String),
    /// What was expected, and what was found.
    Wrong(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Violation::Slow(why) | Violation::Wrong(why)) = self;
        out.write_str(why)
    }
}

/// Judges a cell.
pub fn judge(cell: &Cell, seen: &Seen) -> Result<Mark, Violation> {
    let judged = judge_what_was_seen(cell, seen);
    judged.map_err(|why| match seen.took < LIMIT {
        true => Violation::Wrong(why),
        false => Violation::Slow(why),
    })
}

/// Judges a cell; an error says what was expected, and what was found.
fn judge_what_was_seen(cell: &Cell, seen: &Seen) -> Result<Mark, String> {
    let has: Vec<bool> = seen.held.iter().map(|held| *held == Held::After).collect();
    let rule_holds = cell.case.durability.holds(&has);
    let ended_well = seen.code == Some(0);
    let (kind, ear) = (cell.program.kind, cell.program.ear);
    let must = |lawful: bool, expected: &str| match lawful {
        true => Ok(()),
        false => Err(format!("expected {expected}; found {seen:?}")),
    };

    must(seen.took < LIMIT, "an end within the deadlines")?;
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
            // The verdict comes a little before the deadline where a target takes all of the
            // time: on a machine in trouble, too late. No promise is broken by that.
            if !ended_well && cell.case.trouble.takes_all_the_time() && rule_holds {
                must(
                    ear != Ear::Repeats || seen.stderr.contains(Errno::Io.text()),
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
    must(!ended_well || ear == Ear::Deaf, "another exit than 0")?;
    // Nothing is to be kept of what could not be opened; its error nobody is deaf to.
    let not_opened = !ended_well && matches!(cell.ending(), Ending::NotOpened(_));
    must(
        seen.told.is_complete() || (not_opened && seen.told.is_silent() && !has.contains(&true)),
        "the failure in status, events, metrics and user.atlas.error, and the bytes in unpushed",
    )?;
    if ended_well {
        return Ok(Mark::Told(errno));
    }
    must(
        ear != Ear::Repeats || seen.stderr.contains(errno.text()),
        errno.text(),
    )?;
    Ok(Mark::Error(errno))
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Case, Durability, Names};
    use super::super::programs::PROGRAMS;
    use super::super::seen::Told;
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

    fn seen(code: i32, held: [Held; 3], stderr: &str) -> Seen {
        let told = code != 0 || held.contains(&Held::Nothing);
        Seen {
            code: Some(code),
            stderr: stderr.into(),
            took: Duration::from_secs(1),
            held: held.into(),
            source_is_there: true,
            told: Told {
                status: told,
                events: told,
                metrics: told,
                attribute: told,
                bytes: told,
            },
            told_after: None,
            read_back: None,
        }
    }

    use Held::{After, Before, Nothing, Torn};

    #[test]
    fn what_is_lawful_has_its_mark() {
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
                Mark::Told(Errno::Io),
            ),
            (
                cell("install", Trouble::Hang, Durability::Any),
                seen(1, [Nothing, After, After], "install: Input/output error"),
                Mark::Late,
            ),
        ] {
            assert_eq!(judge(&cell, &seen), Ok(mark), "{cell}");
        }
    }

    #[test]
    fn every_lie_and_every_silence_is_caught() {
        let nothing = [Nothing; 3];
        let eio = "Input/output error";
        let registry = |program| cell(program, Trouble::Refused, Durability::Registry);
        let fine = |program| cell(program, Trouble::None, Durability::Any);
        let with = |mut seen: Seen, change: fn(&mut Seen)| {
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
                with(seen(1, nothing, eio), |seen| seen.told.bytes = false),
            ),
            (
                "status is silent",
                "the failure in status",
                registry("dash-printf"),
                with(seen(0, nothing, ""), |seen| seen.told.status = false),
            ),
            (
                "the events are silent",
                "the failure in status",
                registry("dash-printf"),
                with(seen(0, nothing, ""), |seen| seen.told.events = false),
            ),
            (
                "the metrics are silent",
                "the failure in status",
                registry("dash-printf"),
                with(seen(0, nothing, ""), |seen| seen.told.metrics = false),
            ),
            (
                "the attribute is silent",
                "the failure in status",
                registry("git"),
                with(seen(0, nothing, ""), |seen| seen.told.attribute = false),
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
                with(seen(0, [After; 3], ""), |seen| seen.took = LIMIT),
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
            let judged = judge(&cell, &seen).unwrap_err();
            let expected = format!("expected {expected}");
            assert!(
                judged.to_string().starts_with(&expected),
                "{why}: {cell}: {judged}"
            );
            // Slowness alone is given another chance.
            let is_slow = matches!(judged, Violation::Slow(_));
            assert_eq!(is_slow, seen.took >= LIMIT, "{why}");
        }
    }
}
