//! Listings: `ls -l` and `find` in a folder with thousands of plans.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::field::Field;
use super::warm::one_call;
use super::{Bench, plan, plan_name};
use crate::calls::{Counts, READDIRPLUS, shown};
use crate::clock::{Cpu, alternate, on, time};
use crate::row::{ATLASFS, NOOP, Row, Unit};
use crate::sample::Samples;
use crate::space::Space;
use crate::store::PAGE;
use crate::subject::Subject;

/// The longest listing of a peer, in seconds. A slower peer is measured once.
const LONG: f64 = 10.0;

/// A tmpfs with the same plans.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(space: &Space, plans: usize) -> Self {
        let dir = space.folder("tmpfs");
        let none: Option<&str> = None;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &dir, Some("tmpfs"), flags, none).expect("a tmpfs");
        let tmpfs = Self(dir);
        for number in 0..plans {
            let name = plan_name(number);
            std::fs::write(tmpfs.0.join(&name), plan(&name, "big")).expect("a file");
        }
        tmpfs
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Measures listings, and counts their requests to the store.
pub fn list(bench: &Bench, field: &Field) -> Vec<Row> {
    let tmpfs = Tmpfs::new(&bench.space, field.plans);
    let large = field.large.path("app/plans");
    let ours = field.atlasfs().path("big/plans");
    let place = field.atlasfs().place.as_ref().expect("a place");
    let call = one_call(bench, field.noop()).median();
    let mut rows = Vec::new();
    place.forget();
    on(Cpu::Measured, || run(&["ls", "-l"], &ours));
    let (listings, all) = (place.counts_of("prefix=big"), place.counts());
    let pages = field.plans.div_ceil(PAGE) as f64;
    let count = |work: &str, count: usize| {
        Row::counted("list", work, Unit::Count).took(ATLASFS, Samples::one(count as f64))
    };
    let plans = thousands(field.plans);
    rows.push(
        count(
            &format!("first `ls -l` of {plans} plans: LIST requests"),
            listings.list,
        )
        .at_most(pages, "as many as pages"),
    );
    rows.push(
        count(
            &format!("first `ls -l` of {plans} plans: HEAD and GET requests"),
            all.head + all.get,
        )
        .at_most(0.0, "none"),
    );
    for (words, command) in [("`ls -l`", &["ls", "-l"][..]), ("`find`", &["find"])] {
        let folders: [&Path; 3] = [&tmpfs.0, &large, &ours];
        let taken = on(Cpu::Measured, || {
            alternate(bench.sized(11, 2), &folders, |folder| warm(command, folder))
        });
        let [of_tmpfs, of_noop, of_ours] = &taken[..] else {
            panic!("three folders");
        };
        let counted = count_calls(bench, [&field.large, field.atlasfs()], command);
        let mut row = Row::timed("list", format!("{words} over {plans} plans"))
            .took(NOOP, of_noop.clone())
            .took(ATLASFS, of_ours.clone());
        for peer in field.peers() {
            row = row.took(&peer.name, of_peer(bench, peer, command));
        }
        let row = field.tell_absent(row);
        let Some([noop, ours]) = counted else {
            rows.push(row);
            continue;
        };
        let pluses = ours.get(READDIRPLUS).copied().unwrap_or(0) as f64;
        let goal = format!(
            "1.5 × tmpfs ({}) + {pluses} READDIRPLUS of one call ({}) each",
            super::super::table::figure(Unit::Time, of_tmpfs.median()),
            super::super::table::figure(Unit::Time, call),
        );
        rows.push(row.at_most(1.5 * of_tmpfs.median() + pluses * call, goal));
        let sum = |calls: &Counts| Samples::one(calls.values().sum::<u64>() as f64);
        rows.push(
            Row::counted(
                "list",
                format!("{words}: FUSE requests ({})", shown(&ours)),
                Unit::Count,
            )
            .took(NOOP, sum(&noop))
            .took(ATLASFS, sum(&ours)),
        );
    }
    rows
}

/// Lists once to warm the caches, then returns the time of a listing.
fn warm(command: &[&str], folder: &Path) -> f64 {
    run(command, folder);
    time(|| run(command, folder)).0
}

fn of_peer(bench: &Bench, peer: &Subject, command: &[&str]) -> Samples {
    let folder = peer.path("big/plans");
    on(Cpu::Measured, || {
        let (first, ()) = time(|| run(command, &folder));
        let rounds = if first > LONG { 1 } else { bench.sized(5, 1) };
        Samples::new((0..rounds).map(|_| time(|| run(command, &folder)).0))
    })
}

/// Counts the kernel's requests of a listing, for the floor and for atlasfs.
fn count_calls(bench: &Bench, subjects: [&Subject; 2], command: &[&str]) -> Option<[Counts; 2]> {
    let calls = bench.calls.as_ref()?;
    let count = |subject: &Subject, folder: &str| {
        let folder = subject.path(folder);
        run(command, &folder);
        calls.during(subject.connection(), || run(command, &folder))
    };
    let [noop, atlasfs] = subjects;
    Some([count(noop, "app/plans")?, count(atlasfs, "big/plans")?])
}

/// Runs a command on a folder.
pub fn run(command: &[&str], folder: &Path) {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).arg(folder);
    let status = process.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{process:?}");
}

/// Formats a number with a comma for the thousands.
pub fn thousands(number: usize) -> String {
    match (number / 1_000, number % 1_000) {
        (0, rest) => rest.to_string(),
        (front, rest) => format!("{front},{rest:03}"),
    }
}
