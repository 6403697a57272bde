//! Mounts that are detached, broken or covered, and targets that vanish: nothing hangs, no
//! acknowledged push is lost, no other mount is touched, and the log names the cause.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use super::home::Home;
use super::mounted::{Mounted, is_mounted};
use super::program::{Running, bash, run, start, until};
use super::store::{LISTED, Store, all_hold, flags, folders, schema};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind, Server};

/// A mount with a slow push under way, and a reader with an open file.
struct Busy {
    home: Home,
    stores: Vec<Store>,
    proxy: Proxy,
    args: Vec<String>,
    mounted: Mounted,
    daemon: Running,
    writer: Running,
    reader: Running,
}

fn in_foreground(home: &Home, args: &[String]) -> Mounted {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Mounted::in_foreground(home, "mnt", &args)
}

impl Busy {
    fn new() -> Self {
        let home = Home::new();
        let server = Server::shared(Kind::Moto);
        let proxy = Proxy::start(server.addr());
        let stores = vec![
            Store::on(server, proxy.endpoint()),
            Store::folder(&home, "backup"),
        ];
        let args = flags(&stores);
        let mut mounted = in_foreground(&home, &args);
        std::fs::create_dir(mounted.path("app")).unwrap();
        mounted.cp("app/schema", schema("before")).ok();
        let script = r#"exec 3< "$1"; touch "$2"; until [ -e "$3" ]; do sleep 0.02; done; cat <&3"#;
        let open = home.path("open");
        let args_of_reader = [&mounted.path("app/schema"), &open, &home.path("go")];
        let reader = start(&mut bash(script, args_of_reader));
        until("the file is open", || open.exists().then_some(()));
        proxy.set_for(&["PUT"], Fault::Delay(Duration::from_secs(2)));
        proxy.forget();
        let source = home.file("source", schema("during"));
        let writer = start(Command::new("cp").args([&source, &mounted.path("app/schema")]));
        until("the push is under way", || {
            (proxy.count("PUT", "schema") > 0).then_some(())
        });
        let daemon = mounted.process();
        Self {
            home,
            stores,
            proxy,
            args,
            mounted,
            daemon,
            writer,
            reader,
        }
    }
}

#[test]
fn a_mount_that_is_torn_away_keeps_serving_open_files() {
    let busy = Busy::new();
    run(Command::new("umount").arg("-l").arg(busy.mounted.dir())).ok();
    assert!(!is_mounted(busy.mounted.dir()));
    busy.writer.wait().ok();
    all_hold(&busy.stores, "app/schema", schema("during").as_bytes());
    assert!(busy.mounted.lives(), "somebody still reads");
    busy.home.file("go", "");
    assert_eq!(busy.reader.wait().ok().text(), schema("before"));
    busy.daemon.wait().ok().says("unmounted");
}

#[test]
fn a_connection_that_is_aborted_ends_everything_at_once_but_the_push() {
    let busy = Busy::new();
    // A mount point of the test's own: the usual one may not be mounted.
    let control = busy.home.folder("connections");
    let none: Option<&str> = None;
    mount(none, &control, Some("fusectl"), MsFlags::empty(), none).expect("fusectl");
    let device = busy.mounted.dir().metadata().unwrap().dev();
    let number = nix::sys::stat::minor(device).to_string();
    std::fs::write(control.join(number).join("abort"), "1").unwrap();
    busy.writer.wait().fails_with("");
    let ran = busy.daemon.wait();
    assert_eq!(ran.code, Some(4), "{ran}");
    ran.says("another process aborted the connection; removed the mount");
    assert!(!is_mounted(busy.mounted.dir()));
    busy.home.file("go", "");
    // A reader keeps the bytes that it has, and waits for no more.
    let _ = busy.reader.wait();
    busy.proxy.set(Fault::Pass);
    let again = busy.home.mount("mnt", &busy.args);
    let read = again.read("app/schema");
    assert!(read == schema("before").as_bytes() || read == schema("during").as_bytes());
    until("every target has it", || {
        let pending = again.status()["pending"].as_array().unwrap().len();
        (pending == 0).then_some(())
    });
    all_hold(&busy.stores, "app/schema", &again.read("app/schema"));
    again.unmount();
}

