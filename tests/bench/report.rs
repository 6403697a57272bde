//! The report of a run as JSON, to compare runs.

use serde_json::{Value, json};

use super::row::{Cell, Goal, Row, Verdict};

/// The machine that the run used.
#[derive(Debug)]
pub struct Machine {
    /// Facts by name, in the order in which they are printed.
    pub facts: Vec<(String, String)>,
}

impl Machine {
    /// Collects the facts of this machine.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let cpu = cpu.map_or("unknown", |cpu| cpu.trim_start_matches([' ', '\t', ':']));
        let count = cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        let facts = [
            (
                "date",
                chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            ),
            ("cpu", format!("{count} × {cpu}")),
            (
                "kernel",
                read("/proc/sys/kernel/osrelease").trim().to_owned(),
            ),
            ("load at the beginning", load()),
        ];
        Self {
            facts: facts.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }
}

/// Returns the load averages of the last minute, five minutes and fifteen minutes. Times mean
/// little if more than one process wanted to run.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Writes the report.
pub fn report(machine: &Machine, options: &[(String, String)], rows: &[Row]) -> Value {
    let pairs = |pairs: &[(String, String)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)));
        Value::Object(pairs.collect())
    };
    json!({
        "machine": pairs(&machine.facts),
        "options": pairs(options),
        "rows": rows.iter().map(of_row).collect::<Vec<_>>(),
    })
}

fn of_row(row: &Row) -> Value {
    let subjects = row.cells.iter().map(|(subject, cell)| {
        let value = match cell {
            Cell::None(why) => json!({ "none": why }),
            Cell::Took(samples) => {
                let (first, third) = samples.quartiles();
                json!({
                    "samples": samples.count(),
                    "median": samples.median(),
                    "first_quartile": first,
                    "third_quartile": third,
                    "mean": samples.mean(),
                    "ratio_to_noop": row.ratio(subject),
                })
            }
        };
        (subject.clone(), value)
    });
    json!({
        "group": row.group,
        "work": row.work,
        "unit": format!("{:?}", row.unit).to_lowercase(),
        "counted": row.counted,
        "goals": row.goals.iter().map(of_goal).collect::<Vec<_>>(),
        "subjects": Value::Object(subjects.collect()),
    })
}

fn of_goal(goal: &Goal) -> Value {
    json!({
        "goal": goal.words,
        "at_most": goal.limit,
        "verdict": match goal.verdict {
            Verdict::Holds => json!("holds"),
            Verdict::Fails => json!("does not hold"),
            Verdict::Open => Value::Null,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::row::{ATLASFS, NOOP};
    use super::super::sample::Samples;
    use super::*;

    #[test]
    fn the_report_has_every_row_with_its_verdict() {
        let row = Row::timed("stat", "stat")
            .took(NOOP, Samples::one(2.0))
            .took(ATLASFS, Samples::new([2.0, 3.0, 4.0]))
            .none("s3fs", "not here")
            .at_most(2.3, "1.15 × no-op");
        let report = report(&Machine { facts: Vec::new() }, &[], &[row]);
        let row = &report["rows"][0];
        assert_eq!(row["goals"][0]["verdict"], "does not hold");
        assert_eq!(row["subjects"][ATLASFS]["median"], 3.0);
        assert_eq!(row["subjects"][ATLASFS]["ratio_to_noop"], 1.5);
        assert_eq!(row["subjects"]["s3fs"]["none"], "not here");
    }
}
