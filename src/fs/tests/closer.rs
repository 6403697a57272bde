//! Descriptors that processes share: which close is a save.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::fixtures::fixture_with;
use super::kernel::{File, Fixture, READ, WRITE_ANEW};
use super::{V1, V2};
use crate::fs::{Error, Processes, Result};

/// The process that opens files here; another process that it has started; and one of the opener's
/// threads.
pub(super) const OPENER: u32 = 1_000;
pub(super) const CHILD: u32 = 1_001;
pub(super) const THREAD: u32 = 1_002;

/// The two halves of a document.
pub(super) const HALF: &[u8] = b"schema \"half\" {}\n";
pub(super) const REST: &[u8] = b"schema \"rest\" {}\n";

/// A machine whose processes a test controls.
#[derive(Debug, Default)]
pub(super) struct Machine(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    killed: HashMap<u32, i32>,
    holding: HashSet<u32>,
    out_of_sight: HashSet<u32>,
}

impl Processes for Machine {
    fn process_of(&self, thread: u32) -> Option<u32> {
        let state = self.0.lock().unwrap();
        let process = if thread == THREAD { OPENER } else { thread };
        (!state.out_of_sight.contains(&thread)).then_some(process)
    }

    fn killed_by(&self, thread: u32) -> Option<i32> {
        self.0.lock().unwrap().killed.get(&thread).copied()
    }

    fn holds(&self, process: u32, _inodes: [u64; 2]) -> bool {
        self.0.lock().unwrap().holding.contains(&process)
    }

    fn open_inodes(&self, thread: u32) -> Option<Vec<u64>> {
        let state = self.0.lock().unwrap();
        let held = state.holding.contains(&thread).then_some(2);
        (!state.out_of_sight.contains(&thread)).then(|| held.into_iter().collect())
    }
}

impl Machine {
    pub(super) fn of(fixture: &Fixture) -> Arc<Self> {
        let machine = Arc::new(Self::default());
        fixture.fs.set_processes(machine.clone());
        machine
    }

    pub(super) fn kill(&self, thread: u32, signal: i32) {
        let mut state = self.0.lock().unwrap();
        state.killed.insert(thread, signal);
        state.holding.remove(&thread);
    }

    pub(super) fn holds(&self, process: u32, holds: bool) {
        let mut state = self.0.lock().unwrap();
        match holds {
            true => state.holding.insert(process),
            false => state.holding.remove(&process),
        };
    }

    pub(super) fn hide(&self, thread: u32) {
        self.0.lock().unwrap().out_of_sight.insert(thread);
    }
}

pub(super) async fn write_anew<'a>(fixture: &'a Fixture, machine: &Machine) -> File<'a> {
    let opened = fixture
        .open_by("app/schema", WRITE_ANEW, true, OPENER)
        .await;
    machine.holds(OPENER, true);
    opened.unwrap()
}

pub(super) fn write(file: &File<'_>, content: &[u8], thread: u32) {
    let fs = &file.fixture.fs;
    let staged = fs.handle(file.fh).unwrap().staged().unwrap();
    let end = staged.attributes().0;
    let written = fs.write(file.fh, end, content, thread);
    assert_eq!(written.unwrap() as usize, content.len());
}

pub(super) async fn close(file: &File<'_>, thread: u32) -> Result<()> {
    file.fixture.fs.clone().flush(file.fh, thread).await
}

pub(super) fn holds(fixture: &Fixture, content: &[u8]) {
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").as_deref(), Some(content));
    }
}

pub(super) async fn status(fixture: &Fixture) -> Value {
    fixture.json(".atlasfs/status").await
}

pub(super) async fn count(fixture: &Fixture, event: &str) -> usize {
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    let events = events.lines().map(serde_json::from_str);
    let events = events.map(|event: serde_json::Result<Value>| event.unwrap());
    events.filter(|told| told["event"] == event).count()
}

/// Asserts that a document is pushed, and that the status shows no failure.
pub(super) async fn is_saved(fixture: &Fixture, content: &[u8]) {
    holds(fixture, content);
    assert_eq!(status(fixture).await["healthy"], true);
    assert_eq!(count(fixture, "torn").await, 0);
    assert_eq!(count(fixture, "unreported").await, 0);
}

#[tokio::test]
async fn a_close_by_another_process_leaves_the_push_to_the_opener() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    close(&file, CHILD).await.unwrap();
    holds(&fixture, V1);
    write(&file, REST, CHILD + 100);
    close(&file, CHILD + 100).await.unwrap();
    holds(&fixture, V1);
    machine.holds(OPENER, false);
    close(&file, OPENER).await.unwrap();
    is_saved(&fixture, &[HALF, REST].concat()).await;
    file.release().await;
    is_saved(&fixture, &[HALF, REST].concat()).await;
}

