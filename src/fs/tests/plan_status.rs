//! The status of a plan: setting it is a push.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::json;

use super::V1;
use super::fixtures::{fixture_with, plan, replaying, set_all, unpushed, unstamped_lists};
use super::kernel::{Choice, Fixture, WRITE, WRITE_ANEW};
use super::reconcile::{choice, from_another_machine, order};
use crate::fs::{Error, Result, XattrFlag};
use crate::model::{PlanStatus, Stamp};
use crate::store::{Fault, Kind, Memory};

const KEY: &str = "app/plans/p";

impl Fixture {
    async fn set_status_of(&self, ino: u64, value: &[u8], flag: XattrFlag) -> Result<()> {
        let name = OsStr::new("user.atlas.status");
        let (fs, pid) = (self.fs.clone(), self.pid());
        fs.setxattr(ino, name, value, flag, pid).await
    }

    /// Does what `setfattr` does.
    async fn set_status(&self, path: &str, value: &str) -> Result<()> {
        let ino = self.stat(path).await?.ino;
        self.set_status_of(ino, value.as_bytes(), XattrFlag::Any)
            .await
    }

    async fn status(&self) -> Option<String> {
        self.xattr(KEY, "status").await
    }
}

/// A mount with a plan.
async fn planned(choice: Choice) -> Fixture {
    let fixture = Fixture::with(choice);
    fixture.cp(KEY, &plan("p")).await.unwrap();
    fixture
}

fn status(store: &Memory) -> Option<PlanStatus> {
    Some(store.object(KEY)?.stamp?.status)
}

#[track_caller]
fn all_have(fixture: &Fixture, expected: PlanStatus) {
    assert_eq!(fixture.all().map(status), [Some(expected); 3]);
}

fn puts(fixture: &Fixture) -> usize {
    let requests = fixture.all().map(Memory::requests).concat();
    let is_put = |request: &&String| request.starts_with("PUT");
    requests.iter().filter(is_put).count()
}

#[tokio::test]
async fn a_plan_is_approved_unless_its_push_says_otherwise() {
    let fixture = planned(choice()).await;
    all_have(&fixture, PlanStatus::Approved);
    assert_eq!(fixture.status().await.unwrap(), "APPROVED");
}

#[tokio::test]
async fn setting_the_status_pushes_it_to_every_target() {
    let fixture = planned(choice()).await;
    puts(&fixture);
    fixture.set_status(KEY, "PENDING").await.unwrap();
    assert_eq!(puts(&fixture), 3);
    all_have(&fixture, PlanStatus::Pending);
    for store in fixture.all() {
        assert_eq!(store.content(KEY).unwrap(), plan("p"));
    }
    assert_eq!(fixture.status().await.unwrap(), "PENDING");
    let receipt = fixture.xattr(KEY, "push").await.unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&receipt).unwrap(),
        json!({
            "File": { "URL": "atlas://app/plans/p", "Status": "PENDING" },
            "Backups": [{ "URL": "mem://backup-1" }, { "URL": "mem://backup-2" }],
        })
    );
    let other = fixture.another();
    assert_eq!(other.status().await.unwrap(), "PENDING");
    fixture.set_status(KEY, "PENDING").await.unwrap();
    assert_eq!(puts(&fixture), 0, "it is there already");
    fixture.set_status(KEY, "APPROVED").await.unwrap();
    all_have(&fixture, PlanStatus::Approved);
}

#[tokio::test]
async fn only_plans_have_a_status() {
    let fixture = fixture_with(V1).await;
    assert_eq!(fixture.xattr("app/schema", "status").await, None);
    let set = fixture.set_status("app/schema", "PENDING").await;
    assert_eq!(set, Err(Error::NotSupported));
    let set = fixture.set_status("app/plans", "PENDING").await;
    assert_eq!(set, Err(Error::NotSupported));
}

#[tokio::test]
async fn another_status_is_refused_with_the_reason() {
    let fixture = planned(choice()).await;
    puts(&fixture);
    for other in ["pending", "", "PENDING\n", "ABORTED"] {
        let set = fixture.set_status(KEY, other).await;
        assert_eq!(set, Err(Error::Invalid), "{other:?}");
    }
    let ino = fixture.stat(KEY).await.unwrap().ino;
    let set = fixture.set_status_of(ino, b"\xff", XattrFlag::Any).await;
    assert_eq!(set, Err(Error::Invalid));
    let events = fixture.events("refused").await;
    assert_eq!(events.len(), 5);
    let told = events[0]["message"].as_str().unwrap();
    assert!(told.contains("PENDING or APPROVED"), "{told}");
    let set = fixture.set_status_of(ino, b"PENDING", XattrFlag::Create);
    assert_eq!(set.await, Err(Error::Exists));
    let touched = fixture.open("app/plans/q", WRITE, true).await.unwrap();
    touched.close().await.unwrap();
    let set = fixture.set_status("app/plans/q", "PENDING").await;
    assert_eq!(set, Err(Error::Invalid), "it has no content");
    assert_eq!(puts(&fixture), 0);
}

