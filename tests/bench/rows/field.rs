//! All subjects, mounted beside each other on one store with the same objects.

use std::path::Path;
use std::sync::Arc;

use super::{Bench, plan, plan_name, schema};
use crate::clock::{Cpu, on};
use crate::place::Place;
use crate::row::Row;
use crate::store::Store;
use crate::subject::Subject;

/// The mounted subjects.
#[derive(Debug)]
pub struct Field {
    /// The floor, atlasfs and the peers, in the order of the table.
    pub subjects: Vec<Subject>,
    /// The missing peers, and the reasons.
    pub absent: Vec<(String, String)>,
    /// A second floor, with the number of plans for the listings.
    pub large: Subject,
    /// The number of plans in a listing.
    pub plans: usize,
    /// The number of artifacts that no subject has read.
    pub unread: usize,
}

impl Field {
    /// Fills a store and mounts every subject on it.
    pub fn new(bench: &Bench) -> Self {
        let (plans, unread) = (bench.sized(10_000, 1_000), bench.sized(200, 20));
        let store = on(Cpu::Beside, || Arc::new(Store::start()));
        store.put("app/schema", &schema("warm"));
        for number in 0..10 {
            let name = plan_name(number);
            store.put(&format!("app/plans/{name}"), &plan(&name, "warm"));
        }
        for number in 0..plans {
            let name = plan_name(number);
            store.put(&format!("big/plans/{name}"), &plan(&name, "big"));
        }
        for number in 0..2 * unread {
            let content = schema(&format!("cold {number}"));
            store.put(&format!("cold/plans/{}", plan_name(number)), &content);
        }
        let space = &bench.space;
        let place = Place::before(&store);
        let atlasfs = Subject::atlasfs(space, Cpu::Measured, &[place.url()], &[]).asking(place);
        let mut field = Self {
            subjects: vec![Subject::noop(space, 10), atlasfs],
            absent: Vec::new(),
            large: Subject::noop(space, plans),
            plans,
            unread,
        };
        field.mount_peers(bench, &store);
        field
    }

    fn mount_peers(&mut self, bench: &Bench, store: &Arc<Store>) {
        let space = &bench.space;
        let s3fs = installed("s3fs").then(|| Path::new("s3fs"));
        let debian = installed("rclone").then(|| Path::new("rclone"));
        let programs = &space.programs;
        let peers = [
            ("s3fs 1.90", s3fs),
            ("rclone 1.60", debian),
            ("rclone 1.75", programs.rclone.as_deref()),
            ("mount-s3", programs.mount_s3.as_deref()),
        ];
        for (name, program) in peers {
            match program {
                _ if !bench.peers => self.absent.push((name.into(), "left out".into())),
                None => self.absent.push((name.into(), "not installed here".into())),
                Some(program) => {
                    let place = Place::before(store);
                    self.subjects.push(match name {
                        "s3fs 1.90" => Subject::s3fs(space, place),
                        "mount-s3" => Subject::mount_s3(space, program, place),
                        name => Subject::rclone(space, name, program, place),
                    });
                }
            }
        }
    }

    /// Returns the floor.
    pub fn noop(&self) -> &Subject {
        &self.subjects[0]
    }

    /// Returns atlasfs.
    pub fn atlasfs(&self) -> &Subject {
        &self.subjects[1]
    }

    /// Returns the present peers.
    pub fn peers(&self) -> &[Subject] {
        &self.subjects[2..]
    }

    /// Adds the missing peers to a row.
    pub fn tell_absent(&self, row: Row) -> Row {
        let absent = self.absent.iter();
        absent.fold(row, |row, (name, why)| row.none(name, why.clone()))
    }
}

/// Returns whether a program is installed.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
