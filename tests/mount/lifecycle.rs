//! A mount from its first answer to its last push.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::home::{ATLASFS, Home};
use super::mounted::{Mounted, end_all_below, is_mounted, lives};
use super::program::{bash, run, start, until};
use super::store::{Store, all_hold, flags, folders, plan, schema};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind, Server};

#[test]
fn mounting_in_the_background_returns_when_the_mount_answers_and_says_nothing() {
    let home = Home::new();
    let stores = folders(&home);
    stores[0].put("app/schema", schema("there"));
    let mut command = home.mounting("mnt", flags(&stores));
    let script = r#""$@"; cat "${@: -1}/app/schema""#;
    let mut words = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    let mut both = bash(script, words);
    home.enter(&mut both);
    let ran = run(&mut both).ok();
    let mounted = Mounted::at(home.clone(), &home.path("mnt"));
    assert_eq!((ran.text(), ran.stderr), (schema("there"), String::new()));
    // The process is a daemon: without a terminal, in a session of its own, and with `/` as its
    // working directory.
    let of = |link: &str| std::fs::read_link(format!("/proc/{}/{link}", mounted.pid())).unwrap();
    assert_eq!(of("cwd"), std::path::Path::new("/"));
    for descriptor in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(of(descriptor), std::path::Path::new("/dev/null"));
    }
    let shown =
        run(Command::new("ps").args(["-o", "sid=,comm=,args=", &mounted.pid().to_string()]));
    let shown = shown.ok().text();
    assert!(
        shown.contains("atlasfs daemon") && shown.contains("mnt"),
        "{shown}"
    );
    assert_eq!(
        shown.split_whitespace().next(),
        Some(&*mounted.pid().to_string())
    );
    run(&mut command).fails(1, "is mounted already");
    assert_eq!(mounted.read("app/schema"), schema("there").as_bytes());
    let pid = mounted.pid();
    mounted.unmount();
    assert!(
        !super::mounted::lives(pid),
        "unmount returns before the process has ended"
    );
}

#[test]
fn a_mount_in_the_foreground_stays_logs_to_stderr_and_ends_with_the_unmount_or_a_signal() {
    let home = Home::new();
    let stores = folders(&home);
    let args = flags(&stores);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut mounted = Mounted::in_foreground(&home, "mnt", &args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    let process = mounted.process();
    assert_eq!(process.pid(), mounted.pid());
    mounted.unmount();
    let ran = process
        .wait()
        .ok()
        .says("mounted")
        .says("app/schema is on every target");
    assert!(!ran.stderr.contains("ERROR"), "{ran}");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mounted = Mounted::in_foreground(&home, "mnt", &args);
        let process = mounted.process();
        mounted.signal(signal);
        process.wait().ok().says(signal.as_str());
        assert!(!is_mounted(mounted.dir()));
    }
}

#[test]
fn a_signal_during_a_slow_push_lets_it_finish() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let proxy = Proxy::start(server.addr());
    let stores = [
        Store::on(server, proxy.endpoint()),
        Store::folder(&home, "backup"),
    ];
    let args = flags(&stores);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut mounted = Mounted::in_foreground(&home, "mnt", &args);
        let _ = std::fs::create_dir(mounted.path("app"));
        proxy.forget();
        proxy.set_for(&["PUT"], Fault::Delay(Duration::from_secs(2)));
        let content = schema(signal.as_str());
        let source = home.file("source", &content);
        let mut cp = start(Command::new("cp").args([&source, &mounted.path("app/schema")]));
        until("the push is under way", || {
            (proxy.count("PUT", "schema") > 0).then_some(())
        });
        let process = mounted.process();
        mounted.signal(signal);
        until("it is out of the tree", || {
            (!is_mounted(mounted.dir())).then_some(())
        });
        assert!(!cp.has_ended(), "the push was not slow");
        cp.wait().ok();
        process.wait().ok();
        all_hold(&stores, "app/schema", content.as_bytes());
        proxy.set(Fault::Pass);
    }
}

