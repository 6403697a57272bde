//! Every target is a black hole, and every operation still answers by its deadline.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::home::Home;
use super::mounted::state;
use super::program::{bash, run, start, until};
use super::store::{Store, flags, schema};
use super::support::server::{Kind, Server};

/// The reserve for a busy machine, and for programs that make several requests. A mount that hangs
/// never answers.
const SLACK: Duration = Duration::from_secs(10);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn every_operation_answers_by_its_deadline_and_from_memory_at_once() {
    let server = Arc::new(Server::start(Kind::Moto));
    let home = Home::new();
    let stores: Vec<Store> = (0..3)
        .map(|_| Store::on(Arc::clone(&server), server.endpoint()))
        .collect();
    let deadlines = "metadata-timeout=1s,read-timeout=2s,push-timeout=3s";
    let mount = |name: &str, more: &[&str]| {
        let flags = flags(&stores);
        let all = flags.iter().map(String::as_str);
        home.mount(
            name,
            all.chain(["-o", deadlines]).chain(more.iter().copied()),
        )
    };
    let warm = mount("warm", &["--allow-delete", "--ttl", "1s"]);
    std::fs::create_dir(warm.path("app")).unwrap();
    warm.cp("app/schema", schema("warm")).ok();
    let cold = mount("cold", &["--ttl", "0s"]);
    server.freeze();

    // This mount knows nothing, so all but mkdir must fail. mkdir(2) looks the name up like
    // stat(2), so a repository that no target confirms doesn't exist for either.
    let (eio, enoent) = ("Input/output error", "No such file or directory");
    for (name, script, limit, why) in [
        ("ls of the root", r#"ls "$1""#, seconds(1), eio),
        ("stat", r#"stat "$1/app""#, seconds(1), enoent),
        (
            "stat of an artifact",
            r#"stat "$1/app/schema""#,
            seconds(2),
            enoent,
        ),
        ("cat", r#"cat "$1/app/schema""#, seconds(3), enoent),
        (
            "getfattr",
            r#"getfattr -d "$1/app/schema""#,
            seconds(2),
            enoent,
        ),
        ("find", r#"find "$1" -name schema"#, seconds(2), eio),
        (
            "cp",
            r#"mkdir "$1/new"; echo "SELECT 1;" > "$1/.s"; cp "$1/.s" "$1/new/schema.sql""#,
            seconds(20),
            eio,
        ),
    ] {
        let ran = run(&mut bash(script, [cold.dir()]));
        assert_ne!(ran.code, Some(0), "{name}: {ran}");
        assert!(ran.stderr.contains(why), "{name}: {ran}");
        assert!(ran.took < limit + SLACK, "{name} took {:?}", ran.took);
    }
    // The mount serves known content from memory, marked as such; a push fails and its bytes are
    // kept.
    for (name, script, limit, ok) in [
        ("cat", r#"cat "$1/app/schema""#, seconds(4), true),
        ("ls", r#"ls -l "$1/app""#, seconds(3), true),
        (
            "xattr",
            r#"getfattr -n user.atlas.stale "$1/app/schema""#,
            seconds(3),
            true,
        ),
        ("cp", r#"cp "$2" "$1/app/schema""#, seconds(3 + 3), false),
        (
            "tee",
            r#"tee "$1/app/plans/p" < "$3""#,
            seconds(3 + 3),
            false,
        ),
        ("rm", r#"rm "$1/app/schema""#, seconds(3 + 3), false),
        (
            "truncate",
            r#"truncate -s 0 "$1/app/schema""#,
            seconds(3 + 3),
            false,
        ),
    ] {
        let new = home.file("new", schema("new"));
        let new_plan = home.file("p", super::store::plan("p", "new"));
        let ran = run(&mut bash(script, [warm.dir(), &new, &new_plan]));
        assert_eq!(ran.code == Some(0), ok, "{name}: {ran}");
        assert!(ran.took < limit + SLACK, "{name} took {:?}", ran.took);
    }
    assert_eq!(warm.read("app/schema"), schema("warm").as_bytes());
    // On a busy machine the open may fail already. The bytes that reached a push are kept.
    let status = warm.status();
    let kept = status["unpushed"].as_array().unwrap().len() as u64;
    assert_eq!(status["pushes"]["failed"], kept, "{status:#}");
    // The control files never wait for a target.
    for name in ["status", "metrics", "events"] {
        let ran = warm.cat(&format!(".atlasfs/{name}")).ok();
        assert!(ran.took < SLACK, "{name} took {:?}", ran.took);
    }
    let ran = run(home.atlasfs(["status"]).arg(warm.dir())).fails(3, "");
    assert!(ran.text().contains("outage"), "{ran}");

    server.thaw();
    until("the mount heals by itself", || {
        let ran = warm.cp("app/schema", schema("new"));
        (ran.code == Some(0)).then_some(())
    });
    // A push succeeds before every target is in use again, and the others catch up.
    until("every target has what it missed", || {
        let status = warm.status();
        let pending = status["pending"].as_array().unwrap();
        pending.is_empty().then_some(())
    });
    super::store::all_hold(&stores, "app/schema", schema("new").as_bytes());
}

#[test]
fn a_mount_comes_up_while_every_target_hangs_and_is_unmounted_at_once() {
    let server = Arc::new(Server::start(Kind::Moto));
    let home = Home::new();
    let stores = [Store::on(Arc::clone(&server), server.endpoint())];
    server.freeze();
    let mut command = home.mounting("mnt", flags(&stores));
    let (mounted, ran) = home.mount_by("mnt", command.args(["--metadata-timeout", "1s"]));
    assert!(ran.took < seconds(1) + SLACK, "{:?}", ran.took);
    let ran = ran.says("has an outage");
    assert!(ran.stderr.contains(&format!("{}", server.addr())), "{ran}");
    run(home.atlasfs(["status"]).arg(mounted.dir())).fails(3, "");
    server.thaw();
    until("the target is taken back", || {
        let made = run(Command::new("mkdir").arg("-p").arg(mounted.path("app")));
        (made.code == Some(0) && mounted.cp("app/schema", schema("a")).code == Some(0))
            .then_some(())
    });
    server.freeze();
    let ran = run(home.atlasfs(["unmount"]).arg(mounted.dir())).ok();
    assert!(ran.took < SLACK, "{:?}", ran.took);
}

#[test]
fn no_process_outlives_its_sigkill_by_more_than_a_deadline() {
    let server = Arc::new(Server::start(Kind::Moto));
    let home = Home::new();
    let stores = [Store::on(Arc::clone(&server), server.endpoint())];
    let options = "metadata-timeout=2s,read-timeout=3s,push-timeout=4s,ttl=0s";
    let mut args = flags(&stores);
    args.extend(["-o".into(), options.into()]);
    let mounted = home.mount("mnt", args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    server.freeze();
    let new = home.file("new", schema("b"));
    for script in [
        r#"exec cat "$1/app/schema""#,
        r#"exec cp "$2" "$1/app/schema""#,
        r#"exec ls "$1""#,
        r#"exec stat "$1/other/schema""#,
    ] {
        let mut process = start(&mut bash(script, [mounted.dir(), &new]));
        std::thread::sleep(Duration::from_millis(300));
        let pid = process.pid();
        let _ = super::mounted::signal(pid, nix::sys::signal::Signal::SIGKILL);
        let begun = std::time::Instant::now();
        until("the process ends", || process.has_ended().then_some(()));
        assert!(
            begun.elapsed() < seconds(4) + SLACK,
            "{script}: {:?}",
            begun.elapsed()
        );
        assert_ne!(state(pid), Some('D'));
    }
}
