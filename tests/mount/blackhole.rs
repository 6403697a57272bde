//! Every target is a black hole, in two ways. No operation of any program takes longer than its
//! deadline and the machine's own time, and no killed process stays.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::home::Home;
use super::mounted::{Mounted, signal, state};
use super::network_namespace::NetworkNamespace;
use super::program::{Running, run, start, until};
use super::store::{Store, flags, schema};
use super::support::server::{Kind, Server};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/client.py");

/// The deadlines of these mounts: all different, to reveal mix-ups, and short.
const METADATA: Duration = Duration::from_millis(500);
const READ: Duration = Duration::from_millis(900);
const PUSH: Duration = Duration::from_millis(1400);
const FLAGS: [&str; 2] = [
    "-o",
    // No breaker: it would save all but the first operations from their deadlines.
    "metadata-timeout=500ms,read-timeout=900ms,push-timeout=1400ms,ttl=0s,breaker=0,allow-delete",
];

/// The longest time of an operation beyond its deadlines on an idle machine.
const SLACK: Duration = Duration::from_millis(100);

/// The longest time of a control operation. A slower machine allows no measurement.
const USELESS: Duration = Duration::from_secs(5);

/// The number of programs that run all operations at the same time.
const CLIENTS: usize = 3;

/// One operation, as a client reports it.
#[derive(Debug, Clone)]
struct Done {
    name: String,
    deadline: Duration,
    begin: f64,
    end: f64,
}

fn client<'a>(how: &'a str, mounted: &'a Mounted) -> Command {
    let mut command = Command::new("python3");
    command.args([CLIENT, how]).arg(mounted.dir());
    command
}

fn deadline(requests: &str) -> Duration {
    let deadlines = requests.chars().map(|request| match request {
        'm' => METADATA,
        'r' => READ,
        'p' => PUSH,
        _ => panic!("an unknown request: {request}"),
    });
    deadlines.sum()
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.unwrap()).collect()
}

fn told(text: &str) -> Vec<Done> {
    let told = lines(text).into_iter().map(|told| Done {
        name: told["op"].as_str().unwrap().into(),
        deadline: deadline(told["requests"].as_str().unwrap()),
        begin: told["begin"].as_f64().unwrap(),
        end: told["end"].as_f64().unwrap(),
    });
    told.collect()
}

/// Reads the status in a loop. This takes the path of every other operation, from the client
/// through the kernel to the daemon and back, and waits for no target. So it measures the machine's
/// own time at that moment.
struct Control<'a> {
    home: &'a Home,
    running: Running,
}

impl<'a> Control<'a> {
    fn start(home: &'a Home, mounted: &Mounted) -> Self {
        let mut command = client("control", mounted);
        let running = start(command.arg(home.path("stop")));
        Self { home, running }
    }

    fn stop(self) -> Vec<Done> {
        self.home.file("stop", "");
        let samples = told(&self.running.wait().ok().text());
        std::fs::remove_file(self.home.path("stop")).unwrap();
        let worst = samples.iter().map(|sample| sample.end - sample.begin);
        let worst = worst.fold(0.0, f64::max);
        println!(
            "control: {} reads, the slowest {:.0} ms",
            samples.len(),
            worst * 1e3
        );
        assert!(
            worst < USELESS.as_secs_f64(),
            "this machine is too busy to measure anything"
        );
        samples
    }
}

/// Returns the time of the slowest control operation in a period.
fn slowest(samples: &[Done], begin: f64, end: f64) -> f64 {
    let meanwhile = samples.iter().filter(|s| s.begin <= end && s.end >= begin);
    meanwhile.map(|s| s.end - s.begin).fold(0.0, f64::max)
}

/// Runs several programs with all operations on a mount, and asserts that none takes too long.
fn hunt(home: &Home, mounted: &Mounted, what: &str) {
    let control = Control::start(home, mounted);
    let clients = (0..CLIENTS).map(|number| start(client("hunt", mounted).arg(number.to_string())));
    let clients: Vec<Running> = clients.collect();
    let mut done = Vec::new();
    for client in clients {
        done.extend(told(&client.wait().ok().text()));
    }
    done.extend(told(&run(&mut client("alone", mounted)).ok().text()));
    let samples = control.stop();
    let (mut worst, mut late) = (BTreeMap::new(), Vec::new());
    for one in &done {
        let beyond = one.end - one.begin - one.deadline.as_secs_f64();
        let machine = slowest(&samples, one.begin, one.end);
        let known: &mut f64 = worst.entry(one.name.clone()).or_insert(f64::MIN);
        *known = known.max(beyond);
        if beyond > SLACK.as_secs_f64() + machine {
            late.push(format!(
                "{one:?} is {beyond:.3} s late, the machine {machine:.3} s"
            ));
        }
    }
    let kinds = worst.len();
    let (name, worst) = worst.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    println!(
        "{what}: {} operations of {kinds} kinds; the latest is {name}, {:.0} ms after its deadline",
        done.len(),
        worst * 1e3
    );
    assert!(late.is_empty(), "{}", late.join("\n"));
}

