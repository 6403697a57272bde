//! The limits and signals that a mount's process inherits from its caller, and the effect of other
//! processes on it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;

use super::home::Home;
use super::mounted::{Mounted, is_mounted};
use super::program::{bash, run, start, until};
use super::store::{flags, folders, schema};

/// Makes a command that runs the mount as the last arguments of another command.
fn mounting_by(home: &Home, words: &[&str]) -> Command {
    let mount = home.mounting("mnt", flags(&folders(home)));
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(mount.get_program());
    command.args(mount.get_args());
    home.enter(&mut command);
    command
}

#[test]
fn a_push_over_the_limit_of_file_sizes_fails_alone() {
    let home = Home::new();
    let mut command = mounting_by(&home, &["prlimit", "--fsize=1000000:1000000", "--"]);
    let (mounted, _) = home.mount_by("mnt", &mut command);
    std::fs::create_dir(mounted.path("app")).unwrap();
    let large = schema("a") + &format!("# {}\n", "-".repeat(1_500_000));
    let ran = mounted.cp("app/schema", large);
    assert_ne!(ran.code, Some(0), "{ran}");
    assert!(mounted.lives());
    // Its name appears with the report, which may come after the close.
    until("the failure is told", || {
        (mounted.events("push-refused").len() == 1).then_some(())
    });
    mounted.cp("app/schema", schema("b")).ok();
    assert_eq!(mounted.read("app/schema"), schema("b").as_bytes());
    mounted.unmount();
}

#[test]
fn signals_that_mean_nothing_to_a_mount_leave_it_alive() {
    let home = Home::new();
    let args = flags(&folders(&home));
    outlives_signals(home.mount("mnt", &args));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    outlives_signals(Mounted::in_foreground(&home, "mnt", &args));
}

fn outlives_signals(mounted: Mounted) {
    let _ = std::fs::create_dir(mounted.path("app"));
    for signal in [
        Signal::SIGXFSZ,
        Signal::SIGXCPU,
        Signal::SIGPIPE,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGIO,
        Signal::SIGPWR,
        Signal::SIGSTKFLT,
    ] {
        mounted.signal(signal);
        mounted.cp("app/schema", schema(signal.as_str())).ok();
        assert!(mounted.lives(), "{signal}");
    }
    mounted.unmount();
}

