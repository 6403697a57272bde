//! Random operations, compared after each one with a small model of the contract.
//!
//! `operation` has the operations, `truth` the expected state, and `play` runs both. `regressions`
//! keeps every sequence that has ever failed; the test plays these first. `ATLASFS_MODEL_SEQUENCES`
//! plays more sequences.

mod answer;
mod operation;
mod play;
mod staged_file;
mod truth;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::fault_injection::{Bug, inject};

/// The number of sequences to play.
const SEQUENCES: u32 = 1_000;

/// Plays sequences; fails with the first mismatch.
fn run(mut runner: TestRunner) -> Result<(), String> {
    // The clock stands still, so that a busy machine changes no result.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    let runtime = runtime.unwrap();
    let sequences = (any::<bool>(), operation::sequence());
    let played = runner.run(&sequences, |(allow_delete, operations)| {
        runtime.block_on(play::play(allow_delete, &operations));
        Ok(())
    });
    played.map_err(|failure: TestError<_>| failure.to_string())
}

#[test]
fn every_operation_does_what_the_model_says() {
    let asked = std::env::var("ATLASFS_MODEL_SEQUENCES");
    let file = "src/fs/tests/model/regressions";
    let played = run(TestRunner::new(ProptestConfig {
        cases: asked.map_or(SEQUENCES, |number| number.parse().unwrap()),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        max_shrink_iters: 5_000,
        ..ProptestConfig::default()
    }));
    played.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_push_over_another_one_would_be_found() {
    let config = ProptestConfig {
        cases: SEQUENCES,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let always_the_same = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    inject(Some(Bug::BaseIgnored));
    let played = run(TestRunner::new_with_rng(config, always_the_same));
    inject(None);
    assert!(played.is_err());
}
