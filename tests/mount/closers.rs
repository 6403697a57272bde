//! Which close is a save, with real programs: killed ones, and those that share a descriptor.

use std::process::Command;

use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run, until};
use super::store::{Store, all_hold, flags, folders, none_holds, schema};

/// Programs that write the file `$1` to the name `$2`, and end by a signal before they close it.
const KILLED: [(&str, &str); 12] = [
    (
        "kill",
        r#"bash -c 'exec > "$1"; cat "$0"; kill -KILL $$' "$1" "$2" || true"#,
    ),
    (
        "term",
        r#"bash -c 'exec > "$1"; cat "$0"; kill -TERM $$' "$1" "$2" || true"#,
    ),
    (
        "int",
        r#"env --default-signal=INT bash -c 'exec > "$1"; cat "$0"; kill -INT $$' "$1" "$2" || true"#,
    ),
    (
        "group",
        r#"env --default-signal=INT setsid -w bash -c '{ cat "$0"; kill -INT 0; } > "$1"' "$1" "$2" \
|| true"#,
    ),
    (
        "python",
        r#"python3 -c 'import os, sys
to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(to, open(sys.argv[1], "rb").read())
os.kill(os.getpid(), 9)' "$1" "$2" || true"#,
    ),
    (
        "thread",
        r#"python3 -c 'import os, sys, threading, time
def work():
    to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(to, open(sys.argv[1], "rb").read())
    os.kill(os.getpid(), 15)
threading.Thread(target=work).start()
time.sleep(60)' "$1" "$2" || true"#,
    ),
    (
        "mapping",
        r#"python3 -c 'import mmap, os, sys
half = open(sys.argv[1], "rb").read()
to = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.ftruncate(to, len(half))
held = mmap.mmap(to, len(half))
held[:] = half
os.kill(os.getpid(), 9)' "$1" "$2" || true"#,
    ),
    (
        "sigpipe",
        r#"bash -c 'exec > "$1"; cat "$0"; kill -PIPE $$' "$1" "$2" || true"#,
    ),
    (
        "child",
        r#"{ bash -c 'cat "$0"; kill -KILL $$' "$1" || true; } > "$2""#,
    ),
    (
        "wrapper",
        r#"python3 -c 'import subprocess, sys
with open(sys.argv[2], "w") as to:
    subprocess.run(["bash", "-c", "cat \"$0\"; kill -TERM $$", sys.argv[1]], stdout=to)' \
"$1" "$2" || true"#,
    ),
    (
        "sibling",
        r#"{ bash -c 'cat; kill -KILL $$' < "$1" || true; cat /dev/null; } > "$2""#,
    ),
    (
        "orphan",
        r#"bash -c 'exec > "$1"; (cat "$0"; until [ ! -e /proc/$$/fd/1 ]; do sleep 0.02; done) &
kill -KILL $$' "$1" "$2" || true"#,
    ),
];

