//! Cold reads of artifacts that no subject has read, by one reader and by a hundred.

use std::sync::Barrier;
use std::time::Duration;

use super::field::Field;
use super::listing::run;
use super::{Bench, SIZE, open_read_close, plan_name};
use crate::clock::{Cpu, on, time};
use crate::row::{ATLASFS, Row, Unit};
use crate::sample::Samples;
use crate::subject::Subject;

/// The longest time of a cold read beyond the store's round trip, in seconds.
const MORE: f64 = 1e-3;

/// Reads each artifact once, after a look-up of its name, and measures the store's own round trip
/// in between.
pub fn cold(bench: &Bench, field: &Field) -> Vec<Row> {
    let ours = field.atlasfs();
    let (trips, taken, gets, heads) = read_all(bench, field, ours, field.unread);
    let trip = Samples::new(trips).median();
    let count = |work: &str, figure: f64| {
        let row = Row::counted("cold", work, Unit::Count);
        row.took(ATLASFS, Samples::one(figure))
    };
    let mut timed = Row::timed("cold", "cold read of 4 KiB").took(ATLASFS, Samples::new(taken));
    let mut requests = count("cold read: GET requests each", gets);
    for peer in field.peers() {
        let (_, taken, gets, heads) = read_all(bench, field, peer, field.unread.min(50));
        timed = timed.took(&peer.name, Samples::new(taken));
        requests = requests.took(&peer.name, Samples::one(gets + heads));
    }
    let shown = super::super::table::figure(Unit::Time, trip);
    vec![
        field.tell_absent(timed).at_most(
            trip + MORE,
            format!("the store's round trip ({shown}) + 1 ms"),
        ),
        // One request too few is wrong as well: then the read wasn't cold.
        field.tell_absent(requests).at_most(
            if gets < 1.0 { 0.0 } else { 1.0 },
            "exactly 1 (peers: HEAD too)",
        ),
        count("cold read: HEAD requests each", heads).at_most(0.0, "none"),
    ]
}

fn read_all(
    bench: &Bench,
    field: &Field,
    subject: &Subject,
    number: usize,
) -> (Vec<f64>, Vec<f64>, f64, f64) {
    let place = subject.place.as_ref().expect("a place");
    let (mut trips, mut taken) = (Vec::new(), Vec::new());
    let mut line = place.connect();
    let (mut gets, mut heads) = (0, 0);
    on(Cpu::Measured, || {
        run(&["ls", "-l"], &subject.path("cold/plans"));
        for number in 0..number {
            // Look names up first: only the content must be cold.
            let path = subject.path(&format!("cold/plans/{}", plan_name(number)));
            std::fs::metadata(&path).expect("an artifact");
            place.forget();
            let (took, read) = time(|| open_read_close(&path));
            assert_eq!(read, SIZE);
            taken.push(took);
            let counts = place.counts();
            gets += counts.get;
            heads += counts.head;
            let other = plan_name(field.unread + number % field.unread);
            trips.push(line.get(&format!("cold/plans/{other}")));
        }
    });
    let _ = bench;
    let each = |count: usize| count as f64 / number as f64;
    (trips, taken, each(gets), each(heads))
}

/// Opens one cold artifact by a hundred threads at the same moment.
pub fn readers(bench: &Bench, field: &Field) -> Vec<Row> {
    let place = field.atlasfs().place.as_ref().expect("a place");
    run(&["ls", "-l"], &field.atlasfs().path("cold/plans"));
    // Long enough that all threads have opened before the first answer.
    place.delay(Duration::from_millis(100));
    let gets = (0..bench.sized(5, 2)).map(|number| {
        let name = plan_name(2 * field.unread - 1 - number);
        let path = field.atlasfs().path(&format!("cold/plans/{name}"));
        let barrier = Barrier::new(100);
        place.forget();
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    barrier.wait();
                    assert_eq!(open_read_close(&path), SIZE);
                });
            }
        });
        place.counts().get as f64
    });
    let gets: Vec<f64> = gets.collect();
    place.delay(Duration::ZERO);
    let most = gets.iter().copied().fold(0.0, f64::max);
    let row = Row::counted(
        "readers",
        "100 readers of one cold artifact: GETs",
        Unit::Count,
    );
    vec![row.took(ATLASFS, Samples::one(most)).at_most(1.0, "1")]
}
