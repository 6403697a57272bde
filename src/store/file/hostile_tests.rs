//! Tests of hostile files from other users: links, named pipes, huge files, held locks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::*;
use crate::dir::Dir;
use crate::model::{Format, Stamp};
use crate::store::{Role, Target};

const MAX: u64 = 1 << 20;
const STAMP: &str = ".atlasfs/stamps/app/schema";

struct Scene {
    temp: tempfile::TempDir,
    dir: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("store");
        fs::create_dir(&dir).unwrap();
        fs::create_dir_all(temp.path().join("victim/app")).unwrap();
        for name in ["1-2-3.c", "plain", "app/schema", "app/other"] {
            fs::write(temp.path().join("victim").join(name), "precious").unwrap();
        }
        Self { temp, dir }
    }

    fn open(&self) -> (FileBackend, Result<(), Failure>) {
        FileBackend::open(&FileLocation {
            url: format!("file://{}", self.dir.display()),
            dir: self.dir.clone(),
            create_dir: false,
            known: false,
            read_only: false,
        })
    }

    fn victim(&self) -> PathBuf {
        self.temp.path().join("victim")
    }

    fn assert_victim_is_whole(&self, case: &str) {
        for name in ["1-2-3.c", "plain", "app/schema", "app/other"] {
            let content = fs::read(self.victim().join(name)).unwrap_or_default();
            assert_eq!(content, b"precious", "{case}: {name}");
        }
        let count = |path: PathBuf| fs::read_dir(path).unwrap().count();
        let counts = (count(self.victim()), count(self.victim().join("app")));
        assert_eq!(counts, (3, 2), "{case}");
    }
}

async fn put(driver: &FileBackend, content: &'static [u8], when: u64) -> Result<(), Failure> {
    let stamp = SignedStamp::from(Stamp::new(when, content, Format::Hcl));
    let content = Bytes::from_static(content);
    let put = driver.put("app/schema", content, &stamp, &Condition::None);
    put.await.map(drop)
}

fn mkfifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[tokio::test]
async fn nothing_outside_is_touched_through_a_link() {
    for link in [
        ".atlasfs",
        ".atlasfs/tmp",
        ".atlasfs/stamps",
        ".atlasfs/stamps/app",
        STAMP,
        ".atlasfs/lock",
        ".atlasfs/deleted",
        "app",
        "app/schema",
    ] {
        let scene = Scene::new();
        let place = scene.dir.join(link);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let target = match link {
            STAMP | "app/schema" => scene.victim().join("app/schema"),
            ".atlasfs/lock" => scene.victim().join("plain"),
            _ => scene.victim(),
        };
        symlink(target, &place).unwrap();
        let (driver, _) = scene.open();
        let _ = put(&driver, b"x", 1).await;
        let _ = driver.get("app/schema", MAX).await;
        let _ = driver.list("app").await;
        let _ = driver.list(".atlasfs/deleted/app").await;
        let _ = driver.list_prefixes().await;
        let _ = driver.delete("app/schema").await;
        let _ = scene.open();
        scene.assert_victim_is_whole(link);
    }
}

#[tokio::test]
async fn own_directories_that_are_links_refuse_the_folder_by_name() {
    for link in [".atlasfs", ".atlasfs/tmp", ".atlasfs/stamps"] {
        let scene = Scene::new();
        let place = scene.dir.join(link);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(scene.victim(), &place).unwrap();
        let (driver, found) = scene.open();
        let failure = found.unwrap_err();
        assert_eq!(failure.kind, Kind::Invalid, "{link}");
        assert!(failure.reason.contains("symbolic link"), "{failure}");
        assert!(failure.reason.contains(".atlasfs"), "{failure}");
        assert!(put(&driver, b"x", 1).await.is_err());
        fs::remove_file(&place).unwrap();
        put(&driver, b"x", 1).await.unwrap();
    }
}

