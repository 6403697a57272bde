//! Repair: afterwards all targets hold the same content, and none is lost.

use std::time::Duration;

use serde_json::Value;

use super::fixtures::unstamped_lists;
use super::kernel::{Choice, Fixture, WRITE};
use super::{V1, V2};
use crate::fs::Error;
use crate::model::{Format, Stamp};
use crate::registry::Settings;
use crate::store::{Fault, Kind, Memory};

pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) fn choice() -> Choice {
    Choice {
        named: vec!["app"],
        allow_delete: true,
        ..Choice::default()
    }
}

pub(super) fn repairing() -> Choice {
    Choice {
        registry: Settings {
            repair: Duration::from_secs(60 * 60),
            ..Settings::default()
        },
        replay: true,
        ..choice()
    }
}

/// Loses a mount's machine, and mounts the same stores on another one.
pub(super) fn from_another_machine(fixture: Fixture, choice: Choice) -> Fixture {
    let stores = Some(fixture.all().map(Clone::clone));
    Fixture::with(Choice { stores, ..choice })
}

pub(super) fn all_hold(fixture: &Fixture, content: &[u8]) -> bool {
    let mut stores = fixture.all().into_iter();
    stores.all(|store| store.content("app/schema").is_some_and(|it| it == content))
}

async fn echo(fixture: &Fixture, order: &str) -> crate::fs::Result<()> {
    fixture.cp(".atlasfs/jobs", order.as_bytes()).await
}

