//! The harness behind scripts/bench. It mounts a no-op file system, atlasfs and its peers beside
//! each other, measures the goals of the table, and prints one table.
//!
//! The exit code is 0 unless the harness itself fails or a counted goal is broken. Broken timed
//! goals don't change it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness that can't go on stops with the reason"
)]

mod calls;
mod clock;
mod place;
mod report;
mod row;
mod rows;
mod sample;
mod space;
mod store;
mod subject;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;

use calls::Calls;
use report::Machine;
use row::{ATLASFS, NOOP, Row};
use rows::field::Field;
use rows::idle::Idle;
use rows::{Bench, cold, growth, idle, listing, many, outage, push, warm};
use space::{Programs, Space};

/// The names of the rows, in the order of the table.
const ROWS: [&str; 11] = [
    "stat", "open", "list", "cold", "readers", "push", "outage", "many", "idle", "size", "growth",
];

/// The rows that need mounts of all subjects.
const BESIDE: [&str; 5] = ["stat", "open", "list", "cold", "readers"];

/// Measures atlasfs beside a no-op file system and its peers. scripts/bench runs it.
#[derive(Debug, Parser)]
struct Args {
    /// The working folder.
    #[arg(long)]
    dir: PathBuf,
    /// The file for the report, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The file for a copy of the table.
    #[arg(long)]
    table: Option<PathBuf>,
    /// A smoke run: fewer samples of everything.
    #[arg(long)]
    quick: bool,
    /// Only this row; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = ROWS)]
    row: Vec<String>,
    /// Without peers.
    #[arg(long)]
    no_peers: bool,
    /// PyPI's rclone.
    #[arg(long, value_name = "PATH")]
    rclone: Option<PathBuf>,
    /// mount-s3.
    #[arg(long, value_name = "PATH")]
    mount_s3: Option<PathBuf>,
    /// Another build of atlasfs instead of the one beside this program.
    #[arg(long, value_name = "PATH")]
    atlasfs: Option<PathBuf>,
    /// The measured commit, for the report.
    #[arg(long, value_name = "TEXT")]
    commit: Option<String>,
}

/// A whole run takes less than ten minutes. A run beyond this limit hangs.
const RUN_TIMEOUT: Duration = Duration::from_secs(20 * 60);

