//! The `file` backend: a folder as a store.
//!
//! It does not use object_store's `LocalFileSystem`, which keeps no attributes, has no conditional
//! update, follows symbolic links, and can't replace content and stamp together: after a crash they
//! could differ unnoticed.

mod disk;
mod folder;
mod lock;
mod read;
mod sidecar;
mod write;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use self::folder::Folder;
use super::backend::{Waiting, waits_for};
use super::{
    Backend, Capabilities, Condition, Failure, FileLocation, Kind, Listed, SignedStamp, Stored,
    Token,
};

/// The most operations of one folder at once. A hung disk blocks their threads; the rest of tokio's
/// pool stays free for the other targets.
const MAX_OPERATIONS: usize = 16;

/// The longest wait for the disk on opening a folder. A mount starts even if the disk hangs; the
/// first operation that succeeds then finds the folder.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The backend of a `file://` target.
///
/// Content is at `<dir>/<key>`, its stamp at `<dir>/.atlasfs/stamps/<key>`. A put writes both to
/// temporary files and syncs them. Then it renames the stamp file into place, then the content, and
/// syncs the directories. The stamp file describes the old and the new content until the next put.
#[derive(Debug)]
pub struct FileBackend {
    folder: Arc<Folder>,
    /// The queue for writers of this process, in order and able to give up; the folder's lock file
    /// is for other processes.
    write_queue: Arc<Mutex<()>>,
    threads: Arc<Semaphore>,
}

impl FileBackend {
    /// Makes the backend and finds the folder, creating it if the location asks for it. Even if the
    /// folder is missing now, the backend works as soon as it appears.
    pub(super) fn open(location: &FileLocation) -> (Self, Result<(), Failure>) {
        let folder = Arc::new(Folder::new(location));
        let (sender, receiver) = mpsc::channel();
        let (create, preparing) = (location.create_dir, Arc::clone(&folder));
        let spawned = std::thread::Builder::new()
            .name("atlasfs-open".into())
            .spawn(move || sender.send(preparing.prepare(create)));
        let found = match spawned {
            Err(error) => Err(folder.failure("open", "the folder", &error)),
            Ok(_) => receiver.recv_timeout(OPEN_TIMEOUT).unwrap_or_else(|_| {
                Err(Failure::new(
                    Kind::Unreachable,
                    format!(
                        "no answer from the disk within {OPEN_TIMEOUT:?} at {}",
                        location.url
                    ),
                ))
            }),
        };
        let driver = Self {
            folder,
            write_queue: Arc::default(),
            threads: Arc::new(Semaphore::new(MAX_OPERATIONS)),
        };
        (driver, found)
    }

    /// Waits in the queue of this process's writers, for the process that the first of them waits for.
    async fn turn_to_write(&self) -> OwnedMutexGuard<()> {
        let mut holder = self.folder.holder();
        let mut turn = pin!(Arc::clone(&self.write_queue).lock_owned());
        loop {
            waits_for(holder.borrow_and_update().clone());
            tokio::select! {
                turn = &mut turn => return turn,
                Ok(()) = holder.changed() => {}
            }
        }
    }

    /// Runs an operation on a blocking thread. A started operation runs to its end, even if the
    /// caller stops waiting.
    async fn run<T: Send + 'static>(
        &self,
        writes: bool,
        operation: impl FnOnce(&Folder) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let write_queue = match writes {
            true => Some(self.turn_to_write().await),
            false => None,
        };
        waits_for(None);
        let waiting = Waiting::current();
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || {
            let _held = (write_queue, thread);
            waiting.on_thread(|| {
                folder.prepare(false)?;
                operation(&folder)
            })
        })
        .await
        .unwrap_or_else(|error| Err(Failure::new(Kind::Unreachable, error.to_string())))
    }
}

#[async_trait]
impl Backend for FileBackend {
    async fn get(&self, key: &str, limit: u64) -> Result<Stored, Failure> {
        let key = key.to_owned();
        self.run(false, move |folder| folder.get(&key, limit)).await
    }

    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        let key = key.to_owned();
        self.run(false, move |folder| folder.head(&key)).await
    }

    async fn put(
        &self,
        key: &str,
        content: Bytes,
        stamp: &SignedStamp,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let (key, stamp, condition) = (key.to_owned(), *stamp, condition.clone());
        self.run(true, move |folder| {
            folder.put(&key, content, &stamp, &condition)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let key = key.to_owned();
        self.run(true, move |folder| folder.delete(&key)).await
    }

    async fn list_up_to(&self, prefix: &str, last: Option<&str>) -> Result<Vec<Listed>, Failure> {
        let (prefix, last) = (prefix.to_owned(), last.map(str::to_owned));
        let list = move |folder: &Folder| folder.list_up_to(&prefix, last.as_deref());
        self.run(false, list).await
    }

    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        self.run(false, Folder::list_prefixes).await
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.run(false, Folder::probe).await
    }

    async fn restore(&self) -> Result<(), Failure> {
        let folder = Arc::clone(&self.folder);
        let restoring = tokio::task::spawn_blocking(move || folder.restore());
        restoring
            .await
            .unwrap_or_else(|error| Err(Failure::new(Kind::Unreachable, error.to_string())))
    }

    async fn try_conditions(&self) -> Result<Option<Capabilities>, Failure> {
        // A put compares under the folder's own lock.
        Ok(Some(Capabilities {
            honours_conditions: true,
            refused: None,
        }))
    }
}
