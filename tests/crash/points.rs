//! The points, one after the other.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use nix::sys::signal::Signal;

use super::call::Call;
use super::history::History;
use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run, start, until};
use super::recovery::{nothing_is_half_visible, recovers};
use super::scene::{Scene, play};
use super::support::server::{Kind, Server};
use super::tracer::{At, Seen, Tracer};

/// The number of points that a sample tries for each scene.
const SAMPLE: usize = 9;

/// The variable that selects points: unset for a sample, `all`, or one point such as `Folders:17`.
const WISH: &str = "ATLASFS_CRASH_POINTS";

/// Plays a scene, kills the daemon at a point, and checks the state after the next start.
fn try_point(scene: Scene, at: usize) -> Seen {
    let home = Home::new();
    let stores = scene.stores(&home);
    let args = scene.args(&stores);
    let mut history = History::default();
    scene.spoil(&home);
    let mounted = home.mount("mnt", &args);
    let seen = match scene {
        Scene::Restart => {
            play(&scene.steps(), &home, &mounted, &mut history);
            mounted.signal(Signal::SIGKILL);
            until("the process ends", || (!mounted.lives()).then_some(()));
            scene.mend(&home);
            killed_at_its_start(&home, &args, number(at), || settled(&home))
        }
        _ => {
            let tracer = Tracer::attach(mounted.pid(), home.dir(), number(at));
            play(&scene.steps(), &home, &mounted, &mut history);
            let _ = mounted.signal_if_there(Signal::SIGKILL);
            let seen = tracer.end();
            scene.mend(&home);
            seen
        }
    };
    nothing_is_half_visible(&stores, &history);
    let again = home.mount("mnt", &args);
    recovers(&home, &again, &stores, &history);
    again.unmount();
    seen
}

fn number(at: usize) -> impl At {
    move |number, _: &Call| number == at
}

/// Mounts under a tracer from the first instruction on.
fn killed_at_its_start(
    home: &Home,
    args: &[String],
    at: impl At,
    is_over: impl Fn() -> bool,
) -> Seen {
    let mut command = home.atlasfs(["mount", "-f"]);
    command.args(args).arg(home.path("mnt"));
    let mut words = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    // The tracer must not be the process's parent: then the parent's own wait would take its stops.
    let mut stopped = bash(
        r#"( kill -STOP $BASHPID; exec "$@" ) & echo $!; exit 0"#,
        words,
    );
    home.enter(&mut stopped);
    let pid: u32 = start(&mut stopped)
        .wait()
        .ok()
        .text()
        .trim()
        .parse()
        .unwrap();
    until("it is stopped", || {
        (super::mounted::state(pid) == Some('T')).then_some(())
    });
    let tracer = Tracer::attach(pid, home.dir(), at);
    super::mounted::signal(pid, Signal::SIGCONT).unwrap();
    // Until the daemon is dead, or has finished its start.
    until("the start is over", || {
        let lives = super::mounted::lives(pid);
        (!lives || is_over()).then_some(())
    });
    let _ = super::mounted::signal(pid, Signal::SIGKILL);
    tracer.end()
}

/// Returns whether every journal is empty.
fn settled(home: &Home) -> bool {
    let script = r#"ls "$1"/state/atlasfs/registries/*/*/journal | grep -qv damaged"#;
    run(&mut bash(script, [home.dir()])).code != Some(0)
}

impl Mounted {
    fn signal_if_there(&self, what: Signal) -> nix::Result<()> {
        super::mounted::signal(self.pid(), what)
    }
}

/// Tries points of a scene; returns the violations.
fn try_points(scene: Scene, wish: &str) -> String {
    let begun = Instant::now();
    // Keep the servers: they would end with each point, and start again.
    let _servers = (scene == Scene::Buckets).then(|| [Kind::Moto, Kind::S3s].map(Server::shared));
    let whole = try_point(scene, usize::MAX).points;
    assert!(whole > 20, "{scene:?} has only {whole} points");
    let points: Vec<usize> = match wish {
        "all" => (1..=whole).collect(),
        "" => (0..SAMPLE)
            .map(|place| 1 + place * (whole - 1) / (SAMPLE - 1))
            .collect(),
        one => one
            .split(',')
            .map(|point| point.parse().expect("a number"))
            .collect(),
    };
    let (mut wrong, mut tried, mut reached) = (String::new(), 0, 0);
    for at in points {
        tried += 1;
        match catch_unwind(AssertUnwindSafe(|| try_point(scene, at))) {
            Ok(seen) => {
                reached += usize::from(seen.killed.is_some());
                if wish != "all" && !wish.is_empty() {
                    println!("{scene:?}:{at} {:?} of {}", seen.killed, seen.points);
                }
            }
            Err(_) => {
                let _ = writeln!(wrong, "again: scripts/crash-points {}:{at}", scene.name());
            }
        }
    }
    let took = begun.elapsed().as_secs();
    println!("{scene:?}: {whole} points, {tried} tried, {reached} reached, {took} s");
    wrong
}

fn try_scene(scene: Scene) {
    let wish = std::env::var(WISH).unwrap_or_default();
    let wish = match wish.split_once(':') {
        Some((name, points)) if name == scene.name() => points,
        Some(_) => return,
        None => &wish,
    };
    let wrong = try_points(scene, wish);
    assert!(
        wrong.is_empty(),
        "what was acknowledged is not there, or worse:\n{wrong}"
    );
}

#[test]
fn a_daemon_that_is_killed_while_its_own_mount_owes_it_an_answer_ends() {
    let home = Home::new();
    let stores = Scene::Folders.stores(&home);
    let args = Scene::Folders.args(&stores);
    home.folder("mnt");
    // The first answers to the kernel: to its handshake, and to the daemon's own requests to its
    // mount before the daemon reports success.
    for answer in 1..=4 {
        let mut answers = 0;
        let at = move |_, call: &Call| {
            answers += usize::from(call.to_string() == "before writev(/dev/fuse)");
            answers == answer
        };
        let answers = || run(home.atlasfs(["status"]).arg(home.path("mnt"))).code == Some(0);
        let seen = killed_at_its_start(&home, &args, at, answers);
        assert!(seen.killed.is_some(), "answer {answer}");
        home.mount("mnt", &args).unmount();
    }
}

macro_rules! scenes {
    ($($test:ident: $scene:ident;)*) => {
        $(#[test]
        fn $test() {
            try_scene(Scene::$scene);
        })*

        #[test]
        fn every_scene_has_a_test() {
            assert_eq!(Scene::ALL.as_slice(), [$(Scene::$scene),*]);
        }
    };
}

scenes! {
    nothing_acknowledged_is_lost_on_folders: Folders;
    nothing_acknowledged_is_lost_when_a_close_waits_for_all: Durable;
    nothing_acknowledged_is_lost_while_a_backup_is_gone: BackupGone;
    nothing_acknowledged_is_lost_while_the_registry_is_gone: RegistryGone;
    nothing_acknowledged_is_lost_among_deletions: Deletes;
    nothing_acknowledged_is_lost_on_buckets: Buckets;
    nothing_acknowledged_is_lost_in_a_start_that_takes_up_what_is_owed: Restart;
}
