//! Random operations, compared after each one with a small model of DESIGN.md 2 and 6.
//!
//! `operation` says what can be done, `truth` what must come of it, and `play` does it. A sequence
//! that has ever failed is kept in `regressions`, and is played first. `ATLASFS_MODEL_SEQUENCES`
//! plays more of them.

mod answer;
mod operation;
mod play;
mod truth;
mod working;

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

/// How many sequences are played.
const SEQUENCES: u32 = 1_000;

#[test]
fn every_operation_does_what_the_model_says() {
    let asked = std::env::var("ATLASFS_MODEL_SEQUENCES");
    let file = "src/fs/tests/model/regressions";
    let mut runner = TestRunner::new(ProptestConfig {
        cases: asked.map_or(SEQUENCES, |number| number.parse().unwrap()),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        max_shrink_iters: 5_000,
        ..ProptestConfig::default()
    });
    // The clock stands still, so that nothing depends on how busy the machine is.
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
    played.unwrap_or_else(|failure| panic!("{failure}"));
}
