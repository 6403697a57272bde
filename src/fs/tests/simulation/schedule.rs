//! Schedules: random steps, drawn from a seed.

use std::time::Duration;

use super::random::Random;
use crate::registry::Durability;
use crate::store::{Fault, Kind};

/// One step. `apart`: the next step doesn't wait for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Act {
        mount: usize,
        artifact: usize,
        what: Act,
        apart: bool,
    },
    /// An action on an open handle, if there is one.
    Held {
        handle: usize,
        what: OnHandle,
        apart: bool,
    },
    Fault(usize, Option<Fault>),
    Heal,
    Wait(u64),
    Place(usize),
    Delete(usize),
    Restart(usize),
    /// This machine's disk needs so many milliseconds for each operation.
    Disk(u64),
    /// A mount's machine is gone, with its journal; another machine replaces it.
    Lose(usize),
}

/// An action of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Save,
    Append,
    Truncate,
    Cat,
    Stat,
    Ls,
    Mkdir,
    Touch,
    Remove,
    HoldReader,
    HoldWriter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnHandle {
    Read,
    Flush,
    Close,
}

/// Everything that a seed decides, except the network.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) mounts: usize,
    pub(super) durability: Durability,
    pub(super) lists_stamps: [bool; 3],
    pub(super) allow_delete: bool,
    pub(super) cached: bool,
    /// How far each mount's clock is ahead, in seconds.
    pub(super) ahead: [i64; 3],
    /// Whether the mounts compare the targets.
    pub(super) repairs: bool,
    /// Whether the configuration names the repository.
    pub(super) named: bool,
    pub(super) steps: Vec<Step>,
}

const KINDS: [Kind; 9] = [
    Kind::NotFound,
    Kind::Denied,
    Kind::Conflict,
    Kind::Invalid,
    Kind::NoSpace,
    Kind::StoreMissing,
    Kind::Unreachable,
    Kind::Busy,
    Kind::Corrupt,
];

/// How far a machine's clock may be ahead, in seconds: minutes, or years, both ways.
const CLOCKS: [i64; 7] = [0, 0, 120, -120, 3_600, -3_600, 50_000_000];

