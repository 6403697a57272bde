//! The files of the cache on disk: contents named by their hash, bounded in bytes, least recently
//! used first out, and verified on every read.
//!
//! ```text
//! <dir>/sha256/ab/ab12…    one content
//! <dir>/sha256/tmp-…       an incomplete one, renamed when it is complete
//! ```
//!
//! Nothing is fsynced: a file torn by a crash doesn't match its name, and the next read removes it.
//! Several mounts may share the directory: each finds files that another has added, tolerates that
//! another has removed some, and recounts all of them whenever it has added a little.
// Over 430 lines: one type; its count in memory and the files on disk change together.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lru::LruCache;
use nix::sys::statvfs::statvfs;

use super::lock;
use super::private::{self, Layout, make_private};
use crate::dir::Dir;
use crate::model::Sha256;

/// The prefix of an incomplete file's name.
const TMP: &str = "tmp-";

/// The size of a disk block. Files take whole blocks, and the bound is on disk space.
const BLOCK: u64 = 4096;

/// How far a file's time may be behind its last use. 1 h: the order survives a restart well enough,
/// and a content that is read all day costs one write an hour.
const MARK_AFTER: Duration = Duration::from_secs(3600);

/// The age at which an incomplete file counts as left by a crash, not as another mount's.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// The part of the capacity that may be written before the directory is counted anew: another mount
/// may have added to it as well.
const COUNT_EVERY: u64 = 16;

/// The size up to which a file is read before its hash is verified: a sparse or foreign file must
/// not take this machine's memory.
const UNCHECKED: u64 = 16 << 20;

/// The directory of the contents, below the cache's directory.
const CONTENTS: &str = "sha256";

const LAYOUT: Layout = Layout {
    marker: "atlasfs-cache",
    dirs: &[CONTENTS],
    files: &[],
    is_own: |dir, name| name == CONTENTS && dir.child(name).is_ok(),
};
/// How many bytes of the disk the cache leaves free; half of the disk if it is small. 64 MiB: two
/// documents of the largest size, each in its staged file and in the journal.
const RESERVE: u64 = 64 << 20;

/// The files of one directory.
#[derive(Debug)]
pub struct DiskFiles {
    cache: PathBuf,
    dir: PathBuf,
    capacity: u64,
    /// Whether the directory may be used, and if not, why.
    claimed: OnceLock<Result<(), String>>,
    serial: AtomicU64,
    /// Locked for bookkeeping only, never during disk access.
    state: Mutex<CacheState>,
}

#[derive(Debug)]
struct CacheState {
    held: LruCache<Sha256, CachedFile>,
    bytes: u64,
    /// Bytes written since the directory was last counted.
    written: u64,
    problem: Option<String>,
    /// A problem has been logged.
    told: bool,
}

#[derive(Debug, Clone, Copy)]
struct CachedFile {
    cost: u64,
    used: SystemTime,
    /// The last use that the file's own time shows.
    marked: SystemTime,
}

impl CacheState {
    fn put(&mut self, hash: Sha256, held: CachedFile) {
        self.bytes += held.cost;
        if let Some(before) = self.held.put(hash, held) {
            self.bytes = self.bytes.saturating_sub(before.cost);
        }
    }

    fn forget(&mut self, hash: &Sha256) {
        if let Some(held) = self.held.pop(hash) {
            self.bytes = self.bytes.saturating_sub(held.cost);
        }
    }
}

impl DiskFiles {
    /// Names a directory, which need not exist, and the bytes that it may hold.
    pub fn new(dir: &Path, capacity: u64) -> Self {
        Self {
            cache: dir.to_owned(),
            dir: dir.join(CONTENTS),
            capacity,
            claimed: OnceLock::new(),
            serial: AtomicU64::new(0),
            state: Mutex::new(CacheState {
                held: LruCache::unbounded(),
                bytes: 0,
                written: 0,
                problem: None,
                told: false,
            }),
        }
    }

    /// Makes the directory, private to its owner, and counts the files in it.
    pub fn open(&self) {
        let counted = self
            .make()
            .and_then(|()| self.count())
            .and_then(|()| self.make_room(0));
        self.note(counted);
    }

    fn make(&self) -> io::Result<()> {
        self.commit()?;
        let cache = Dir::open(&self.cache)?;
        make_dir(&cache, CONTENTS)?;
        make_private(&cache, CONTENTS, 0o700)
    }

    /// Checks once whether the directory is this user's and a cache.
    fn commit(&self) -> io::Result<()> {
        let claimed = self.claimed.get_or_init(|| {
            let opened = private::open(&self.cache, &LAYOUT);
            opened.map(drop).map_err(|refused| match refused {
                private::Refused::Foreign(why) => {
                    format!("it {why}, or choose another one with --cache-dir")
                }
                private::Refused::Io(error) => error.to_string(),
            })
        });
        claimed.clone().map_err(io::Error::other)
    }

