//! Metrics: counters with a help sentence each, in Prometheus' text format.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one mount.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Pushes that every target has.
    pub pushes_complete: Counter,
    /// Pushes that succeeded with some target missing.
    pub pushes_degraded: Counter,
    /// Pushes that failed because too few targets have them.
    pub pushes_failed: Counter,
    /// Pushes that lost to another writer.
    pub pushes_conflict: Counter,
    /// Pushes that a check refused before any target saw them.
    pub pushes_refused: Counter,
    /// Failures that no close could report.
    pub unreported: Counter,
    /// Pulls answered from the cache.
    pub pulls_cache: Counter,
    /// Pulls answered by the registry.
    pub pulls_registry: Counter,
    /// Fallbacks: pulls answered by a backup because the registry had an outage, or was slower than
    /// `--hedge`.
    pub pulls_backup: Counter,
    /// Pulls answered from the cache while no target answered.
    pub pulls_stale: Counter,
    /// Pulls that failed, "not found" aside.
    pub pulls_failed: Counter,
}

pub(super) const PUSHES: Family = Family(
    "atlasfs_pushes_total",
    "counter",
    "Pushes by their verdict.",
);
pub(super) const PULLS: Family = Family(
    "atlasfs_pulls_total",
    "counter",
    "Pulls by their source; source=\"backup\" is a fallback.",
);
pub(super) const HEDGES: Family = Family(
    "atlasfs_hedges_total",
    "counter",
    "Reads and listings that also asked the backups, because the registry was too slow.",
);
pub(super) const JOINED: Family = Family(
    "atlasfs_single_flight_joined_total",
    "counter",
    "Reads and listings that shared another one's request.",
);
pub(super) const TARGET_TIMEOUTS: Family = Family(
    "atlasfs_target_timeouts_total",
    "counter",
    "Requests that a target did not answer by their deadline.",
);
pub(super) const REPAIRED: Family = Family(
    "atlasfs_repaired_total",
    "counter",
    "Differences between targets that reconcile has repaired.",
);
pub(super) const UNREPORTED: Family = Family(
    "atlasfs_unreported_total",
    "counter",
    "Pushes whose outcome no close could report.",
);
pub(super) const UNPUSHED: Family = Family(
    "atlasfs_unpushed",
    "gauge",
    "Failed pushes whose bytes are kept in .atlasfs/unpushed.",
);
pub(super) const PENDING: Family = Family(
    "atlasfs_pending",
    "gauge",
    "Artifacts whose newest push some target lacks.",
);
pub(super) const HIDDEN: Family = Family(
    "atlasfs_hidden_names",
    "gauge",
    "Names in the stores that are not valid, and so hidden.",
);
pub(super) const TARGET_UP: Family = Family(
    "atlasfs_target_up",
    "gauge",
    "Whether the target's newest reply was an answer (1) or an outage (0).",
);
pub(super) const TARGET_BREAKER_OPEN: Family = Family(
    "atlasfs_target_breaker_open",
    "gauge",
    "Whether the target is skipped (1) after too many outages in a row.",
);
pub(super) const TARGET_OPERATIONS: Family = Family(
    "atlasfs_target_operations_total",
    "counter",
    "Operations on a target that it answered.",
);
pub(super) const TARGET_FAILURES: Family = Family(
    "atlasfs_target_failures_total",
    "counter",
    "Operations on a target that failed, by the kind of failure.",
);
pub(super) const INODES: Family = Family(
    "atlasfs_inodes",
    "gauge",
    "Inodes that the kernel, or an open handle, refers to.",
);
pub(super) const HANDLES: Family = Family(
    "atlasfs_handles",
    "gauge",
    "Files and directories that are open.",
);
pub(super) const CACHE_BYTES: Family = Family(
    "atlasfs_cache_bytes",
    "gauge",
    "Bytes of content in the memory cache.",
);
pub(super) const CACHE_ENTRIES: Family = Family(
    "atlasfs_cache_entries",
    "gauge",
    "Contents in the memory cache.",
);
pub(super) const CACHE_HITS: Family = Family(
    "atlasfs_cache_hits_total",
    "counter",
    "Look-ups in the memory cache that found their content.",
);
pub(super) const CACHE_MISSES: Family = Family(
    "atlasfs_cache_misses_total",
    "counter",
    "Look-ups in the memory cache that didn't find their content.",
);

