//! The two names of one artifact: what a change by one of them does to the other.

use std::sync::{Arc, Mutex};

use super::fixtures::{plan, world_with};
use super::kernel::{Choice, READ, World};
use super::{V1, V2};
use crate::fs::{Attr, Error};

/// Returns the inodes whose attributes the kernel is told to forget from now on.
fn told(world: &World) -> Arc<Mutex<Vec<u64>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let inodes = Arc::clone(&told);
    world
        .fs
        .connect(move |ino| inodes.lock().unwrap().push(ino));
    told
}

/// Asks for the attributes of an inode that a name led to before, as the kernel does.
async fn ask(world: &World, before: &Attr) -> Result<Attr, Error> {
    let asked = world.fs.clone().getattr(before.ino, None).await;
    asked.map(|(attr, ttl)| {
        assert!(ttl.is_zero(), "the kernel must ask again");
        attr
    })
}

#[tokio::test]
async fn a_push_by_one_name_is_told_to_the_kernel_for_the_other() {
    let world = world_with(V1).await;
    world.cp("app/plans/p1", &plan("p1")).await.unwrap();
    for (by, other, new) in [
        ("app/schema.hcl", "app/schema", V2.to_vec()),
        ("app/schema", "app/schema.hcl", V1.to_vec()),
        ("app/plans/p1.plan.hcl", "app/plans/p1", plan("p1")),
        ("app/plans/p1", "app/plans/p1.plan.hcl", plan("p1")),
    ] {
        let before = world.stat(other).await.unwrap();
        let told = told(&world);
        world.cp(by, &new).await.unwrap();
        assert_eq!(*told.lock().unwrap(), [before.ino], "{by}");
        let now = ask(&world, &before).await.unwrap();
        let after = world.stat(other).await.unwrap();
        assert_eq!(
            (now.shown, now.size, now.time),
            (after.shown, after.size, after.time),
            "{by}: stat tells what an open will give"
        );
    }
}

#[tokio::test]
async fn a_rename_onto_one_name_is_told_for_the_other() {
    let world = world_with(V1).await;
    let before = world.stat("app/schema").await.unwrap();
    let told = told(&world);
    world.cp("app/.new", V2).await.unwrap();
    world.mv("app/.new", "app/schema.hcl").await.unwrap();
    assert_eq!(*told.lock().unwrap(), [before.ino]);
    assert_eq!(ask(&world, &before).await.unwrap().size, V2.len() as u64);
}

#[tokio::test]
async fn a_push_that_fails_tells_the_kernel_nothing() {
    let world = world_with(V1).await;
    let told = told(&world);
    assert_eq!(world.cp("app/schema", b"{").await, Err(Error::Invalid));
    assert!(told.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_has_the_old_content_open_sees_its_size() {
    let world = world_with(V1).await;
    let before = world.stat("app/schema").await.unwrap();
    let reader = world.open("app/schema", READ, false).await.unwrap();
    world.cp("app/schema.hcl", V2).await.unwrap();
    let now = ask(&world, &before).await.unwrap();
    assert_eq!((now.size, now.time), (before.size, before.time));
    let after = world.stat("app/schema").await.unwrap();
    assert_eq!(now.shown, after.shown, "cp compares the numbers");
    assert_eq!(reader.read_all().await.unwrap(), V1);
    reader.close().await.unwrap();
    assert_eq!(ask(&world, &before).await.unwrap().size, V2.len() as u64);
}

#[tokio::test]
async fn a_deletion_by_one_name_is_told_for_the_other() {
    let world = deleting().await;
    let before = world.stat("app/schema").await.unwrap();
    let told = told(&world);
    world.rm("app/schema.hcl").await.unwrap();
    assert_eq!(*told.lock().unwrap(), [before.ino]);
    assert_eq!(ask(&world, &before).await, Err(Error::Stale));
}

async fn deleting() -> World {
    let world = World::with(Choice {
        allow_delete: true,
        named: vec!["app"],
        ..Choice::default()
    });
    world.cp("app/schema.hcl", V1).await.unwrap();
    world.cp("app/plans/p1", &plan("p1")).await.unwrap();
    world
}

#[tokio::test]
async fn a_program_that_mirrors_does_not_delete_what_it_knows_by_another_name() {
    let world = deleting().await;
    let pid = world.pid();
    world.ls_by("app", pid).await.unwrap();
    world.walk("app/schema.hcl", pid).await.unwrap();
    let refused = world.rm_by("app/schema", pid).await;
    assert_eq!(refused, Err(Error::NotPermitted));
    assert_eq!(world.cat("app/schema").await.unwrap(), V1);
    let events = String::from_utf8(world.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("takes one file for two"), "{events}");
    // It may delete the artifact by the name that it knows, and every other artifact.
    world.rm_by("app/plans/p1", pid).await.unwrap();
    world.rm_by("app/schema.hcl", pid).await.unwrap();
    assert_eq!(world.registry.content("app/schema"), None);
}

#[tokio::test]
async fn everybody_else_deletes_by_either_name() {
    for name in ["app/schema", "app/schema.hcl"] {
        let world = deleting().await;
        let mirror = world.pid();
        world.ls_by("app", mirror).await.unwrap();
        world.walk("app/schema.hcl", mirror).await.unwrap();
        world.rm(name).await.unwrap();
        assert_eq!(world.registry.content("app/schema"), None, "{name}");
    }
    // A program that has only listed, or only used the other name, knows what it does.
    let world = deleting().await;
    let pid = world.pid();
    world.walk("app/schema.hcl", pid).await.unwrap();
    world.rm_by("app/schema", pid).await.unwrap();
}