pub(super) async fn order(fixture: &Fixture, order: &str) -> Value {
    echo(fixture, order).await.unwrap();
    loop {
        let report = fixture.json(".atlasfs/jobs").await;
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
    for stores in [|| None, unstamped_lists] {
        for missed in 0..3 {
            let fixture = Fixture::with(Choice {
                stores: stores(),
                ..choice()
            });
            fixture.cp("app/schema", V1).await.unwrap();
            fixture.all()[missed].set_fault(Fault::Fail(Kind::Unreachable));
            fixture.cp("app/schema", V2).await.unwrap();
            fixture.all()[missed].set_fault(None);
            let fixture = from_another_machine(fixture, repairing());
            tokio::time::sleep(SOON).await;
            assert!(all_hold(&fixture, V2), "missed by {missed}");
            assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
            let status = fixture.json(".atlasfs/status").await;
            // The push, and its version.
            assert_eq!(status["repair"]["repaired"], 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_back_is_compared_before_its_hour() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    let fixture = from_another_machine(fixture, repairing());
    fixture.backups[0].remove("app/schema");
    fixture.backups[0].set_fault(Fault::Fail(Kind::Unreachable));
    tokio::time::sleep(SOON).await;
    for _ in 0..3 {
        let touched = fixture.open("app/plans/p1", WRITE, true).await.unwrap();
        touched.close().await.unwrap();
        fixture.cp("app/schema", V2).await.unwrap();
        fixture.cp("app/schema", V1).await.unwrap();
    }
    fixture.backups[0].remove("app/schema");
    fixture.backups[0].set_fault(None);
    tokio::time::sleep(3 * SOON).await;
    assert!(all_hold(&fixture, V1));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_machine_is_gone_reaches_every_backup_from_another_mount() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(Choice { stores, ..choice() });
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
        fixture.rm("app/schema").await.unwrap();
        fixture.backups[1].set_fault(None);
        let fixture = from_another_machine(fixture, repairing());
        tokio::time::sleep(SOON).await;
        for store in fixture.all() {
            assert_eq!(store.content("app/schema"), None);
        }
        assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
        // A later push of the artifact ends the deletion.
        fixture.cp("app/schema", V2).await.unwrap();
        assert_eq!(order(&fixture, "sync").await["differences"], 0);
        assert!(all_hold(&fixture, V2));
        assert!(
            !fixture
                .registry
                .keys()
                .iter()
                .any(|key| key.contains("deleted"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_artifact_stays_deleted_while_the_registry_is_out() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.backups[1].set_fault(Fault::Fail(Kind::Unreachable));
    fixture.rm("app/schema").await.unwrap();
    fixture.backups[1].set_fault(None);
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    let fixture = from_another_machine(fixture, repairing());
    let report = order(&fixture, "sync").await;
    assert_eq!(
        (&report["unsure"], &report["differences"]),
        (&1.into(), &0.into())
    );
    assert_eq!(report["unheard"][0]["target"], "mem://registry");
    assert_eq!(fixture.backups[0].content("app/schema"), None);
}

#[tokio::test(start_paused = true)]
async fn verify_reports_every_difference_and_changes_nothing() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(order(&fixture, "verify").await["differences"], 0);
    fixture.backups[0].remove("app/schema");
    fixture.backups[1].place("app/schema", V2, Some(Stamp::new(1, V2, Format::Hcl)));
    let before = fixture.all().map(|store| store.content("app/schema"));
    let report = order(&fixture, "verify").await;
    let expected = [("missing", "mem://backup-1"), ("behind", "mem://backup-2")];
    let expected = expected.map(|(problem, target)| (problem.into(), target.into()));
    assert_eq!(problems(&report), expected);
    assert_eq!(report["repaired"], 0);
    assert_eq!(
        before,
        fixture.all().map(|store| store.content("app/schema"))
    );
    let report = order(&fixture, "sync").await;
    assert_eq!((&report["repaired"], &report["of"]), (&2.into(), &1.into()));
    assert!(all_hold(&fixture, V1));
    assert_eq!(order(&fixture, "verify").await["differences"], 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_have_rotted_are_found_by_reading_them_and_replaced() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    let stamp = fixture.registry.object("app/schema").unwrap().stamp;
    for store in fixture.all().into_iter().take(2) {
        store.place("app/schema", b"rotten", stamp);
    }
    assert_eq!(order(&fixture, "verify quick").await["differences"], 0);
    let report = order(&fixture, "sync").await;
    let expected = [("corrupt", "mem://registry"), ("corrupt", "mem://backup-1")];
    let expected = expected.map(|(problem, target)| (problem.into(), target.into()));
    assert_eq!(problems(&report), expected);
    assert!(all_hold(&fixture, V1));
}

#[tokio::test(start_paused = true)]
async fn rotten_bytes_are_not_replaced_while_a_look_up_of_them_fails() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    let stamp = fixture.registry.object("app/schema").unwrap().stamp;
    fixture.registry.place("app/schema", b"rotten", stamp);
    let portal = Fault::FailHeads(Kind::Unreachable);
    fixture.registry.set_fault(portal);
    let report = order(&fixture, "sync").await;
    assert_eq!(report["unheard"][0]["target"], "mem://registry", "{report}");
    let there = fixture.registry.content("app/schema").unwrap();
    assert_eq!(there, "rotten", "nothing says what the write would replace");
}

#[tokio::test(start_paused = true)]
async fn a_registry_behind_a_portal_is_neither_read_nor_repaired() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(Choice { stores, ..choice() });
        fixture.cp("app/schema", V1).await.unwrap();
        let pushed = fixture.registry.object("app/schema").unwrap().stamp;
        let newer = Stamp::new(pushed.unwrap().when + 1, V2, Format::Hcl);
        fixture.registry.place("app/schema", V2, Some(newer));
        let portal = Fault::FailReads(Kind::Unreachable);
        fixture.registry.set_fault(portal);
        let fixture = from_another_machine(fixture, repairing());
        fixture.registry.set_fault(portal);
        let report = order(&fixture, "sync").await;
        assert_eq!(report["unheard"][0]["target"], "mem://registry", "{report}");
        assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
        assert_eq!(fixture.backups[0].content("app/schema").unwrap(), V1);
        fixture.registry.set_fault(None);
        order(&fixture, "sync").await;
        assert!(all_hold(&fixture, V2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_only_a_backup_holds_reaches_all_targets() {
    let fixture = Fixture::with(Choice {
        named: Vec::new(),
        ..choice()
    });
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.mkdir("new").await.unwrap();
    fixture.cp("new/schema", V1).await.unwrap();
    fixture.registry.set_fault(None);
    let choice = Choice {
        named: Vec::new(),
        ..repairing()
    };
    let fixture = from_another_machine(fixture, choice);
    tokio::time::sleep(SOON).await;
    assert_eq!(fixture.cat("new/schema").await.unwrap(), V1);
    assert_eq!(fixture.registry.content("new/schema").unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_is_named_and_the_others_are_mended() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.backups[0].set_fault(Fault::Fail(Kind::Denied));
    fixture.backups[1].remove("app/schema");
    let report = order(&fixture, "sync").await;
    assert_eq!(report["unheard"][0]["target"], "mem://backup-1");
    assert_eq!(report["repaired"], 1);
    assert_eq!(fixture.backups[1].content("app/schema").unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_job_can_be_stopped_and_repeated_and_there_is_one_at_a_time() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(fixture.json(".atlasfs/jobs").await, serde_json::json!({}));
    fixture.backups[0].set_fault(Fault::Hang);
    echo(&fixture, "sync").await.unwrap();
    assert_eq!(echo(&fixture, "verify").await, Err(Error::Busy));
    assert_eq!(fixture.json(".atlasfs/jobs").await["state"], "running");
    echo(&fixture, "stop").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.json(".atlasfs/jobs").await["state"], "stopped");
    fixture.backups[0].set_fault(None);
    let report = order(&fixture, "sync").await;
    assert_eq!(
        (&report["id"], &report["state"]),
        (&2.into(), &"done".into())
    );
    assert_eq!(echo(&fixture, "mend").await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn the_second_round_asks_for_nothing_that_the_first_has_learned() {
    let fixture = Fixture::with(Choice {
        stores: unstamped_lists(),
        ..choice()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    let fixture = from_another_machine(fixture, repairing());
    tokio::time::sleep(SOON).await;
    fixture
        .all()
        .iter()
        .for_each(|store| drop(store.requests()));
    tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
    for store in fixture.all() {
        let requests = store.requests();
        let listings = requests.iter().all(|request| request.starts_with("LIST"));
        assert!(listings && !requests.is_empty(), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_only_mount_repairs_nothing() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.backups[0].remove("app/schema");
    let mut choice = repairing();
    choice.read_only = true;
    choice.registry.read_only = true;
    let fixture = from_another_machine(fixture, choice);
    tokio::time::sleep(SOON).await;
    assert_eq!(fixture.backups[0].content("app/schema"), None);
}

#[tokio::test(start_paused = true)]
async fn of_many_deletions_of_a_name_one_tombstone_is_kept() {
    let fixture = Fixture::with(choice());
    for _ in 0..5 {
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.rm("app/schema").await.unwrap();
    }
    assert_eq!(order(&fixture, "sync").await["differences"], 0);
    for store in fixture.all() {
        let keys = store.keys().into_iter();
        let keys: Vec<String> = keys.filter(|key| !key.contains("/versions/")).collect();
        assert_eq!(keys.len(), 1, "{keys:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mount_restores_its_push_after_an_older_one_replaced_it() {
    for (honours, expected) in [(false, V1), (true, V2)] {
        let fixture = Fixture::with(Choice {
            stores: Some([
                Memory::ignoring_conditions(),
                Memory::default(),
                Memory::default(),
            ]),
            untried: !honours,
            ..choice()
        });
        let end = tokio::time::Instant::now() + SOON;
        fixture.fs.registry.try_conditions(end).await;
        fixture.cp("app/schema", V1).await.unwrap();
        // Another mount's push can have an earlier stamp and arrive later.
        let older = Stamp::new(1_700_000_000_000_000_000, V2, Format::Hcl);
        for store in fixture.all() {
            store.place("app/schema", V2, Some(older));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        let report = order(&fixture, "sync").await;
        assert_eq!(report["state"], "done", "{report:#}");
        assert!(all_hold(&fixture, expected), "{report:#}");
    }
}