#[test]
fn an_unmount_waits_for_a_slow_push_or_names_the_busy_process() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let proxy = Proxy::start(server.addr());
    let stores = [Store::on(server, proxy.endpoint())];
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    let holder = start(&mut bash(
        r#"exec 3< "$1"; sleep 60"#,
        [mounted.path("app/schema")],
    ));
    let unmount = || run(home.atlasfs(["unmount"]).arg(mounted.dir()));
    until("the file is held", || {
        let ran = unmount();
        assert_eq!(ran.code, Some(1), "{ran}");
        let ran = ran.says("is in use").says("--lazy");
        ran.stderr
            .contains(&format!("(process {})", holder.pid()))
            .then_some(())
    });
    drop(holder);
    proxy.set_for(&["PUT"], Fault::Delay(Duration::from_secs(2)));
    proxy.forget();
    let source = home.file("source", schema("slow"));
    let cp = start(Command::new("cp").args([&source, &mounted.path("app/schema")]));
    until("the push is under way", || {
        (proxy.count("PUT", "schema") > 0).then_some(())
    });
    let pid = mounted.pid();
    run(home.atlasfs(["unmount", "--lazy"]).arg(mounted.dir())).ok();
    assert!(!is_mounted(mounted.dir()));
    cp.wait().ok();
    all_hold(&stores, "app/schema", schema("slow").as_bytes());
    until("the process ends", || {
        (!super::mounted::lives(pid)).then_some(())
    });
}

#[test]
fn after_a_kill_the_next_mount_clears_up_and_finds_everything() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("acknowledged")).ok();
    mounted
        .cp("app/plans/p", "broken {")
        .fails(1, "Invalid argument");
    mounted.signal(Signal::SIGKILL);
    until("the process ends", || (!mounted.lives()).then_some(()));
    // A program that opens a file at the very moment of the end gets "connection aborted" instead.
    until("the mount is dead", || {
        let ran = mounted.cat("app/schema");
        ran.stderr.contains("not connected").then_some(())
    });
    run(home.atlasfs(["status"]).arg(mounted.dir()))
        .fails(1, "is dead")
        .says("atlasfs unmount");
    // Two ways to remove the dead mount: the next mount, and an unmount.
    let again = home.mount("mnt", flags(&stores));
    assert_ne!(again.pid(), mounted.pid());
    assert_eq!(again.read("app/schema"), schema("acknowledged").as_bytes());
    let status = again.status();
    let kept = status["unpushed"][0]["path"].as_str().expect("kept bytes");
    assert_eq!(again.read(kept), b"broken {");
    again.cp("app/schema", schema("goes on")).ok();
    all_hold(&stores, "app/schema", schema("goes on").as_bytes());
    again.signal(Signal::SIGKILL);
    until("the process ends", || (!again.lives()).then_some(()));
    run(home.atlasfs(["unmount"]).arg(again.dir())).ok();
    assert!(!is_mounted(again.dir()));
}

#[test]
fn a_kill_during_a_push_never_acknowledges_it_and_leaves_whole_contents() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let proxy = Proxy::start(server.addr());
    let stores = [
        Store::on(server, proxy.endpoint()),
        Store::folder(&home, "backup"),
    ];
    let before = schema("before");
    for fault in [Fault::Hang, Fault::Delay(Duration::from_secs(1))] {
        let mounted = home.mount("mnt", flags(&stores));
        let _ = std::fs::create_dir(mounted.path("app"));
        mounted.cp("app/plans/p", plan("p", "before")).ok();
        mounted.cp("app/schema", &before).ok();
        proxy.forget();
        proxy.set_for(&["PUT"], fault);
        let source = home.file("source", schema("during"));
        let cp = start(Command::new("cp").args([&source, &mounted.path("app/schema")]));
        until("the push is under way", || {
            (proxy.count("PUT", "schema") > 0).then_some(())
        });
        mounted.signal(Signal::SIGKILL);
        cp.wait().fails_with("");
        proxy.set(Fault::Pass);
        let again = home.mount("mnt", flags(&stores));
        let read = again.read("app/schema");
        assert!(read == before.as_bytes() || read == schema("during").as_bytes());
        assert_eq!(again.read("app/plans/p"), plan("p", "before").as_bytes());
        // With `Delay`, the push can reach the store after the process has ended. Then the next
        // push may be a conflict at first.
        until("the next push goes through", || {
            (again.cp("app/schema", schema("after")).code == Some(0)).then_some(())
        });
        all_hold(&stores, "app/schema", schema("after").as_bytes());
        again.unmount();
    }
}

