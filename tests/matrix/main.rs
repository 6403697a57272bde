//! The fault matrix: every program that writes × every fault of a target × the affected targets ×
//! the rule, on real mounts. Exit 0 means that the bytes are where the rule says.
//!
//! `scripts/matrix` prints the table, and `scripts/matrix --all` runs every cell. To run one cell:
//! `scripts/matrix cp/hang/registry/any`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../mount/home.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod home;
#[path = "../mount/mounted.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod mounted;
#[path = "../mount/program.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod program;
#[path = "../mount/store.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod store;

mod cell;
mod expectations;
mod observation;
mod programs;
mod run;
mod site;
mod table;
mod trouble;

use std::path::Path;

use cell::{Affected, Case, Choice, Durability, Names};
use expectations::Violation;
use run::{Gate, run_all, run_case};
use table::{late, table, totals, violations};
use trouble::Trouble;

#[test]
fn every_cell_keeps_the_promise_of_close() {
    let choice = Choice::of_environment();
    let outcomes = run_all(&choice);
    assert!(!outcomes.is_empty(), "no cell has this name: {choice:?}");
    if let Choice::Named(_) = choice {
        println!("{}", totals(&outcomes));
    } else {
        let table = table(&outcomes);
        println!("{table}");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        std::fs::write(target.join("matrix.txt"), table).unwrap();
        assert!(outcomes.len() >= 500, "{}", totals(&outcomes));
        // A busy machine explains no more late cells than this.
        assert!(
            late(&outcomes) * 100 <= outcomes.len(),
            "{}",
            totals(&outcomes)
        );
    }
    let violations = violations(&outcomes);
    assert!(
        violations.is_empty(),
        "{}:\n{violations}",
        totals(&outcomes)
    );
}

/// Asserts that each cell of a case is a violation.
#[track_caller]
fn is_caught(trouble: Trouble, affected: Affected) {
    let case = Case {
        trouble,
        affected,
        durability: Durability::Any,
        names: Names::Known,
    };
    let cells = Choice::All.cells(case);
    for outcome in run_case(case, &cells, &Gate::new(1)) {
        // An expectation must fail; a case that could not run proves nothing.
        let why = outcome.found.as_ref().err();
        let caught = matches!(why, Some(Violation::Wrong(_)));
        assert!(caught, "{}: {:?}", outcome.cell, outcome.found);
    }
}

#[test]
fn targets_that_acknowledge_and_store_nothing_are_caught() {
    is_caught(Trouble::Liar, Affected::All);
}

#[test]
fn one_target_that_acknowledges_and_stores_nothing_is_caught() {
    is_caught(Trouble::Liar, Affected::OneBackup);
}

#[test]
fn a_target_that_stores_half_of_a_content_is_caught() {
    is_caught(Trouble::Tearer, Affected::Registry);
}
