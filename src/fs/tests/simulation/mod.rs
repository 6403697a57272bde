//! The simulation: seeded schedules of operations, faults and restarts. Mounts share three stores
//! in simulated time, and a reference model checks them.
//!
//! `ATLASFS_SCHEDULES=10000` plays more schedules; `ATLASFS_SEED=7` plays one and shows every step.
//!
//! Not simulated: stores that truncate times to the second or have no tokens, a
//! request that takes effect after its sender has given up, `rename`.

mod ending;
mod mount;
mod play;
mod pool;
mod pushing;
mod random;
mod reading;
mod schedule;
mod search;
mod store;
mod truth;

use std::time::Duration;

use crate::fault_injection::Bug;
use play::Play;
use schedule::Schedule;
use search::{from_env, missed, search};

/// Plays a schedule; returns the violated sentence, if any, and (with `trace`) the log of events.
fn play(schedule: &Schedule, trace: bool) -> (Option<String>, Vec<String>) {
    crate::registry::simulate_disk(Duration::from_millis(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let sim = runtime.block_on(async { Play::new(schedule.clone(), trace).play().await });
    drop(runtime);
    let mut truth = sim.lock();
    (
        truth.violation.take(),
        truth.trace.take().unwrap_or_default(),
    )
}

fn violation(seed: u64) -> Option<String> {
    play(&Schedule::of(seed), false).0
}

/// Removes the steps of a schedule that the violation doesn't need.
fn shrink(mut schedule: Schedule, sentence: &str) -> Schedule {
    let same = |told: &str| told.get(..20) == sentence.get(..20);
    for size in [8, 4, 2, 1, 1] {
        let mut at = schedule.steps.len();
        while at > 0 {
            at = at.saturating_sub(size);
            let mut shorter = schedule.clone();
            let end = (at + size).min(shorter.steps.len());
            shorter.steps.drain(at..end);
            if play(&shorter, false).0.is_some_and(|told| same(&told)) {
                schedule = shorter;
            }
        }
    }
    schedule
}

/// Describes a violation with its seed, the shortened schedule and the trace.
fn explain(schedule: Schedule, sentence: &str) -> String {
    let seed = schedule.seed;
    let schedule = shrink(schedule, sentence);
    let (_, told) = play(&schedule, true);
    let steps = schedule.steps.len();
    let Schedule {
        mounts,
        durability,
        lists_stamps,
        cached,
        repairs,
        ahead,
        ..
    } = schedule;
    format!(
        "seed {seed}: {sentence}\n{steps} steps, {mounts} mounts, durability {durability}, lists \
         stamps {lists_stamps:?}, cached {cached}, repairs {repairs}, \
         clocks ahead {ahead:?} s:\n{}\n",
        told.join("\n")
    )
}

/// All bugs that a test can plant.
const BUGS: [Bug; 22] = [
    Bug::NoJournal,
    Bug::LateJournal,
    Bug::LateRecord,
    Bug::ForgottenTarget,
    Bug::OldStampBelieved,
    Bug::FallbackOnNotFound,
    Bug::NoHashCheck,
    Bug::ConflictIgnored,
    Bug::BaseIgnored,
    Bug::Resurrection,
    Bug::RegistryNotNeeded,
    Bug::NothingKept,
    Bug::NoDeadline,
    Bug::NoSync,
    Bug::NoTombstone,
    Bug::OldestWins,
    Bug::NewestWins,
    Bug::StrangerReplaced,
    Bug::TombstoneByTime,
    Bug::FutureBelieved,
    Bug::VersionSkipped,
    Bug::VersionOverwritten,
];

#[test]
fn no_schedule_violates_a_promise() {
    if let Some(seed) = from_env("ATLASFS_SEED") {
        let schedule = Schedule::of(seed);
        println!("{schedule:#?}");
        let (violation, told) = play(&schedule, true);
        println!("{}\n", told.join("\n"));
        if let Some(sentence) = violation {
            panic!("{}", explain(schedule, &sentence));
        }
        return;
    }
    let count = from_env("ATLASFS_SCHEDULES").unwrap_or(2_000);
    let first = from_env("ATLASFS_FIRST").unwrap_or(0);
    let begun = std::time::Instant::now();
    let (played, found) = search(first, count, None, violation);
    println!("{played} schedules in {:?}", begun.elapsed());
    if let Some((seed, sentence)) = found {
        panic!("{}", explain(Schedule::of(seed), &sentence));
    }
}

#[test]
fn a_seed_is_the_same_schedule_every_time() {
    for seed in 0..20 {
        let schedule = Schedule::of(seed);
        assert_eq!(play(&schedule, true), play(&schedule, true), "seed {seed}");
    }
}

/// The simulation finds every planted bug; prints the number of seeds that each one needs.
#[test]
fn planted_bugs_are_found() {
    let seeds = from_env("ATLASFS_PLANTED").unwrap_or(3_000);
    let missed = missed(&BUGS, seeds, violation);
    assert!(
        missed.is_empty(),
        "{missed:?} are not found by {seeds} seeds"
    );
}
