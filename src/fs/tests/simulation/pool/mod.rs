//! The simulation of a pool of stores: two registries with two backups each, and two machines that
//! mount now one and now the other, with slips in their configurations, wiped stores, and contents
//! with forged stamps.
//!
//! `ATLASFS_POOL_SEED=7` plays one schedule and shows every step.

mod ending;
mod mount;
mod play;
mod schedule;
mod store;
mod truth;

use std::time::Duration;

use super::search::{from_env, missed, search};
use crate::fault_injection::Bug;
use play::Play;
use schedule::Schedule;

/// The bugs that a test can plant.
const BUGS: [Bug; 7] = [
    Bug::AnyStore,
    Bug::AbsenceBelieved,
    Bug::WipedRenamed,
    Bug::ReplayToAnyone,
    Bug::FutureBelieved,
    Bug::NewestWins,
    Bug::ForgottenElsewhere,
];

/// Plays a seed; returns the violated sentence, if any, and (with `trace`) the log of events.
fn play(seed: u64, trace: bool) -> (Option<String>, Vec<String>) {
    crate::registry::simulate_disk(Duration::from_millis(1));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let sim = runtime.block_on(async { Play::new(Schedule::of(seed), trace).play().await });
    drop(runtime);
    let mut truth = sim.lock();
    (
        truth.violation.take(),
        truth.trace.take().unwrap_or_default(),
    )
}

fn violation(seed: u64) -> Option<String> {
    play(seed, false).0
}

fn explain(seed: u64) -> String {
    let (sentence, told) = play(seed, true);
    format!("seed {seed}: {sentence:?}\n{}\n", told.join("\n"))
}

#[test]
fn no_registry_gets_what_is_another_ones() {
    if let Some(seed) = from_env("ATLASFS_POOL_SEED") {
        println!("{}", explain(seed));
        assert_eq!(violation(seed), None);
        return;
    }
    let count = from_env("ATLASFS_SCHEDULES").unwrap_or(2_000) / 20;
    let first = from_env("ATLASFS_FIRST").unwrap_or(0);
    let begun = std::time::Instant::now();
    let (played, found) = search(first, count, None, violation);
    println!("{played} schedules in {:?}", begun.elapsed());
    if let Some((seed, sentence)) = found {
        panic!("{sentence}\n{}", explain(seed));
    }
}

#[test]
fn planted_bugs_of_identity_are_found() {
    let seeds = from_env("ATLASFS_PLANTED").unwrap_or(3_000);
    let missed = missed(&BUGS, seeds, violation);
    assert!(
        missed.is_empty(),
        "{missed:?} are not found by {seeds} seeds"
    );
}
