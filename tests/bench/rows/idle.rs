//! The resources of an idle mount, and the program's size on disk.

use std::time::{Duration, Instant};

use super::many::resident;
use super::{Bench, open_read_close, schema};
use crate::clock::Cpu;
use crate::place::Place;
use crate::row::{ATLASFS, Row, Unit};
use crate::sample::Samples;
use crate::subject::Subject;

/// After this time a mount has compared its targets for the first time.
const SETTLED: Duration = Duration::from_secs(13);

/// A mount without users.
#[derive(Debug)]
pub struct Idle {
    mount: Subject,
    places: [Place; 2],
    since: Instant,
}

impl Idle {
    /// Mounts, and reads a little.
    pub fn new(bench: &Bench) -> Self {
        let places = [Place::new(), Place::new()];
        for place in &places {
            place.store().put("app/schema", &schema("idle"));
        }
        let urls: Vec<String> = places.iter().map(Place::url).collect();
        let mount = Subject::atlasfs(&bench.space, Cpu::Any, &urls, &[]);
        open_read_close(&mount.path("app/schema"));
        Self {
            mount,
            places,
            since: Instant::now(),
        }
    }

    /// Measures the mount for some time.
    pub fn watch(&self, bench: &Bench) -> Vec<Row> {
        std::thread::sleep(SETTLED.saturating_sub(self.since.elapsed()));
        self.places.iter().for_each(Place::forget);
        let (begun, before) = (Instant::now(), cpu(self.mount.pid()));
        std::thread::sleep(Duration::from_secs(bench.sized(20, 3) as u64));
        let used = cpu(self.mount.pid()) - before;
        let share = used / begun.elapsed().as_secs_f64();
        let requests: usize = self.places.iter().map(|place| place.counts().all()).sum();
        let one = |row: Row, figure: f64| row.took(ATLASFS, Samples::one(figure));
        let mut processor = Row::timed("idle", "idle: CPU");
        processor.unit = Unit::Share;
        vec![
            one(
                Row::counted(
                    "idle",
                    "idle: requests between two comparisons",
                    Unit::Count,
                ),
                requests as f64,
            )
            .at_most(0.0, "none"),
            one(processor, share).at_most(0.001, "0.1 %"),
            one(
                Row::counted("idle", "idle: resident memory", Unit::Bytes),
                resident(self.mount.pid()),
            )
            // The cache has one artifact here, so the limit is for the program itself.
            .at_most(30.0 * 1_048_576.0, "30 MiB, with next to nothing cached"),
        ]
    }
}

/// Returns the processor time of a process, in seconds.
fn cpu(pid: i32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let nanos = tasks.flatten().filter_map(|task| {
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}

/// Measures the size of the program.
pub fn size(bench: &Bench) -> Vec<Row> {
    let metadata = std::fs::metadata(&bench.space.programs.atlasfs).expect("atlasfs");
    let row = Row::counted("size", "the program, stripped", Unit::Bytes);
    let row = row.took(ATLASFS, Samples::one(metadata.len() as f64));
    // A debug build has another size.
    let limit = if bench.quick {
        f64::INFINITY
    } else {
        15.0 * 1_048_576.0
    };
    vec![row.at_most(limit, "15 MiB")]
}
