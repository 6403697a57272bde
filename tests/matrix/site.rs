//! A mount whose registry and backups can be made to fail.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::cell::{Case, Cell, Names};
use super::home::Home;
use super::mounted::Mounted;
use super::store::{Store, flags, plan};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind as Served, Server};
use super::trouble::Trouble;

/// A mount with a registry and two backups, and for some faults a second mount that only reads.
#[derive(Debug)]
pub struct Site {
    pub writer: Mounted,
    pub reader: Option<Mounted>,
    pub stores: Vec<Store>,
    case: Case,
    levers: Vec<Lever>,
    // The last field: the mounts must end before the home.
    home: Home,
}

/// The means that make a target fail.
#[derive(Debug)]
enum Lever {
    Proxy(Proxy),
    /// A file that fills the target's disk.
    Filler(PathBuf),
}

/// The size of a folder's disk: enough for everything that the programs write, and quickly filled.
const DISK_SIZE: &str = "size=2m";

impl Site {
    /// Makes a site without failures, with the artifacts that these cells start from.
    pub fn new(case: Case, cells: &[Cell]) -> Self {
        let home = Home::new();
        let (mut stores, mut levers) = (Vec::new(), Vec::new());
        for target in 0..3 {
            let (store, lever) = match case.trouble == Trouble::DiskFull && case.strikes(target) {
                true => small_disk(&home, target),
                false => bucket(target),
            };
            stores.push(store);
            levers.push(lever);
        }
        let mut args = flags(&stores);
        let (ttl, breaker) = match case.names {
            // No breaker: each push must meet the fault itself.
            Names::Known => ("1h", "0"),
            // The default. Without a breaker, programs that make files in one directory would wait
            // for each other's deadlines: the kernel looks up one name at a time.
            Names::Asked => ("0s", "3"),
        };
        let options = [
            ("--breaker", breaker),
            ("--ttl", ttl),
            ("--durability", case.durability.name()),
            ("--metadata-timeout", case.trouble.look_timeout()),
            ("--read-timeout", case.trouble.look_timeout()),
            ("--push-timeout", case.trouble.push_timeout()),
        ];
        args.extend(
            options
                .iter()
                .flat_map(|(name, value)| [*name, *value])
                .map(String::from),
        );
        let writer = home.mount("writer", args);
        std::fs::create_dir(writer.path("app")).unwrap();
        for cell in cells.iter().filter(|cell| cell.is_there_before()) {
            writer.cp(&key(cell), before(cell)).ok();
        }
        writer.ls("app/plans");
        let reader = case.trouble.breaks_reads().then(|| {
            let mut args = flags(&stores);
            let cold = "breaker=0,cache-size=0,disk-cache-size=0,ttl=0s,read-timeout=3s";
            args.extend(["-o", cold, "--read-only"].map(String::from));
            home.mount("reader", args)
        });
        Self {
            writer,
            reader,
            stores,
            case,
            levers,
            home,
        }
    }

    /// Starts the fault.
    pub fn strike(&self) {
        for (target, lever) in self.levers.iter().enumerate() {
            match lever {
                _ if !self.case.strikes(target) => {}
                Lever::Proxy(proxy) => self.case.trouble.strike(proxy),
                Lever::Filler(filler) => fill(filler),
            }
        }
    }

    /// Ends the fault.
    pub fn heal(&self) {
        for lever in &self.levers {
            match lever {
                Lever::Proxy(proxy) => proxy.set(Fault::Pass),
                Lever::Filler(filler) => drop(std::fs::remove_file(filler)),
            }
        }
    }

    /// Writes the source file of a cell's program; returns it, and a folder for the program.
    pub fn source(&self, cell: &Cell) -> (PathBuf, PathBuf) {
        let name = cell.program.name;
        let source = self.home.file(&format!("source/{name}"), after(cell));
        (source, self.home.folder(&format!("work/{name}")))
    }

    /// Returns a folder outside the mount.
    pub fn outside(&self) -> &Path {
        self.home.dir()
    }
}

/// Returns the artifact that a cell's program writes.
pub fn key(cell: &Cell) -> String {
    format!("app/plans/{}", cell.program.name)
}

/// Returns the artifact's content before, if the artifact exists.
pub fn before(cell: &Cell) -> String {
    content(cell, "first")
}

/// Returns the artifact's expected content.
pub fn after(cell: &Cell) -> String {
    content(cell, "second")
}

/// Makes some kilobytes, so that a fault can cut them in the middle.
fn content(cell: &Cell, mark: &str) -> String {
    let more: String = (0..200)
        .map(|n| format!("\n  -- {n}: {}", cell.case))
        .collect();
    plan(cell.program.name, &format!("{mark}{more}"))
}

/// The registry is on moto, which handles conditions correctly. The backups are on another server,
/// which is fast.
fn bucket(target: usize) -> (Store, Lever) {
    let server = Server::shared(match target {
        0 => Served::Moto,
        _ => Served::S3s,
    });
    let proxy = Proxy::start(server.addr());
    let store = Store::on(server, proxy.endpoint());
    (store, Lever::Proxy(proxy))
}

fn small_disk(home: &Home, target: usize) -> (Store, Lever) {
    let name = format!("disk-{target}");
    let disk = home.folder(&name);
    // The home unmounts everything below it.
    mount(
        Some("tmpfs"),
        &disk,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(DISK_SIZE),
    )
    .expect("only root can mount a disk that is small enough to be filled");
    let store = Store::folder(home, &format!("{name}/store"));
    (store, Lever::Filler(disk.join("filler")))
}

fn fill(filler: &Path) {
    let mut file = File::create(filler).unwrap();
    loop {
        match file.write(&[0; 4096]) {
            Ok(0) => panic!("a disk takes nothing"),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
            Err(error) => panic!("{}: {error}", filler.display()),
        }
    }
}