/// Kills programs in the middle of each operation, and asserts that they end by its deadline.
fn kill_everybody(home: &Home, mounted: &Mounted, hole: impl FnOnce()) {
    let names = lines(&run(&mut client("names", mounted)).ok().text());
    fill(mounted, names.len());
    let go = home.path("go");
    let mut clients = Vec::new();
    for (number, told) in names.iter().enumerate() {
        let ready = home.path(&format!("ready-{number}"));
        let name = told["op"].as_str().unwrap();
        let mut command = client("one", mounted);
        command.args([&number.to_string(), name]);
        clients.push((start(command.args([&ready, &go])), told, ready));
    }
    for (_, told, ready) in &clients {
        until(&format!("{told} is ready"), || ready.exists().then_some(()));
    }
    let control = Control::start(home, mounted);
    hole();
    home.file("go", "");
    // Long enough for all to be in the middle of it, and too short for any to finish.
    std::thread::sleep(METADATA / 2);
    for (client, _, _) in &clients {
        let _ = signal(client.pid(), Signal::SIGKILL);
    }
    let begun = Instant::now();
    let (mut seen, mut ended) = (0, Vec::new());
    while !clients.is_empty() {
        let mut left = Vec::new();
        for (mut client, told, ready) in clients {
            seen += usize::from(state(client.pid()) == Some('D'));
            match client.has_ended() {
                true => ended.push((told, begun.elapsed())),
                false => left.push((client, told, ready)),
            }
        }
        clients = left;
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "still there: {clients:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    let machine = control.stop();
    let machine = machine.iter().map(|s| s.end - s.begin).fold(0.0, f64::max);
    assert!(seen > 0, "nobody was in the midst of anything");
    let mut worst = f64::MIN;
    for (told, took) in ended {
        let mut limit = deadline(told["requests"].as_str().unwrap());
        if told["needs"] == "writer" {
            // The end of a process closes its open files, and that is another push.
            limit += PUSH;
        }
        let beyond = took.as_secs_f64() - limit.as_secs_f64();
        worst = worst.max(beyond);
        assert!(
            beyond < SLACK.as_secs_f64() + machine,
            "{told} ends after {took:?}"
        );
    }
    println!(
        "killed in the midst of {} operations: the last ends {:.0} ms after its deadline",
        names.len(),
        worst * 1e3
    );
}

/// Makes the files for the operations, until the mount knows all names and contents. Each client
/// has a repository of its own: the kernel allows one change of a file's size or of a directory at
/// a time.
fn fill(mounted: &Mounted, clients: usize) {
    for number in 0..clients {
        let _ = std::fs::create_dir(mounted.path(&format!("app{number}")));
        let name = format!("app{number}/schema");
        // A busy machine may not meet these deadlines at once.
        until("all is known", || {
            let pushed = mounted.cp(&name, schema("warm")).code == Some(0);
            (pushed && mounted.cat(&name).code == Some(0)).then_some(())
        });
    }
}

fn args(urls: &[String]) -> Vec<String> {
    let names = std::iter::once("--registry").chain(std::iter::repeat("--backup"));
    let args = names
        .zip(urls)
        .flat_map(|(name, url)| [name.to_owned(), url.clone()]);
    args.chain(FLAGS.map(str::to_owned)).collect()
}

#[test]
fn nothing_takes_longer_than_its_deadline_while_every_server_is_stopped() {
    let server = Arc::new(Server::start(Kind::Moto));
    let home = Home::new();
    let stores: Vec<Store> = (0..3)
        .map(|_| Store::on(Arc::clone(&server), server.endpoint()))
        .collect();
    let args: Vec<String> = flags(&stores)
        .into_iter()
        .chain(FLAGS.map(str::to_owned))
        .collect();
    let warm = home.mount("warm", &args);
    fill(&warm, CLIENTS);
    let cold = home.mount("cold", &args);
    server.freeze();
    hunt(&home, &warm, "stopped, and all is known");
    hunt(&home, &cold, "stopped, and nothing is known");
    server.thaw();
    until("the mount heals", || {
        (warm.cp("app0/schema", schema("healed")).code == Some(0)).then_some(())
    });
    kill_everybody(&home, &warm, || server.freeze());
    server.thaw();
}

#[test]
fn nothing_takes_longer_than_its_deadline_while_every_packet_is_dropped() {
    let home = Home::new();
    let namespace = NetworkNamespace::new(&home);
    let urls: Vec<String> = (0..3).map(|number| namespace.bucket(number)).collect();
    let mount = |name: &str| {
        let mut command = namespace.on_it(&home, &home.mounting(name, args(&urls)));
        home.mount_by(name, &mut command).0
    };
    let warm = mount("warm");
    fill(&warm, CLIENTS);
    let cold = mount("cold");
    namespace.drop_everything();
    hunt(&home, &warm, "dropped, and all is known");
    hunt(&home, &cold, "dropped, and nothing is known");
    namespace.drop_nothing();
    until("the mount heals", || {
        (warm.cp("app0/schema", schema("healed")).code == Some(0)).then_some(())
    });
    kill_everybody(&home, &warm, || namespace.drop_everything());
    namespace.drop_nothing();
}