#[test]
fn descriptors_of_the_caller_are_closed() {
    let home = Home::new();
    let lock = home.file("lock", "");
    let held = bash(r#"exec 9>"$1" 7>&1; shift; exec "$@""#, [lock.as_os_str()]);
    let words: Vec<&str> = std::iter::once(held.get_program())
        .chain(held.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let (mounted, _) = home.mount_by("mnt", &mut mounting_by(&home, &words));
    let open = std::fs::read_dir(format!("/proc/{}/fd", mounted.pid())).unwrap();
    let targets: Vec<_> = open
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .collect();
    assert!(!targets.contains(&lock), "{targets:?}");
    assert!(
        !targets.iter().any(|target| target.starts_with("pipe:")),
        "{targets:?}"
    );
    mounted.unmount();
}

#[test]
fn of_mounts_at_one_moment_exactly_one_wins() {
    let home = Home::new();
    std::os::unix::fs::symlink(home.folder("mnt"), home.path("link")).unwrap();
    for round in 0..3 {
        let spellings = ["mnt", "link", "./mnt", "link/../mnt", "mnt/", "mnt"];
        let mounts: Vec<_> = (0..6)
            .map(|number| {
                let mut command = home.atlasfs(["mount", "--log-file"]);
                command.arg(home.log_of(&format!("{number}")));
                command
                    .arg("--state-dir")
                    .arg(home.path(&format!("s{number}")));
                command.args(flags(&folders(&home))).arg(spellings[number]);
                start(&mut command)
            })
            .collect();
        let codes: Vec<_> = mounts.into_iter().map(|mount| mount.wait().code).collect();
        let won = codes.iter().filter(|code| **code == Some(0)).count();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = format!(" {} ", home.path("mnt").display());
        let stacked = mounts.lines().filter(|line| line.contains(&place)).count();
        assert_eq!((won, stacked), (1, 1), "round {round}: {codes:?}");
        Mounted::at(home.clone(), &home.path("mnt")).unmount();
    }
}

#[test]
fn a_process_out_of_descriptors_still_unmounts() {
    let home = Home::new();
    let mut command = mounting_by(&home, &["prlimit", "--nofile=64:64", "--"]);
    let (mounted, _) = home.mount_by("mnt", &mut command);
    std::fs::create_dir(mounted.path("app")).unwrap();
    let storm = r#"for n in {1..200}; do eval "exec $((n + 20))>\"$1/app/plans/p$n\"" || true; done
                   kill -TERM "$2"; while kill -0 "$2"; do sleep 0.1; done"#;
    let pid = mounted.pid().to_string();
    let ran = run(&mut bash(
        storm,
        [mounted.dir().to_str().unwrap(), pid.as_str()],
    ));
    assert!(!mounted.lives(), "{ran}");
    assert!(!is_mounted(mounted.dir()));
}

#[test]
fn a_stopped_process_is_named_by_status_and_unmount() {
    let home = Home::new();
    let mounted = home.mount("mnt", flags(&folders(&home)));
    let pid = mounted.pid();
    mounted.signal(Signal::SIGSTOP);
    let stopped = format!("{pid} is stopped");
    let begun = Instant::now();
    run(home.atlasfs(["status"]).arg(mounted.dir())).fails(1, &stopped);
    let asked = begun.elapsed();
    run(home.atlasfs(["unmount"]).arg(mounted.dir())).fails(1, &stopped);
    assert!(!is_mounted(mounted.dir()));
    // If the commands didn't check the process's state, each would wait for its deadlines.
    println!("status took {asked:?}, both {:?}", begun.elapsed());
    mounted.signal(Signal::SIGCONT);
    until("it ends", || (!mounted.lives()).then_some(()));
}

#[test]
fn a_hung_process_is_named_by_status_and_unmount() {
    let home = Home::new();
    let mounted = home.mount("mnt", flags(&folders(&home)));
    let pid = mounted.pid();
    let mut held = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/hang.py"))
        .arg(pid.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stdout = BufReader::new(held.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    let hangs = format!("its process {pid} hangs");
    let status = run(home.atlasfs(["status"]).arg(mounted.dir())).fails(1, &hangs);
    let unmount = run(home.atlasfs(["unmount"]).arg(mounted.dir())).fails(1, &hangs);
    assert!(is_mounted(mounted.dir()));
    let lazy = run(home.atlasfs(["unmount", "--lazy"]).arg(mounted.dir()));
    let lazy = lazy.fails(1, &format!("unmounted, but its process {pid} "));
    assert!(!is_mounted(mounted.dir()));
    println!("{:?} {:?} {:?}", status.took, unmount.took, lazy.took);
    // The process continues when this input ends.
    drop(held.stdin.take());
    held.wait().unwrap();
    until("it ends", || (!mounted.lives()).then_some(()));
}

#[test]
fn a_program_file_of_another_name_waits_for_the_daemon() {
    let home = Home::new();
    let renamed = home.path("renamed");
    let program = home.atlasfs([""; 0]).get_program().to_owned();
    std::fs::copy(program, &renamed).unwrap();
    let mounted = home.mount("mnt", flags(&folders(&home)));
    mounted.signal(Signal::SIGSTOP);
    let mut unmount = Command::new(&renamed);
    home.enter(unmount.arg("unmount").arg(mounted.dir()));
    run(&mut unmount).fails(1, &format!("{} is stopped", mounted.pid()));
    mounted.signal(Signal::SIGCONT);
    until("it ends", || (!mounted.lives()).then_some(()));
}

#[test]
fn an_object_store_has_free_blocks_and_inodes() {
    let home = Home::new();
    let mounted = home.mount("mnt", flags(&folders(&home)));
    let mut df = Command::new("df");
    df.args(["--output=pcent,ipcent"]).arg(mounted.dir());
    let shown = run(&mut df).ok().text();
    let used: Vec<&str> = shown.lines().last().unwrap().split_whitespace().collect();
    assert!(
        used.iter().all(|used| matches!(*used, "0%" | "1%" | "-")),
        "{shown}"
    );
    mounted.unmount();
}
