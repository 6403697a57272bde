//! The content that a rename may replace: the one that its program has read.

use super::fixtures::{choice, fixture_of};
use super::kernel::{Fixture, READ, WRITE};
use super::rename::{V1, V2, V3, all_hold};
use crate::fs::{Error, OpenMode};

async fn fixture() -> Fixture {
    fixture_of(choice(), V1).await
}

/// Reads an artifact, as a program does before it renames a new version over it.
async fn read(fixture: &Fixture, pid: u32) {
    let ino = fixture.walk("app/schema", pid).await.unwrap().ino;
    let opened = fixture.fs.clone().open(ino, READ, pid).await.unwrap();
    fixture.fs.clone().release(opened.fh).await.unwrap();
}

async fn write(fixture: &Fixture, path: &str, content: &[u8], pid: u32) {
    let how = OpenMode {
        truncate: true,
        ..WRITE
    };
    let parent = fixture.stat("app").await.unwrap().ino;
    let name = std::ffi::OsStr::new(path.strip_prefix("app/").unwrap());
    let attrs = crate::fs::CreateAttrs {
        perm: 0o600,
        pid,
        ..Default::default()
    };
    let created = fixture.fs.clone().create(parent, name, how, attrs);
    let (_, opened) = created.await.unwrap();
    fixture.fs.write(opened.fh, 0, content, 0).unwrap();
    fixture.fs.clone().flush(opened.fh, 0).await.unwrap();
    fixture.fs.clone().release(opened.fh).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rename_replaces_only_what_its_program_has_read() {
    let fixture = fixture().await;
    let pid = fixture.pid();
    read(&fixture, pid).await;
    fixture.another().cp("app/schema", V2).await.unwrap();
    // The mount learns of the new content in between; the program doesn't.
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    write(&fixture, "app/.s", V3, pid).await;
    let renamed = fixture.rename("app/.s", "app/schema", false, pid).await;
    assert_eq!(renamed, Err(Error::Stale));
    all_hold(&fixture, "app/schema", V2);
    assert_eq!(fixture.cat("app/.s").await.unwrap(), V3);
    let kept = fixture.ls(".atlasfs/unpushed/app").await.unwrap();
    assert_eq!(kept.len(), 1, "kept once, though the kernel asks twice");
    // The same result for an mv of that file by another program.
    assert_eq!(fixture.mv("app/.s", "app/schema").await, Err(Error::Stale));
    all_hold(&fixture, "app/schema", V2);
    // A program that has read the newest content may replace it.
    fixture.rm("app/.s").await.unwrap();
    read(&fixture, pid).await;
    write(&fixture, "app/.s", V3, pid).await;
    fixture
        .rename("app/.s", "app/schema", false, pid)
        .await
        .unwrap();
    all_hold(&fixture, "app/schema", V3);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_has_read_nothing_replaces_the_newest_content() {
    let fixture = fixture().await;
    fixture.cp("app/.s", V3).await.unwrap();
    fixture.another().cp("app/schema", V2).await.unwrap();
    fixture.wait().await;
    fixture.mv("app/.s", "app/schema").await.unwrap();
    all_hold(&fixture, "app/schema", V3);
}

#[tokio::test(start_paused = true)]
async fn a_rename_that_the_registry_finds_overtaken_is_a_conflict() {
    let fixture = fixture().await;
    fixture.cp("app/.s", V3).await.unwrap();
    fixture.stat("app/schema").await.unwrap();
    // Within the TTL, the mount doesn't know the new content yet.
    fixture.another().cp("app/schema", V2).await.unwrap();
    assert_eq!(fixture.mv("app/.s", "app/schema").await, Err(Error::Stale));
    all_hold(&fixture, "app/schema", V2);
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    let conflicts = events.matches("\"event\":\"conflict\"").count();
    assert_eq!(
        conflicts, 1,
        "one conflict, though the kernel asks twice: {events}"
    );
}

#[tokio::test]
async fn a_program_may_save_repeatedly_without_reading() {
    let fixture = fixture().await;
    let pid = fixture.pid();
    read(&fixture, pid).await;
    for content in [V2, V3, V2] {
        write(&fixture, "app/.s", content, pid).await;
        fixture
            .rename("app/.s", "app/schema", false, pid)
            .await
            .unwrap();
        all_hold(&fixture, "app/schema", content);
    }
    // A write in place in between: the handle knows its own push.
    let how = OpenMode {
        truncate: true,
        ..WRITE
    };
    let ino = fixture.walk("app/schema", pid).await.unwrap().ino;
    let sent_back = fixture.fs.clone().open(ino, how, pid).await;
    assert_eq!(sent_back.err(), Some(Error::Stale));
    let ino = fixture.walk("app/schema", pid).await.unwrap().ino;
    let opened = fixture.fs.clone().open(ino, how, pid).await.unwrap();
    fixture.fs.write(opened.fh, 0, V1, 0).unwrap();
    fixture.fs.clone().flush(opened.fh, 0).await.unwrap();
    write(&fixture, "app/.s", V3, pid).await;
    fixture
        .rename("app/.s", "app/schema", false, pid)
        .await
        .unwrap();
    all_hold(&fixture, "app/schema", V3);
}
