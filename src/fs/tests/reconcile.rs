//! Repair: whatever the targets differ in, they hold the same afterwards, and nothing is lost by it.

use std::time::Duration;

use serde_json::Value;

use super::kernel::{Choice, WRITE, World};
use super::{V1, V2};
use crate::fs::Error;
use crate::model::{Format, Stamp};
use crate::registry::Settings;
use crate::store::{Fault, Kind, Memory};

const BY_HAND: &[u8] = b"schema \"by_hand\" {}\n";
const SOON: Duration = Duration::from_secs(30);

fn choice() -> Choice {
    Choice {
        named: vec!["app"],
        allow_delete: true,
        ..Choice::default()
    }
}

fn repairing() -> Choice {
    Choice {
        registry: Settings {
            repair: Duration::from_secs(60 * 60),
            ..Settings::default()
        },
        redo: true,
        ..choice()
    }
}

fn unstamped_lists() -> Option<[Memory; 3]> {
    Some(std::array::from_fn(|_| Memory::without_listed_stamps()))
}

/// Loses the machine that a mount is on, and mounts the same stores on another one.
fn from_another_machine(world: World, choice: Choice) -> World {
    let stores = Some(world.all().map(Clone::clone));
    World::with(Choice { stores, ..choice })
}

fn all_hold(world: &World, content: &[u8]) -> bool {
    let mut stores = world.all().into_iter();
    stores.all(|store| store.content("app/schema").is_some_and(|it| it == content))
}

async fn echo(world: &World, order: &str) -> crate::fs::Result<()> {
    world.cp(".atlasfs/jobs", order.as_bytes()).await
}

