//! How many requests the kernel sends to a FUSE file system, as its own tracing counts them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Counts by connection and operation.
const HISTOGRAM: &str = "hist:keys=connection,opcode";
const TRIGGER: &str = "events/fuse/fuse_request_send/trigger";

/// READDIRPLUS, as the kernel numbers it.
pub const READDIRPLUS: u32 = 44;

/// The operations of a listing, by their numbers.
const NAMES: [(u32, &str); 9] = [
    (1, "LOOKUP"),
    (3, "GETATTR"),
    (14, "OPEN"),
    (15, "READ"),
    (22, "GETXATTR"),
    (27, "OPENDIR"),
    (28, "READDIR"),
    (29, "RELEASEDIR"),
    (READDIRPLUS, "READDIRPLUS"),
];

/// Writes counts with the operations' names.
pub fn named(counts: &BTreeMap<u32, u64>) -> String {
    let each = counts.iter().map(|(operation, count)| {
        let known = NAMES.iter().find(|(number, _)| number == operation);
        match known {
            Some((_, name)) => format!("{count} {name}"),
            None => format!("{count} of operation {operation}"),
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The counter. Dropping it leaves the kernel's tracing as it was.
#[derive(Debug)]
pub struct Calls {
    tracefs: PathBuf,
    instance: PathBuf,
}

impl Calls {
    /// Begins to count; nothing if this kernel can't, or this user may not.
    pub fn start(dir: &Path) -> Option<Self> {
        let tracefs = dir.join("tracing");
        std::fs::create_dir(&tracefs).ok()?;
        let none: Option<&str> = None;
        mount(
            Some("tracefs"),
            &tracefs,
            Some("tracefs"),
            MsFlags::empty(),
            none,
        )
        .ok()?;
        let name = format!("instances/atlasfs-bench-{}", std::process::id());
        let calls = Self {
            instance: tracefs.join(name),
            tracefs,
        };
        std::fs::create_dir(&calls.instance).ok()?;
        std::fs::write(calls.instance.join(TRIGGER), HISTOGRAM).ok()?;
        Some(calls)
    }

    /// Returns how many requests of each operation have gone to a connection since the beginning.
    pub fn of(&self, connection: u64) -> BTreeMap<u32, u64> {
        let path = self.instance.join("events/fuse/fuse_request_send/hist");
        let histogram = std::fs::read_to_string(path).unwrap_or_default();
        parse(&histogram, connection)
    }
}

/// Returns how many more there are than before.
pub fn since(before: &BTreeMap<u32, u64>, now: &BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
    let more = now.iter().map(|(operation, count)| {
        let less = before.get(operation).copied().unwrap_or(0);
        (*operation, count.saturating_sub(less))
    });
    more.filter(|(_, count)| *count > 0).collect()
}

fn parse(histogram: &str, connection: u64) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for line in histogram.lines() {
        let words: Vec<&str> = line
            .split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | ':'))
            .filter(|word| !word.is_empty())
            .collect();
        if let ["connection", at, "opcode", operation, "hitcount", count] = words[..]
            && at.parse() == Ok(connection)
            && let (Ok(operation), Ok(count)) = (operation.parse(), count.parse())
        {
            counts.insert(operation, count);
        }
    }
    counts
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = std::fs::write(self.instance.join(TRIGGER), format!("!{HISTOGRAM}"));
        let _ = std::fs::remove_dir(&self.instance);
        let _ = umount2(&self.tracefs, MntFlags::MNT_DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_histogram_is_read_by_connection() {
        let histogram = "# event histogram\n#\n# trigger info: hist:keys=connection,opcode\n#\n\n\
                         { connection:         46, opcode:         44 } hitcount:         12\n\
                         { connection:         47, opcode:          1 } hitcount:          3\n\
                         \nTotals:\n    Hits: 15\n";
        let before = BTreeMap::from([(READDIRPLUS, 12)]);
        assert_eq!(parse(histogram, 46), before);
        let now = BTreeMap::from([(READDIRPLUS, 20), (1, 1)]);
        assert_eq!(
            since(&before, &now),
            BTreeMap::from([(READDIRPLUS, 8), (1, 1)])
        );
    }
}