#[test]
fn a_folder_that_vanishes_is_an_outage_and_never_made_anew() {
    for gone in 0..2 {
        let home = Home::new();
        let stores = folders(&home);
        let mounted = home.mount("mnt", flags(&stores));
        std::fs::create_dir(mounted.path("app")).unwrap();
        mounted.cp("app/schema", schema("before")).ok();
        let Store::Folder(folder) = &stores[gone] else {
            panic!("a folder")
        };
        let away = home.path("away");
        std::fs::rename(folder, &away).unwrap();
        assert_eq!(mounted.read("app/schema"), schema("before").as_bytes());
        assert_eq!(mounted.ls("app"), LISTED);
        mounted.cp("app/schema", schema("meanwhile")).ok();
        assert_eq!(mounted.read("app/schema"), schema("meanwhile").as_bytes());
        assert!(!folder.exists(), "it was made anew");
        let status = mounted.status();
        assert_eq!(status["targets"][gone]["state"], "outage", "{status:#}");
        assert_eq!(status["pending"].as_array().unwrap().len(), 1, "{status:#}");
        let log = std::fs::read_to_string(home.log_of("mnt")).unwrap();
        let says = |line: &str| {
            let url = stores[gone].url();
            line.contains("WARN") && line.contains(&url) && line.contains("outage: ")
        };
        assert!(log.lines().any(says), "{log}");
        // An empty folder at this path is the mount point of a missing disk.
        std::fs::create_dir(folder).unwrap();
        assert_eq!(mounted.read("app/schema"), schema("meanwhile").as_bytes());
        mounted.cp("app/schema", schema("still")).ok();
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        std::fs::remove_dir(folder).unwrap();
        std::fs::rename(&away, folder).unwrap();
        until("it is given what it has missed", || {
            (stores[gone].get("app/schema") == Some(schema("still").into_bytes())).then_some(())
        });
        all_hold(&stores, "app/schema", schema("still").as_bytes());
        mounted.unmount();
    }
}

fn cover(dir: &Path) {
    let none: Option<&str> = None;
    mount(Some("stranger"), dir, Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs");
    std::fs::write(dir.join("mark"), "stranger").unwrap();
}

/// Asserts that the other mount is there, and unmounts it.
fn uncover(dir: &Path) {
    assert_eq!(std::fs::read(dir.join("mark")).unwrap(), b"stranger");
    umount2(dir, MntFlags::empty()).expect("the stranger's mount");
}

#[test]
fn a_strangers_mount_over_it_is_left_alone() {
    let home = Home::new();
    let stores = folders(&home);
    let mut mounted = in_foreground(&home, &flags(&stores));
    cover(mounted.dir());
    let daemon = mounted.process();
    mounted.signal(Signal::SIGTERM);
    let ran = daemon.wait().ok();
    ran.says("the mount is no longer at its mount point; leaving it alone");
    uncover(mounted.dir());
    // The process leaves a dead mount point, and the next mount removes it.
    let again = home.mount("mnt", flags(&stores));
    again.unmount();
    assert!(!is_mounted(&home.path("mnt")));
}

#[test]
fn a_strangers_mount_in_its_place_is_left_alone() {
    let home = Home::new();
    let stores = folders(&home);
    for by_signal in [false, true] {
        let mut mounted = in_foreground(&home, &flags(&stores));
        let _ = std::fs::create_dir(mounted.path("app"));
        mounted.cp("app/schema", schema("a")).ok();
        let holder = start(&mut bash(
            r#"exec 3< "$1"; touch "$2"; sleep 60"#,
            [mounted.path("app/schema"), home.path("held")],
        ));
        until("the file is open", || {
            home.path("held").exists().then_some(())
        });
        std::fs::remove_file(home.path("held")).unwrap();
        let daemon = mounted.process();
        umount2(mounted.dir(), MntFlags::MNT_DETACH).unwrap();
        cover(mounted.dir());
        match by_signal {
            true => mounted.signal(Signal::SIGTERM),
            false => drop(holder),
        }
        let ran = daemon.wait().ok();
        ran.says(if by_signal {
            "leaving it alone"
        } else {
            "unmounted"
        });
        uncover(mounted.dir());
    }
}
