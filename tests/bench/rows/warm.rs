//! Warm reads: stat, and open+read+close of one artifact that every subject has read.

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::field::Field;
use super::{Bench, SIZE, open_read_close};
use crate::clock::{Cpu, alternate, on, repeat};
use crate::row::{NOOP, Row};
use crate::sample::Samples;
use crate::subject::Subject;

/// The longest time of one sample: more precision for a slow peer is not worth the time.
const LONGEST: Duration = Duration::from_millis(300);

/// The largest ratio of atlasfs's time to the floor's.
const FLOOR: f64 = 1.15;

/// Measures stat with one client and four.
pub fn stat(bench: &Bench, field: &Field) -> Vec<Row> {
    let work = |path: &PathBuf| {
        std::fs::metadata(path).expect("an artifact");
    };
    both(bench, field, "stat", "stat", 20_000, work)
}

/// Measures open, read and close with one client and four.
pub fn open(bench: &Bench, field: &Field) -> Vec<Row> {
    let work = |path: &PathBuf| assert_eq!(open_read_close(path), SIZE, "{}", path.display());
    both(bench, field, "open", "open+read 4 KiB+close", 4_000, work)
}

fn both(
    bench: &Bench,
    field: &Field,
    group: &'static str,
    name: &str,
    most: usize,
    work: impl Fn(&PathBuf) + Sync,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (clients, words) in [(1, "1 client"), (4, "4 clients")] {
        let subjects: Vec<&Subject> = field.subjects.iter().collect();
        let taken = on(Cpu::Measured, || {
            alternate(bench.sized(21, 3), &subjects, |subject| {
                let path = subject.path("app/schema");
                several(
                    clients,
                    bench.sized(most, most / 10) / clients,
                    &path,
                    &work,
                )
            })
        });
        let row = Row::timed(group, format!("{name}, {words}"));
        let row = subjects
            .iter()
            .zip(taken)
            .fold(row, |row, (subject, samples)| {
                row.took(&subject.name, samples)
            });
        let floor = row.median(NOOP).unwrap_or(f64::NAN);
        let row = field
            .tell_absent(row)
            .at_most(FLOOR * floor, "1.15 × no-op");
        rows.push(row.faster_than_each_peer());
    }
    rows
}

/// Repeats the work in several threads at once; returns the average time of one iteration over all
/// threads.
fn several(clients: usize, most: usize, path: &PathBuf, work: &(impl Fn(&PathBuf) + Sync)) -> f64 {
    if clients == 1 {
        return repeat(most, LONGEST, || work(path)).each();
    }
    let barrier = Barrier::new(clients + 1);
    std::thread::scope(|scope| {
        let client = || {
            barrier.wait();
            repeat(most, LONGEST, || work(path)).times
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        barrier.wait();
        // The threads share a processor, so only their total gives the time of one iteration.
        let begun = Instant::now();
        let times = clients
            .into_iter()
            .map(|client| client.join().expect("a client"));
        let times: usize = times.sum();
        begun.elapsed().as_secs_f64() / times as f64
    })
}

/// Measures one FUSE call: the look-up of a missing name, which no kernel caches.
pub fn one_call(bench: &Bench, noop: &Subject) -> Samples {
    let path = noop.path("app/missing");
    let sample = |_: &()| {
        repeat(bench.sized(2_000, 200), LONGEST, || {
            std::fs::metadata(&path).expect_err("nothing there");
        })
        .each()
    };
    on(Cpu::Measured, || {
        alternate(bench.sized(9, 3), &[()], sample).remove(0)
    })
}
