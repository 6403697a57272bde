//! fsx: random reads, writes, truncations and mappings, each compared with what it must find.
//!
//! All of fsx's operations are on but one: `punch_hole`, for fallocate(2) with a mode is refused
//! with EOPNOTSUPP. Where files are closed and opened again, `mapread` is off too: fsx never unmaps
//! what it has read so, and each such file stays open until fsx ends, up to `--max-open-files`.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use super::home::Home;
use super::program::run;
use super::store::{all_hold, flags, folders};
use super::support::tool::tool;

/// How many operations all tests do together, unless `ATLASFS_FSX_OPERATIONS` says another number.
const OPERATIONS: u64 = 60_000;

/// How many operations one run of fsx does: it keeps each `mapread` mapped, and the kernel allows
/// 65,530 of these.
const RUN: u64 = 5_000;

/// The greatest length of an artifact here, and of one operation: many pages, and still pushed and
/// hashed within milliseconds.
const SMALL: &str = "flen = 70000\n[opsize]\nmin = 1\nmax = 20000\n";

/// The same of a temporary file: more than one request of the kernel's, which reads 128 KiB at once.
const LARGE: &str = "flen = 300000\n[opsize]\nmin = 1\nmax = 200000\n";

/// Everything in one open file; fsync pushes.
const KEPT_OPEN: &str = "[weights]\nread = 10\nwrite = 10\nmapread = 10\nmapwrite = 10\n\
    truncate = 10\ninvalidate = 2\nfsync = 0.2\nfdatasync = 0.2\nposix_fallocate = 5\n\
    sendfile = 5\nposix_fadvise = 5\ncopy_file_range = 5\n";

/// The same, closed and opened again every now and then; both close and fsync push.
const REOPENED: &str = "[weights]\nclose_open = 2\nread = 10\nwrite = 10\nmapread = 0\n\
    mapwrite = 10\ntruncate = 10\ninvalidate = 2\nfsync = 0.2\nfdatasync = 0.2\n\
    posix_fallocate = 5\nsendfile = 5\nposix_fadvise = 5\ncopy_file_range = 5\n";

/// How many runs in a row may end by a close of an artifact that holds nothing, or zeros alone: that
/// is an empty document, its close is refused, and fsx doesn't look at what a close answers.
const EMPTIED: u64 = 20;

/// How many operations have been right.
static RIGHT: AtomicU64 = AtomicU64::new(0);

fn operations() -> u64 {
    let asked = std::env::var("ATLASFS_FSX_OPERATIONS");
    asked.map_or(OPERATIONS, |number| number.parse().unwrap())
}

/// Does a share of all operations, on a new mount and a new file with each seed. `first` is the
/// first seed; every second one leaves it to the kernel when to write back what is mapped.
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
        // Nothing else is refused with `--no-validate`.
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