#[tokio::test]
async fn a_read_only_mount_sets_no_status() {
    let fixture = planned(choice()).await;
    let fixture = from_another_machine(
        fixture,
        Choice {
            read_only: true,
            ..choice()
        },
    );
    let set = fixture.set_status(KEY, "PENDING").await;
    assert_eq!(set, Err(Error::ReadOnly));
    all_have(&fixture, PlanStatus::Approved);
}

#[tokio::test]
async fn new_content_is_approved_and_the_same_keeps_its_status() {
    let fixture = planned(choice()).await;
    fixture.set_status(KEY, "PENDING").await.unwrap();
    fixture.cp(KEY, &plan("p")).await.unwrap();
    all_have(&fixture, PlanStatus::Pending);
    let longer = [&plan("p")[..], b"\n"].concat();
    fixture.cp(KEY, &longer).await.unwrap();
    all_have(&fixture, PlanStatus::Approved);
}

#[tokio::test]
async fn a_status_set_on_an_open_file_is_pushed_by_its_close() {
    let fixture = Fixture::with(choice());
    let file = fixture.open(KEY, WRITE_ANEW, true).await.unwrap();
    file.write(0, &plan("p")).unwrap();
    let set = |value| fixture.set_status_of(file.ino, value, XattrFlag::Any);
    set(b"PENDING").await.unwrap();
    let name = OsStr::new("user.atlas.status");
    let shown = fixture.fs.clone().getxattr(file.ino, name).await.unwrap();
    assert_eq!(shown, &b"PENDING"[..]);
    assert_eq!(puts(&fixture), 0);
    file.flush().await.unwrap();
    assert_eq!(puts(&fixture), 3, "one push of both");
    all_have(&fixture, PlanStatus::Pending);
    // Nothing is unpushed now, so the status is a push of its own.
    set(b"APPROVED").await.unwrap();
    assert_eq!(puts(&fixture), 3);
    all_have(&fixture, PlanStatus::Approved);
    file.close().await.unwrap();
    assert_eq!(puts(&fixture), 0);
}