impl Schedule {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mounts = random.pick(&[1, 1, 1, 2, 2, 3]);
        let like_s3 = random.percent(50);
        let mut schedule = Self {
            seed,
            mounts,
            durability: random.pick(&[
                Durability::Any,
                Durability::Any,
                Durability::Registry,
                Durability::All,
            ]),
            lists_stamps: match random.percent(20) {
                true => [like_s3, !like_s3, like_s3],
                false => [!like_s3; 3],
            },
            allow_delete: random.percent(30),
            cached: random.percent(70),
            named: random.percent(75),
            repairs: random.percent(50),
            ahead: [0; 3],
            steps: Vec::new(),
        };
        // Some schedules test two writers, others a person with another tool.
        let by_hand = random.percent(25);
        let lies = random.percent(15);
        let length = 10 + random.below(28);
        let mut behind = None;
        if !schedule.named {
            let (mount, artifact, apart) = (0, 0, false);
            schedule.steps.push(Step::Act {
                mount,
                artifact,
                what: Act::Mkdir,
                apart,
            });
        }
        while schedule.steps.len() < length {
            let step = schedule.draw(&mut random, by_hand, lies);
            schedule.steps.push(step);
            if let Step::Act {
                mount,
                artifact,
                what: Act::HoldWriter,
                ..
            } = step
                && random.percent(30)
            {
                // Another program looks the name up during the push.
                let (handle, what) = (random.below(4), Act::Ls);
                let (look, push) = (true, OnHandle::Flush);
                schedule.steps.push(Step::Wait(1_300));
                let look = Step::Act {
                    mount,
                    artifact,
                    what,
                    apart: look,
                };
                schedule.steps.push(look);
                schedule.steps.push(Step::Held {
                    handle,
                    what: push,
                    apart: false,
                });
                let what = Act::Cat;
                schedule.steps.push(Step::Act {
                    mount,
                    artifact,
                    what,
                    apart: false,
                });
            }
            if let Step::Act {
                mount,
                artifact,
                what: Act::Remove,
                ..
            } = step
                && schedule.repairs
                && random.percent(40)
            {
                // Deletes once more while a backup is out, and loses the journal with its machine.
                // Only another machine's mount can tell that backup of the deletion.
                let backup = random.pick(&[1, 2]);
                let missed = Some(Fault::Fail(Kind::Unreachable));
                let act = |what| Step::Act {
                    mount,
                    artifact,
                    what,
                    apart: false,
                };
                schedule.steps.extend([
                    Step::Heal,
                    act(Act::Save),
                    Step::Fault(backup, missed),
                    act(Act::Remove),
                    Step::Lose(mount),
                    Step::Fault(backup, None),
                ]);
            }
            if let Step::Act {
                mount,
                artifact,
                what: Act::Remove,
                ..
            } = step
                && mounts > 1
                && random.percent(30)
            {
                // Another mount, whose clock is behind, pushes anew while the registry is out.
                behind = Some((mount + 1) % mounts);
                let act = |mount, what| Step::Act {
                    mount,
                    artifact,
                    what,
                    apart: false,
                };
                let missed = Some(Fault::Fail(Kind::Unreachable));
                schedule.steps.extend([
                    Step::Heal,
                    act(mount, Act::Save),
                    act(mount, Act::Remove),
                    Step::Wait(1_300),
                    Step::Fault(0, missed),
                    act((mount + 1) % mounts, Act::Save),
                    Step::Fault(0, None),
                ]);
            }
            if matches!(step, Step::Act { apart: true, .. }) && random.percent(25) {
                // Kills a mount while the action runs.
                schedule
                    .steps
                    .push(Step::Wait(random.pick(&[1, 5, 15, 25, 35, 60, 500])));
                schedule.steps.push(Step::Restart(random.below(mounts)));
            }
        }
        if random.percent(15) {
            schedule.hang(&mut random);
        }
        if random.percent(25) {
            schedule.ahead = std::array::from_fn(|_| random.pick(&CLOCKS));
        } else if let Some(behind) = behind.and_then(|mount| schedule.ahead.get_mut(mount)) {
            *behind = -120;
        }
        schedule
    }

    /// The disk hangs for longer than a push may take, during some pushes and deletions.
    fn hang(&mut self, random: &mut Random) {
        let mut slow = vec![Step::Heal, Step::Disk(random.pick(&[4_000, 9_000, 20_000]))];
        for _ in 0..1 + random.below(2) {
            let (mount, artifact) = (random.below(self.mounts), 0);
            let what = match self.allow_delete && random.percent(30) {
                true => Act::Remove,
                false => Act::Save,
            };
            slow.push(Step::Act {
                mount,
                artifact,
                what,
                apart: random.percent(30),
            });
        }
        slow.push(Step::Wait(random.pick(&[5, 3_000, 6_500, 40_000])));
        if random.percent(50) {
            slow.push(Step::Restart(random.below(self.mounts)));
        }
        slow.extend([Step::Disk(1), Step::Wait(40_000)]);
        let at = random.below(self.steps.len());
        self.steps.splice(at..at, slow);
    }

    fn draw(&self, random: &mut Random, by_hand: bool, lies: bool) -> Step {
        let artifact = usize::from(random.percent(20));
        match random.below(100) {
            0..50 => {
                let mount = random.below(self.mounts);
                let what = self.act(random);
                Step::Act {
                    mount,
                    artifact,
                    what,
                    apart: random.percent(35),
                }
            }
            50..60 => Step::Held {
                handle: random.below(4),
                what: random.pick(&[OnHandle::Read, OnHandle::Flush, OnHandle::Close]),
                apart: random.percent(35),
            },
            60..72 => Step::Fault(random.pick(&[0, 0, 1, 2]), Some(fault(random, lies))),
            72..79 => Step::Fault(random.below(3), None),
            79..83 => Step::Heal,
            83..93 => {
                Step::Wait(random.pick(&[5, 20, 50, 300, 1_001, 1_300, 2_500, 6_500, 40_000]))
            }
            93..95 if by_hand => Step::Place(artifact),
            95..97 if by_hand => Step::Delete(artifact),
            _ if self.repairs && random.percent(50) => Step::Lose(random.below(self.mounts)),
            _ => Step::Restart(random.below(self.mounts)),
        }
    }

    fn act(&self, random: &mut Random) -> Act {
        match random.below(100) {
            0..28 => Act::Save,
            28..38 => Act::Append,
            38..44 => Act::Truncate,
            44..62 => Act::Cat,
            62..68 => Act::Stat,
            68..74 => Act::Ls,
            74..76 => Act::Mkdir,
            76..79 => Act::Touch,
            79..85 if self.allow_delete => Act::Remove,
            85..91 => Act::HoldReader,
            91..100 => Act::HoldWriter,
            _ => Act::Save,
        }
    }
}

fn fault(random: &mut Random, lies: bool) -> Fault {
    let kinds = if lies { &KINDS[..] } else { &KINDS[3..] };
    let kind = match random.percent(50) {
        true => Kind::Unreachable,
        false => match random.pick(kinds) {
            Kind::Invalid if random.percent(50) => Kind::Denied,
            kind => kind,
        },
    };
    match random.below(8) {
        0 | 1 => Fault::Fail(kind),
        2 => Fault::FailWrites(kind),
        3 if random.percent(50) => Fault::FailHeads(kind),
        3 => Fault::FailReads(kind),
        4 => Fault::Hang,
        5 => Fault::Corrupt,
        6 => Fault::LoseReplies,
        _ => Fault::Slow(Duration::from_millis(
            random.pick(&[30, 100, 400, 1_200, 4_000]),
        )),
    }
}
