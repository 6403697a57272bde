//! Reads while the registry refuses connections, and one backup serves.

use std::path::PathBuf;
use std::time::Duration;

use super::listing::run;
use super::{Bench, DELAY, SIZE, open_read_close, plan_name, schema};
use crate::clock::{Cpu, alternate, on, repeat, time};
use crate::place::Place;
use crate::row::{ATLASFS, Row, Unit};
use crate::sample::Samples;
use crate::subject::Subject;
use crate::table::figure;

/// Measures reads that the backup serves, and reads from the cache, compared with those of a mount
/// without an outage.
pub fn outage(bench: &Bench) -> Vec<Row> {
    let number = bench.sized(100, 10);
    let places = [Place::new(), Place::new()];
    for place in &places {
        place.store().put("app/schema", &schema("known"));
        for number in 0..2 * number {
            let content = schema(&format!("unread {number}"));
            place
                .store()
                .put(&format!("app/plans/{}", plan_name(number)), &content);
        }
    }
    let urls: Vec<String> = places.iter().map(Place::url).collect();
    let mount = Subject::atlasfs(&bench.space, Cpu::Any, &urls, &[]);
    run(&["ls", "-l"], &mount.path("app/plans"));
    // Two mounts on the same processor: one keeps its registry, the other loses it.
    let others = [Place::new(), Place::new()];
    for place in &others {
        place.store().put("app/schema", &schema("known"));
    }
    let warm = [others.each_ref(), places.each_ref()].map(|places| {
        let urls: Vec<String> = places.iter().map(|place| place.url()).collect();
        Subject::atlasfs(&bench.space, Cpu::Measured, &urls, &[])
    });
    let known = warm.each_ref().map(|mount| mount.path("app/schema"));
    for path in &known {
        assert_eq!(open_read_close(path), SIZE);
    }
    let [registry, backup] = &places;
    backup.delay(DELAY);
    registry.refuse();
    let mut line = backup.connect();
    let (mut taken, mut trips, mut first) = (Vec::new(), Vec::new(), 0.0);
    for number in 0..number {
        let path = mount.path(&format!("app/plans/{}", plan_name(number)));
        let (took, read) = time(|| open_read_close(&path));
        assert_eq!(read, SIZE);
        match number {
            0 => first = took,
            _ => taken.push(took),
        }
        trips.push(line.get("app/schema"));
    }
    let trip = Samples::new(trips).median();
    let goal = format!(
        "the backup's round trip ({}) + 1 ms; the first took {}",
        figure(Unit::Time, trip),
        figure(Unit::Time, first)
    );
    let read = |path: &PathBuf| {
        repeat(bench.sized(4_000, 400), Duration::from_millis(300), || {
            assert_eq!(open_read_close(path), SIZE);
        })
        .each()
    };
    let mut cached = on(Cpu::Measured, || {
        alternate(bench.sized(15, 3), &known, read)
    });
    let during = cached.remove(1);
    let without = cached.remove(0).median();
    let as_without = format!("as if there were none ({})", figure(Unit::Time, without));
    vec![
        Row::timed(
            "outage",
            "read of 4 KiB, registry out, from a backup 20 ms off",
        )
        .took(ATLASFS, Samples::new(taken))
        .at_most(trip + 1e-3, goal),
        Row::timed("outage", "open+read+close, registry out, from the cache")
            .took(ATLASFS, during)
            .at_most(1.15 * without, as_without),
    ]
}
