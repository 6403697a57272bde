//! A mount, and the programs that use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::pushing::Told;
use super::schedule::{Act, OnHandle, Schedule};
use super::store::Way;
use super::truth::{KEYS, Sim, State, Truth, time_of};
use crate::fs::tests::kernel::{Choice, File, Fixture, READ, READ_WRITE, WRITE, WRITE_ANEW};
use crate::fs::{Error, OpenMode};
use crate::model::{ArtifactId, Item, RepoName, Sha256};
use crate::registry::{Settings, WallClock};
use crate::store::Backend;

/// A mount for as long as its process lives.
pub(super) struct Mount {
    pub(super) number: usize,
    pub(super) fixture: Fixture,
    pub(super) sim: Arc<Sim>,
    pub(super) cut: Arc<AtomicBool>,
}

/// A handle that stays open.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) mount: Arc<Mount>,
    ino: u64,
    fh: u64,
    artifact: usize,
    /// The content that a reader has read; `None` for a writer.
    content: Option<Bytes>,
    writer: Option<usize>,
    pub(super) busy: Arc<AtomicBool>,
}

fn id_of(artifact: usize) -> ArtifactId {
    let (repo, item) = KEYS[artifact].split_once('/').unwrap();
    ArtifactId {
        repo: RepoName::parse(repo).unwrap(),
        item: Item::from_key(item).unwrap(),
    }
}

impl Mount {
    pub(super) fn start(
        schedule: &Schedule,
        sim: &Arc<Sim>,
        number: usize,
        dir: tempfile::TempDir,
    ) -> Arc<Self> {
        let cut = Arc::new(AtomicBool::new(false));
        let drivers: [_; 3] = std::array::from_fn(|place| -> Arc<dyn Backend> {
            let (sim, cut) = (Arc::clone(sim), Arc::clone(&cut));
            Arc::new(Way {
                sim,
                place,
                mount: number,
                cut,
            })
        });
        let clock = Arc::clone(sim);
        let fixture = Fixture::with(Choice {
            registry: Settings {
                durability: schedule.durability,
                repair: Duration::from_secs(if schedule.repairs { 30 } else { 0 }),
                cache_bytes: if schedule.cached { 64 << 20 } else { 0 },
                ..Settings::default()
            },
            allow_delete: schedule.allow_delete,
            named: if schedule.named {
                vec!["app"]
            } else {
                Vec::new()
            },
            drivers: Some(Vec::from(drivers)),
            wall: WallClock::new(move || time_of(clock.lock().clock(number))),
            replay: true,
            state_dir: Some(Arc::new(dir)),
            ..Choice::default()
        });
        let sim = Arc::clone(sim);
        Arc::new(Self {
            number,
            fixture,
            sim,
            cut,
        })
    }

