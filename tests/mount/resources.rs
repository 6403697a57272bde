//! The resources of a mount: a million operations take no more memory than a thousand, and an inode
//! lives only as long as the kernel knows it.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run, until};
use super::store::{Store, flags, plan, schema};

const LOAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/load.py");

/// The variable with the number of operations of a run. If it is unset, as many run as fit in
/// [`TIME`].
const WISH: &str = "ATLASFS_OPERATIONS";
const TIME: Duration = Duration::from_secs(40);

/// The number of contents that an artifact's lineage names.
const LINEAGE: u64 = 64;

/// The number of operations before the first measurement, the base for all others.
const FIRST: u64 = 1_000;

/// The seconds of one program's run: programs have a time limit.
const SHIFT: u64 = 40;

/// The allowed growth of the memory, in per cent.
const GROWTH: u64 = 10;

fn two_folders(home: &Home) -> Vec<Store> {
    ["registry", "backup"]
        .map(|name| Store::folder(home, name))
        .into()
}

/// Returns a process's resident memory in KiB: all of it, and the part without a file.
fn memory(mounted: &Mounted) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{}/status", mounted.pid())).unwrap();
    ["VmRSS:", "RssAnon:"].map(|name| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    })
}

/// Runs operations; returns the number that fitted in the time.
fn work(mounted: &Mounted, first: u64, count: u64, seconds: u64) -> u64 {
    let mut command = Command::new("python3");
    command.arg(LOAD).arg(mounted.dir());
    command.args([first, count, seconds].map(|number| number.to_string()));
    run(&mut command).ok().text().trim().parse().unwrap()
}

#[test]
fn a_million_operations_take_no_more_memory_than_a_thousand() {
    let home = Home::new();
    let mut args = flags(&two_folders(&home));
    // The first thousand operations fill these caches; other tests prove their limits.
    let small = "allow-delete,cache-size=256KiB,disk-cache-size=1MiB";
    args.extend(["-o".into(), small.into()]);
    let mounted = home.mount("mnt", &args).unwatched();
    std::fs::create_dir(mounted.path("app")).unwrap();
    for number in 0..50 {
        let name = format!("p{number}");
        mounted
            .cp(&format!("app/plans/{name}"), plan(&name, "0"))
            .ok();
    }
    let wish = std::env::var(WISH)
        .ok()
        .map(|wish| wish.parse().expect("a number"));
    let wish: u64 = wish.unwrap_or(u64::MAX);
    // Fill the ring of events before the first measurement too.
    let refused = r#"for n in {1..1000}; do { : > "$1/app/none-$n"; } 2> "$2" || true; done"#;
    run(&mut bash(refused, [mounted.dir(), &home.path("refusals")])).ok();
    let events = String::from_utf8(mounted.read(".atlasfs/events")).unwrap();
    assert_eq!(events.lines().count(), 1_000);
    // Fill the lineages of the plans, each of which names its last contents.
    for round in 0..LINEAGE {
        for number in 0..50 {
            let name = format!("p{number}");
            let content = plan(&name, &round.to_string());
            std::fs::write(mounted.path(&format!("app/plans/{name}")), content).unwrap();
        }
    }
    let mut done = work(&mounted, 0, FIRST, SHIFT);
    assert_eq!(done, FIRST, "this machine is too busy");
    let before = memory(&mounted);
    println!("KiB resident, and of these in no file: {before:?} after {FIRST} operations");
    let begun = Instant::now();
    while done < wish && (wish < u64::MAX || begun.elapsed() < TIME) {
        let left = TIME.saturating_sub(begun.elapsed()).as_secs().max(1);
        let seconds = if wish < u64::MAX { SHIFT } else { left };
        done += work(&mounted, done, wish - done, seconds);
        println!("{:?} after {done}", memory(&mounted));
    }
    // The part without a file is only reported: a tenth of it is almost nothing.
    let ([before, _], [after, _]) = (before, memory(&mounted));
    let bound = before * (100 + GROWTH) / 100;
    assert!(after <= bound, "{before} KiB have become {after}");
    // One directory, its folders and fifty plans remain, and no inode of a deleted artifact.
    assert!(mounted.metric("atlasfs_inodes") < 100);
    assert!(mounted.metric("atlasfs_handles") < 10);
}

#[test]
fn inodes_are_freed_when_the_kernel_forgets_them() {
    let home = Home::new();
    let stores = two_folders(&home);
    for number in 0..300 {
        let name = format!("p{number}");
        stores[0].put(&format!("app/plans/{name}"), plan(&name, "by hand"));
    }
    let mounted = home.mount("mnt", flags(&stores));
    let listed = run(Command::new("ls").arg("-l").arg(mounted.path("app/plans"))).ok();
    assert_eq!(listed.text().lines().count(), 301);
    assert!(mounted.metric("atlasfs_inodes") > 300);
    // A remount makes the kernel drop its cache of this mount alone.
    let none: Option<&str> = None;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, mounted.dir(), none, flags, none).expect("a remount");
    until("they are forgotten", || {
        (mounted.metric("atlasfs_inodes") < 20).then_some(())
    });
}

#[test]
fn a_push_leaves_no_inode_of_replaced_content() {
    let home = Home::new();
    let mounted = home.mount("mnt", flags(&two_folders(&home)));
    std::fs::create_dir(mounted.path("app")).unwrap();
    for number in 0..50 {
        mounted.cp("app/schema", schema(&number.to_string())).ok();
        mounted.read("app/schema");
    }
    assert!(mounted.metric("atlasfs_inodes") < 20);
    until("everything is closed", || {
        // The metrics file itself is open during the read.
        (mounted.metric("atlasfs_handles") <= 1).then_some(())
    });
}
