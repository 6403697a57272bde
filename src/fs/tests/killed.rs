//! Killed writers: no bytes of theirs are pushed, and none are lost.

use super::closer::{
    CHILD, HALF, Machine, OPENER, REST, THREAD, close, count, holds, is_saved, status, write,
    write_anew,
};
use super::fixtures::{fixture_with, plan};
use super::kernel::{Choice, Fixture, WRITE};
use super::{V1, V2};
use crate::fs::Error;

const SIGKILL: i32 = libc::SIGKILL;

/// Returns the bytes kept of a killed writer; there is at most one such file.
async fn kept(fixture: &Fixture) -> Option<Vec<u8>> {
    let status = status(fixture).await;
    let unpushed = status["unpushed"].as_array().unwrap();
    assert!(unpushed.len() <= 1, "{status:#}");
    let path = unpushed.first()?["path"].as_str().unwrap();
    Some(fixture.cat(path).await.unwrap())
}

/// Asserts that the bytes are not pushed but kept, and that the status reports them.
async fn is_torn(fixture: &Fixture, content: &[u8]) {
    holds(fixture, V1);
    assert_eq!(kept(fixture).await.as_deref(), Some(content));
    assert_eq!(count(fixture, "torn").await, 1);
    let status = status(fixture).await;
    assert_eq!(status["healthy"], false);
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("killed its writer"), "{error}");
}

#[tokio::test]
async fn a_killed_writers_bytes_are_kept_and_not_pushed() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, OPENER);
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    holds(&fixture, V1);
    file.release().await;
    is_torn(&fixture, HALF).await;
}

#[tokio::test]
async fn a_kill_is_over_when_its_bytes_are_removed() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, OPENER);
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    let unpushed = fixture.fs.registry.unpushed();
    let when = unpushed[0].stamp.when;
    fixture.fs.registry.remove_unpushed(when).await.unwrap();
    assert_eq!(status(&fixture).await["healthy"], true);
    fixture.cp("app/schema", V2).await.unwrap();
    holds(&fixture, V2);
}

#[tokio::test]
async fn no_later_mount_pushes_the_bytes_of_a_killed_writer() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, OPENER);
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    let fixture = fixture.restart(Choice {
        replay: true,
        ..Choice::default()
    });
    fixture.wait().await;
    holds(&fixture, V1);
    assert_eq!(kept(&fixture).await.as_deref(), Some(HALF));
    assert_eq!(status(&fixture).await["healthy"], false);
}

#[tokio::test]
async fn a_kill_before_the_first_byte_leaves_the_document() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    machine.holds(OPENER, false);
    assert_eq!(close(&file, OPENER).await, Err(Error::Invalid));
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    holds(&fixture, V1);
    assert_eq!(kept(&fixture).await, None);
    assert_eq!(count(&fixture, "torn").await, 1);
    assert_eq!(status(&fixture).await["healthy"], false);
}

#[tokio::test]
async fn a_new_name_whose_writer_is_killed_stays_unpushed() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    for content in [&b""[..], &plan("p1")[..20]] {
        let file = fixture.open_by("app/plans/p1", WRITE, true, OPENER).await;
        let file = file.unwrap();
        write(&file, content, OPENER);
        machine.kill(OPENER, SIGKILL);
        close(&file, OPENER).await.unwrap();
        file.release().await;
        for store in fixture.all() {
            assert_eq!(store.content("app/plans/p1"), None);
        }
        assert_eq!(kept(&fixture).await.unwrap_or_default(), content);
    }
}

#[tokio::test]
async fn a_killed_writer_that_has_synced_everything_has_saved() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, V2, OPENER);
    fixture.fs.clone().fsync(file.fh).await.unwrap();
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    is_saved(&fixture, V2).await;
}

#[tokio::test]
async fn a_killed_writer_without_a_last_close_has_not_saved() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, OPENER);
    machine.kill(OPENER, SIGKILL);
    file.release().await;
    is_torn(&fixture, HALF).await;
}

#[tokio::test]
async fn an_opener_that_only_starts_the_killed_writer_has_not_saved() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    machine.kill(CHILD, libc::SIGTERM);
    close(&file, CHILD).await.unwrap();
    // timeout(1) ends by an exit of its own.
    machine.holds(OPENER, false);
    assert_eq!(close(&file, OPENER).await, Err(Error::Io));
    assert_eq!(close(&file, OPENER).await, Err(Error::Io));
    file.release().await;
    is_torn(&fixture, HALF).await;
}

