//! Plays a schedule: mounts, the programs that use them, and the faults of both.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::mount::{Held, Mount};
use super::schedule::{OnHandle, Schedule, Step};
use super::truth::{KEYS, Sim, State};
use crate::registry::simulate_disk;

pub(super) struct Play {
    schedule: Schedule,
    pub(super) sim: Arc<Sim>,
    pub(super) mounts: Vec<Arc<Mount>>,
    held: Arc<std::sync::Mutex<Vec<Held>>>,
    under_way: Vec<(usize, JoinHandle<()>)>,
}

pub(super) fn state_dir() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

impl Play {
    pub(super) fn new(schedule: Schedule, trace: bool) -> Self {
        let sim = Arc::new(Sim::new(
            schedule.seed,
            schedule.mounts,
            schedule.lists_stamps,
            trace,
        ));
        sim.lock().ahead = schedule.ahead;
        let mounts =
            (0..schedule.mounts).map(|number| Mount::start(&schedule, &sim, number, state_dir()));
        let mounts = mounts.collect();
        Self {
            schedule,
            sim,
            mounts,
            held: Arc::default(),
            under_way: Vec::new(),
        }
    }

    /// Plays the whole schedule, until it violates a sentence.
    pub(super) async fn play(mut self) -> Arc<Sim> {
        for step in self.schedule.steps.clone() {
            self.sim.lock().log(|| format!("— {step:?}"));
            self.step(step).await;
            self.gather(false).await;
            if self.sim.lock().violation.is_some() {
                return self.sim;
            }
        }
        self.end().await;
        self.sim
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Act {
                mount,
                artifact,
                what,
                apart,
            } => {
                let mount = Arc::clone(&self.mounts[mount % self.mounts.len()]);
                let number = mount.number;
                let act = mount.act(artifact, what, Arc::clone(&self.held));
                self.run(number, act, apart).await;
            }
            Step::Held {
                handle,
                what,
                apart,
            } => {
                let Some(held) = self.take(handle, what) else {
                    return;
                };
                self.run(held.mount.number, held.act(what), apart).await;
            }
            Step::Fault(place, fault) => self.sim.lock().set_fault(place, fault),
            Step::Heal => (0..3).for_each(|place| self.sim.lock().set_fault(place, None)),
            Step::Wait(time) => tokio::time::sleep(Duration::from_millis(time)).await,
            Step::Place(artifact) => self.sim.lock().place(artifact),
            Step::Delete(artifact) => self.sim.lock().delete(0, KEYS[artifact], None),
            Step::Disk(time) => {
                simulate_disk(Duration::from_millis(time));
                self.sim.lock().slow_disk = true;
            }
            Step::Restart(mount) => self.restart(mount % self.mounts.len(), false),
            Step::Lose(mount) => self.restart(mount % self.mounts.len(), true),
        }
    }

    /// Chooses an open handle that is not in use.
    fn take(&self, handle: usize, what: OnHandle) -> Option<Held> {
        let mut held = self.held.lock().unwrap();
        let at = handle % held.len().max(1);
        if held.get(at)?.busy.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(match what {
            OnHandle::Close => held.remove(at),
            _ => held[at].clone(),
        })
    }

    async fn run(
        &mut self,
        mount: usize,
        work: impl Future<Output = ()> + Send + 'static,
        apart: bool,
    ) {
        let work = tokio::spawn(work);
        self.under_way.push((mount, work));
        if !apart {
            let (_, work) = self.under_way.pop().unwrap();
            self.sim.blame(work.await);
        }
    }

    /// Collects the results of finished work; with `all`, waits for the rest.
    async fn gather(&mut self, all: bool) {
        for (mount, work) in std::mem::take(&mut self.under_way) {
            match all || work.is_finished() {
                true => self.sim.blame(work.await),
                false => self.under_way.push((mount, work)),
            }
        }
    }

    /// Ends a mount, as `kill -9` or a power cut would, and mounts again with the same state
    /// directory. With `lost`, the machine and its journal are gone.
    fn restart(&mut self, number: usize, lost: bool) {
        let mount = Arc::clone(&self.mounts[number]);
        mount.cut.store(true, Ordering::Relaxed);
        self.under_way.retain(|(owner, work)| {
            if *owner == number {
                work.abort();
            }
            *owner != number
        });
        self.held
            .lock()
            .unwrap()
            .retain(|held| held.mount.number != number);
        self.sim.lock().restarted(number, lost);
        // A copy, because the old process may still write to its own directory.
        let dir = state_dir();
        let (from, to) = (
            mount.fixture.state_dir.path().join("journal"),
            dir.path().join("journal"),
        );
        std::fs::create_dir(&to).unwrap();
        let durable = mount.fixture.fs.registry.journal_after_power_cut();
        let power_cut = self.sim.lock().network.percent(50);
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let is_cut = power_cut && !durable.contains_key(&name);
            if lost || is_cut || !entry.file_type().unwrap().is_file() {
                continue;
            }
            std::fs::copy(entry.path(), to.join(&name)).unwrap();
            if power_cut {
                std::fs::write(to.join(&name), &durable[&name]).unwrap();
            }
        }
        self.mounts[number] = Mount::start(&self.schedule, &self.sim, number, dir);
    }

    /// Ends every fault, and waits until every pending push has been replayed.
    async fn end(&mut self) {
        self.sim.lock().log(|| "— the end".into());
        (0..3).for_each(|place| self.sim.lock().set_fault(place, None));
        self.gather(true).await;
        for number in 0..self.mounts.len() {
            if self.sim.lock().network.percent(50) {
                self.restart(number, false);
            }
        }
        tokio::time::sleep(Duration::from_secs(200)).await;
        for (mount, artifact) in self.pairs() {
            let owes = mount.owes(artifact);
            self.sim.lock().must(!owes, || {
                format!("mount {} owes nothing in the end", mount.number)
            });
        }
        self.decide_doubts();
        self.sim.lock().ended(self.schedule.repairs);
        for (mount, artifact) in self.pairs() {
            let read = tokio::spawn(async move { drop(mount.cat(artifact).await) });
            self.sim.blame(read.await);
        }
    }

    /// A mount can be killed after its journal has recorded a failed push, and before its close
    /// reports the failure. The mount has then kept the bytes.
    fn decide_doubts(&self) {
        let mut truth = self.sim.lock();
        let texts = truth.texts.iter_mut();
        for (content, text) in texts.filter(|(_, text)| text.state == State::InDoubt) {
            if self.mounts.iter().any(|mount| mount.keeps(content)) {
                text.state = State::Failed;
            }
        }
    }

    fn pairs(&self) -> Vec<(Arc<Mount>, usize)> {
        let mounts = self.mounts.iter();
        mounts
            .flat_map(|mount| [0, 1].map(|artifact| (Arc::clone(mount), artifact)))
            .collect()
    }
}

impl Sim {
    /// Reports a panic as a violation.
    fn blame(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| Some(panic.downcast_ref::<&str>()?.to_string()));
            self.lock()
                .must(false, || words.unwrap_or_else(|| "nobody panics".into()));
        }
    }
}
