//! Concurrent access: a reader sees only whole contents, and one of many writers wins.

use std::process::Command;

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Running, bash, run, start, until};
use super::store::{Store, all_hold, buckets, flags, folders, schema};
use super::support::server::Kind;

/// Reads `$1` in a loop until `$2` exists. Every content is `# N` and a last line `# N end`, with N
/// bytes in between. The script prints anything else that it sees.
const POLL: &str = r##"
import os, sys, time
path, stop, ready = sys.argv[1:4]
folder, name = os.path.split(path)
seen, looks, newest = set(), 0, -1
open(ready, "w").close()
while not os.path.exists(stop):
    looks += 1
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as f:
            content = f.read()
            again = os.fstat(f.fileno()).st_size
        if name not in os.listdir(folder):
            print("not listed")
    except OSError as error:
        print("error", error)
        continue
    lines = content.decode().split("\n")
    number = lines[0].removeprefix("# ")
    whole = lines[-1] == "" and lines[-2] == f"# {number} end" and number.isdigit()
    if not whole or content.count(b"x") != int(number) * 37 % 9001 or size == 0:
        print("partial", size, again, content[:40], content[-40:])
    elif again != len(content):
        print("size", again, len(content))
    elif int(number) < newest:
        print("back in time", number, newest)
    else:
        newest = int(number)
    seen.add(number)
    time.sleep(0.001)
print("looks", looks, "contents", len(seen), file=sys.stderr)
"##;

fn numbered(number: usize) -> String {
    let filling = "x".repeat(number * 37 % 9001);
    format!("# {number}\nschema \"main\" {{}}\n# {filling}\n# {number} end\n")
}

fn poll(home: &Home, mounted: &Mounted, name: &str) -> Running {
    let ready = home.path(&format!("ready-{name}"));
    let reader = start(
        Command::new("python3")
            .args(["-c", POLL])
            .arg(mounted.path("app/schema"))
            .arg(home.path("stop"))
            .arg(&ready),
    );
    until("the reader reads", || ready.exists().then_some(()));
    reader
}

#[track_caller]
fn readers_only_see_whole_contents(home: &Home, stores: &[Store], overwrites: usize) {
    let one = home.mount("mnt", flags(stores));
    std::fs::create_dir(one.path("app")).unwrap();
    one.cp("app/schema", numbered(0)).ok();
    let mut args = flags(stores);
    args.extend(["--ttl".into(), "50ms".into()]);
    let two = home.mount("mnt-2", args);
    let readers = [
        poll(home, &one, "1"),
        poll(home, &one, "2"),
        poll(home, &two, "3"),
    ];
    let script = r#"for file in "$2"/*; do cp "$file" "$1/app/schema"; done"#;
    for number in 1..=overwrites {
        home.file(&format!("new/{number:04}"), numbered(number));
    }
    run(&mut bash(script, [one.dir(), &home.path("new")])).ok();
    home.file("stop", "");
    for reader in readers {
        let ran = reader.wait().ok();
        assert_eq!(ran.text(), "", "{ran}");
    }
    all_hold(stores, "app/schema", numbered(overwrites).as_bytes());
    let status = one.status();
    assert_eq!(status["pushes"]["complete"], overwrites + 1, "{status:#}");
    assert_eq!(status["pushes"]["unreported"], 0, "{status:#}");
}

#[test]
fn a_reader_never_sees_an_overwritten_artifact_missing_empty_or_partial_on_folders() {
    let home = Home::new();
    readers_only_see_whole_contents(&home, &folders(&home), 200);
}

#[test]
fn a_reader_never_sees_an_overwritten_artifact_missing_empty_or_partial_on_buckets() {
    let home = Home::new();
    readers_only_see_whole_contents(&home, &buckets(&home), 60);
}

/// Opens `$1`, makes `$2` as a sign, waits for `$3`, writes `$4`, and exits with close's errno.
const WRITE_AFTER_ALL_HAVE_OPENED: &str = r#"
import os, sys, time
path, opened, go, content = sys.argv[1:5]
f = os.open(path, os.O_RDWR)
open(opened, "w").close()
while not os.path.exists(go):
    time.sleep(0.001)
os.ftruncate(f, 0)
os.pwrite(f, content.encode(), 0)
try:
    os.close(f)
except OSError as error:
    sys.exit(error.errno)
"#;