#[tokio::test]
async fn a_rename_pushes_the_status_of_the_temporary_file() {
    let fixture = Fixture::with(choice());
    fixture.cp("app/plans/.p", &plan("p")).await.unwrap();
    let set = fixture.set_status("app/plans/.p", "pending").await;
    assert_eq!(set, Ok(()), "it is the tool's own file");
    assert_eq!(fixture.mv("app/plans/.p", KEY).await, Err(Error::Invalid));
    fixture.set_status("app/plans/.p", "PENDING").await.unwrap();
    fixture.mv("app/plans/.p", KEY).await.unwrap();
    all_have(&fixture, PlanStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_misses_a_status_gets_it_from_the_journal() {
    for missed in 0..3 {
        let fixture = planned(choice()).await;
        fixture.all()[missed].set_fault(Fault::Fail(Kind::Unreachable));
        fixture.set_status(KEY, "PENDING").await.unwrap();
        assert!(fixture.xattr(KEY, "pending").await.is_some());
        let fixture = fixture.restart(replaying());
        fixture.all()[missed].set_fault(None);
        tokio::time::sleep(Duration::from_secs(100)).await;
        all_have(&fixture, PlanStatus::Pending);
        assert_eq!(fixture.status().await.unwrap(), "PENDING");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_gives_a_status_to_the_same_bytes_put_by_hand() {
    let fixture = planned(replaying()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.set_status(KEY, "PENDING").await.unwrap();
    fixture.registry.place(KEY, &plan("p"), None);
    fixture.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    all_have(&fixture, PlanStatus::Pending);
}

#[tokio::test]
async fn a_status_set_after_a_failed_close_is_pushed_by_the_next() {
    let fixture = Fixture::with(choice());
    let file = fixture.open(KEY, WRITE_ANEW, true).await.unwrap();
    file.write(0, &plan("p")).unwrap();
    set_all(&fixture, Fault::FailWrites(Kind::Unreachable));
    assert_eq!(file.flush().await, Err(Error::Io));
    set_all(&fixture, None);
    let set = fixture.set_status_of(file.ino, b"PENDING", XattrFlag::Any);
    set.await.unwrap();
    file.close().await.unwrap();
    all_have(&fixture, PlanStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_replay_replaces_no_later_status_of_the_same_bytes() {
    let fixture = planned(replaying()).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Unreachable));
    fixture.set_status(KEY, "PENDING").await.unwrap();
    let pushed = fixture.backups[0].object(KEY).unwrap().stamp.unwrap();
    let approved = Stamp {
        when: pushed.when + 1,
        status: PlanStatus::Approved,
        ..pushed
    };
    fixture.registry.place(KEY, &plan("p"), Some(approved));
    fixture.registry.set_fault(None);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(status(&fixture.registry), Some(PlanStatus::Approved));
    let error = fixture.xattr(KEY, "error").await.unwrap();
    assert!(error.contains(", PENDING is not based on that"), "{error}");
    // The next push decides.
    fixture.set_status(KEY, "PENDING").await.unwrap();
    all_have(&fixture, PlanStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_no_target_takes_is_a_failed_push() {
    let fixture = planned(choice()).await;
    set_all(&fixture, Fault::FailWrites(Kind::Unreachable));
    let set = fixture.set_status(KEY, "PENDING").await;
    assert_eq!(set, Err(Error::Io));
    assert_eq!(unpushed(&fixture).await, [plan("p")]);
    assert!(fixture.xattr(KEY, "error").await.is_some());
    set_all(&fixture, None);
    assert_eq!(fixture.status().await.unwrap(), "APPROVED");
    fixture.set_status(KEY, "PENDING").await.unwrap();
    assert!(unpushed(&fixture).await.is_empty());
    assert_eq!(fixture.xattr(KEY, "error").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_target_with_another_status_of_the_same_bytes_is_behind() {
    for stores in [|| None, unstamped_lists] {
        for behind in 1..3 {
            let stores = stores();
            let fixture = planned(Choice { stores, ..choice() }).await;
            let approved = fixture.all()[behind].object(KEY).unwrap();
            fixture.set_status(KEY, "PENDING").await.unwrap();
            fixture.all()[behind].place_copy(KEY, &approved);
            let fixture = from_another_machine(fixture, choice());
            let report = order(&fixture, "sync").await;
            assert_eq!(report["found"][0]["problem"], "behind", "{report:#}");
            all_have(&fixture, PlanStatus::Pending);
            // A copy that somebody has put there by hand has no status.
            fixture.all()[behind].place(KEY, &plan("p"), None);
            assert_eq!(order(&fixture, "sync").await["repaired"], 1);
            all_have(&fixture, PlanStatus::Pending);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_replaces_no_content_that_another_mount_has_pushed() {
    let fixture = planned(choice()).await;
    let other = fixture.another();
    let longer = [&plan("p")[..], b"\n"].concat();
    let ino = fixture.stat(KEY).await.unwrap().ino;
    other.cat(KEY).await.unwrap();
    other.cp(KEY, &longer).await.unwrap();
    let (fs, pid) = (fixture.fs.clone(), fixture.pid());
    let set = || {
        let name = OsStr::new("user.atlas.status");
        fs.clone()
            .setxattr(ino, name, b"PENDING", XattrFlag::Any, pid)
    };
    assert_eq!(set().await, Err(Error::Stale));
    fixture.wait().await;
    assert_eq!(set().await, Err(Error::Stale), "the kernel's retry");
    for store in fixture.all() {
        assert_eq!(store.content(KEY).unwrap(), longer);
    }
    all_have(&fixture, PlanStatus::Approved);
}

#[tokio::test(start_paused = true)]
async fn a_writer_does_not_replace_a_status_that_it_has_not_seen() {
    let fixture = planned(choice()).await;
    for other in [Some(fixture.another()), None] {
        fixture.set_status(KEY, "APPROVED").await.unwrap();
        let file = fixture.open(KEY, WRITE_ANEW, false).await.unwrap();
        file.write(0, &[&plan("p")[..], b"\n"].concat()).unwrap();
        let other = other.as_ref().unwrap_or(&fixture);
        other.set_status(KEY, "PENDING").await.unwrap();
        assert_eq!(file.close().await, Err(Error::Stale));
        all_have(&fixture, PlanStatus::Pending);
        fixture.wait().await;
    }
}