    /// Opens the directory of the contents.
    fn contents(&self) -> io::Result<Dir> {
        self.commit()?;
        Dir::open(&self.cache)?.child(CONTENTS)
    }

    /// Reads a content; returns `None` if it is missing or damaged.
    pub fn get(&self, hash: &Sha256) -> Option<Bytes> {
        let read = self.read(hash);
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lock(&self.state).forget(hash);
                None
            }
            Err(error) => {
                self.note(Err(error));
                None
            }
            Ok(content) => content,
        }
    }

    fn read(&self, hash: &Sha256) -> io::Result<Option<Bytes>> {
        let dir = self.contents()?;
        let mut file = dir.file(place(hash))?;
        let size = file.metadata()?.len();
        let mut content = Vec::new();
        if size <= UNCHECKED || Sha256::of_all((&file).take(size))?.0 == *hash {
            file.rewind()?;
            (&file).take(size).read_to_end(&mut content)?;
        }
        if Sha256::of(&content) != *hash {
            tracing::warn!("removed damaged file {}", self.path(hash).display());
            lock(&self.state).forget(hash);
            dir.remove(place(hash))?;
            return Ok(None);
        }
        self.recover(*hash, content.len() as u64, &file);
        if self.touch(hash) {
            // A failure here costs only the content's place in the order after a restart.
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Some(content.into()))
    }

    /// Counts a file that another mount has added.
    fn recover(&self, hash: Sha256, size: u64, file: &File) {
        let is_known = lock(&self.state).held.contains(&hash);
        if !is_known && let Ok(modified) = file.metadata().and_then(|meta| meta.modified()) {
            let held = CachedFile {
                cost: cost(size),
                used: modified,
                marked: modified,
            };
            lock(&self.state).put(hash, held);
        }
    }

    /// Makes a content the most recently used one; returns whether its file is due to be marked.
    pub fn touch(&self, hash: &Sha256) -> bool {
        let now = SystemTime::now();
        let mut state = lock(&self.state);
        let Some(held) = state.held.get_mut(hash) else {
            return false;
        };
        held.used = now;
        let is_due = now
            .duration_since(held.marked)
            .is_ok_and(|since| since >= MARK_AFTER);
        if is_due {
            held.marked = now;
        }
        is_due
    }

    /// Sets the time of a content's file to now.
    pub fn mark(&self, hash: &Sha256) {
        let file = self.contents().and_then(|dir| dir.file(place(hash)));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Keeps a content if there is room for it. After any failure it is just not kept.
    pub fn insert(&self, hash: Sha256, content: &[u8]) {
        let cost = cost(content.len() as u64);
        if cost > self.capacity || lock(&self.state).held.get(&hash).is_some() {
            return;
        }
        // The new content may replace contents that would have to give way anyway.
        if self.is_scarce(cost) && !self.give_way(cost) {
            return;
        }
        let kept = self
            .make_room(cost)
            .and_then(|()| self.write(&hash, content));
        if kept.is_ok() {
            let now = SystemTime::now();
            let held = CachedFile {
                cost,
                used: now,
                marked: now,
            };
            let mut state = lock(&self.state);
            state.put(hash, held);
            state.written += cost;
        }
        self.note(kept);
        if lock(&self.state).written > self.capacity / COUNT_EVERY {
            self.note(self.count().and_then(|()| self.make_room(0)));
        }
    }

    fn write(&self, hash: &Sha256, content: &[u8]) -> io::Result<()> {
        let dir = self.contents()?;
        let place = place(hash);
        if let Some(fan) = place.parent() {
            make_dir(&dir, fan)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let beside = format!(
            "{TMP}{}-{}-{}",
            std::process::id(),
            now.map_or(0, |since| since.as_nanos()),
            self.serial.fetch_add(1, Ordering::Relaxed)
        );
        let written = dir
            .new_file(&beside, 0o600)
            .and_then(|mut file| file.write_all(content))
            .and_then(|()| dir.rename(&beside, place));
        if written.is_err() {
            // On a full disk, a partial file must not take room from others.
            let _ = dir.remove(&beside);
        }
        written
    }

    /// Returns whether this many more bytes would cut into the room that is left for others.
    fn is_scarce(&self, cost: u64) -> bool {
        statvfs(&self.dir).is_ok_and(|disk| {
            let size = disk.blocks().saturating_mul(disk.fragment_size());
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            // A disk that doesn't report its size has no bound.
            size > 0 && free < RESERVE.min(size / 2).saturating_add(cost)
        })
    }

    /// Returns whether a directory is on the same disk.
    pub fn is_beside(&self, dir: &Path) -> bool {
        let device = |dir: &Path| fs::metadata(dir).map(|meta| meta.dev());
        matches!((device(&self.dir), device(dir)), (Ok(one), Ok(other)) if one == other)
    }

    /// Removes the least recently used contents for `need` bytes; returns `false` if none are left.
    pub fn give_way(&self, need: u64) -> bool {
        if lock(&self.state).held.is_empty() {
            // They are not counted yet, or are another mount's.
            self.note(self.count());
        }
        let held = lock(&self.state).bytes;
        let left = held.saturating_sub(need);
        let removed = self.shrink_to(left);
        let is_less = lock(&self.state).bytes < held;
        self.note(removed);
        is_less
    }

    /// Removes the least recently used contents until there is room for `cost` more bytes.
    fn make_room(&self, cost: u64) -> io::Result<()> {
        self.shrink_to(self.capacity.saturating_sub(cost))
    }

    fn shrink_to(&self, bytes: u64) -> io::Result<()> {
        loop {
            let victim = {
                let mut state = lock(&self.state);
                if state.bytes <= bytes {
                    return Ok(());
                }
                let victim = state.held.peek_lru().map(|(hash, _)| *hash);
                if let Some(hash) = &victim {
                    state.forget(hash);
                }
                victim
            };
            let Some(victim) = victim else {
                return Ok(());
            };
            match self.contents()?.remove(place(&victim)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }

    /// Counts the files in the directory, in the order of their last use.
    fn count(&self) -> io::Result<()> {
        let dir = self.contents()?;
        let mut found = Vec::new();
        for fan in dir.list("")? {
            let Some(fan) = fan.to_str() else { continue };
            if fan.starts_with(TMP) {
                remove_abandoned(&dir, fan);
                continue;
            }
            // Ignore errors: foreign files are no directories, and another mount may have removed
            // one.
            for name in dir.list(fan).into_iter().flatten() {
                let Some(hash) = name.to_str().and_then(|name| hash_of(fan, name)) else {
                    continue;
                };
                let meta = dir.meta(place(&hash)).ok();
                let Some(meta) = meta.filter(|meta| meta.is_file()) else {
                    continue;
                };
                make_private(&dir, place(&hash), 0o600)?;
                let modified = meta.modified().unwrap_or(UNIX_EPOCH);
                found.push((hash, cost(meta.len()), modified));
            }
        }
        let mut state = lock(&self.state);
        let mut counted: Vec<_> = found
            .into_iter()
            .map(|(hash, cost, modified)| {
                let known = state.held.peek(&hash);
                let held = CachedFile {
                    cost,
                    used: known.map_or(modified, |held| held.used.max(modified)),
                    marked: modified,
                };
                (hash, held)
            })
            .collect();
        counted.sort_by_key(|(_, held)| held.used);
        state.held.clear();
        state.bytes = 0;
        state.written = 0;
        for (hash, held) in counted {
            state.put(hash, held);
        }
        Ok(())
    }

    /// Records a result. The first problem is logged; the newest one is shown until something
    /// succeeds.
    fn note(&self, ended: io::Result<()>) {
        let problem = ended.err().map(|error| {
            let dir = self.dir.display();
            format!("{dir}: {error}")
        });
        let mut state = lock(&self.state);
        if let Some(problem) = &problem
            && !state.told
        {
            tracing::warn!("the disk cache does not work; continuing without it: {problem}");
            state.told = true;
        }
        state.problem = problem;
    }

    /// Returns the number of contents, the bytes that they take, and the newest problem.
    pub fn figures(&self) -> (usize, u64, Option<String>) {
        let state = lock(&self.state);
        (state.held.len(), state.bytes, state.problem.clone())
    }

    fn path(&self, hash: &Sha256) -> PathBuf {
        self.dir.join(place(hash))
    }
}

/// Returns the path of a content below the directory of the contents.
fn place(hash: &Sha256) -> PathBuf {
    let name = hash.to_string();
    let fan = name.get(..2).unwrap_or_default();
    Path::new(fan).join(&name)
}

fn make_dir(dir: &Dir, path: impl AsRef<Path>) -> io::Result<()> {
    match dir.make_dir(path, 0o700) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn cost(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Returns the hash in the name of a cache file.
fn hash_of(fan: &str, name: &str) -> Option<Sha256> {
    let hash: Sha256 = name.parse().ok()?;
    (hash.to_string() == name && name.starts_with(fan) && fan.len() == 2).then_some(hash)
}

fn remove_abandoned(dir: &Dir, name: &str) {
    let modified = dir.meta(name).and_then(|meta| meta.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    if age.is_some_and(|age| age >= ABANDONED_AFTER) {
        let _ = dir.remove(name);
    }
}

#[cfg(test)]
#[path = "disk_files_tests.rs"]
mod tests;