#[test]
fn fstab_words_mean_what_the_flags_mean() {
    let home = Home::new();
    let stores = folders(&home);
    stores[0].put("app/schema", schema("a"));
    let helper = home.path("mount.atlasfs");
    std::os::unix::fs::symlink(ATLASFS, &helper).unwrap();
    let dir = home.folder("mnt");
    let options = format!(
        "rw,noauto,_netdev,nofail,x-systemd.automount,ttl=5s,read-only,durability=all,backup={},log-file={}",
        stores[1].url(),
        home.log_of("mnt").display()
    );
    let source = stores[0].url();
    let mut as_mount_does = Command::new(&helper);
    as_mount_does.args([&source, &dir.display().to_string(), "-n", "-o", &options]);
    let plain = home.atlasfs([&source, &dir.display().to_string(), "-o", &options]);
    let long = home.atlasfs([
        "mount",
        "--registry",
        &source,
        "-o",
        &options,
        &dir.display().to_string(),
    ]);
    for mut command in [as_mount_does, plain, long] {
        home.enter(&mut command);
        let (mounted, _) = home.mount_by("mnt", &mut command);
        let status = mounted.status();
        assert_eq!(status["durability"], "all", "{status:#}");
        assert_eq!(status["read_only"], true, "{status:#}");
        assert_eq!(status["targets"][0]["url"], source, "{status:#}");
        assert_eq!(status["targets"][1]["url"], stores[1].url(), "{status:#}");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = format!("{source} {} fuse.atlasfs ", dir.display());
        assert!(mounts.contains(&line), "no {line:?} in {mounts}");
        mounted.unmount();
    }
    let mut wrong = Command::new(&helper);
    wrong.args([&source, &dir.display().to_string(), "-o", "tll=5s"]);
    home.enter(&mut wrong);
    run(&mut wrong).fails(2, "ttl");
    // For mount(8), `-s` means to ignore unknown options.
    wrong.arg("-s");
    home.mount_by("mnt", &mut wrong).0.unmount();
}

#[test]
fn the_first_command_works_with_no_account_and_no_server() {
    let home = Home::new();
    let mounted = home.mount("mnt", [""; 0]);
    run(&mut bash(
        r#"mkdir "$1/app"; cp "$2" "$1/app/schema.hcl""#,
        [mounted.dir(), &home.file("schema.hcl", schema("first"))],
    ))
    .ok();
    let embedded = Store::Folder(home.path("data/atlasfs/registry"));
    all_hold(&[embedded], "app/schema", schema("first").as_bytes());
    mounted.unmount();
    let again = home.mount("elsewhere", [""; 0]);
    assert_eq!(again.read("app/schema"), schema("first").as_bytes());
}

#[test]
fn a_mount_that_a_test_leaves_ends_with_its_home_even_if_it_hangs() {
    let home = Home::new();
    let mounted = home.mount("mnt", flags(&folders(&home)));
    let (pid, dir) = (mounted.pid(), mounted.dir().to_owned());
    mounted.signal(Signal::SIGSTOP);
    end_all_below(home.dir());
    until("the process ends", || (!lives(pid)).then_some(()));
    assert!(!is_mounted(&dir));
}
