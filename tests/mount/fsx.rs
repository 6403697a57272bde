//! fsx: random reads, writes, truncations and mappings, each compared with the expected bytes.
//!
//! All operations of fsx are enabled, except two. `punch_hole` is off because fallocate(2) with a
//! mode fails with EOPNOTSUPP. `mapread` is off where files are closed and opened again: fsx never
//! unmaps these reads, and each such file stays open until fsx ends, up to `--max-open-files`.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use super::home::Home;
use super::program::run;
use super::store::{all_hold, flags, folders};
use super::support::tool::tool;

/// The number of operations of all tests together, unless `ATLASFS_FSX_OPERATIONS` is set.
const OPERATIONS: u64 = 60_000;

/// The number of operations of one fsx run. fsx keeps each `mapread` mapped, and the kernel allows
/// 65,530 mappings.
const RUN: u64 = 5_000;

/// The largest size of an artifact and of one operation: many pages, but pushed and hashed within
/// milliseconds.
const SMALL: &str = "flen = 70000\n[opsize]\nmin = 1\nmax = 20000\n";

/// The same for a temporary file. It takes more than one request: the kernel reads 128 KiB at once.
const LARGE: &str = "flen = 300000\n[opsize]\nmin = 1\nmax = 200000\n";

/// One file that stays open; fsync pushes.
const KEPT_OPEN: &str = "[weights]\nread = 10\nwrite = 10\nmapread = 10\nmapwrite = 10\n\
    truncate = 10\ninvalidate = 2\nfsync = 0.2\nfdatasync = 0.2\nposix_fallocate = 5\n\
    sendfile = 5\nposix_fadvise = 5\ncopy_file_range = 5\n";

/// A file that is closed and opened again from time to time; close and fsync push.
const REOPENED: &str = "[weights]\nclose_open = 2\nread = 10\nwrite = 10\nmapread = 0\n\
    mapwrite = 10\ntruncate = 10\ninvalidate = 2\nfsync = 0.2\nfdatasync = 0.2\n\
    posix_fallocate = 5\nsendfile = 5\nposix_fadvise = 5\ncopy_file_range = 5\n";

/// The most consecutive runs that may end with an empty artifact, or one of zeros alone. That is an
/// empty document: its close is refused, and fsx doesn't check the result of close.
const EMPTIED: u64 = 20;

/// The number of correct operations so far.
static RIGHT: AtomicU64 = AtomicU64::new(0);

fn operations() -> u64 {
    let asked = std::env::var("ATLASFS_FSX_OPERATIONS");
    asked.map_or(OPERATIONS, |number| number.parse().unwrap())
}

/// Runs a share of all operations, with a new mount and a new file for each seed from `first` on.
/// With every second seed, the kernel decides when to write mapped pages back.
#[track_caller]
fn none_is_wrong(share: u64, first: u64, weights: &str, name: &str) {
    let runs = (operations() / share).div_ceil(RUN) as usize;
    let (mut done, mut emptied) = (0, 0);
    for seed in first.. {
        if done == runs {
            break;
        }
        let home = Home::in_memory();
        let stores = folders(&home);
        let mut args = flags(&stores);
        args.push("--no-validate".to_owned());
        let mounted = home.mount("mnt", args);
        std::fs::create_dir(mounted.path("app")).unwrap();
        let is_temporary = name.contains("/.");
        let sizes = if is_temporary { LARGE } else { SMALL };
        let config = format!("nomsyncafterwrite = {}\n{sizes}{weights}", seed % 2 == 0);
        let config = home.file("fsx.toml", config);
        let file = mounted.path(name);
        let (run_of, seed) = (RUN.to_string(), seed.to_string());
        let mut fsx = Command::new(tool("bin/fsx"));
        fsx.args(["-N", &run_of, "-S", &seed]).arg("-f").arg(config);
        let ran = run(fsx.arg("-P").arg(home.dir()).arg(&file));
        let right = ran.code == Some(0) && ran.text().contains("A-OK");
        // With `--no-validate`, only empty documents are refused.
        let is_refused = mounted.metric("atlasfs_pushes_total{verdict=\"refused\"}") > 0;
        if !right && is_refused && emptied < EMPTIED {
            emptied += 1;
            continue;
        }
        assert!(right, "seed {seed} on {name}: {ran}");
        (done, emptied) = (done + 1, 0);
        if !is_temporary {
            // The end of fsx has closed the file, which was a push.
            let left = mounted.read(name);
            all_hold(&stores, name, &left);
        }
        let right = RIGHT.fetch_add(RUN, Ordering::Relaxed) + RUN;
        println!("fsx: {right} operations, none wrong (seed {seed} on {name})");
    }
}

#[test]
fn fsx_finds_nothing_wrong_with_an_artifact_that_is_kept_open() {
    none_is_wrong(3, 1, KEPT_OPEN, "app/schema");
}

#[test]
fn fsx_finds_nothing_wrong_with_an_artifact_that_is_closed_and_opened_again() {
    none_is_wrong(3, 1_001, REOPENED, "app/plans/p1");
}

#[test]
fn fsx_finds_nothing_wrong_with_a_temporary_file_that_is_kept_open() {
    none_is_wrong(6, 2_001, KEPT_OPEN, "app/.f");
}

#[test]
fn fsx_finds_nothing_wrong_with_a_temporary_file_that_is_closed_and_opened_again() {
    none_is_wrong(6, 3_001, REOPENED, "app/plans/.f");
}