/// In each round, several writers open the artifact and close it at once. Asserts that exactly one
/// close succeeds.
#[track_caller]
pub fn exactly_one_of_many_writers_wins(home: &Home, stores: &[Store], mounts: &[&Mounted]) {
    const WRITERS: usize = 6;
    let first = mounts[0];
    std::fs::create_dir(first.path("app")).unwrap();
    first.cp("app/schema", schema("begin")).ok();
    for round in 0..5 {
        let go = home.path(&format!("go-{round}"));
        let writers: Vec<(String, Running)> = (0..WRITERS)
            .map(|writer| {
                let content = schema(&format!("round {round} writer {writer}"));
                let mounted = mounts[writer % mounts.len()];
                until("the mount sees what the last round has left", || {
                    (mounted.read("app/schema") == first.read("app/schema")).then_some(())
                });
                let opened = home.path(&format!("opened-{round}-{writer}"));
                let mut command = Command::new("python3");
                command
                    .args(["-c", WRITE_AFTER_ALL_HAVE_OPENED])
                    .arg(mounted.path("app/schema"))
                    .args([&opened, &go])
                    .arg(&content);
                let running = start(&mut command);
                until("the writer has opened it", || opened.exists().then_some(()));
                (content, running)
            })
            .collect();
        std::fs::write(&go, "").unwrap();
        let mut winners = Vec::new();
        for (content, running) in writers {
            let ran = running.wait();
            match ran.code {
                Some(0) => winners.push(content),
                code => assert_eq!(code, Some(nix::libc::ESTALE), "{ran}"),
            }
        }
        let told = || mounts.iter().map(|mounted| mounted.read(".atlasfs/events"));
        let told = || told().map(|text| String::from_utf8_lossy(&text).into_owned());
        assert_eq!(
            winners.len(),
            1,
            "round {round}: {winners:?}\n{}",
            told().collect::<Vec<_>>().join("\n")
        );
        all_hold(stores, "app/schema", winners[0].as_bytes());
        let kept: usize = mounts
            .iter()
            .map(|mounted| mounted.status()["unpushed"].as_array().unwrap().len())
            .sum();
        assert_eq!(kept, (WRITERS - 1) * (round + 1), "losers' bytes are kept");
    }
}

#[test]
fn of_many_writers_on_one_mount_exactly_one_wins_on_folders() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    exactly_one_of_many_writers_wins(&home, &stores, &[&mounted]);
}

#[test]
fn of_many_writers_on_two_mounts_exactly_one_wins_on_folders() {
    let home = Home::new();
    let stores = folders(&home);
    let mounts = ["mnt", "mnt-2"].map(|name| home.mount(name, flags(&stores)));
    exactly_one_of_many_writers_wins(&home, &stores, &[&mounts[0], &mounts[1]]);
}

#[test]
fn of_many_writers_on_two_mounts_exactly_one_wins_on_buckets() {
    let home = Home::new();
    let stores = vec![Store::bucket(Kind::Moto), Store::folder(&home, "backup")];
    let mounts = ["mnt", "mnt-2"].map(|name| home.mount(name, flags(&stores)));
    exactly_one_of_many_writers_wins(&home, &stores, &[&mounts[0], &mounts[1]]);
}

#[test]
fn two_mounts_see_each_others_pushes() {
    for stores in [folders, buckets] {
        let home = Home::new();
        let stores = stores(&home);
        let mounts = ["mnt", "mnt-2"].map(|name| home.mount(name, flags(&stores)));
        std::fs::create_dir(mounts[0].path("app")).unwrap();
        for (round, (from, to)) in [(0, 1), (1, 0), (0, 1)].into_iter().enumerate() {
            let (from, to) = (&mounts[from], &mounts[to]);
            let content = schema(&format!("round {round}"));
            from.cp("app/schema.hcl", &content).ok();
            let name = format!("p{round}");
            let plan = super::store::plan(&name, "seen");
            from.cp(&format!("app/plans/{name}"), &plan).ok();
            until("the other mount sees the push", || {
                let seen = to.cat("app/schema");
                (seen.code == Some(0) && seen.stdout == content.as_bytes()).then_some(())
            });
            until("the other mount lists the plan", || {
                to.ls("app/plans").contains(&name).then_some(())
            });
            assert_eq!(to.read(&format!("app/plans/{name}")), plan.as_bytes());
        }
    }
}
