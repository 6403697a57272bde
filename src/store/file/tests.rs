//! Tests of cases that only the `file` backend has: vanishing folders, links, changes by hand.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::dir::Dir;
use crate::model::{Format, Stamp};

fn location(dir: &Path, create_dir: bool) -> FileLocation {
    FileLocation {
        url: format!("file://{}", dir.display()),
        dir: dir.into(),
        create_dir,
        known: false,
        read_only: false,
    }
}

struct FolderFixture {
    driver: FileBackend,
    dir: PathBuf,
    _temp: tempfile::TempDir,
}

fn fixture() -> FolderFixture {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let (driver, found) = FileBackend::open(&location(&dir, true));
    found.unwrap();
    FolderFixture {
        driver,
        dir,
        _temp: temp,
    }
}

async fn put(driver: &FileBackend, key: &str, content: &'static [u8], when: u64) -> SignedStamp {
    let stamp = SignedStamp::from(Stamp::new(when, content, Format::Hcl));
    let content = Bytes::from_static(content);
    let put = driver.put(key, content, &stamp, &Condition::None);
    put.await.unwrap();
    stamp
}

fn kind<T: std::fmt::Debug>(result: Result<T, Failure>) -> Kind {
    result.unwrap_err().kind
}

const MAX: u64 = 1 << 20;

/// Holds the folder's lock, like another process.
fn hold(dir: &Path) -> lock::Lock {
    let held = lock::try_now(&Dir::open(dir).unwrap());
    held.unwrap().unwrap()
}

#[tokio::test]
async fn the_folder_holds_plain_bytes_under_the_keys_of_the_layout() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/plans/p1", b"plan", 1).await;
    assert_eq!(fs::read(dir.join("app/plans/p1")).unwrap(), b"plan");
    assert_eq!(fs::read_dir(dir.join(".atlasfs/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_folder_is_missing_until_it_is_there_and_never_made_by_an_operation() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("store");
    let (driver, found) = FileBackend::open(&location(&dir, false));
    let failure = found.unwrap_err();
    assert_eq!(failure.kind, Kind::StoreMissing);
    assert!(failure.reason.contains("?create_dir=true"), "{failure}");
    assert_eq!(kind(driver.probe().await), Kind::StoreMissing);
    assert!(!dir.exists());
    fs::create_dir(&dir).unwrap();
    driver.probe().await.unwrap();
    put(&driver, "app/schema", b"x", 1).await;
}

#[tokio::test]
async fn a_folder_that_vanishes_is_missing_at_every_operation_and_is_not_made_again() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/schema", b"x", 1).await;
    fs::remove_dir_all(&dir).unwrap();
    let stamp = SignedStamp::from(Stamp::new(2, b"y", Format::Hcl));
    let content = Bytes::from_static(b"y");
    let put = driver.put("app/schema", content, &stamp, &Condition::None);
    assert_eq!(kind(put.await), Kind::StoreMissing);
    assert_eq!(
        kind(driver.get("app/schema", MAX).await),
        Kind::StoreMissing
    );
    assert_eq!(kind(driver.head("app/schema").await), Kind::StoreMissing);
    assert_eq!(kind(driver.list("app").await), Kind::StoreMissing);
    assert_eq!(kind(driver.list_prefixes().await), Kind::StoreMissing);
    assert_eq!(kind(driver.delete("app/schema").await), Kind::StoreMissing);
    assert_eq!(kind(driver.probe().await), Kind::StoreMissing);
    assert!(!dir.exists());
    fs::write(&dir, "a file").unwrap();
    assert_eq!(
        kind(driver.get("app/schema", MAX).await),
        Kind::StoreMissing
    );
    assert_eq!(kind(driver.probe().await), Kind::StoreMissing);
}

#[tokio::test]
async fn the_empty_folder_below_a_disk_that_is_not_mounted_is_not_the_store() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/schema", b"x", 1).await;
    fs::rename(&dir, dir.with_extension("unmounted")).unwrap();
    fs::create_dir(&dir).unwrap();
    let failure = driver.get("app/schema", MAX).await.unwrap_err();
    assert_eq!(failure.kind, Kind::StoreMissing);
    assert!(failure.reason.contains("is its disk mounted?"), "{failure}");
    fs::create_dir(dir.join(".atlasfs")).unwrap();
    assert_eq!(kind(driver.get("app/schema", MAX).await), Kind::NotFound);
    put(&driver, "app/schema", b"x", 2).await;
}

