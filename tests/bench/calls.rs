//! The number of requests that the kernel sends to a FUSE file system, from the kernel's own
//! tracing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The trace event: a request is queued for the daemon.
const EVENT: &str = "events/fuse/fuse_request_send";

/// Room for some 50,000 events on each processor.
const BUFFER_KIB: &str = "4096";

/// The kernel's name of READDIRPLUS.
pub const READDIRPLUS: &str = "READDIRPLUS";

/// The number of requests by operation.
pub type Counts = BTreeMap<String, u64>;

/// The counter. Dropping it restores the kernel's tracing.
#[derive(Debug)]
pub struct Calls {
    tracefs: PathBuf,
    instance: PathBuf,
}

impl Calls {
    /// Prepares to count; `None` if this kernel can't trace, or this user may not.
    pub fn start(dir: &Path) -> Option<Self> {
        let tracefs = dir.join("tracing");
        std::fs::create_dir(&tracefs).ok()?;
        let none: Option<&str> = None;
        let flags = MsFlags::empty();
        mount(Some("tracefs"), &tracefs, Some("tracefs"), flags, none).ok()?;
        let name = format!("instances/atlasfs-bench-{}", std::process::id());
        let calls = Self {
            instance: tracefs.join(name),
            tracefs,
        };
        std::fs::create_dir(&calls.instance).ok()?;
        calls.set("buffer_size_kb", BUFFER_KIB).ok()?;
        Some(calls)
    }

    /// Runs `work` and returns the number of requests to a connection meanwhile; `None` if the
    /// tracing failed.
    pub fn during(&self, connection: u64, work: impl FnOnce()) -> Option<Counts> {
        let filter = format!("connection == {connection}");
        self.set(&format!("{EVENT}/filter"), &filter).ok()?;
        self.set("trace", "").ok()?;
        self.set(&format!("{EVENT}/enable"), "1").ok()?;
        work();
        self.set(&format!("{EVENT}/enable"), "0").ok()?;
        let trace = std::fs::read(self.instance.join("trace")).ok()?;
        Some(parse(&String::from_utf8_lossy(&trace)))
    }

    fn set(&self, file: &str, value: &str) -> std::io::Result<()> {
        std::fs::write(self.instance.join(file), value)
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.instance);
        let _ = umount2(&self.tracefs, MntFlags::MNT_DETACH);
    }
}

/// Formats counts, the most frequent first.
pub fn shown(counts: &Counts) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let each = counts.iter().map(|(name, count)| format!("{count} {name}"));
    each.collect::<Vec<_>>().join(", ")
}

fn parse(trace: &str) -> Counts {
    let mut counts = Counts::new();
    for line in trace.lines().filter(|line| line.contains(" opcode ")) {
        let name = line.split("(FUSE_").nth(1);
        let name = name.and_then(|rest| rest.split(')').next());
        *counts
            .entry(name.unwrap_or("unknown").to_owned())
            .or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_trace_is_counted_by_operation() {
        let trace = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 3/3   #P:2\n#\n\
            ls-4711  [001] .....  2.1: fuse_request_send: connection 46 req 8 opcode 27 \
            (FUSE_OPENDIR) len 48 \n\
            ls-4711  [001] .....  2.2: fuse_request_send: connection 46 req 10 opcode 44 \
            (FUSE_READDIRPLUS) len 80 \n\
            ls-4711  [001] .....  2.3: fuse_request_send: connection 46 req 12 opcode 44 \
            (FUSE_READDIRPLUS) len 80 \n";
        let counts = parse(trace);
        assert_eq!(counts.get(READDIRPLUS), Some(&2));
        assert_eq!(shown(&counts), "2 READDIRPLUS, 1 OPENDIR");
    }
}
