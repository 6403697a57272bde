//! The cache on disk: pulls and pushes never wait for its writes, and never fail because of it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::cache::CacheFigures;
use super::disk_files::DiskFiles;
use super::metrics::Counter;
use super::room::Room;
use super::{blocking, lock};
use crate::model::Sha256;

/// How many contents, and bytes of them, may wait to be written. Contents that come faster than the
/// disk can write are dropped: a later read brings them back, or they were not worth it.
const WAITING: usize = 256;
const WAITING_BYTES: u64 = 64 << 20;

/// How many reads may wait for the disk at a time: a hung disk takes this many threads and no more.
const READS: usize = 8;

/// The cache on disk of one mount.
#[derive(Debug)]
pub struct DiskCache {
    files: Option<Arc<DiskFiles>>,
    capacity: u64,
    queue: Arc<Mutex<Queue>>,
    reads: Arc<Semaphore>,
    hits: Counter,
    misses: Counter,
}

/// Jobs for the files, done in order by one thread at a time.
#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<DiskWrite>,
    bytes: u64,
    is_worked_on: bool,
}

#[derive(Debug)]
enum DiskWrite {
    Open,
    Keep(Sha256, Bytes),
    Mark(Sha256),
}

impl DiskWrite {
    fn bytes(&self) -> u64 {
        match self {
            DiskWrite::Keep(_, content) => content.len() as u64,
            DiskWrite::Open | DiskWrite::Mark(_) => 0,
        }
    }
}

impl DiskCache {
    /// Opens the cache in a directory, with room for `capacity` bytes. With 0 there is no cache,
    /// and the directory is left alone.
    pub fn open(dir: &Path, capacity: u64) -> Self {
        let cache = Self {
            files: (capacity > 0).then(|| Arc::new(DiskFiles::new(dir, capacity))),
            capacity,
            queue: Arc::default(),
            reads: Arc::new(Semaphore::new(READS)),
            hits: Counter::default(),
            misses: Counter::default(),
        };
        cache.submit(DiskWrite::Open);
        cache
    }

    /// Returns a way to make room for files in a directory: the cache gives way if it is on the
    /// same disk.
    pub fn room(&self, dir: &Path) -> Room {
        match &self.files {
            Some(files) => {
                let (files, dir) = (Arc::clone(files), dir.to_owned());
                Room::new(move |need| files.is_beside(&dir) && files.give_way(need))
            }
            None => Room::default(),
        }
    }

    /// Keeps a content; the write follows soon.
    pub fn insert(&self, hash: Sha256, content: Bytes) {
        self.submit(DiskWrite::Keep(hash, content));
    }

    /// Records a use of a content that a faster cache has served.
    pub fn touch(&self, hash: &Sha256) {
        if self.files.as_ref().is_some_and(|files| files.touch(hash)) {
            self.submit(DiskWrite::Mark(*hash));
        }
    }

    /// Reads a content. Callers limit their wait for the disk themselves.
    pub async fn get(&self, hash: &Sha256) -> Option<Bytes> {
        let files = Arc::clone(self.files.as_ref()?);
        let found = match self.waiting(hash) {
            Some(content) => Some(content),
            None => {
                let (reads, hash) = (Arc::clone(&self.reads), *hash);
                let permit = reads.acquire_owned().await.ok()?;
                let read = tokio::task::spawn_blocking(move || {
                    let content = files.get(&hash);
                    drop(permit);
                    content
                });
                read.await.ok()?
            }
        };
        match found {
            Some(_) => self.hits.increment(),
            None => self.misses.increment(),
        }
        found
    }

    /// Returns a content that still waits to be written.
    fn waiting(&self, hash: &Sha256) -> Option<Bytes> {
        lock(&self.queue).jobs.iter().find_map(|job| match job {
            DiskWrite::Keep(kept, content) if kept == hash => Some(content.clone()),
            _ => None,
        })
    }

