//! Plays a schedule: machines that mount, programs that use the mounts, and what happens to stores.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::play::state_dir;
use super::mount::{Mount, copy};
use super::schedule::{MACHINES, STORES, Schedule, Step, Wiring, wiring};
use super::truth::Sim;

pub(super) struct Play {
    schedule: Schedule,
    sim: Arc<Sim>,
    machines: [Machine; MACHINES],
}

/// A machine with its state directory, and its mount, if there is one.
struct Machine {
    dir: Arc<tempfile::TempDir>,
    mount: Option<Arc<Mount>>,
}

impl Play {
    pub(super) fn new(schedule: Schedule, trace: bool) -> Self {
        let sim = Arc::new(Sim::new(schedule.seed, trace));
        let machines = std::array::from_fn(|_| Machine {
            dir: Arc::new(state_dir()),
            mount: None,
        });
        Self {
            schedule,
            sim,
            machines,
        }
    }

    /// Plays the whole schedule, until it violates a sentence.
    pub(super) async fn play(mut self) -> Arc<Sim> {
        let repair = Duration::from_secs(if self.schedule.repairs { 30 } else { 0 });
        self.begin().await;
        for step in std::mem::take(&mut self.schedule.steps) {
            self.sim.lock().log(|| format!("— {step:?}"));
            self.step(step, repair).await;
            if self.sim.lock().violation.is_some() {
                return self.sim;
            }
        }
        self.end(repair).await;
        self.sim
    }

    /// Each machine has mounted each registry once, so that no store is without an identity.
    async fn begin(&mut self) {
        for machine in 0..MACHINES {
            for registry in 0..2 {
                self.mount(machine, wiring(registry), Duration::ZERO).await;
                let mount = self.machines[machine].mount.clone();
                if let Some(mount) = mount {
                    match machine {
                        0 => mount.save(machine).await,
                        _ => mount.cat().await,
                    }
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn step(&mut self, step: Step, repair: Duration) {
        let mount = |machine: usize| self.machines[machine].mount.clone();
        match step {
            Step::Mount(machine, wiring) => self.mount(machine, wiring, repair).await,
            Step::Save { machine, killed } => {
                let Some(mount) = mount(machine) else { return };
                let work = tokio::spawn(async move { mount.save(machine).await });
                match killed {
                    None => drop(work.await),
                    Some(time) => {
                        tokio::time::sleep(Duration::from_millis(time)).await;
                        work.abort();
                        self.kill(machine);
                    }
                }
            }
            Step::Cat(machine) => {
                if let Some(mount) = mount(machine) {
                    mount.cat().await;
                }
            }
            Step::Remove(machine) => {
                if let Some(mount) = mount(machine) {
                    mount.remove().await;
                }
            }
            Step::Refill(machine) => {
                if let Some(mount) = mount(machine) {
                    mount.refill();
                }
            }
            Step::Fault(place, fault) => self.sim.lock().set_fault(place, Some(fault)),
            Step::Heal => self.heal(),
            Step::Wait(time) => tokio::time::sleep(Duration::from_millis(time)).await,
            Step::Wipe(place) => self.wipe(place),
            Step::Forge(place, forgery) => self.sim.lock().forge(place, forgery),
        }
    }

    /// A store loses everything. A backup may then become another registry's. A mount that has seen no
    /// outage of it would not ask again what it is, and goes on writing to it: its person ends it.
    fn wipe(&mut self, place: usize) {
        let is_registry = place.is_multiple_of(3);
        for machine in 0..MACHINES {
            let mount = self.machines[machine].mount.as_ref();
            if !is_registry && mount.is_some_and(|mount| mount.stores.contains(&place)) {
                self.kill(machine);
            }
        }
        self.sim.lock().wipe(place);
    }

    fn heal(&self) {
        (0..STORES).for_each(|place| self.sim.lock().set_fault(place, None));
    }

    /// Ends a machine's mount, as `kill -9` would.
    fn kill(&mut self, machine: usize) {
        let machine = &mut self.machines[machine];
        if let Some(mount) = machine.mount.take() {
            mount.cut.store(true, Ordering::Relaxed);
            let dir = state_dir();
            copy(machine.dir.path(), dir.path());
            machine.dir = Arc::new(dir);
        }
    }

    async fn mount(&mut self, machine: usize, wiring: Wiring, repair: Duration) {
        self.kill(machine);
        let dir = &self.machines[machine].dir;
        let mount = Mount::start(&self.sim, wiring, repair, dir).await;
        let registry = mount.as_ref().map(|mount| mount.registry());
        self.sim.lock().log(|| format!("  mounted: {registry:?}"));
        self.machines[machine].mount = mount;
    }

    /// Ends every fault. Each machine mounts each registry, and a person fills the wiped ones.
    async fn end(&mut self, repair: Duration) {
        self.sim.lock().log(|| "— the end".into());
        self.heal();
        let mut kept = BTreeSet::new();
        for registry in 0..2 {
            for machine in 0..MACHINES {
                self.mount(machine, wiring(registry), repair).await;
            }
            let refill = self.sim.lock().is_nameless(registry);
            if refill && let Some(mount) = &self.machines[0].mount {
                mount.refill();
            }
            tokio::time::sleep(Duration::from_secs(100)).await;
            let mounts = self.machines.iter();
            for mount in mounts.filter_map(|machine| machine.mount.clone()) {
                kept.extend(mount.kept());
                mount.cat().await;
            }
        }
        self.sim.lock().ended(!repair.is_zero(), &kept);
    }
}
