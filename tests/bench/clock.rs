//! Time measurements, and the processors that they run on.

use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::sample::Samples;

/// A choice of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// The processor that clients and daemons share, so that no wake-up of another processor is
    /// timed.
    Measured,
    /// All other processors: for stores and proxies.
    Beside,
    /// All processors.
    Any,
}

/// Runs `work` on the chosen processors; threads and processes that it starts stay there.
pub fn on<T>(cpu: Cpu, work: impl FnOnce() -> T) -> T {
    let me = Pid::from_raw(0);
    let before = sched_getaffinity(me).expect("the processors of this thread");
    let all = (0..CpuSet::count()).filter(|cpu| before.is_set(*cpu) == Ok(true));
    let all: Vec<usize> = all.collect();
    // A single processor leaves no choice.
    if let (Some(last), true) = (all.last(), all.len() > 1) {
        let mut wanted = CpuSet::new();
        for other in &all {
            let is_measured = other == last;
            if cpu == Cpu::Any || is_measured == (cpu == Cpu::Measured) {
                wanted.set(*other).expect("a processor");
            }
        }
        sched_setaffinity(me, &wanted).expect("processors of one's own");
    }
    let done = work();
    sched_setaffinity(me, &before).expect("the processors of before");
    done
}

/// Times one run of `work`.
pub fn time<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = Instant::now();
    let done = work();
    (begun.elapsed().as_secs_f64(), done)
}

/// The result of a loop.
#[derive(Debug, Clone, Copy)]
pub struct Repeated {
    /// The number of iterations.
    pub times: usize,
    /// The total time in seconds.
    pub seconds: f64,
}

impl Repeated {
    /// Returns the average time of an iteration, in seconds.
    pub fn each(self) -> f64 {
        self.seconds / self.times as f64
    }
}

/// Repeats `work` in a tight loop, `most` times or until `within` is over.
pub fn repeat(most: usize, within: Duration, mut work: impl FnMut()) -> Repeated {
    let (begun, mut times) = (Instant::now(), 0_usize);
    while times < most {
        work();
        times += 1;
        // Reading the clock costs a tenth of a stat.
        if times.is_multiple_of(64) && begun.elapsed() > within {
            break;
        }
    }
    Repeated {
        times,
        seconds: begun.elapsed().as_secs_f64(),
    }
}

/// Samples several subjects in alternation, so that the machine's other work affects all of them.
/// Each round begins with another subject.
pub fn alternate<S>(
    rounds: usize,
    subjects: &[S],
    mut sample: impl FnMut(&S) -> f64,
) -> Vec<Samples> {
    let mut taken = vec![Vec::new(); subjects.len()];
    // The first round is a warm-up.
    for round in 0..=rounds {
        for step in 0..subjects.len() {
            let place = (round + step) % subjects.len();
            let took = sample(&subjects[place]);
            if round > 0 {
                taken[place].push(took);
            }
        }
    }
    taken.into_iter().map(Samples::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_in_alternation_after_a_warm_up() {
        let mut order = String::new();
        let taken = alternate(2, &['a', 'b'], |subject| {
            order.push(*subject);
            order.len() as f64
        });
        assert_eq!(order, "abbaab");
        assert_eq!(taken, [Samples::new([4.0, 5.0]), Samples::new([3.0, 6.0])]);
    }

    #[test]
    fn a_thread_is_back_on_its_processors_afterwards() {
        let count = || {
            let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
            let cpus = 0..CpuSet::count();
            cpus.filter(|cpu| set.is_set(*cpu).unwrap()).count()
        };
        let before = count();
        let within = on(Cpu::Measured, || on(Cpu::Measured, count));
        assert_eq!((within, count()), (1, before));
    }
}
