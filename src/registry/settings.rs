//! The settings of pushes and pulls; each default with its reason.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The rule that decides whether a push has succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// At least one target has it: Atlas's own rule, and so the default.
    #[default]
    Any,
    /// The registry has it.
    Registry,
    /// Every target has it.
    All,
}

impl Durability {
    /// Returns the name that the flag and the status use.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Any => "any",
            Durability::Registry => "registry",
            Durability::All => "all",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The error for a text that names no durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a durability is one of any, registry, all")]
pub struct UnknownDurability;

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Self, UnknownDurability> {
        [Durability::Any, Durability::Registry, Durability::All]
            .into_iter()
            .find(|durability| durability.as_str() == text)
            .ok_or(UnknownDurability)
    }
}

/// Answers that reads treat as an outage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FallbackOn {
    /// A registry's "not found" goes on to the backups.
    pub not_found: bool,
    /// A registry's "denied" goes on to the backups.
    pub denied: bool,
}

/// The settings of pushes and pulls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The rule that decides whether a push has succeeded.
    pub durability: Durability,
    /// The deadline of an operation on names and attributes. 2 s: at a prompt, that feels slow but
    /// not yet dead.
    pub metadata: Duration,
    /// The deadline of a read. 5 s: room for a fallback through two hung targets.
    pub read: Duration,
    /// The deadline of a push over all targets. 15 s: an upload of the largest document over a slow
    /// line, and still less than a deployment tool waits.
    pub push: Duration,
    /// How long names, sizes and stamps are fresh. 1 s: a person never notices, and a tool that
    /// stats a thousand files costs one LIST.
    pub ttl: Duration,
    /// The largest document in bytes. 16 MiB: a hundred times the largest schema seen.
    pub max_size: u64,
    /// How many bytes of content the memory cache may hold. 64 MiB: every schema of a large site.
    pub cache_bytes: u64,
    /// How many bytes the cache on disk may take; 0 for none, which is the default here: each mount
    /// sets how much disk space it takes.
    pub disk_cache_bytes: u64,
    /// The directory of the cache on disk, if it is not in the state directory.
    pub cache_dir: Option<PathBuf>,
    /// How many bytes of pushes the journal may hold. 1 GiB: an outage of a day on a busy site.
    pub journal_bytes: u64,
    /// How many outages in a row open a target's breaker; 0 for never. 3: one is a hiccup, two are
    /// bad luck, and after a third a request would only wait.
    pub breaker: u32,
    /// How long the registry has to answer before the backups are asked as well; zero for never.
    /// 250 ms: far above what a healthy store takes, and not yet an annoying wait.
    pub hedge: Duration,
    /// The pause between two reconcile rounds; zero for never, which is the default here: each
    /// mount sets how often it compares everything that it has.
    pub repair: Duration,
    /// Whether nothing may be changed, not even by reconcile.
    pub read_only: bool,
    /// Whether documents are checked before a push.
    pub validate: bool,
    /// Answers that reads treat as an outage; none by default, or deleted schemas would come back
    /// from backups.
    pub fallback_on: FallbackOn,
}

impl Settings {
    /// Returns how long the targets may take for a push: a little less than the deadline, so that
    /// even a push that takes all of it has its verdict by the deadline.
    pub fn push_budget(&self) -> Duration {
        self.push - self.verdict_budget()
    }

    /// Returns how long this machine's disk may take to record a failure. 200 ms: an order of
    /// magnitude above what a healthy disk takes.
    pub(super) fn verdict_budget(&self) -> Duration {
        const VERDICT: Duration = Duration::from_millis(200);
        VERDICT.min(self.push / 10)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Any,
            metadata: Duration::from_secs(2),
            read: Duration::from_secs(5),
            push: Duration::from_secs(15),
            ttl: Duration::from_secs(1),
            max_size: 16 << 20,
            cache_bytes: 64 << 20,
            disk_cache_bytes: 0,
            cache_dir: None,
            journal_bytes: 1 << 30,
            breaker: 3,
            hedge: Duration::from_millis(250),
            repair: Duration::ZERO,
            read_only: false,
            validate: true,
            fallback_on: FallbackOn::default(),
        }
    }
}
