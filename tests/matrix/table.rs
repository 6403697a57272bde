//! The table of results: a row per program, a column per fault, a block per affected target and
//! durability.

use std::fmt::Write as _;

use super::cell::{Affected, Cell, Durability, Names};
use super::expectations::Mark;
use super::programs::PROGRAMS;
use super::run::Outcome;
use super::trouble::Trouble;

const LEGEND: &str = "\
ok       exit 0, and every target has the bytes
some     exit 0, the rule holds, and a failing target gets the bytes when it works again
EIO, …   another exit, with this error; the bytes are in .atlasfs/unpushed
(EIO), … exit 0 of a program that ignores the error of close; the failure is in status, events,
         metrics and user.atlas.error, the bytes are in .atlasfs/unpushed
late     EIO at the deadline, and yet the bytes are where the rule says
WRONG    a violation
.        not run: scripts/matrix --all runs all
";

/// Formats the table.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for names in [Names::Known, Names::Asked] {
        for affected in Affected::ALL {
            for durability in Durability::ALL {
                block(&mut text, outcomes, (affected, durability, names));
            }
        }
    }
    text.push_str(LEGEND);
    let _ = writeln!(text, "\n{}", totals(outcomes));
    text
}

/// Counts the cells of each mark.
pub fn totals(outcomes: &[Outcome]) -> String {
    let count = |counted: fn(&Mark) -> bool| {
        let good = outcomes.iter().filter_map(|it| it.found.as_ref().ok());
        good.filter(|mark| counted(mark)).count()
    };
    let violations = outcomes.iter().filter(|it| it.found.is_err()).count();
    let reported_after = outcomes.iter().filter_map(|it| it.reported_after);
    let slowest = outcomes.iter().max_by_key(|it| it.took);
    format!(
        "{} cells, {violations} violations ({} ok, {} some, {} errors, {} reported, {} late); \
         the slowest report came after {:?}; the slowest program, {}",
        outcomes.len(),
        count(|mark| *mark == Mark::Complete),
        count(|mark| *mark == Mark::Degraded),
        count(|mark| matches!(mark, Mark::Error(_))),
        count(|mark| matches!(mark, Mark::Reported(_))),
        late(outcomes),
        reported_after.max().unwrap_or_default(),
        slowest.map_or_else(String::new, |it| format!("{}, took {:?}", it.cell, it.took)),
    )
}

/// Counts the cells that ended just after their deadline.
pub fn late(outcomes: &[Outcome]) -> usize {
    let good = outcomes.iter().filter_map(|it| it.found.as_ref().ok());
    good.filter(|mark| **mark == Mark::Late).count()
}

/// Describes each violation, and the command that repeats its cell.
pub fn violations(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        if let Err(why) = &outcome.found {
            let cell = outcome.cell;
            let _ = writeln!(text, "{cell}: {why}\n    again: scripts/matrix {cell}");
        }
    }
    text
}

fn block(
    text: &mut String,
    outcomes: &[Outcome],
    (affected, durability, names): (Affected, Durability, Names),
) {
    let name = |width, text: &str| format!("{text:<width$}");
    let _ = writeln!(
        text,
        "affected: {}, --durability {}, {}",
        affected.name(),
        durability.name(),
        match names {
            Names::Known => "names known before",
            Names::Asked => "names asked for (--ttl 0s)",
        }
    );
    let mut head = name(13, "");
    for trouble in Trouble::ALL {
        head.push_str(&name(width(trouble), trouble.name()));
    }
    let _ = writeln!(text, "{}", head.trim_end());
    for program in &PROGRAMS {
        let mut row = name(13, program.name);
        for trouble in Trouble::ALL {
            let is_it = |cell: &Cell| {
                cell.program.name == program.name
                    && cell.case.trouble == trouble
                    && (cell.case.durability, cell.case.names) == (durability, names)
                    && (cell.case.affected == affected || trouble == Trouble::None)
            };
            let outcome = outcomes.iter().find(|outcome| is_it(&outcome.cell));
            row.push_str(&name(width(trouble), &symbol(outcome)));
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text.push('\n');
}

fn width(trouble: Trouble) -> usize {
    trouble.name().len().max("(ENOSPC)".len()) + 1
}

fn symbol(outcome: Option<&Outcome>) -> String {
    match outcome.map(|outcome| &outcome.found) {
        None => ".".into(),
        Some(Ok(Mark::Complete)) => "ok".into(),
        Some(Ok(Mark::Degraded)) => "some".into(),
        Some(Ok(Mark::Error(errno))) => errno.short().into(),
        Some(Ok(Mark::Reported(errno))) => format!("({})", errno.short()),
        Some(Ok(Mark::Late)) => "late".into(),
        Some(Err(_)) => "WRONG".into(),
    }
}
