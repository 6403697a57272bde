//! Runs the cells: the cells of a case on one mount, and many cases at once, since most of them
//! wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cell::{Case, Cell, Choice};
use super::expectations::{Mark, Violation, check};
use super::observation::{Held, held, observe};
use super::site::{Site, key};

/// A cell, and its result.
#[derive(Debug)]
pub struct Outcome {
    pub cell: Cell,
    pub found: Result<Mark, Violation>,
    /// The run time of the program.
    pub took: Duration,
    /// The time from the program's end to the mount's report of a failure.
    pub reported_after: Option<Duration>,
}

/// The most mounts that run programs at once: a few for each of two cores.
const MAX_BUSY_MOUNTS: usize = 4;
/// The most mounts at once. Some of them only wait for their targets to become equal.
const MAX_MOUNTS: usize = 12;
/// The most programs at once on a mount where no program waits for a deadline.
const MAX_PROGRAMS: usize = 4;
/// The time until every target has each acknowledged push. The background's pause has doubled to
/// some seconds by then, and a busy machine takes longer.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The most repetitions of a case that was too slow. A mount that hangs is slow each time; a wrong
/// result counts the first time.
const MAX_RETRIES: usize = 2;

/// Runs all chosen cells.
pub fn run_all(choice: &Choice) -> Vec<Outcome> {
    let cases = Case::all().into_iter();
    let cases: Vec<(Case, Vec<Cell>)> = cases
        .map(|case| (case, choice.cells(case)))
        .filter(|(_, cells)| !cells.is_empty())
        .collect();
    // Mix cases that wait with cases that work: 7 divides no number of cases of one fault.
    let count = cases.len();
    let order: Vec<usize> = (0..7).flat_map(|first| (first..count).step_by(7)).collect();
    let gate = Gate::new(MAX_BUSY_MOUNTS);
    let run = |case: &usize| {
        let (case, cells) = &cases[*case];
        run_case(*case, cells, &gate)
    };
    let mut outcomes = in_parallel(&order, MAX_MOUNTS, run);
    for _ in 0..MAX_RETRIES {
        let is_slow = |it: &Outcome| matches!(it.found, Err(Violation::Slow(_)));
        let slow = outcomes.iter().flatten().filter(|it| is_slow(it)).count();
        // A busy machine explains no more slow cells than this.
        if slow * 10 > outcomes.iter().flatten().count() {
            break;
        }
        for (case, outcomes) in order.iter().zip(&mut outcomes) {
            if outcomes.iter().any(is_slow) {
                println!("too slow, it runs again: {:?}", cases[*case].0);
                *outcomes = run(case);
            }
        }
    }
    outcomes.into_iter().flatten().collect()
}

/// Runs the cells of one case.
pub fn run_case(case: Case, cells: &[Cell], gate: &Gate) -> Vec<Outcome> {
    let ran = caught(|| {
        let pass = gate.pass();
        let site = Site::new(case, cells);
        site.strike();
        let threads = match case.trouble.takes_all_the_time() {
            true => cells.len(),
            false => MAX_PROGRAMS,
        };
        let mut outcomes = in_parallel(cells, threads, |cell| {
            let seen = caught(|| observe(&site, cell));
            Outcome {
                cell: *cell,
                took: seen.as_ref().map_or(Duration::ZERO, |seen| seen.took),
                reported_after: seen.as_ref().ok().and_then(|seen| seen.reported_after),
                found: seen
                    .map_err(Violation::Slow)
                    .and_then(|seen| check(cell, &seen)),
            }
        });
        site.heal();
        drop(pass);
        converge(&site, &mut outcomes);
        outcomes
    });
    ran.unwrap_or_else(|why| {
        let cells = cells.iter();
        let failed = cells.map(|cell| Outcome {
            cell: *cell,
            found: Err(Violation::Slow(format!("cannot set up the case: {why}"))),
            took: Duration::ZERO,
            reported_after: None,
        });
        failed.collect()
    })
}

/// Waits until every target has each acknowledged push.
fn converge(site: &Site, outcomes: &mut [Outcome]) {
    let begun = Instant::now();
    let acknowledged =
        |outcome: &&mut Outcome| matches!(outcome.found, Ok(Mark::Complete | Mark::Degraded));
    for outcome in outcomes.iter_mut().filter(acknowledged) {
        let (cell, key) = (&outcome.cell, key(&outcome.cell));
        let contents = || site.stores.iter().map(|store| held(store, &key, cell));
        while !contents().all(|held| held == Held::After) {
            if begun.elapsed() > CONVERGENCE_TIMEOUT {
                let held: Vec<Held> = contents().collect();
                outcome.found = Err(Violation::Wrong(format!(
                    "expected every target to have it some time after the fault; found {held:?}"
                )));
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Maps a function over items, several at once; returns the results in order.
fn in_parallel<T: Sync, R: Send>(
    many: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(many.len()) {
            scope.spawn(|| {
                while let Some((n, it)) = {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    many.get(n).map(|it| (n, it))
                } {
                    let result = work(it);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((n, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Turns a panic into an error, so that it doesn't end the other cells.
fn caught<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panicked: {}", text.unwrap_or("?"))
    })
}

/// A semaphore.
#[derive(Debug)]
pub struct Gate {
    free: Mutex<usize>,
    left: Condvar,
}

/// A permit of the semaphore.
pub struct Pass<'a>(&'a Gate);

impl Gate {
    pub fn new(free: usize) -> Self {
        Self {
            free: Mutex::new(free),
            left: Condvar::new(),
        }
    }

    fn pass(&self) -> Pass<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.left.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.left.notify_one();
    }
}