#[tokio::test]
async fn every_thread_of_the_opener_closes_for_it() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, V2, OPENER);
    machine.holds(OPENER, false);
    close(&file, THREAD).await.unwrap();
    is_saved(&fixture, V2).await;
}

#[tokio::test]
async fn the_opener_is_known_after_its_opening_thread_has_ended() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = fixture
        .open_by("app/schema", WRITE_ANEW, true, THREAD)
        .await;
    let file = file.unwrap();
    machine.holds(OPENER, true);
    machine.hide(THREAD);
    write(&file, HALF, OPENER);
    close(&file, CHILD).await.unwrap();
    holds(&fixture, V1);
    machine.holds(OPENER, false);
    close(&file, OPENER).await.unwrap();
    is_saved(&fixture, HALF).await;
}

#[tokio::test]
async fn an_opener_that_keeps_a_duplicate_has_not_saved() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, CHILD);
    close(&file, OPENER).await.unwrap();
    close(&file, THREAD).await.unwrap();
    holds(&fixture, V1);
    write(&file, b"schema {", OPENER);
    machine.holds(OPENER, false);
    assert_eq!(close(&file, OPENER).await, Err(Error::Invalid));
    holds(&fixture, V1);
}

#[tokio::test]
async fn two_opens_by_one_process_are_two_saves() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    let other = write_anew(&fixture, &machine).await;
    write(&file, V2, OPENER);
    // The descriptor that the opener still holds belongs to the other file, which shows the same
    // inode.
    close(&file, OPENER).await.unwrap();
    is_saved(&fixture, V2).await;
    machine.holds(OPENER, false);
    write(&other, HALF, OPENER);
    assert_eq!(close(&other, OPENER).await, Err(Error::Stale));
    holds(&fixture, V2);
}

#[tokio::test]
async fn fsync_by_any_process_pushes() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, V2, CHILD);
    fixture.fs.clone().fsync(file.fh).await.unwrap();
    is_saved(&fixture, V2).await;
}

#[tokio::test]
async fn any_close_pushes_once_the_opener_lets_go() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    machine.holds(OPENER, false);
    assert_eq!(close(&file, OPENER).await, Err(Error::Invalid));
    write(&file, V2, CHILD);
    close(&file, CHILD).await.unwrap();
    is_saved(&fixture, V2).await;
}

#[tokio::test]
async fn the_openers_last_close_returns_the_result_of_the_push() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    machine.holds(OPENER, false);
    write(&file, b"schema {", CHILD);
    assert_eq!(close(&file, CHILD).await, Err(Error::Invalid));
    holds(&fixture, V1);
}

#[tokio::test]
async fn processes_out_of_sight_push_at_every_close() {
    for hidden in [OPENER, CHILD] {
        let fixture = fixture_with(V1).await;
        let machine = Machine::of(&fixture);
        machine.hide(hidden);
        let file = write_anew(&fixture, &machine).await;
        write(&file, V2, CHILD);
        close(&file, CHILD).await.unwrap();
        is_saved(&fixture, V2).await;
    }
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, V2, CHILD);
    close(&file, 0).await.unwrap();
    is_saved(&fixture, V2).await;
}

#[tokio::test]
async fn bytes_that_no_close_has_saved_are_pushed_in_the_end() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, V2, CHILD);
    close(&file, CHILD).await.unwrap();
    file.release().await;
    holds(&fixture, V2);
    assert_eq!(count(&fixture, "unreported").await, 1);
}

#[tokio::test]
async fn a_readers_close_pushes_nothing() {
    let fixture = fixture_with(V1).await;
    let machine = Machine::of(&fixture);
    let file = write_anew(&fixture, &machine).await;
    write(&file, HALF, OPENER);
    // An open as through /proc/self/fd.
    let reader = fixture
        .fs
        .clone()
        .open(file.ino, READ, CHILD)
        .await
        .unwrap();
    assert!(reader.no_flush);
    fixture.fs.clone().flush(reader.fh, CHILD).await.unwrap();
    holds(&fixture, V1);
    fixture.fs.clone().release(reader.fh).await.unwrap();
    holds(&fixture, V1);
    machine.holds(OPENER, false);
    close(&file, OPENER).await.unwrap();
    is_saved(&fixture, HALF).await;
}
