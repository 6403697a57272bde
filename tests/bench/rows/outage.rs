//! Reads while the registry refuses connections, and one backup serves.

use std::time::Duration;

use super::listing::run;
use super::{Bench, DELAY, SIZE, open_read_close, plan_name, schema};
use crate::clock::{Cpu, alternate, on, repeat, time};
use crate::place::Place;
use crate::row::{ATLASFS, Row, Unit};
use crate::sample::Samples;
use crate::subject::Subject;
use crate::table::figure;

/// Measures reads that the backup serves, and reads from the cache before and during the outage.
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
    let warm = Subject::atlasfs(&bench.space, Cpu::Measured, &urls, &[]);
    let known = warm.path("app/schema");
    let cached = || {
        let read = |_: &()| {
            repeat(bench.sized(4_000, 400), Duration::from_millis(300), || {
                assert_eq!(open_read_close(&known), SIZE);
            })
            .each()
        };
        on(Cpu::Measured, || {
            alternate(bench.sized(15, 3), &[()], read).remove(0)
        })
    };
    let before = cached();
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
    let during = cached();
    // What the machine does by itself is in the quartiles of before.
    let limit = before.quartiles().1.max(1.15 * before.median());
    let as_before = format!("as before it ({})", figure(Unit::Time, before.median()));
    vec![
        Row::timed(
            "outage",
            "read of 4 KiB, registry out, from a backup 20 ms off",
        )
        .took(ATLASFS, Samples::new(taken))
        .at_most(trip + 1e-3, goal),
        Row::timed("outage", "open+read+close, registry out, from the cache")
            .took(ATLASFS, during)
            .at_most(limit, as_before),
    ]
}