    fn truth(&self) -> std::sync::MutexGuard<'_, Truth> {
        self.sim.lock()
    }

    pub(super) fn owes(&self, artifact: usize) -> bool {
        self.fixture.fs.registry.is_pending(&id_of(artifact))
    }

    /// Tells whether the mount reports a failure or a conflict.
    fn errs(&self, artifact: usize) -> bool {
        self.fixture.fs.registry.has_error(&id_of(artifact))
    }

    fn skips(&self) -> bool {
        self.fixture.fs.registry.skips_a_target()
    }

    pub(super) fn keeps(&self, content: &Bytes) -> bool {
        let hash = Sha256::of(content);
        let mut kept = self.fixture.fs.registry.unpushed().into_iter();
        let found = kept.find(|kept| kept.stamp.sha256 == hash);
        let bytes = found.map(|kept| self.fixture.fs.registry.read_unpushed(kept.stamp.when));
        bytes.is_some_and(|bytes| bytes.is_ok_and(|bytes| bytes == *content))
    }

    /// Runs one action of a program.
    pub(super) async fn act(
        self: Arc<Self>,
        artifact: usize,
        what: Act,
        held: Arc<std::sync::Mutex<Vec<Held>>>,
    ) {
        let path = KEYS[artifact];
        match what {
            Act::Save => self.write(artifact, WRITE_ANEW, &held).await,
            Act::Append => {
                self.write(
                    artifact,
                    OpenMode {
                        append: true,
                        ..READ_WRITE
                    },
                    &held,
                )
                .await
            }
            Act::Truncate => self.write(artifact, READ_WRITE, &held).await,
            Act::HoldWriter => {
                let how = if self.truth().network.percent(50) {
                    WRITE_ANEW
                } else {
                    READ_WRITE
                };
                self.write_slowly(artifact, how, &held).await;
            }
            Act::Cat => drop(self.cat(artifact).await),
            Act::HoldReader => self.hold_reader(artifact, &held).await,
            Act::Stat => {
                let begun = self.truth().begin_read(self.number, artifact);
                let seen = self.fixture.stat(path).await;
                self.truth().seen(&begun, seen != Err(Error::NotFound));
            }
            Act::Ls => {
                let begun = self.truth().begin_read(self.number, artifact);
                let (dir, name) = path.rsplit_once('/').unwrap();
                if let Ok(names) = self.fixture.ls(dir).await {
                    self.truth()
                        .seen(&begun, names.iter().any(|other| other == name));
                }
            }
            Act::Mkdir => drop(self.fixture.mkdir("app").await),
            Act::Touch => {
                if let Ok(file) = self.fixture.open(path, WRITE, true).await {
                    self.truth().touch(self.number, artifact);
                    let closed = file.close().await;
                    self.truth().touch(self.number, artifact);
                    self.truth().must(closed.is_ok(), || {
                        format!("who writes nothing closes well: {closed:?}")
                    });
                }
            }
            Act::Remove => {
                let begun = {
                    let mut truth = self.truth();
                    truth.deleting(self.number, artifact);
                    truth.now()
                };
                let removed = self.fixture.rm(path).await;
                self.truth().deleted(self.number, artifact, begun, removed);
            }
        }
    }

    pub(super) async fn cat(&self, artifact: usize) -> Result<Bytes, Error> {
        let begun = self.truth().begin_read(self.number, artifact);
        let read = self.fixture.cat(KEYS[artifact]).await.map(Bytes::from);
        let owes = self.owes(artifact);
        self.truth().end_read(&begun, &read, owes);
        read
    }

    async fn hold_reader(self: &Arc<Self>, artifact: usize, held: &std::sync::Mutex<Vec<Held>>) {
        let begun = self.truth().begin_read(self.number, artifact);
        let opened = self.fixture.open(KEYS[artifact], READ, false).await;
        let owes = self.owes(artifact);
        match opened {
            Ok(file) => {
                let content = Bytes::from(file.read_all().await.unwrap());
                self.truth().end_read(&begun, &Ok(content.clone()), owes);
                held.lock()
                    .unwrap()
                    .push(self.hold(&file, artifact, Some(content), None));
            }
            Err(error) => self.truth().end_read(&begun, &Err(error), owes),
        }
    }

    fn hold(
        self: &Arc<Self>,
        file: &File<'_>,
        artifact: usize,
        content: Option<Bytes>,
        writer: Option<usize>,
    ) -> Held {
        let (ino, fh, mount, busy) = (file.ino, file.fh, Arc::clone(self), Arc::default());
        Held {
            mount,
            ino,
            fh,
            artifact,
            content,
            writer,
            busy,
        }
    }

    /// Opens for writing; the content read at the open is the base.
    async fn open(&self, artifact: usize, how: OpenMode) -> Option<(File<'_>, usize, Bytes)> {
        let mut begun = self.truth().begin_read(self.number, artifact);
        // A name known only from a failed push starts empty for a writer.
        begun.touched |= self.truth().views[self.number].erred[artifact] || self.errs(artifact);
        let writer = self.truth().opening(self.number, artifact);
        let file = self.fixture.open(KEYS[artifact], how, how.truncate).await;
        let number = self.number;
        self.truth().log(|| {
            format!(
                "mount {number} opens writer {writer}: {:?}",
                file.as_ref().err()
            )
        });
        let file = file.ok()?;
        let before = match how.read {
            true => Bytes::from(file.read_all().await.unwrap()),
            false => Bytes::new(),
        };
        let mut truth = self.truth();
        if how.read {
            begun.touched |= truth.views[number].erred[artifact];
            let touched = before.is_empty();
            truth.opened(writer, (!touched).then(|| before.clone()));
            drop(truth);
            let owes = self.owes(artifact);
            self.truth().end_read(&begun, &Ok(before.clone()), owes);
        } else {
            truth.opened(writer, None);
        }
        Some((file, writer, before))
    }

    async fn write(
        self: &Arc<Self>,
        artifact: usize,
        how: OpenMode,
        _held: &std::sync::Mutex<Vec<Held>>,
    ) {
        let Some((file, writer, before)) = self.open(artifact, how).await else {
            return;
        };
        let first = before
            .windows(2)
            .position(|pair| pair == b"}\n")
            .map_or(0, |at| at + 2);
        let kept = match (how.append, how.read) {
            (true, _) => before.clone(),
            (false, true) => before.slice(..first),
            (false, false) => Bytes::new(),
        };
        let content = self.truth().fresh(artifact, &kept);
        if how.read && !how.append {
            file.truncate(kept.len() as u64).await.unwrap();
        }
        file.write(kept.len() as u64, &content[kept.len()..])
            .unwrap();
        self.flush(&file, writer, content).await;
        file.release().await;
    }

    async fn flush(&self, file: &File<'_>, writer: usize, content: Bytes) {
        self.truth().closing(writer, &content);
        let skips = self.skips();
        let closed = file.flush().await;
        let told = Told {
            result: closed,
            kept: self.keeps(&content),
            skips: skips || self.skips(),
            durability: self.fixture.fs.registry.settings().durability,
        };
        self.truth().closed(writer, &content, told);
    }

    async fn write_slowly(
        self: &Arc<Self>,
        artifact: usize,
        how: OpenMode,
        held: &std::sync::Mutex<Vec<Held>>,
    ) {
        if let Some((file, writer, _)) = self.open(artifact, how).await {
            held.lock()
                .unwrap()
                .push(self.hold(&file, artifact, None, Some(writer)));
        }
    }
}

impl Held {
    pub(super) async fn act(self, what: OnHandle) {
        let file = File {
            fixture: &self.mount.fixture,
            ino: self.ino,
            fh: self.fh,
        };
        match (self.writer, &self.content) {
            (Some(writer), _) => {
                let content = self.mount.truth().fresh(self.artifact, b"");
                let anew = match file.truncate(0).await {
                    Ok(()) => file.write(0, &content),
                    Err(error) => Err(error),
                };
                anew.unwrap();
                self.mount.flush(&file, writer, content.clone()).await;
                let failed = self.mount.truth().texts[&content].state == State::Failed;
                if failed && what == OnHandle::Read {
                    // Programs retry after an error.
                    self.mount.flush(&file, writer, content).await;
                }
            }
            (None, Some(first)) => {
                let again = Bytes::from(file.read_all().await.unwrap());
                self.mount.truth().read_again(first, &again);
            }
            (None, None) => {}
        }
        if what == OnHandle::Close {
            file.release().await;
        } else {
            self.busy.store(false, Ordering::Relaxed);
        }
    }
}
