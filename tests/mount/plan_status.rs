//! The status of a plan, as programs set and copy it.

use std::process::Command;

use serde_json::Value;

use super::contract::with;
use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, bash, run};
use super::store::{flags, folders, plan};

fn set(mounted: &Mounted, name: &str, status: &str) -> Ran {
    let mut command = Command::new("setfattr");
    command.args(["-n", "user.atlas.status", "-v", status]);
    run(command.arg(mounted.path(name)))
}

#[test]
fn a_program_sets_the_status_of_a_plan() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/plans/p", plan("p", "a")).ok();
    let name = "app/plans/p";
    set(&mounted, name, "PENDING").ok();
    assert_eq!(mounted.xattr(name, "status").as_deref(), Some("PENDING"));
    let receipt = mounted.xattr(name, "push").unwrap();
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["File"]["Status"], "PENDING");
    assert_eq!(mounted.read(name), plan("p", "a").as_bytes());
    let backup = home.mount("backup", with(&stores[..2], &["--read-only"]));
    assert_eq!(backup.xattr(name, "status").as_deref(), Some("PENDING"));
    set(&backup, name, "APPROVED").fails(1, "Read-only file system");
    set(&mounted, name, "REJECTED").fails(1, "Invalid argument");
    let told = mounted.events("refused");
    let told = told[0]["message"].as_str().unwrap();
    assert!(told.contains("PENDING or APPROVED"), "{told}");
}

#[test]
fn tools_that_copy_attributes_copy_the_status() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    let from = home.file("p", plan("p", "a"));
    let status = "setfattr -n user.atlas.status -v PENDING";
    run(&mut bash(&format!(r#"{status} "$1""#), [&from])).ok();
    for (n, copy) in ["cp --preserve=xattr", "cp -a", "rsync -X"]
        .iter()
        .enumerate()
    {
        let script = format!(r#"{copy} "$1" "$2""#);
        let _ = std::fs::create_dir(mounted.path(&format!("app{n}")));
        let name = format!("app{n}/plans/p");
        run(&mut bash(&script, [&from, &mounted.path(&name)])).ok();
        let copied = mounted.xattr(&name, "status");
        assert_eq!(copied.as_deref(), Some("PENDING"), "{copy}");
        assert_eq!(mounted.read(&name), plan("p", "a").as_bytes());
    }
}
