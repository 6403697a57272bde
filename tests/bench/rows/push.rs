//! Pushes to a registry and two backups, each with a delay.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use super::{Bench, DELAY, plan, plan_name, schema};
use crate::clock::{Cpu, time};
use crate::place::Place;
use crate::row::{ATLASFS, Row, Unit};
use crate::sample::Samples;
use crate::subject::Subject;
use crate::table::figure;

/// The number of pushes at the same time.
const AT_ONCE: usize = 64;

/// Measures one push, and many at once.
pub fn push(bench: &Bench) -> Vec<Row> {
    let places: Vec<Place> = (0..3).map(|_| Place::new()).collect();
    for place in &places {
        place.store().put("app/schema", &schema("before"));
    }
    let urls: Vec<String> = places.iter().map(Place::url).collect();
    let mount = Subject::atlasfs(&bench.space, Cpu::Any, &urls, &[]);
    let path = mount.path("app/schema");
    std::fs::metadata(&path).expect("an artifact");
    places.iter().for_each(|place| place.delay(DELAY));
    let mut line = places[0].connect();
    let (mut taken, mut trips, mut syncs, mut puts) = (vec![], vec![], vec![], vec![]);
    for number in 0..=bench.sized(25, 4) {
        let content = schema(&format!("push {number}"));
        places.iter().for_each(Place::forget);
        let took = write(&path, &content);
        let most = places.iter().map(|place| place.counts().put).max();
        let trip = line.put("elsewhere/schema", &content);
        let sync = write_and_sync(&bench.space.dir().join("fsync"), &content);
        // The first push is a warm-up.
        if number > 0 {
            taken.push(took);
            trips.push(trip);
            syncs.push(sync);
            puts.push(most.unwrap_or(0) as f64);
        }
    }
    let [trip, sync] = [trips, syncs].map(|samples| Samples::new(samples).median());
    let goal = format!(
        "2 round trips ({}) + fsync ({})",
        figure(Unit::Time, trip),
        figure(Unit::Time, sync)
    );
    let mut rows = vec![
        Row::timed(
            "push",
            "push (write+close), registry and 2 backups 20 ms off",
        )
        .took(ATLASFS, Samples::new(taken))
        .at_most(2.0 * trip + sync, goal),
        Row::counted("push", "push: PUT requests to any one target", Unit::Count)
            .took(ATLASFS, Samples::new(puts))
            .at_most(1.0, "1"),
    ];
    rows.push(at_once(bench, &mount));
    places.iter().for_each(|place| place.delay(Duration::ZERO));
    rows
}

fn at_once(bench: &Bench, mount: &Subject) -> Row {
    let push = |number: usize, round: usize| {
        let name = plan_name(number);
        let path = mount.path(&format!("app/plans/{name}"));
        let content = plan(&name, &round.to_string());
        let mut file = File::create(path).expect("a file");
        file.write_all(&content).expect("a write");
        close(file);
    };
    let (mut ones, mut all) = (Vec::new(), Vec::new());
    for round in 0..=bench.sized(5, 1) {
        ones.push(time(|| push(AT_ONCE, round)).0);
        let barrier = Barrier::new(AT_ONCE + 1);
        all.push(std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE)
                .map(|number| {
                    let (barrier, push) = (&barrier, &push);
                    scope.spawn(move || {
                        barrier.wait();
                        push(number, round);
                    })
                })
                .collect();
            barrier.wait();
            let joined = || threads.into_iter().for_each(|t| t.join().expect("a push"));
            time(joined).0
        }));
    }
    // The first round makes new names, and the others replace existing content.
    let one = Samples::new(ones).median();
    let shown = figure(Unit::Time, one);
    Row::timed(
        "push",
        format!("{AT_ONCE} pushes at once (open+write+close)"),
    )
    .took(ATLASFS, Samples::new(all))
    .at_most(4.0 * one, format!("4 × one ({shown})"))
}

/// Writes to an open file and closes it; returns the time that took.
pub fn write(path: &Path, content: &[u8]) -> f64 {
    let mut file = File::create(path).expect("a file");
    let (took, ()) = time(|| {
        file.write_all(content).expect("a write");
        close(file);
    });
    took
}

/// Closes a file and checks the result.
fn close(file: File) {
    nix::unistd::close(file).expect("a push");
}

/// Does the least work of a journal: writes a file, and syncs the file and its name.
fn write_and_sync(path: &Path, content: &[u8]) -> f64 {
    let (took, ()) = time(|| {
        let mut file = File::create(path).expect("a file");
        file.write_all(content).expect("a write");
        file.sync_all().expect("a disk");
        let above = File::open(path.parent().expect("a folder")).expect("a folder");
        above.sync_all().expect("a disk");
    });
    let _ = std::fs::remove_file(path);
    took
}