pub(super) const DISK_CACHE_BYTES: Family = Family(
    "atlasfs_disk_cache_bytes",
    "gauge",
    "Bytes that the cache on disk takes, in whole blocks of 4 KiB.",
);
pub(super) const DISK_CACHE_ENTRIES: Family = Family(
    "atlasfs_disk_cache_entries",
    "gauge",
    "Contents in the cache on disk.",
);
pub(super) const DISK_CACHE_HITS: Family = Family(
    "atlasfs_disk_cache_hits_total",
    "counter",
    "Look-ups in the cache on disk that found their content.",
);
pub(super) const DISK_CACHE_MISSES: Family = Family(
    "atlasfs_disk_cache_misses_total",
    "counter",
    "Look-ups in the cache on disk that didn't find their content.",
);

/// One metric: its name, its type and its help sentence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family(&'static str, &'static str, &'static str);

impl Family {
    /// Writes the metric's head and its samples, each with its labels.
    pub(super) fn write<'a, V: Display>(
        self,
        text: &mut String,
        samples: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], V)>,
    ) {
        let Family(name, kind, sentence) = self;
        // Writing to a String can't fail.
        let _ = write!(text, "# HELP {name} {sentence}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
                .collect();
            let _ = match labels.is_empty() {
                true => writeln!(text, "{name} {value}"),
                false => writeln!(text, "{name}{{{}}} {value}", labels.join(",")),
            };
        }
    }
}

/// Escapes a label's value as the text format requires.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Metrics {
    /// Writes the counters of pushes and pulls.
    pub fn write(&self, text: &mut String) {
        let verdicts = [
            ("complete", &self.pushes_complete),
            ("degraded", &self.pushes_degraded),
            ("failed", &self.pushes_failed),
            ("conflict", &self.pushes_conflict),
            ("refused", &self.pushes_refused),
        ];
        for_label(PUSHES, text, "verdict", &verdicts);
        let sources = [
            ("cache", &self.pulls_cache),
            ("registry", &self.pulls_registry),
            ("backup", &self.pulls_backup),
            ("stale", &self.pulls_stale),
            ("failed", &self.pulls_failed),
        ];
        for_label(PULLS, text, "source", &sources);
        UNREPORTED.write(text, [(&[][..], self.unreported.get())]);
    }
}

fn for_label(family: Family, text: &mut String, label: &str, counters: &[(&str, &Counter)]) {
    let labels: Vec<_> = counters
        .iter()
        .map(|(value, _)| [(label, *value)])
        .collect();
    let samples = labels.iter().zip(counters);
    family.write(
        text,
        samples.map(|(labels, (_, counter))| (&labels[..], counter.get())),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_prometheus_text() {
        let metrics = Metrics::default();
        metrics.pushes_degraded.increment();
        let mut text = String::new();
        metrics.write(&mut text);
        assert!(text.contains("# TYPE atlasfs_pushes_total counter\n"));
        assert!(text.contains("atlasfs_pushes_total{verdict=\"degraded\"} 1\n"));
        assert!(text.contains("\natlasfs_unreported_total 0\n"));
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = String::new();
        TARGET_UP.write(&mut text, [(&[("url", "a\"b\\c\nd")][..], 1)]);
        assert!(
            text.ends_with("atlasfs_target_up{url=\"a\\\"b\\\\c\\nd\"} 1\n"),
            "{text}"
        );
    }
}