    fn submit(&self, job: DiskWrite) {
        let Some(files) = &self.files else { return };
        {
            let mut queue = lock(&self.queue);
            let bytes = job.bytes();
            if queue.jobs.len() >= WAITING || queue.bytes + bytes > WAITING_BYTES {
                return;
            }
            queue.bytes += bytes;
            queue.jobs.push_back(job);
            if queue.is_worked_on {
                return;
            }
            queue.is_worked_on = true;
        }
        let (files, queue) = (Arc::clone(files), Arc::clone(&self.queue));
        let work = move || work_off(&files, &queue);
        match Handle::try_current() {
            Ok(_) => blocking::run_later(work),
            Err(_) => work(),
        }
    }

    /// Returns the size of the cache, its hit counts and its newest problem.
    pub fn figures(&self) -> (CacheFigures, Option<String>) {
        let held = self.files.as_ref().map(|files| files.figures());
        let (entries, bytes, problem) = held.unwrap_or_default();
        let figures = CacheFigures {
            entries,
            bytes,
            capacity: self.capacity,
            hits: self.hits.get(),
            misses: self.misses.get(),
        };
        (figures, problem)
    }

    /// Waits until everything is written.
    #[cfg(test)]
    pub async fn settle(&self) {
        while lock(&self.queue).is_worked_on {
            tokio::task::yield_now().await;
        }
    }
}

fn work_off(files: &DiskFiles, queue: &Mutex<Queue>) {
    loop {
        // A job stays in the queue until it is written, so that `get` finds its content meanwhile.
        let job = {
            let mut queue = lock(queue);
            match queue.jobs.front() {
                Some(DiskWrite::Keep(hash, content)) => DiskWrite::Keep(*hash, content.clone()),
                Some(DiskWrite::Mark(hash)) => DiskWrite::Mark(*hash),
                Some(DiskWrite::Open) => DiskWrite::Open,
                None => {
                    queue.is_worked_on = false;
                    return;
                }
            }
        };
        match &job {
            DiskWrite::Open => files.open(),
            DiskWrite::Keep(hash, content) => files.insert(*hash, content),
            DiskWrite::Mark(hash) => files.mark(hash),
        }
        let mut queue = lock(queue);
        queue.jobs.pop_front();
        queue.bytes = queue.bytes.saturating_sub(job.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_content_is_there_before_it_is_written_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(dir.path(), 1 << 20);
        let content = Bytes::from_static(b"a content");
        let hash = Sha256::of(&content);
        assert_eq!(cache.get(&hash).await, None);
        cache.insert(hash, content.clone());
        assert_eq!(cache.get(&hash).await, Some(content.clone()));
        cache.settle().await;
        assert_eq!(cache.get(&hash).await, Some(content.clone()));
        let (figures, problem) = cache.figures();
        assert_eq!(
            (figures.entries, figures.hits, figures.misses, problem),
            (1, 2, 1, None)
        );
        let cache = DiskCache::open(dir.path(), 1 << 20);
        assert_eq!(cache.get(&hash).await, Some(content));
    }

    #[tokio::test]
    async fn a_cache_of_no_bytes_is_none_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(&dir.path().join("cache"), 0);
        let content = Bytes::from_static(b"a content");
        let hash = Sha256::of(&content);
        cache.insert(hash, content);
        cache.settle().await;
        assert_eq!(cache.get(&hash).await, None);
        assert!(!dir.path().join("cache").exists());
    }

    #[tokio::test]
    async fn what_comes_faster_than_the_disk_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(dir.path(), 1 << 30);
        cache.settle().await;
        lock(&cache.queue).is_worked_on = true;
        for n in 0..WAITING as u32 + 9 {
            let content = Bytes::copy_from_slice(&n.to_le_bytes());
            cache.insert(Sha256::of(&content), content);
        }
        assert_eq!(lock(&cache.queue).jobs.len(), WAITING);
        lock(&cache.queue).jobs.clear();
        lock(&cache.queue).bytes = 0;
        let large = Bytes::from(vec![0; WAITING_BYTES as usize / 2 + 1]);
        cache.insert(Sha256::of(b"1"), large.clone());
        cache.insert(Sha256::of(b"2"), large);
        assert_eq!(lock(&cache.queue).jobs.len(), 1);
    }
}
