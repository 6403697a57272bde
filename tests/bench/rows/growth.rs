//! The growth of cost with the number of artifacts in a repository.

use std::time::Duration;

use super::listing::thousands;
use super::push::write;
use super::{Bench, SIZE, open_read_close, plan, plan_name, schema};
use crate::clock::{Cpu, alternate, on, repeat, time};
use crate::place::Place;
use crate::row::{ATLASFS, Row};
use crate::sample::Samples;
use crate::subject::Subject;

/// The largest ratio that counts as equal.
const SAME: f64 = 1.15;

/// Measures one artifact among few and among many, and folders of different sizes.
pub fn growth(bench: &Bench) -> Vec<Row> {
    let sizes: &[usize] = match bench.quick {
        true => &[10, 100],
        false => &[10, 1_000, 10_000],
    };
    let place = Place::new();
    for size in sizes {
        place
            .store()
            .put(&format!("among-{size}/schema"), &schema("growth"));
        for number in 0..*size {
            let name = plan_name(number);
            place.store().put(
                &format!("among-{size}/plans/{name}"),
                &plan(&name, "growth"),
            );
        }
    }
    let mount = Subject::atlasfs(&bench.space, Cpu::Measured, &[place.url()], &[]);
    let path = |size: &usize| mount.path(&format!("among-{size}/schema"));
    let most = Duration::from_millis(300);
    let stats = on(Cpu::Measured, || {
        alternate(bench.sized(15, 2), sizes, |size| {
            let path = path(size);
            repeat(bench.sized(20_000, 500), most, || {
                std::fs::metadata(&path).expect("an artifact");
            })
            .each()
        })
    });
    let opens = on(Cpu::Measured, || {
        alternate(bench.sized(15, 2), sizes, |size| {
            let path = path(size);
            repeat(bench.sized(4_000, 200), most, || {
                assert_eq!(open_read_close(&path), SIZE);
            })
            .each()
        })
    });
    let mut number = 0;
    let pushes = alternate(bench.sized(15, 2), sizes, |size| {
        number += 1;
        write(&path(size), &schema(&format!("push {number}")))
    });
    let lists = on(Cpu::Measured, || {
        alternate(bench.sized(9, 2), sizes, |size| {
            let folder = mount.path(&format!("among-{size}/plans"));
            let list = || std::fs::read_dir(&folder).expect("a folder").count();
            assert_eq!(list(), *size);
            time(list).0 / *size as f64
        })
    });
    let mut rows = Vec::new();
    for (work, taken) in [
        ("stat", &stats),
        ("open+read+close", &opens),
        ("push (write+close)", &pushes),
    ] {
        rows.extend(compare(work, sizes, taken, 0, SAME));
    }
    // With ten entries, the opening of the folder is most of the cost.
    rows.extend(compare("readdir, each entry,", sizes, &lists, 1, 1.5));
    rows
}

/// Makes a row for each size, and compares the later ones with that at `base`.
fn compare(work: &str, sizes: &[usize], taken: &[Samples], base: usize, same: f64) -> Vec<Row> {
    let reference = taken[base].median();
    let rows = sizes.iter().zip(taken).enumerate();
    let rows = rows.map(|(place, (size, samples))| {
        let row = Row::timed("growth", format!("{work} among {}", thousands(*size)));
        let row = row.took(ATLASFS, samples.clone());
        match place > base {
            true => row.at_most(
                same * reference,
                format!("{same} × that among {}", thousands(sizes[base])),
            ),
            false => row,
        }
    });
    rows.collect()
}