#[tokio::test]
async fn the_folder_itself_may_be_behind_a_link() {
    let scene = Scene::new();
    let link = scene.temp.path().join("link");
    symlink(&scene.dir, &link).unwrap();
    let (driver, found) = FileBackend::open(&FileLocation {
        url: format!("file://{}", link.display()),
        dir: link,
        create_dir: false,
        known: false,
        read_only: false,
    });
    found.unwrap();
    put(&driver, b"x", 1).await.unwrap();
    assert_eq!(fs::read(scene.dir.join("app/schema")).unwrap(), b"x");
}

#[tokio::test]
async fn sweeping_removes_only_files_of_atlasfs_own_naming() {
    let scene = Scene::new();
    scene.open().1.unwrap();
    let tmp = scene.dir.join(".atlasfs/tmp");
    for own in ["1-2-3.c", "708-1700000000000000000-0.s"] {
        fs::write(tmp.join(own), "x").unwrap();
    }
    let foreign = [
        "thesis.c",
        "1-2.c",
        "1-2-3.d",
        "1-2-3",
        "-1-2.c",
        "1-2-3-4.c",
        "a-2-3.s",
    ];
    for name in foreign {
        fs::write(tmp.join(name), "x").unwrap();
    }
    fs::create_dir(tmp.join("4-5-6.c")).unwrap();
    symlink(scene.victim().join("plain"), tmp.join("7-8-9.c")).unwrap();
    let stamps = scene.dir.join(".atlasfs/stamps");
    fs::write(stamps.join("letter"), "dear diary").unwrap();
    fs::write(stamps.join("orphan"), "atlasfs-stamps 1\n").unwrap();
    scene.open().1.unwrap();
    let mut left: Vec<String> = fs::read_dir(&tmp)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mut expected = [&foreign[..], &["4-5-6.c", "7-8-9.c"]].concat();
    expected.sort_unstable();
    assert_eq!(left, expected);
    assert!(stamps.join("letter").exists() && !stamps.join("orphan").exists());
}

