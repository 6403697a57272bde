//! The search for a seed that violates a sentence.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::fault_injection::{Bug, inject};

/// Returns a number from the environment.
pub(super) fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays the seeds from `first` on, on several threads, until one of them violates a sentence.
/// Returns the number of seeds played, and the first violation.
pub(super) fn search(
    first: u64,
    count: u64,
    bug: Option<Bug>,
    play: impl Fn(u64) -> Option<String> + Sync,
) -> (u64, Option<(u64, String)>) {
    let next = AtomicU64::new(first);
    let played = AtomicUsize::new(0);
    let found: Mutex<Option<(u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                inject(bug);
                while found.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    if let Some(sentence) = play(seed) {
                        let mut found = found.lock().unwrap();
                        if found.as_ref().is_none_or(|(other, _)| *other > seed) {
                            *found = Some((seed, sentence));
                        }
                    }
                    played.fetch_add(1, Ordering::Relaxed);
                }
                inject(None);
            });
        }
    });
    (played.into_inner() as u64, found.into_inner().unwrap())
}

/// Prints the seed that finds each planted bug; returns the bugs that no seed finds.
pub(super) fn missed(
    bugs: &[Bug],
    seeds: u64,
    play: impl Fn(u64) -> Option<String> + Sync,
) -> Vec<Bug> {
    let missed = bugs
        .iter()
        .filter(|&&bug| match search(0, seeds, Some(bug), &play) {
            (played, Some((seed, sentence))) => {
                let sentence: String = sentence.chars().take(90).collect();
                println!("{bug:?}: seed {seed}, after {played}: {sentence}");
                false
            }
            (_, None) => true,
        });
    missed.copied().collect()
}
