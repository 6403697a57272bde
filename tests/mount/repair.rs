//! `verify` and `sync`: commands that report and repair the differences between the targets.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::home::Home;
use super::mounted::signal;
use super::program::{Ran, run, start, until};
use super::store::{Store, all_hold, flags, folders, none_holds, schema};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind, Server};

#[track_caller]
fn job(home: &Home, task: &str, dir: &Path, more: &[&str]) -> Ran {
    run(home.atlasfs([task]).args(more).arg(dir))
}

#[track_caller]
fn report(ran: Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

#[test]
fn verify_reports_differences_and_sync_repairs_them() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let stores = vec![
        Store::on(server.clone(), server.endpoint()),
        Store::folder(&home, "backup-1"),
        Store::folder(&home, "backup-2"),
    ];
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    let ran = job(&home, "verify", mounted.dir(), &[]).ok();
    assert_eq!(
        ran.text(),
        "1 artifact compared, 0 differences, 0 repaired\n"
    );

    stores[1].delete("app/schema");
    let Store::Folder(rotten) = &stores[2] else {
        panic!("a folder");
    };
    let times = std::fs::metadata(rotten.join("app/schema")).unwrap();
    std::fs::write(rotten.join("app/schema"), schema("b")).unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(rotten.join("app/schema"));
    file.unwrap()
        .set_modified(times.modified().unwrap())
        .unwrap();
    let ran = job(&home, "verify", mounted.dir(), &[]);
    assert_eq!(ran.code, Some(3), "{ran}");
    let text = ran.text();
    let urls: Vec<String> = stores.iter().map(Store::url).collect();
    assert!(
        text.contains(&format!("app/schema: missing at {}", urls[1])),
        "{text}"
    );
    assert!(
        text.contains(&format!("app/schema: corrupt at {}", urls[2])),
        "{text}"
    );
    assert!(ran.stderr.contains("1 of 1 artifact compared"), "{ran}");
    none_holds(&stores[1..2], "app/schema");

    let told = report(job(&home, "sync", mounted.dir(), &["--json"]).ok());
    assert_eq!(
        (&told["differences"], &told["repaired"]),
        (&2.into(), &2.into())
    );
    all_hold(&stores, "app/schema", schema("a").as_bytes());
    job(&home, "verify", mounted.dir(), &["--quick"]).ok();
    assert_eq!(mounted.events("repair").len(), 2);
    assert_eq!(mounted.metric("atlasfs_repaired_total"), 2);
}

#[test]
fn an_artifact_that_cannot_be_compared_is_reported_and_is_no_success() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    let Store::Folder(away) = &stores[1] else {
        panic!("a folder");
    };
    std::fs::rename(away, home.path("away")).unwrap();
    let ran = job(&home, "verify", mounted.dir(), &[]);
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(
        ran.text()
            .contains(&format!("not compared: {}", stores[1].url())),
        "{ran}"
    );
    std::fs::rename(home.path("away"), away).unwrap();
    until("the backup is back", || {
        let ran = job(&home, "verify", mounted.dir(), &[]);
        (ran.code == Some(0)).then_some(())
    });
}

#[test]
fn a_push_whose_machine_is_gone_reaches_the_registry_from_another_mount() {
    let home = Home::new();
    let stores = folders(&home);
    let args = flags(&stores);
    let first = home.mount("first", &args);
    std::fs::create_dir(first.path("app")).unwrap();
    first.cp("app/schema", schema("old")).ok();
    let Store::Folder(registry) = &stores[0] else {
        panic!("a folder");
    };
    std::fs::rename(registry, home.path("away")).unwrap();
    first.cp("app/schema", schema("new")).ok();
    first.signal(Signal::SIGKILL);
    until("the first mount is dead", || (!first.lives()).then_some(()));
    std::fs::rename(home.path("away"), registry).unwrap();
    let more = ["--repair-interval", "1s"];
    let second = home.mount("second", args.iter().map(String::as_str).chain(more));
    until("the registry has got it", || {
        let held = stores[0].get("app/schema");
        (held.as_deref() == Some(schema("new").as_bytes())).then_some(())
    });
    assert_eq!(second.read("app/schema"), schema("new").as_bytes());
}

#[test]
fn a_backup_that_misses_a_deletion_deletes_it_when_it_is_back() {
    let home = Home::new();
    let stores = folders(&home);
    let args = flags(&stores);
    let args = args.iter().map(String::as_str).chain(["--allow-delete"]);
    let mounted = home.mount("mnt", args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    let Store::Folder(away) = &stores[1] else {
        panic!("a folder");
    };
    std::fs::rename(away, home.path("away")).unwrap();
    std::fs::remove_file(mounted.path("app/schema")).unwrap();
    assert!(!mounted.path("app/schema").exists());
    assert_eq!(
        mounted.status()["pending"][0]["targets"][0],
        stores[1].url()
    );
    std::fs::rename(home.path("away"), away).unwrap();
    until("it is deleted there too", || {
        stores[1].get("app/schema").is_none().then_some(())
    });
    none_holds(&stores, "app/schema");
}

#[test]
fn sync_can_be_interrupted_and_repeated() {
    let home = Home::new();
    let server = Server::start(Kind::Moto);
    let proxy = Proxy::start(server.addr());
    let stores = vec![
        Store::folder(&home, "registry"),
        Store::on(server.into(), proxy.endpoint()),
    ];
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("a")).ok();
    stores[1].delete("app/schema");
    proxy.set(Fault::Hang);
    let sync = start(home.atlasfs(["sync"]).arg(mounted.dir()));
    until("it is under way", || {
        let jobs: Value = serde_json::from_slice(&mounted.read(".atlasfs/jobs")).unwrap();
        (jobs["state"] == "running").then_some(())
    });
    let second = job(&home, "verify", mounted.dir(), &[]);
    assert_eq!(second.code, Some(1), "{second}");
    assert!(second.stderr.contains("is under way"), "{second}");
    signal(sync.pid(), Signal::SIGINT).unwrap();
    let ran = sync.wait();
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.text().contains("stopped early"), "{ran}");
    proxy.set(Fault::Pass);
    until("it is repeated", || {
        let ran = job(&home, "sync", mounted.dir(), &[]);
        (ran.code == Some(0)).then_some(())
    });
    all_hold(&stores, "app/schema", schema("a").as_bytes());
}
