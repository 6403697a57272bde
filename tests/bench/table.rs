//! The table in Markdown: a line for each row, and a column for each subject.

use super::row::{ATLASFS, Cell, Goal, NOOP, Row, Unit, Verdict};
use super::sample::Samples;

/// Formats the table, with a note for each missing figure.
pub fn render(rows: &[Row], subjects: &[String]) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut head = vec!["work".to_owned()];
    head.extend(subjects.iter().cloned());
    head.extend(["goal".into(), "at most".into(), "verdict".into()]);
    lines.push(head);
    for row in rows {
        let mut line = vec![row.work.clone()];
        for subject in subjects {
            let cell = row.cells.iter().find(|(name, _)| name == subject);
            line.push(match cell {
                Some((_, Cell::Took(samples))) => shown(row, subject, samples),
                Some((_, Cell::None(why))) => format!("–{}", note(&mut notes, why)),
                None if subject == NOOP => "–".to_owned(),
                None => format!("–{}", note(&mut notes, UNCOMPARED)),
            });
        }
        let each = |show: &dyn Fn(&Goal) -> String| {
            let goals: Vec<String> = row.goals.iter().map(show).collect();
            goals.join("; ")
        };
        line.push(each(&|goal| goal.words.clone()));
        line.push(each(&|goal| {
            let limit = goal.limit.map(|limit| figure(row.unit, limit));
            limit.unwrap_or_else(|| "–".into())
        }));
        line.push(each(&|goal| word(goal.verdict).into()));
        lines.push(line);
    }
    let mut text = markdown(&lines);
    for (number, note) in notes.iter().enumerate() {
        text.push_str(&format!("\n{}: {note}", mark(number + 1)));
    }
    text + "\n"
}

/// The reason why a peer has no figure in a row about promises that no peer makes.
const UNCOMPARED: &str = "not compared: no peer has a registry with backups, a journal, or a goal \
                          for this";

fn note(notes: &mut Vec<String>, why: &str) -> String {
    let known = notes.iter().position(|note| note == why);
    let place = known.unwrap_or_else(|| {
        notes.push(why.to_owned());
        notes.len() - 1
    });
    mark(place + 1)
}

fn mark(number: usize) -> String {
    format!("[{number}]")
}

pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Fails => "**does not hold**",
        Verdict::Open => "–",
    }
}

/// Formats a median with its quartiles, and its ratio to the no-op's.
fn shown(row: &Row, subject: &str, samples: &Samples) -> String {
    let mut text = figure(row.unit, samples.median());
    if samples.count() > 1 && row.unit == Unit::Time {
        let (first, third) = samples.quartiles();
        let (first, third) = (figure(row.unit, first), figure(row.unit, third));
        text.push_str(&format!(" ({first}–{third})"));
    }
    if let Some(ratio) = row.ratio(subject).filter(|_| subject != NOOP) {
        let ratio = format!("{ratio:.2} ×");
        text.push_str(&match subject == ATLASFS {
            true => format!(" **{ratio}**"),
            false => format!(" {ratio}"),
        });
    }
    text
}

/// Formats a figure with three significant digits and its unit.
pub fn figure(unit: Unit, value: f64) -> String {
    let digits = |value: f64| match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    match unit {
        _ if !value.is_finite() => "?".to_owned(),
        Unit::Time if value < 1e-6 => format!("{} ns", digits(value * 1e9)),
        Unit::Time if value < 1e-3 => format!("{} µs", digits(value * 1e6)),
        Unit::Time if value < 1.0 => format!("{} ms", digits(value * 1e3)),
        Unit::Time => format!("{} s", digits(value)),
        Unit::Count if value.fract() == 0.0 => format!("{value:.0}"),
        Unit::Count => digits(value),
        Unit::Bytes if value.abs() < 10_240.0 => format!("{value:.0} B"),
        Unit::Bytes if value.abs() < 1_048_576.0 => format!("{} KiB", digits(value / 1024.0)),
        Unit::Bytes => format!("{} MiB", digits(value / 1_048_576.0)),
        Unit::Share => format!("{:.3} %", value * 100.0),
    }
}

fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        text.push_str(&format!("| {} |\n", line.join(" | ")));
        if number == 0 {
            text.push_str(&format!("|{}\n", " --- |".repeat(columns)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_the_unit_that_fits() {
        let shown = [
            figure(Unit::Time, 26.7e-6),
            figure(Unit::Time, 2.04e-6),
            figure(Unit::Time, 0.1234),
            figure(Unit::Count, 1.0),
            figure(Unit::Count, 1.5),
            figure(Unit::Bytes, 900.0),
            figure(Unit::Bytes, 13.4 * 1_048_576.0),
            figure(Unit::Share, 0.0004),
            figure(Unit::Time, f64::NAN),
        ];
        let expected = [
            "26.7 µs", "2.04 µs", "123 ms", "1", "1.50", "900 B", "13.4 MiB", "0.040 %", "?",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_table_shows_ratios_verdicts_and_why_a_figure_is_missing_once() {
        let row = |work: &str, ours: f64| {
            Row::timed("stat", work)
                .took(NOOP, Samples::one(10e-6))
                .took(ATLASFS, Samples::one(ours))
                .none("s3fs", "it is not installed")
                .at_most(11.5e-6, "1.15 × no-op")
                .faster_than_each_peer()
        };
        let subjects = [NOOP, ATLASFS, "s3fs"].map(str::to_owned);
        let table = render(&[row("a", 11e-6), row("b", 20e-6)], &subjects);
        let expected = "\
| work | no-op | atlasfs | s3fs | goal | at most | verdict |
| --- | --- | --- | --- | --- | --- | --- |
| a | 10.0 µs | 11.0 µs **1.10 ×** | –[1] | 1.15 × no-op; faster than each peer | 11.5 µs; – | holds; – |
| b | 10.0 µs | 20.0 µs **2.00 ×** | –[1] | 1.15 × no-op; faster than each peer | 11.5 µs; – | **does not hold**; – |

[1]: it is not installed
";
        assert_eq!(table, expected);
    }
}
