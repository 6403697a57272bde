//! The observation of a cell: the program's end, the stores' contents, and the mount's reports.

use std::time::{Duration, Instant};

use super::cell::{Cell, Ending};
use super::mounted::Mounted;
use super::program::{bash, run};
use super::site::{Site, after, before, key};
use super::store::Store;

/// The content of a store after the program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Nothing,
    Before,
    After,
    /// Bytes that no program wrote, and their number.
    Torn(usize),
}

/// The places where the mount reports a failed push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reports {
    pub status: bool,
    pub events: bool,
    pub metrics: bool,
    pub attribute: bool,
    /// Whether `unpushed` has the bytes as they were.
    pub bytes: bool,
}

/// The result of a read on a mount with empty caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBack {
    Before,
    After,
    Failed,
    Wrong,
}

/// The observation of a cell.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The exit code; none if a signal ended the program.
    pub code: Option<i32>,
    pub stderr: String,
    pub took: Duration,
    /// The content of each target, the registry first.
    pub held: Vec<Held>,
    pub source_is_there: bool,
    pub reports: Reports,
    /// The time from the program's end until all reports were there.
    pub reported_after: Option<Duration>,
    pub read_back: Option<ReadBack>,
}

/// The mount reports a failure within a second; the rest is a reserve for a busy machine.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1 + 9);

impl Reports {
    /// Returns whether all reports are there.
    pub fn is_complete(self) -> bool {
        let Self {
            status,
            events,
            metrics,
            attribute,
            bytes,
        } = self;
        status && events && metrics && attribute && bytes
    }

    /// Returns whether there is no report of this push.
    pub fn is_silent(self) -> bool {
        !(self.status || self.events || self.attribute || self.bytes)
    }

    /// Reads the reports until all are there or the timeout is over; returns the time from the
    /// program's end to the last report.
    fn wait(
        read: impl Fn() -> Self,
        ended: Instant,
        may_be_silent: bool,
    ) -> (Self, Option<Duration>) {
        loop {
            let looked = ended.elapsed();
            let reports = read();
            match reports.is_complete() {
                true => return (reports, Some(looked)),
                false if looked > REPORT_TIMEOUT => return (reports, None),
                false if may_be_silent && reports.is_silent() => return (reports, None),
                false => {}
            }
        }
    }

    fn read(mounted: &Mounted, key: &str, content: &[u8]) -> Self {
        let status = mounted.status();
        let of_this = |entry: &&serde_json::Value| entry["artifact"] == key;
        let listed = |name: &str| {
            let list = status[name].as_array().into_iter().flatten();
            list.filter(of_this).collect::<Vec<_>>()
        };
        // After a failed save, an editor may push the old content back, which fails as well.
        let mut kept = listed("unpushed")
            .into_iter()
            .filter_map(|it| it["path"].as_str());
        let told = |kind: &str| mounted.events(kind).iter().any(|event| of_this(&event));
        let counted = |verdict: &str| {
            mounted.metric(&format!("atlasfs_pushes_total{{verdict=\"{verdict}\"}}")) > 0
        };
        Self {
            status: status["healthy"] == false && !listed("errors").is_empty(),
            events: told("push-failed") || told("conflict"),
            metrics: counted("failed") || counted("conflict"),
            attribute: mounted
                .xattr(key, "error")
                .is_some_and(|error| error.contains("can't push")),
            bytes: kept.any(|path| mounted.cat(path).stdout == content),
        }
    }
}

/// Runs a cell's program, and observes its effects.
pub fn observe(site: &Site, cell: &Cell) -> Observation {
    let (source, work) = site.source(cell);
    let (key, content) = (key(cell), after(cell));
    let path = site.writer.path(&key);
    let mut command = bash(cell.program.script, [&source, &path, &work]);
    command
        .current_dir(site.outside())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let ran = run(&mut command);
    let ended = Instant::now();
    let stores = site.stores.iter();
    let held: Vec<Held> = stores.map(|store| held(store, &key, cell)).collect();
    let failed = ran.code != Some(0) || cell.ending().errno().is_some();
    let (reports, reported_after) = match failed {
        true => {
            // A failed open may leave nothing to report.
            let may_be_silent = matches!(cell.ending(), Ending::NotOpened(_));
            let read = || Reports::read(&site.writer, &key, content.as_bytes());
            Reports::wait(read, ended, may_be_silent)
        }
        false => (Reports::default(), None),
    };
    let reader = site.reader.as_ref();
    let read_back = reader.map(|reader| {
        let read = reader.cat(&key);
        match read.code {
            Some(0) if read.stdout == content.as_bytes() => ReadBack::After,
            Some(0) if read.stdout == before(cell).as_bytes() => ReadBack::Before,
            Some(0) => ReadBack::Wrong,
            _ => ReadBack::Failed,
        }
    });
    Observation {
        code: ran.code,
        took: ran.took,
        held,
        source_is_there: source.exists(),
        reports,
        reported_after,
        stderr: ran.stderr,
        read_back,
    }
}

/// Returns a store's content for a cell's artifact.
pub fn held(store: &Store, key: &str, cell: &Cell) -> Held {
    match store.get(key) {
        None => Held::Nothing,
        Some(bytes) if bytes == after(cell).as_bytes() => Held::After,
        Some(bytes) if bytes == before(cell).as_bytes() => Held::Before,
        Some(bytes) => Held::Torn(bytes.len()),
    }
}