/// Replaces a stamp with something else.
fn replace_stamp(scene: &Scene, with: &str) {
    let place = scene.dir.join(STAMP);
    fs::remove_file(&place).unwrap();
    match with {
        "fifo" => mkfifo(&place),
        "socket" => drop(UnixListener::bind(&place).unwrap()),
        "link" => symlink(scene.victim().join("plain"), &place).unwrap(),
        "loop" => symlink("schema", &place).unwrap(),
        "endless" => symlink("/dev/zero", &place).unwrap(),
        "directory" => fs::create_dir(&place).unwrap(),
        "huge" => {
            let file = fs::File::create(&place).unwrap();
            file.set_len(1 << 40).unwrap();
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn anything_in_the_place_of_a_stamp_is_no_stamp() {
    for with in [
        "fifo",
        "socket",
        "link",
        "loop",
        "endless",
        "directory",
        "huge",
    ] {
        let scene = Scene::new();
        let (driver, _) = scene.open();
        put(&driver, b"old", 1).await.unwrap();
        replace_stamp(&scene, with);
        let stored = driver.get("app/schema", MAX).await.unwrap();
        assert_eq!((&*stored.content, stored.stamp), (&b"old"[..], None));
        assert_eq!(driver.list("app").await.unwrap()[0].stamp, None, "{with}");
        let put = put(&driver, b"new", 2).await;
        assert_eq!(put.is_ok(), with != "directory", "{with}: {put:?}");
        let expected: &[u8] = if put.is_ok() { b"new" } else { b"old" };
        let stored = driver.get("app/schema", MAX).await.unwrap();
        assert_eq!(
            (&*stored.content, stored.stamp.is_some()),
            (expected, put.is_ok())
        );
        scene.assert_victim_is_whole(with);
    }
}

#[tokio::test]
async fn pushes_flow_again_when_a_fifo_in_place_of_the_lock_goes() {
    for place in [".atlasfs/lock", ".atlasfs/tmp", "app"] {
        let scene = Scene::new();
        let (driver, _) = scene.open();
        let path = scene.dir.join(place);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir(&path);
        mkfifo(&path);
        assert!(put(&driver, b"x", 1).await.is_err(), "{place}");
        fs::remove_file(&path).unwrap();
        put(&driver, b"x", 2).await.unwrap();
        assert_eq!(&*driver.get("app/schema", MAX).await.unwrap().content, b"x");
    }
}

#[tokio::test]
async fn the_lock_file_is_never_written_to() {
    let scene = Scene::new();
    let (driver, _) = scene.open();
    let lock = scene.dir.join(".atlasfs/lock");
    fs::remove_file(&lock).unwrap();
    fs::hard_link(scene.victim().join("plain"), &lock).unwrap();
    put(&driver, b"x", 1).await.unwrap();
    scene.open().1.unwrap();
    driver.delete("app/schema").await.unwrap();
    scene.assert_victim_is_whole("a hard link");
}

#[tokio::test]
async fn each_push_kept_waiting_names_the_holder_of_the_lock() {
    let scene = Scene::new();
    let (driver, _) = scene.open();
    let driver = Arc::new(driver);
    let held = lock::try_now(&Dir::open(&scene.dir).unwrap());
    let held = held.unwrap().unwrap();
    let target = Target::new(Role::Registry, "file://x", Arc::clone(&driver) as _);
    // The second operation waits behind the first, which continues after its deadline.
    for _ in 0..2 {
        let deadline = Instant::now() + Duration::from_millis(700);
        let put = target.by(deadline, "writing", put(&driver, b"x", 1)).await;
        let failure = put.unwrap_err();
        let process = format!("process {} (", std::process::id());
        assert!(failure.reason.contains(&process), "{failure}");
        assert!(failure.is_outage());
    }
    drop(held);
    put(&driver, b"y", 2).await.unwrap();
}

#[tokio::test]
async fn pushes_that_wait_together_all_name_the_holder_of_the_lock() {
    let scene = Scene::new();
    let (driver, _) = scene.open();
    let driver = Arc::new(driver);
    let held = lock::try_now(&Dir::open(&scene.dir).unwrap());
    let _held = held.unwrap().unwrap();
    let target = Target::new(Role::Registry, "file://x", Arc::clone(&driver) as _);
    let deadline = Instant::now() + Duration::from_millis(700);
    let put = || target.by(deadline, "writing", put(&driver, b"x", 1));
    let process = format!("process {} (", std::process::id());
    for put in <[_; 3]>::from(futures::join!(put(), put(), put())) {
        let failure = put.unwrap_err();
        assert!(failure.reason.contains(&process), "{failure}");
    }
}

#[tokio::test]
async fn nothing_in_a_folder_is_open_to_more_than_the_folder() {
    for (folder, dirs, files, lock) in [
        (0o700, 0o700, 0o600, 0o600),
        (0o750, 0o750, 0o640, 0o600),
        (0o755, 0o755, 0o644, 0o600),
    ] {
        let scene = Scene::new();
        fs::set_permissions(&scene.dir, fs::Permissions::from_mode(folder)).unwrap();
        let (driver, _) = scene.open();
        put(&driver, b"x", 1).await.unwrap();
        let mode = |path: &str| {
            let meta = fs::metadata(scene.dir.join(path)).unwrap();
            meta.permissions().mode() & 0o777
        };
        for (path, most) in [
            ("app", dirs),
            (".atlasfs", dirs),
            (".atlasfs/tmp", dirs),
            (".atlasfs/stamps/app", dirs),
            ("app/schema", files),
            (STAMP, files),
            (".atlasfs/lock", lock),
        ] {
            assert_eq!(mode(path) & !most, 0, "{folder:o} {path}");
            assert_eq!(mode(path) & 0o700, most & 0o700, "{folder:o} {path}");
        }
    }
}