#[tokio::test]
async fn content_put_there_or_restored_by_hand_is_served() {
    let FolderFixture { driver, dir, _temp } = fixture();
    fs::create_dir_all(dir.join("app")).unwrap();
    fs::write(dir.join("app/schema"), "by hand").unwrap();
    let stored = driver.get("app/schema", MAX).await.unwrap();
    assert_eq!((&*stored.content, stored.stamp), (&b"by hand"[..], None));
    let stamp = put(&driver, "app/schema", b"pushed", 5).await;
    // A copy loses its time, but not its stamp.
    fs::copy(dir.join("app/schema"), dir.join("copy")).unwrap();
    fs::rename(dir.join("copy"), dir.join("app/schema")).unwrap();
    let stored = driver.get("app/schema", MAX).await.unwrap();
    assert_eq!(stored.stamp, Some(stamp));
    assert_eq!(driver.list("app").await.unwrap()[0].stamp, Some(stamp));
}

#[tokio::test]
async fn content_changed_behind_its_stamp_does_not_match_it() {
    let FolderFixture { driver, dir, _temp } = fixture();
    let stamp = put(&driver, "app/schema", b"pushed", 5).await;
    fs::write(dir.join("app/schema"), "pushes").unwrap();
    let stored = driver.get("app/schema", MAX).await.unwrap();
    assert_eq!(stored.stamp, Some(stamp));
    assert!(!stamp.stamp.matches(&stored.content));
    assert_eq!(driver.list("app").await.unwrap()[0].stamp, None);
    fs::write(dir.join(".atlasfs/stamps/app/schema"), "no stamp").unwrap();
    let stored = driver.get("app/schema", MAX).await.unwrap();
    assert_eq!((stored.stamp, stored.unreadable), (None, true));
    put(&driver, "app/schema", b"again", 6).await;
    assert_eq!(
        &*driver.get("app/schema", MAX).await.unwrap().content,
        b"again"
    );
}

#[tokio::test]
async fn links_fifos_sockets_and_strange_names_are_shown_as_what_they_are_and_never_followed() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/schema", b"x", 1).await;
    let secret = dir.with_extension("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("schema"), "secret").unwrap();
    symlink(secret.join("schema"), dir.join("app/link")).unwrap();
    symlink(&secret, dir.join("linked")).unwrap();
    nix::unistd::mkfifo(&dir.join("app/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("app/socket")).unwrap();
    for key in ["app/link", "linked/schema", "app/fifo", "app/socket"] {
        assert_eq!(kind(driver.get(key, MAX).await), Kind::NotFound, "{key}");
    }
    let stamp = SignedStamp::from(Stamp::new(2, b"y", Format::Hcl));
    for key in ["app/link", "linked/schema"] {
        let content = Bytes::from_static(b"y");
        let put = driver.put(key, content, &stamp, &Condition::None);
        assert_eq!(kind(put.await), Kind::Invalid);
    }
    driver.delete("linked/schema").await.unwrap();
    assert_eq!(fs::read(secret.join("schema")).unwrap(), b"secret");
    let mut keys: Vec<String> = driver
        .list("app")
        .await
        .unwrap()
        .into_iter()
        .map(|o| o.key)
        .collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "app/fifo (not a file)",
            "app/link (not a file)",
            "app/schema",
            "app/socket (not a file)"
        ]
    );
    assert!(driver.list("linked").await.unwrap().is_empty());
    assert_eq!(driver.list_prefixes().await.unwrap(), ["app"]);
}

