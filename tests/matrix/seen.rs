//! What is to be seen of a cell: the program's end, the stores, and what the mount tells.

use std::time::{Duration, Instant};

use super::cell::{Cell, Ending};
use super::mounted::Mounted;
use super::program::{bash, run};
use super::site::{Site, after, before, key};
use super::store::Store;

/// What a store holds at the moment when the program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Nothing,
    Before,
    After,
    /// So many bytes that nobody has written like this.
    Torn(usize),
}

/// Where a failed push is told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    pub status: bool,
    pub events: bool,
    pub metrics: bool,
    pub attribute: bool,
    /// Whether `unpushed` has the bytes as they were.
    pub bytes: bool,
}

/// What a reader gets on a mount that knows nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBack {
    Before,
    After,
    Failed,
    Wrong,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The exit code; nothing if a signal ended the program.
    pub code: Option<i32>,
    pub stderr: String,
    pub took: Duration,
    /// What each target holds, the registry first.
    pub held: Vec<Held>,
    pub source_is_there: bool,
    pub told: Told,
    /// How long after the program's end all of that was there.
    pub told_after: Option<Duration>,
    pub read_back: Option<ReadBack>,
}

/// Within a second a failure is told of, and a machine in trouble takes some
/// more to look.
const TELLING: Duration = Duration::from_secs(1 + 9);

impl Told {
    /// Tells whether nothing is missing.
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

    /// Tells whether nothing is told of this very push.
    pub fn is_silent(self) -> bool {
        !(self.status || self.events || self.attribute || self.bytes)
    }

    /// Looks everywhere, until all is there or it should have been; returns how long after the
    /// program's end all was there.
    fn look(
        look_once: impl Fn() -> Self,
        ended: Instant,
        may_be_silent: bool,
    ) -> (Self, Option<Duration>) {
        loop {
            let looked = ended.elapsed();
            let told = look_once();
            match told.is_complete() {
                true => return (told, Some(looked)),
                false if looked > TELLING => return (told, None),
                false if may_be_silent && told.is_silent() => return (told, None),
                false => {}
            }
        }
    }

    fn look_once(mounted: &Mounted, key: &str, content: &[u8]) -> Self {
        let status = mounted.status();
        let of_this = |entry: &&serde_json::Value| entry["artifact"] == key;
        let listed = |name: &str| {
            let list = status[name].as_array().into_iter().flatten();
            list.filter(of_this).collect::<Vec<_>>()
        };
        // An editor whose save has failed may push the old content back, which fails as well.
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

/// Runs a cell's program, and looks.
pub fn play(site: &Site, cell: &Cell) -> Seen {
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
    let held: Vec<Held> = stores.map(|store| look_at(store, &key, cell)).collect();
    let failed = ran.code != Some(0) || cell.ending().errno().is_some();
    let (told, told_after) = match failed {
        true => {
            // There may be nothing to tell of what could not be opened.
            let may_be_silent = matches!(cell.ending(), Ending::NotOpened(_));
            let look = || Told::look_once(&site.writer, &key, content.as_bytes());
            Told::look(look, ended, may_be_silent)
        }
        false => (Told::default(), None),
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
    Seen {
        code: ran.code,
        took: ran.took,
        held,
        source_is_there: source.exists(),
        told,
        told_after,
        stderr: ran.stderr,
        read_back,
    }
}

/// Tells what a store holds of a cell's artifact.
pub fn look_at(store: &Store, key: &str, cell: &Cell) -> Held {
    match store.get(key) {
        None => Held::Nothing,
        Some(bytes) if bytes == after(cell).as_bytes() => Held::After,
        Some(bytes) if bytes == before(cell).as_bytes() => Held::Before,
        Some(bytes) => Held::Torn(bytes.len()),
    }
}