async fn order(world: &World, order: &str) -> Value {
    echo(world, order).await.unwrap();
    loop {
        let report = world.json(".atlasfs/jobs").await;
        if report["state"] != "running" {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn problems(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = report["found"].as_array().unwrap().iter();
    found
        .map(|found| (text(&found["problem"]), text(&found["target"])))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_push_whose_machine_is_gone_reaches_every_target_from_another_mount() {
    for stores in [None, unstamped_lists()] {
        for missed in 0..3 {
            let world = World::with(Choice {
                stores: stores.clone(),
                ..choice()
            });
            world.cp("app/schema", V1).await.unwrap();
            world.all()[missed].set_fault(Fault::Fail(Kind::Unreachable));
            world.cp("app/schema", V2).await.unwrap();
            world.all()[missed].set_fault(None);
            let world = from_another_machine(world, repairing());
            tokio::time::sleep(SOON).await;
            assert!(all_hold(&world, V2), "missed by {missed}");
            assert_eq!(world.cat("app/schema").await.unwrap(), V2);
            let status = world.json(".atlasfs/status").await;
            assert_eq!(status["repair"]["repaired"], 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_back_is_compared_before_its_hour() {
    let world = World::with(choice());
    world.cp("app/schema", V1).await.unwrap();
    let world = from_another_machine(world, repairing());
    world.backups[0].remove("app/schema");
    world.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    tokio::time::sleep(SOON).await;
    for _ in 0..3 {
        let touched = world.open("app/plans/p1", WRITE, true).await.unwrap();
        touched.close().await.unwrap();
        world.cp("app/schema", V2).await.unwrap();
        world.cp("app/schema", V1).await.unwrap();
    }
    world.backups[0].remove("app/schema");
    world.backups[0].set_fault(None);
    tokio::time::sleep(3 * SOON).await;
    assert!(all_hold(&world, V1));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_machine_is_gone_reaches_every_backup_from_another_mount() {
    for stores in [None, unstamped_lists()] {
        let world = World::with(Choice { stores, ..choice() });
        world.cp("app/schema", V1).await.unwrap();
        world.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
        world.rm("app/schema").await.unwrap();
        world.backups[1].set_fault(None);
        let world = from_another_machine(world, repairing());
        tokio::time::sleep(SOON).await;
        for store in world.all() {
            assert_eq!(store.content("app/schema"), None);
        }
        assert_eq!(world.stat("app/schema").await, Err(Error::NotFound));
        // It may be pushed again, and is then no longer deleted.
        world.cp("app/schema", V2).await.unwrap();
        assert_eq!(order(&world, "sync").await["differences"], 0);
        assert!(all_hold(&world, V2));
        assert!(
            !world
                .registry
                .keys()
                .iter()
                .any(|key| key.contains("deleted"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_is_not_brought_back_while_the_registry_is_out() {
    let world = World::with(choice());
    world.cp("app/schema", V1).await.unwrap();
    world.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    world.rm("app/schema").await.unwrap();
    world.backups[1].set_fault(None);
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    let world = from_another_machine(world, repairing());
    let report = order(&world, "sync").await;
    assert_eq!(
        (&report["unsure"], &report["differences"]),
        (&1.into(), &0.into())
    );
    assert_eq!(report["unheard"][0]["target"], "mem://registry");
    assert_eq!(world.backups[0].content("app/schema"), None);
}

#[tokio::test(start_paused = true)]
async fn verify_tells_every_difference_and_changes_nothing() {
    let world = World::with(choice());
    world.cp("app/schema", V1).await.unwrap();
    assert_eq!(order(&world, "verify").await["differences"], 0);
    world.backups[0].remove("app/schema");
    world.backups[1].place("app/schema", V2, Some(Stamp::new(1, V2, Format::Hcl)));
    let before = world.all().map(|store| store.content("app/schema"));
    let report = order(&world, "verify").await;
    let expected = [("missing", "mem://backup-1"), ("behind", "mem://backup-2")];
    let expected = expected.map(|(problem, target)| (problem.into(), target.into()));
    assert_eq!(problems(&report), expected);
    assert_eq!(report["repaired"], 0);
    assert_eq!(before, world.all().map(|store| store.content("app/schema")));
    let report = order(&world, "sync").await;
    assert_eq!((&report["repaired"], &report["of"]), (&2.into(), &1.into()));
    assert!(all_hold(&world, V1));
    assert_eq!(order(&world, "verify").await["differences"], 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_have_rotted_are_found_by_reading_them_and_replaced() {
    let world = World::with(choice());
    world.cp("app/schema", V1).await.unwrap();
    let stamp = world.registry.object("app/schema").unwrap().stamp;
    for store in world.all().into_iter().take(2) {
        store.place("app/schema", b"rotten", stamp);
    }
    assert_eq!(order(&world, "verify quick").await["differences"], 0);
    let report = order(&world, "sync").await;
    let expected = [("corrupt", "mem://registry"), ("corrupt", "mem://backup-1")];
    let expected = expected.map(|(problem, target)| (problem.into(), target.into()));
    assert_eq!(problems(&report), expected);
    assert!(all_hold(&world, V1));
}

#[tokio::test(start_paused = true)]
async fn what_was_put_into_the_registry_by_hand_reaches_the_backups() {
    for stores in [None, unstamped_lists()] {
        let world = World::with(Choice { stores, ..choice() });
        world.cp("app/schema", V1).await.unwrap();
        world.registry.place("app/schema", BY_HAND, None);
        let world = from_another_machine(world, repairing());
        tokio::time::sleep(SOON).await;
        assert!(all_hold(&world, BY_HAND));
        assert_eq!(world.cat("app/schema").await.unwrap(), BY_HAND);
        assert_eq!(order(&world, "verify").await["differences"], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_only_a_backup_holds_is_given_to_all() {
    let world = World::with(Choice {
        named: Vec::new(),
        ..choice()
    });
    world.registry.set_fault(Fault::Fail(Kind::Unreachable));
    world.mkdir("new").await.unwrap();
    world.cp("new/schema", V1).await.unwrap();
    world.registry.set_fault(None);
    let choice = Choice {
        named: Vec::new(),
        ..repairing()
    };
    let world = from_another_machine(world, choice);
    tokio::time::sleep(SOON).await;
    assert_eq!(world.cat("new/schema").await.unwrap(), V1);
    assert_eq!(world.registry.content("new/schema").unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_is_named_and_the_others_are_mended() {
    let world = World::with(choice());
    world.cp("app/schema", V1).await.unwrap();
    world.backups[0].set_fault(Fault::Fail(Kind::Denied));
    world.backups[1].remove("app/schema");
    let report = order(&world, "sync").await;
    assert_eq!(report["unheard"][0]["target"], "mem://backup-1");
    assert_eq!(report["repaired"], 1);
    assert_eq!(world.backups[1].content("app/schema").unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_job_can_be_stopped_and_repeated_and_there_is_one_at_a_time() {
    let world = World::with(choice());
    world.cp("app/schema", V1).await.unwrap();
    assert_eq!(world.json(".atlasfs/jobs").await, serde_json::json!({}));
    world.backups[0].set_fault(Fault::Hang);
    echo(&world, "sync").await.unwrap();
    assert_eq!(echo(&world, "verify").await, Err(Error::Busy));
    assert_eq!(world.json(".atlasfs/jobs").await["state"], "running");
    echo(&world, "stop").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.json(".atlasfs/jobs").await["state"], "stopped");
    world.backups[0].set_fault(None);
    let report = order(&world, "sync").await;
    assert_eq!(
        (&report["id"], &report["state"]),
        (&2.into(), &"done".into())
    );
    assert_eq!(echo(&world, "mend").await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn the_second_round_asks_for_nothing_that_the_first_has_learned() {
    let world = World::with(Choice {
        stores: unstamped_lists(),
        ..choice()
    });
    world.cp("app/schema", V1).await.unwrap();
    let world = from_another_machine(world, repairing());
    tokio::time::sleep(SOON).await;
    world.all().iter().for_each(|store| drop(store.requests()));
    tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
    for store in world.all() {
        let requests = store.requests();
        let listings = requests.iter().all(|request| request.starts_with("LIST"));
        assert!(listings && !requests.is_empty(), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_only_mount_repairs_nothing() {
    let world = World::with(choice());
    world.cp("app/schema", V1).await.unwrap();
    world.backups[0].remove("app/schema");
    let mut choice = repairing();
    choice.read_only = true;
    choice.registry.read_only = true;
    let world = from_another_machine(world, choice);
    tokio::time::sleep(SOON).await;
    assert_eq!(world.backups[0].content("app/schema"), None);
}

#[tokio::test(start_paused = true)]
async fn of_many_deletions_of_a_name_one_tombstone_is_kept() {
    let world = World::with(choice());
    for _ in 0..5 {
        world.cp("app/schema", V1).await.unwrap();
        world.rm("app/schema").await.unwrap();
    }
    assert_eq!(order(&world, "sync").await["differences"], 0);
    for store in world.all() {
        assert_eq!(store.keys().len(), 1, "{:?}", store.keys());
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_that_an_older_one_has_replaced_everywhere_is_given_back_by_the_mount_that_made_it()
{
    for (honours, expected) in [(false, V1), (true, V2)] {
        let world = World::with(Choice {
            stores: Some([
                Memory::ignoring_conditions(),
                Memory::default(),
                Memory::default(),
            ]),
            untried: !honours,
            ..choice()
        });
        let end = tokio::time::Instant::now() + SOON;
        world.fs.registry.try_conditions(end).await;
        world.cp("app/schema", V1).await.unwrap();
        // As another mount's push does that was stamped before and arrived after.
        let older = Stamp::new(1_700_000_000_000_000_000, V2, Format::Hcl);
        for store in world.all() {
            store.place("app/schema", V2, Some(older));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(world.cat("app/schema").await.unwrap(), V1);
        let report = order(&world, "sync").await;
        assert_eq!(report["state"], "done", "{report:#}");
        assert!(all_hold(&world, expected), "{report:#}");
    }
}