/// Programs that write the file `$1` to the name `$2`, and exit without closing it.
const EXITS: [(&str, &str); 6] = [
    (
        "exit",
        r#"python3 -c 'import os, sys
to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(to, open(sys.argv[1], "rb").read())
os._exit(0)' "$1" "$2""#,
    ),
    (
        "failure",
        r#"python3 -c 'import os, sys
to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(to, open(sys.argv[1], "rb").read())
os._exit(137)' "$1" "$2" || true"#,
    ),
    (
        "threads",
        r#"python3 -c 'import os, sys, threading, time
for _ in range(5):
    threading.Thread(target=time.sleep, args=(60,)).start()
to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(to, open(sys.argv[1], "rb").read())
os._exit(0)' "$1" "$2""#,
    ),
    (
        "exit-by-a-thread",
        r#"python3 -c 'import os, sys, threading, time
to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
def work():
    os.write(to, open(sys.argv[1], "rb").read())
    os._exit(0)
threading.Thread(target=work).start()
time.sleep(60)' "$1" "$2""#,
    ),
    (
        "exec",
        r#"python3 -c 'import os, sys
to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(to, open(sys.argv[1], "rb").read())
os.execvp("true", ["true"])' "$1" "$2""#,
    ),
    ("shell", r#"bash -c 'exec > "$1"; cat "$0"' "$1" "$2""#),
];

/// Programs that write the file `$1`, check the pushed content with `$4`, and write the file `$3`,
/// all to the name `$2`.
const SHARES: [(&str, &str); 11] = [
    ("braces", r#"{ cat "$1"; "$4"; cat "$3"; } > "$2""#),
    ("parentheses", r#"(cat "$1"; "$4"; cat "$3") > "$2""#),
    (
        "dash",
        r#"dash -ec '{ cat "$0"; "$3"; cat "$2"; } > "$1"' "$1" "$2" "$3" "$4""#,
    ),
    (
        "dash-duplicates",
        r#"dash -ec 'exec 3> "$1"; cat "$0" >&3; "$3"; cat "$2" >&3; exec 3>&-' "$1" "$2" "$3" "$4""#,
    ),
    (
        "bash-duplicates",
        r#"exec 3> "$2"; printf '%s\n' "$(cat "$1")" >&3; "$4"; printf '%s\n' "$(cat "$3")" >&3
exec 3>&-"#,
    ),
    (
        "builtins",
        r#"{ printf '%s\n' "$(cat "$1")"; "$4"; printf '%s\n' "$(cat "$3")"; } > "$2""#,
    ),
    (
        "script",
        r#"bash -ec 'exec > "$1"; cat "$0"; "$3"; cat "$2"' "$1" "$2" "$3" "$4""#,
    ),
    (
        "python",
        r#"python3 -c 'import subprocess, sys
with open(sys.argv[2], "w") as to:
    to.write(open(sys.argv[1]).read())
    to.flush()
    subprocess.run([sys.argv[4]], check=True)
    to.write(open(sys.argv[3]).read())' "$1" "$2" "$3" "$4""#,
    ),
    (
        "closed-by-exec",
        r#"python3 -c 'import subprocess, sys
with open(sys.argv[2], "w") as to:
    to.write(open(sys.argv[1]).read())
    to.flush()
    subprocess.run([sys.argv[4]], close_fds=False, check=True)
    to.write(open(sys.argv[3]).read())' "$1" "$2" "$3" "$4""#,
    ),
    (
        "python-stdout",
        r#"python3 -c 'import subprocess, sys
with open(sys.argv[2], "w") as to:
    for command in ["cat", sys.argv[1]], [sys.argv[4]], ["cat", sys.argv[3]]:
        subprocess.run(command, stdout=to, check=True)' "$1" "$2" "$3" "$4""#,
    ),
    (
        "thread",
        r#"python3 -c 'import os, subprocess, sys, threading
def work():
    global to
    to = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
thread = threading.Thread(target=work)
thread.start()
thread.join()
for command in ["cat", sys.argv[1]], [sys.argv[4]], ["cat", sys.argv[3]]:
    subprocess.run(command, stdout=to, check=True)
os.close(to)' "$1" "$2" "$3" "$4""#,
    ),
];

struct Site {
    home: Home,
    stores: Vec<Store>,
    mounted: Mounted,
}

impl Site {
    /// Mounts, and pushes the schemas of these repositories.
    fn new(repos: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let stores = folders(&home);
        let mounted = home.mount("mnt", flags(&stores));
        for (repo, _) in repos {
            std::fs::create_dir(mounted.path(repo)).unwrap();
            mounted.cp(&format!("{repo}/schema.hcl"), old()).ok();
        }
        Self {
            home,
            stores,
            mounted,
        }
    }

    #[track_caller]
    fn is_well(&self) {
        let status = self.mounted.status();
        assert_eq!(status["healthy"], true, "{status:#}");
        assert_eq!(status["pushes"]["unreported"], 0, "{status:#}");
    }
}

fn old() -> String {
    schema("old")
}

#[test]
fn a_killed_program_pushes_nothing_and_its_bytes_are_kept() {
    let site = Site::new(&KILLED);
    let half = schema("half");
    let source = site.home.file("half", &half);
    for (repo, script) in KILLED {
        let key = format!("{repo}/schema");
        let path = site.mounted.path(&format!("{key}.hcl"));
        run(&mut bash(script, [&source, &path])).ok();
        let (kept, reason) = until(repo, || {
            let status = site.mounted.status();
            let kept = status["unpushed"].as_array().unwrap();
            let kept = kept.iter().find(|kept| kept["artifact"] == *key)?;
            let text = |key| kept[key].as_str().unwrap().to_owned();
            Some((text("path"), text("reason")))
        });
        assert_eq!(site.mounted.read(&kept), half.as_bytes(), "{repo}");
        assert!(reason.contains("killed its writer"), "{repo}: {reason}");
        all_hold(&site.stores, &key, old().as_bytes());
    }
    // The mount keeps the bytes before it reports the event.
    until("each is told", || {
        (site.mounted.events("torn").len() >= KILLED.len()).then_some(())
    });
    assert_eq!(site.mounted.events("torn").len(), KILLED.len());
    run(site.home.atlasfs(["status"]).arg(site.mounted.dir())).fails(3, "");
    site.mounted.unmount();
    let mounted = site.home.mount("mnt", flags(&site.stores));
    for (repo, _) in KILLED {
        all_hold(&site.stores, &format!("{repo}/schema"), old().as_bytes());
    }
    mounted.unmount();
}

#[test]
fn a_program_that_is_killed_before_it_writes_changes_nothing() {
    let site = Site::new(&[("app", "")]);
    let script = r#"bash -c 'exec > "$0"; kill -KILL $$' "$1" || true"#;
    run(&mut bash(script, [site.mounted.path("app/schema.hcl")])).ok();
    until("it is told", || {
        (site.mounted.events("torn").len() == 1).then_some(())
    });
    all_hold(&site.stores, "app/schema", old().as_bytes());
    run(&mut bash(script, [site.mounted.path("app/plans/new")])).ok();
    none_holds(&site.stores, "app/plans/new");
    site.mounted.unmount();
}

#[test]
fn an_exit_without_a_close_is_a_save() {
    let site = Site::new(&EXITS);
    let whole = schema("whole");
    let source = site.home.file("whole", &whole);
    for (repo, script) in EXITS {
        let path = site.mounted.path(&format!("{repo}/schema.hcl"));
        run(&mut bash(script, [&source, &path])).ok();
        all_hold(&site.stores, &format!("{repo}/schema"), whole.as_bytes());
    }
    site.is_well();
    site.mounted.unmount();
}

#[test]
fn a_shared_descriptor_is_one_save_by_its_opener() {
    let site = Site::new(&SHARES);
    let (first, rest) = (schema("first"), schema("rest").replace("main", "rest"));
    let whole = format!("{first}{rest}");
    let (first, rest) = (site.home.file("first", first), site.home.file("rest", rest));
    for (repo, script) in SHARES {
        let key = format!("{repo}/schema");
        let seen = site.home.path(&format!("{repo}-seen"));
        let held = site.home.path("registry").join(&key);
        let look = format!("#!/bin/sh\ncp '{}' '{}'\n", held.display(), seen.display());
        let look = site.home.file(&format!("{repo}-look"), look);
        run(Command::new("chmod").arg("+x").arg(&look)).ok();
        let path = site.mounted.path(&format!("{key}.hcl"));
        run(&mut bash(script, [&first, &path, &rest, &look])).ok();
        let seen = std::fs::read_to_string(seen).unwrap();
        assert_eq!(seen, old(), "{repo}: pushed amid the writing");
        all_hold(&site.stores, &key, whole.as_bytes());
    }
    assert_eq!(site.mounted.events("push").len(), 2 * SHARES.len());
    site.is_well();
    site.mounted.unmount();
}

#[test]
fn a_descriptor_that_is_handed_on_is_saved_by_its_last_holder() {
    let site = Site::new(&[("app", "")]);
    let whole = schema("whole");
    let source = site.home.file("whole", &whole);
    let go = site.home.path("go");
    let script = r#"exec 3> "$2"
(until [ -e "$3" ]; do sleep 0.02; done; exec cat "$1" >&3) & exec 3>&-; touch "$3"; wait $!"#;
    let path = site.mounted.path("app/schema.hcl");
    run(&mut bash(script, [&source, &path, &go])).ok();
    all_hold(&site.stores, "app/schema", whole.as_bytes());
    site.is_well();
    site.mounted.unmount();
}

/// The kernel sends a request for syncfs(2) only to fuseblk and virtiofs. A file system of type
/// fuse can neither push nor refuse then.
#[test]
fn syncfs_sends_nothing_and_fsync_by_any_process_pushes() {
    let site = Site::new(&[("app", "")]);
    let whole = schema("whole");
    let source = site.home.file("whole", &whole);
    let seen = site.home.path("seen");
    let script = r#"exec 3> "$2"; cat "$1" >&3
python3 -c 'import ctypes, sys
sys.exit(ctypes.CDLL(None).syncfs(3))'
cp "$3" "$4"
python3 -c 'import os; os.fsync(3)'
cmp "$1" "$3""#;
    let held = site.home.path("registry/app/schema");
    let path = site.mounted.path("app/schema.hcl");
    run(&mut bash(script, [&source, &path, &held, &seen])).ok();
    assert_eq!(std::fs::read_to_string(seen).unwrap(), old());
    all_hold(&site.stores, "app/schema", whole.as_bytes());
    site.is_well();
    site.mounted.unmount();
}
