//! A hundred thousand artifacts in a thousand repositories.

use std::path::Path;

use super::listing::{run, thousands};
use super::{Bench, plan_name};
use crate::clock::{Cpu, time};
use crate::place::Place;
use crate::row::{ATLASFS, Row, Unit};
use crate::sample::Samples;
use crate::store::PAGE;
use crate::subject::Subject;

/// The number of artifacts in each repository.
const EACH: usize = 100;

/// The cost of one mount with so many repositories.
struct Took {
    mounting: f64,
    lists_at_mount: usize,
    finding: f64,
    lists: usize,
    roots: usize,
    other: usize,
    bytes_each: f64,
}

/// Measures the mount, the search of the whole tree, and the memory for both; also with a tenth of
/// the repositories.
pub fn many(bench: &Bench) -> Vec<Row> {
    let repos = bench.sized(1_000, 20);
    let tenth = mount_and_find(bench, repos / 10);
    let whole = mount_and_find(bench, repos);
    let words = format!(
        "{} artifacts in {} repositories",
        thousands(repos * EACH),
        thousands(repos)
    );
    let count = |work: &str, figure: usize| {
        Row::counted("many", format!("{words}: {work}"), Unit::Count)
            .took(ATLASFS, Samples::one(figure as f64))
    };
    let pages = repos.div_ceil(PAGE);
    let bytes = |work: &str, figure: f64| {
        Row::counted("many", format!("{words}: {work}"), Unit::Bytes)
            .took(ATLASFS, Samples::one(figure))
    };
    // In a small tree, the pages that every tree needs outweigh the entries.
    let limit = if bench.quick { f64::INFINITY } else { 1024.0 };
    vec![
        Row::timed("many", format!("{words}: mounting"))
            .took(ATLASFS, Samples::one(whole.mounting))
            .at_most(1.0, "1 s"),
        count("LIST requests while mounting", whole.lists_at_mount)
            .at_most((4 + 2 * pages) as f64, "those of the root, and the probe's"),
        Row::timed("many", format!("{words}: `find` over all"))
            .took(ATLASFS, Samples::one(whole.finding)),
        count(
            "LIST requests of `find`, but those of the root",
            whole.lists,
        )
        .at_most((repos * EACH.div_ceil(PAGE)) as f64, "as many as pages"),
        count("LIST requests of `find` for the root", whole.roots).at_most(
            ((whole.finding.ceil() as usize + 2) * pages) as f64,
            "one a page and second (--ttl)",
        ),
        count("other requests of `find`", whole.other).at_most(0.0, "none"),
        bytes("memory an artifact", whole.bytes_each).at_most(limit, "1 KiB"),
        bytes("memory an artifact, with a tenth as many", tenth.bytes_each),
    ]
}

fn mount_and_find(bench: &Bench, repos: usize) -> Took {
    let place = Place::new();
    for repo in 0..repos {
        for number in 0..EACH {
            let key = format!("service-{repo:04}/plans/{}", plan_name(number));
            place.store().put(&key, b"plan");
        }
    }
    let url = [place.url()];
    let (mounting, mount) = time(|| Subject::atlasfs(&bench.space, Cpu::Any, &url, &[]));
    let lists_at_mount = place.counts().list;
    let before = resident(mount.pid());
    place.forget();
    let (finding, ()) = time(|| run(&["find"], &mount.path("")));
    let (all, repositories) = (place.counts(), place.counts_of("prefix=service-"));
    Took {
        mounting,
        lists_at_mount,
        finding,
        lists: repositories.list,
        roots: all.list - repositories.list,
        other: all.all() - all.list,
        bytes_each: (resident(mount.pid()) - before) / (repos * EACH) as f64,
    }
}

/// Returns a process's resident memory in bytes.
pub fn resident(pid: i32) -> f64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(Path::new(&path)).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.map(|line| line.trim().trim_end_matches(" kB"));
    let kib: f64 = kib.and_then(|kib| kib.parse().ok()).expect("its memory");
    kib * 1024.0
}