#[tokio::test]
async fn a_directory_where_an_object_should_be_breaks_neither_list_nor_get() {
    let FolderFixture { driver, dir, _temp } = fixture();
    fs::create_dir_all(dir.join("app/schema")).unwrap();
    fs::write(dir.join("app/schema/x"), "x").unwrap();
    fs::write(dir.join("app/plans"), "a file").unwrap();
    assert_eq!(kind(driver.get("app/schema", MAX).await), Kind::NotFound);
    assert_eq!(kind(driver.get("app/plans/p1", MAX).await), Kind::NotFound);
    assert_eq!(driver.list("app").await.unwrap().len(), 2);
    let stamp = SignedStamp::from(Stamp::new(2, b"y", Format::Hcl));
    for key in ["app/schema", "app/plans/p1"] {
        let content = Bytes::from_static(b"y");
        let put = driver.put(key, content, &stamp, &Condition::None);
        assert_eq!(kind(put.await), Kind::Invalid, "{key}");
    }
    assert_eq!(fs::read_dir(dir.join(".atlasfs/tmp")).unwrap().count(), 0);
    driver.delete("app/schema").await.unwrap();
    assert!(dir.join("app/schema/x").exists());
}

#[tokio::test]
async fn what_a_crash_left_is_swept_at_open_unless_someone_is_writing() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/schema", b"x", 1).await;
    let left = dir.join(".atlasfs/tmp/708-1700000000000000001-0.c");
    fs::write(&left, "half").unwrap();
    fs::write(dir.join(".atlasfs/stamps/app/orphan"), "").unwrap();
    let lock = hold(&dir);
    FileBackend::open(&location(&dir, false)).1.unwrap();
    assert!(left.exists());
    drop(lock);
    FileBackend::open(&location(&dir, false)).1.unwrap();
    assert!(!left.exists());
    assert!(!dir.join(".atlasfs/stamps/app/orphan").exists());
    assert!(dir.join(".atlasfs/stamps/app/schema").exists());
}

#[tokio::test]
async fn a_repository_is_gone_with_its_last_object_and_a_bare_directory_is_none() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/plans/p1", b"x", 1).await;
    fs::create_dir_all(dir.join("bare/plans")).unwrap();
    assert_eq!(driver.list_prefixes().await.unwrap(), ["app"]);
    driver.delete("app/plans/p1").await.unwrap();
    assert!(driver.list_prefixes().await.unwrap().is_empty());
    assert!(dir.exists());
    put(&driver, "app/plans/p1", b"x", 2).await;
}

#[tokio::test]
async fn bookkeeping_objects_have_a_place_and_the_drivers_own_files_are_no_objects() {
    let FolderFixture { driver, _temp, .. } = fixture();
    put(&driver, ".atlasfs/tombstones/app/schema", b"gone", 1).await;
    let listed = driver.list(".atlasfs").await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].key, ".atlasfs/tombstones/app/schema");
    for key in [
        ".atlasfs/lock",
        ".atlasfs/tmp/x",
        ".atlasfs/stamps/app/schema",
        "",
        "a//b",
        "../x",
        "/x",
    ] {
        assert_eq!(kind(driver.get(key, MAX).await), Kind::Invalid, "{key}");
    }
}

