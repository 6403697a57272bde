//! Schedules: random steps, drawn from a seed.

use super::super::random::Random;
use crate::store::{Fault, Kind};

/// The stores: those of the first registry, then those of the second. The first of each three is the
/// registry itself.
pub(super) const STORES: usize = 6;

/// The machines, each with a state directory.
pub(super) const MACHINES: usize = 2;

/// The targets of a mount: for each, the place that its URL names, and the store that is there.
pub(super) type Wiring = [(usize, usize); 3];

/// Returns the right configuration of a registry.
pub(super) fn wiring(registry: usize) -> Wiring {
    std::array::from_fn(|slot| (3 * registry + slot, 3 * registry + slot))
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A machine's mount is killed, and another one begins with the same state directory.
    Mount(usize, Wiring),
    /// A program writes on a machine. `killed`: its mount is killed after so many milliseconds.
    Save {
        machine: usize,
        killed: Option<u64>,
    },
    Cat(usize),
    Remove(usize),
    Fault(usize, Fault),
    Heal,
    Wait(u64),
    /// A store loses everything, its identity too.
    Wipe(usize),
    /// A person says that the stores of a machine's mount are the right ones.
    Refill(usize),
    /// A person with write access puts a content into a store that is no registry.
    Forge(usize, Forgery),
}

/// The stamp of a content that no mount has pushed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Forgery {
    /// It is newer than any other, and names no content as its base that the registry has had.
    Stranger,
    /// It names the registry's content as its base, and a time many years ahead.
    Future,
    /// It can't be read.
    Unreadable,
    /// It is that of other bytes.
    OtherBytes,
}

/// Everything that a seed decides, except the network.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) repairs: bool,
    pub(super) steps: Vec<Step>,
}

impl Schedule {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x9001);
        let repairs = random.percent(60);
        let (removes, wipes) = (random.percent(30), random.percent(40));
        let forges = random.percent(30);
        let length = 10 + random.below(22);
        let drawn = (0..length).map(|_| {
            loop {
                let step = draw(&mut random);
                let is_drawn = match step {
                    Step::Remove(_) => removes,
                    Step::Wipe(_) | Step::Refill(_) => wipes,
                    Step::Forge(..) => forges,
                    _ => true,
                };
                if is_drawn {
                    break step;
                }
            }
        });
        let mut steps: Vec<Step> = drawn.collect();
        if random.percent(15) {
            let at = random.below(steps.len());
            steps.splice(at..at, waits_elsewhere(&mut random));
        }
        Self {
            seed,
            repairs,
            steps,
        }
    }
}

/// A backup misses a push, and the next mount has another store in its place.
fn waits_elsewhere(random: &mut Random) -> Vec<Step> {
    let (machine, registry) = (random.below(MACHINES), random.below(2));
    let (slot, right) = (1 + random.below(2), wiring(registry));
    let other = 3 * (1 - registry) + slot;
    let mut slipped = right;
    slipped[slot] = (other, other);
    let missed = Fault::Fail(Kind::Unreachable);
    vec![
        Step::Heal,
        Step::Mount(machine, right),
        Step::Fault(right[slot].1, missed),
        Step::Save {
            machine,
            killed: None,
        },
        Step::Mount(machine, slipped),
        Step::Heal,
        Step::Wait(6_500),
    ]
}

fn draw(random: &mut Random) -> Step {
    let machine = random.below(MACHINES);
    match random.below(100) {
        0..20 => Step::Mount(machine, slip(random)),
        20..45 => Step::Save {
            machine,
            killed: match random.percent(20) {
                true => Some(random.pick(&[5, 15, 25, 40, 60])),
                false => None,
            },
        },
        45..60 => Step::Cat(machine),
        60..63 => Step::Remove(machine),
        63..75 => Step::Fault(random.below(STORES), fault(random)),
        75..81 => Step::Heal,
        81..90 => Step::Wait(random.pick(&[20, 300, 1_300, 6_500, 40_000])),
        90..94 => Step::Wipe(random.pick(&[0, 3, 0, 3, 1, 2, 4, 5])),
        94..96 => Step::Refill(machine),
        _ => Step::Forge(
            random.pick(&[1, 2, 4, 5]),
            random.pick(&[
                Forgery::Stranger,
                Forgery::Future,
                Forgery::Unreadable,
                Forgery::OtherBytes,
            ]),
        ),
    }
}

/// Draws a configuration: the right one, or one with another store of the pool in a slot.
fn slip(random: &mut Random) -> Wiring {
    let mut wiring = wiring(random.below(2));
    if random.percent(45) {
        let (slot, store) = (random.below(3), random.below(STORES));
        // The URL is wrong, or another store answers at the right one.
        let is_wrong_url = random.percent(60);
        let is_named = wiring.iter().any(|(name, _)| *name == store);
        if let Some((name, there)) = wiring.get_mut(slot) {
            *there = store;
            if is_wrong_url && !is_named {
                *name = store;
            }
        }
    }
    wiring
}

fn fault(random: &mut Random) -> Fault {
    random.pick(&[
        Fault::Fail(Kind::Unreachable),
        Fault::Fail(Kind::Unreachable),
        Fault::Hang,
        Fault::LoseReplies,
        Fault::FailWrites(Kind::Busy),
    ])
}