#[tokio::test]
async fn a_sibling_that_writes_on_saves_no_killed_writers_half() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    machine.kill(CHILD, SIGKILL);
    close(&file, CHILD).await.unwrap();
    write(&file, REST, CHILD + 100);
    close(&file, CHILD + 100).await.unwrap();
    machine.holds(OPENER, false);
    assert_eq!(close(&file, OPENER).await, Err(Error::Io));
    file.release().await;
    is_torn(&fixture, &[HALF, REST].concat()).await;
}

#[tokio::test]
async fn an_opener_that_writes_on_after_a_kill_saves() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    machine.kill(CHILD, SIGKILL);
    close(&file, CHILD).await.unwrap();
    write(&file, REST, THREAD);
    machine.holds(OPENER, false);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    is_saved(&fixture, &[HALF, REST].concat()).await;
}

#[tokio::test]
async fn a_file_that_is_begun_anew_after_a_kill_is_saved() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    machine.kill(CHILD, SIGKILL);
    close(&file, CHILD).await.unwrap();
    file.truncate(0).await.unwrap();
    write(&file, V2, CHILD + 100);
    machine.holds(OPENER, false);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    is_saved(&fixture, V2).await;
}

#[tokio::test]
async fn fsync_pushes_the_bytes_of_a_killed_writer() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    machine.kill(CHILD, SIGKILL);
    close(&file, CHILD).await.unwrap();
    fixture.fs.clone().fsync(file.fh).await.unwrap();
    machine.holds(OPENER, false);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    is_saved(&fixture, HALF).await;
}

#[tokio::test]
async fn a_bystander_whose_reader_left_tears_nothing() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, V2, CHILD);
    let bystander = CHILD + 100;
    machine.kill(bystander, libc::SIGPIPE);
    close(&file, bystander).await.unwrap();
    holds(&fixture, V1);
    close(&file, CHILD).await.unwrap();
    machine.holds(OPENER, false);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    is_saved(&fixture, V2).await;
}

#[tokio::test]
async fn the_bytes_of_a_killed_scripts_children_are_incomplete() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    close(&file, CHILD).await.unwrap();
    let bystander = CHILD + 100;
    machine.kill(bystander, libc::SIGTERM);
    close(&file, bystander).await.unwrap();
    machine.holds(OPENER, false);
    assert_eq!(close(&file, OPENER).await, Err(Error::Io));
    file.release().await;
    is_torn(&fixture, HALF).await;
}

#[tokio::test]
async fn a_child_that_outlives_its_killed_opener_has_not_saved() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    write(&file, HALF, CHILD);
    assert_eq!(close(&file, CHILD).await, Err(Error::Io));
    file.release().await;
    is_torn(&fixture, HALF).await;
}

#[tokio::test]
async fn a_process_that_one_of_its_threads_shows_killed_is_killed() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, OPENER);
    machine.kill(THREAD, SIGKILL);
    close(&file, THREAD).await.unwrap();
    file.release().await;
    is_torn(&fixture, HALF).await;
}

#[tokio::test]
async fn a_killed_writer_of_a_temporary_file_is_nothing_to_tell() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = fixture
        .open_by("app/.tmp", WRITE, true, OPENER)
        .await
        .unwrap();
    fixture.fs.write(file.fh, 0, HALF, OPENER).unwrap();
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    is_saved(&fixture, V1).await;
    assert_eq!(fixture.cat("app/.tmp").await.unwrap(), HALF);
}

#[tokio::test]
async fn a_renamed_temporary_file_whose_writer_is_killed_is_torn() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = fixture
        .open_by("app/.tmp", WRITE, true, OPENER)
        .await
        .unwrap();
    fixture.fs.write(file.fh, 0, V1, OPENER).unwrap();
    fixture.mv("app/.tmp", "app/schema").await.unwrap();
    write(&file, REST, OPENER);
    machine.kill(OPENER, SIGKILL);
    close(&file, OPENER).await.unwrap();
    file.release().await;
    is_torn(&fixture, &[V1, REST].concat()).await;
}