#[tokio::test]
async fn conditions_hold_over_processes() {
    // The two backends share only the folder, like two processes.
    let FolderFixture { driver, dir, _temp } = fixture();
    let (other, _) = FileBackend::open(&location(&dir, false));
    for round in 1..100_u64 {
        let token = driver
            .head("app/schema")
            .await
            .ok()
            .and_then(|head| head.token);
        let condition = token.map_or(Condition::Absent, Condition::Unchanged);
        let (a, b) = (
            Stamp::new(2 * round, b"a", Format::Hcl).into(),
            Stamp::new(2 * round + 1, b"b", Format::Hcl).into(),
        );
        let (one, two) = tokio::join!(
            driver.put("app/schema", Bytes::from_static(b"a"), &a, &condition),
            other.put("app/schema", Bytes::from_static(b"b"), &b, &condition),
        );
        let winner = match (&one, &two) {
            (Ok(_), Err(failure)) => (failure.kind, a),
            (Err(failure), Ok(_)) => (failure.kind, b),
            both => panic!("{both:?}"),
        };
        let stored = driver.get("app/schema", MAX).await.unwrap();
        assert_eq!((Kind::Conflict, stored.stamp), (winner.0, Some(winner.1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_amid_many_writers_always_sees_a_content_with_its_own_stamp() {
    let FolderFixture { driver, dir, _temp } = fixture();
    let driver = Arc::new(driver);
    let (other, _) = FileBackend::open(&location(&dir, false));
    put(&driver, "app/schema", b"0", 1).await;
    let writer = {
        let driver = Arc::clone(&driver);
        tokio::spawn(async move {
            for when in 2..300_u64 {
                let content = Bytes::from(when.to_string());
                let stamp = SignedStamp::from(Stamp::new(when, &content, Format::Hcl));
                let put = driver.put("app/schema", content, &stamp, &Condition::None);
                put.await.unwrap();
            }
        })
    };
    let mut reads = 0;
    while !writer.is_finished() {
        let stored = other.get("app/schema", MAX).await.unwrap();
        let stamp = stored.stamp.unwrap().stamp;
        assert!(stamp.matches(&stored.content), "{stored:?}");
        let listed = other.list("app").await.unwrap();
        assert!(listed[0].stamp.is_some());
        reads += 1;
    }
    writer.await.unwrap();
    assert!(reads > 10);
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_not_waited_for_beyond_the_deadline() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/schema", b"x", 1).await;
    let held = hold(&dir);
    let start = Instant::now();
    let stamp = SignedStamp::from(Stamp::new(2, b"y", Format::Hcl));
    let content = Bytes::from_static(b"y");
    let put = driver.put("app/schema", content, &stamp, &Condition::None);
    let put = tokio::time::timeout(Duration::from_millis(200), put);
    assert!(put.await.is_err());
    // Reading needs no lock.
    assert_eq!(&*driver.get("app/schema", MAX).await.unwrap().content, b"x");
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(held);
    // The abandoned operation still completes; the folder must exist until then.
    while driver.head("app/schema").await.unwrap().stamp != Some(stamp) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_folder_that_may_only_be_read_is_read() {
    let FolderFixture { driver, dir, _temp } = fixture();
    put(&driver, "app/schema", b"x", 1).await;
    fs::remove_dir_all(dir.join(".atlasfs")).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).unwrap();
    let (reader, found) = FileBackend::open(&location(&dir, false));
    found.unwrap();
    assert_eq!(&*reader.get("app/schema", MAX).await.unwrap().content, b"x");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn an_object_over_the_limit_is_refused_unread() {
    let FolderFixture { driver, _temp, .. } = fixture();
    put(&driver, "app/schema", b"12345", 1).await;
    assert_eq!(
        &*driver.get("app/schema", 5).await.unwrap().content,
        b"12345"
    );
    let failure = driver.get("app/schema", 4).await.unwrap_err();
    assert_eq!(failure.kind, Kind::TooBig);
    assert!(failure.reason.contains("5 bytes"), "{failure}");
}

#[tokio::test]
async fn nothing_is_made_where_a_known_folder_is_missing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("disk");
    let known = FileLocation {
        known: true,
        read_only: false,
        ..location(&dir, true)
    };
    let missing = |found: Result<(), Failure>| {
        let failure = found.unwrap_err();
        assert_eq!(failure.kind, Kind::StoreMissing, "{failure}");
    };
    let (driver, found) = FileBackend::open(&known);
    missing(found);
    assert!(!dir.exists());
    // The mount point of a disk that is not mounted yet.
    fs::create_dir(&dir).unwrap();
    missing(FileBackend::open(&known).1);
    missing(driver.probe().await);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    // The disk is back.
    fs::create_dir(dir.join(".atlasfs")).unwrap();
    driver.probe().await.unwrap();
}