fn main() -> ExitCode {
    let args = Args::parse();
    std::thread::spawn(|| {
        std::thread::sleep(RUN_TIMEOUT);
        eprintln!("bench: something hangs");
        // scripts/bench ends the remaining processes and unmounts the remaining mounts.
        std::process::exit(1);
    });
    let mut machine = Machine::this();
    let commit = args.commit.clone().map(|commit| ("commit".into(), commit));
    machine.facts.extend(commit);
    let programs = programs(&args);
    let versions = versions(&programs, args.no_peers);
    machine.facts.extend(versions);
    let space = Space::new(&args.dir, programs);
    let bench = Bench {
        calls: Calls::start(space.dir()),
        space,
        quick: args.quick,
        peers: !args.no_peers,
    };
    let wanted: Vec<&str> = ROWS
        .into_iter()
        .filter(|row| args.row.is_empty() || args.row.iter().any(|wanted| wanted == row))
        .collect();
    let (rows, options) = measure(&bench, &wanted);
    drop(bench);
    machine
        .facts
        .push(("load at the end".into(), report::load()));
    let text = tell(&machine, &options, &rows);
    print!("{text}");
    if let Some(path) = &args.table {
        std::fs::write(path, &text).expect("the table's file");
    }
    if let Some(path) = &args.json {
        let report = report::report(&machine, &options, &rows);
        std::fs::write(path, format!("{report:#}\n")).expect("the report's file");
    }
    let broken: Vec<&Row> = rows.iter().filter(|row| row.is_broken()).collect();
    for row in &broken {
        eprintln!("bench: broken: {}", row.work);
    }
    match broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Measures the wanted rows; returns them, and the mount command of each subject.
fn measure(bench: &Bench, wanted: &[&str]) -> (Vec<Row>, Vec<(String, String)>) {
    // The idle mount needs some time without requests before its measurement.
    let idle = wanted.contains(&"idle").then(|| Idle::new(bench));
    let beside = wanted.iter().any(|row| BESIDE.contains(row));
    let field = beside.then(|| Field::new(bench));
    let shown = field.iter().flat_map(|field| &field.subjects);
    let options = shown.map(|subject| (subject.name.clone(), subject.shown.clone()));
    let options = options.collect();
    let mut rows = Vec::new();
    for name in wanted {
        eprintln!("bench: {name}");
        rows.extend(match (*name, &field, &idle) {
            ("stat", Some(field), _) => warm::stat(bench, field),
            ("open", Some(field), _) => warm::open(bench, field),
            ("list", Some(field), _) => listing::list(bench, field),
            ("cold", Some(field), _) => cold::cold(bench, field),
            ("readers", Some(field), _) => cold::readers(bench, field),
            ("push", ..) => push::push(bench),
            ("outage", ..) => outage::outage(bench),
            ("many", ..) => many::many(bench),
            ("idle", _, Some(idle)) => idle.watch(bench),
            ("size", ..) => idle::size(bench),
            ("growth", ..) => growth::growth(bench),
            _ => panic!("no row {name}"),
        });
    }
    (rows, options)
}

fn tell(machine: &Machine, options: &[(String, String)], rows: &[Row]) -> String {
    let mut subjects: Vec<String> = [NOOP, ATLASFS].map(str::to_owned).into();
    for (name, _) in rows.iter().flat_map(|row| &row.cells) {
        if !subjects.contains(name) {
            subjects.push(name.clone());
        }
    }
    let mut text = String::new();
    for (name, value) in &machine.facts {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push_str(
        "Clients and daemons share one processor in the rows stat, open, list, cold and growth \
         (but for pushes), and where the cache is read in an outage; stores and proxies run on the \
         others. Median (first–third quartile), and × no-op.\n\n",
    );
    text.push_str(&table::render(rows, &subjects));
    text.push('\n');
    for (name, shown) in options {
        text.push_str(&format!("{name}: `{shown}`\n"));
    }
    text
}

/// Finds the programs, which are built beside this one.
fn programs(args: &Args) -> Programs {
    let here = std::env::current_exe().expect("this program's place");
    let examples = here.parent().expect("a folder");
    let built = |path: PathBuf| {
        assert!(path.is_file(), "{} is not built", path.display());
        path
    };
    Programs {
        atlasfs: built(args.atlasfs.clone().unwrap_or(examples.join("../atlasfs"))),
        noop: built(examples.join("noop")),
        rclone: args.rclone.clone(),
        mount_s3: args.mount_s3.clone(),
    }
}

/// Asks every program for its version.
fn versions(programs: &Programs, no_peers: bool) -> Vec<(String, String)> {
    let mut all = vec![("atlasfs", Some(programs.atlasfs.clone()))];
    if !no_peers {
        all.extend([
            ("s3fs", Some(PathBuf::from("s3fs"))),
            ("rclone of Debian", Some(PathBuf::from("rclone"))),
            ("rclone of PyPI", programs.rclone.clone()),
            ("mount-s3", programs.mount_s3.clone()),
        ]);
    }
    let asked = all.into_iter().filter_map(|(name, program)| {
        let version = first_line(&program?)?;
        Some((name.to_owned(), version))
    });
    asked.collect()
}

fn first_line(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    /// Extracts the text of a constant from a source.
    fn constant<'a>(source: &'a str, name: &str) -> &'a str {
        let from = source.find(&format!("const {name}:")).expect(name);
        source[from..].split(';').next().expect("its end")
    }

    #[test]
    fn the_floor_asks_of_the_kernel_what_atlasfs_asks() {
        let noop = include_str!("noop.rs");
        let filesystem = include_str!("../../src/fuse/filesystem.rs");
        let whole = |source: &str, name: &str| {
            let from = source.find(&format!("const {name}:")).expect(name);
            source[from..].split("];").next().unwrap().to_owned()
        };
        assert_eq!(whole(noop, "WANTED"), whole(filesystem, "WANTED"));
        let pairs = [
            (filesystem, "MAX_WRITE"),
            (include_str!("../../src/fuse/session.rs"), "THREADS"),
            (include_str!("../../src/fs/mod.rs"), "FOR_EVER"),
        ];
        for (source, name) in pairs {
            assert_eq!(constant(noop, name), constant(source, name));
        }
        let options = "rootmode=40000,user_id={},group_id={},default_permissions";
        for source in [noop, include_str!("../../src/fuse/mount.rs")] {
            assert!(source.contains(options));
            assert!(source.contains("MsFlags::MS_NOSUID | MsFlags::MS_NODEV"));
        }
    }
}
