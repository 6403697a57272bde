//! The inode of a temporary file: owner, kind, links and times, as in POSIX.

use std::ffi::OsStr;

use super::kernel::{Choice, Fixture};
use crate::fs::{Attr, CreateAttrs, Error, FileKind};

fn fixture() -> Fixture {
    Fixture::with(Choice {
        named: vec!["app"],
        ..Choice::default()
    })
}

/// Tells which times, of content and of change, are later than before.
async fn later(fixture: &Fixture, path: &str, before: &Attr) -> (bool, bool) {
    let now = fixture.stat(path).await.unwrap();
    (now.time > before.time, now.changed > before.changed)
}

#[tokio::test]
async fn a_name_more_or_less_changes_the_file_and_its_directory() {
    let fixture = fixture();
    fixture.mkdir("app/.d").await.unwrap();
    fixture.mkdir("app/.e").await.unwrap();
    fixture.cp("app/.d/f", b"f").await.unwrap();
    let (file, dir) = (fixture.stat("app/.d/f"), fixture.stat("app/.d"));
    let (file, dir) = (file.await.unwrap(), dir.await.unwrap());

    fixture.ln("app/.d/f", "app/.d/g").await.unwrap();
    assert_eq!(later(&fixture, "app/.d/f", &file).await, (false, true));
    assert_eq!(later(&fixture, "app/.d", &dir).await, (true, true));

    let (file, dir) = (fixture.stat("app/.d/f"), fixture.stat("app/.d"));
    let (file, dir) = (file.await.unwrap(), dir.await.unwrap());
    fixture.rm("app/.d/g").await.unwrap();
    assert_eq!(later(&fixture, "app/.d/f", &file).await, (false, true));
    assert_eq!(later(&fixture, "app/.d", &dir).await, (true, true));

    let file = fixture.stat("app/.d/f").await.unwrap();
    let (from, to) = (fixture.stat("app/.d"), fixture.stat("app/.e"));
    let (from, to) = (from.await.unwrap(), to.await.unwrap());
    fixture.mv("app/.d/f", "app/.e/f").await.unwrap();
    assert_eq!(later(&fixture, "app/.e/f", &file).await, (false, true));
    assert_eq!(later(&fixture, "app/.d", &from).await, (true, true));
    assert_eq!(later(&fixture, "app/.e", &to).await, (true, true));
}

#[tokio::test]
async fn a_temporary_directory_has_a_link_for_each_subdirectory() {
    let fixture = fixture();
    for dir in [".d", ".e", ".d/x", ".d/y", ".e/z"] {
        fixture.mkdir(dir).await.unwrap();
    }
    let links = async |dir| fixture.stat(dir).await.unwrap().links;
    assert_eq!((links(".d").await, links(".e").await), (4, 3));
    fixture.mv(".d/x", ".e/x").await.unwrap();
    assert_eq!((links(".d").await, links(".e").await), (3, 4));
    // A rename onto an empty directory removes that directory.
    fixture.mv(".d/y", ".e/x").await.unwrap();
    assert_eq!((links(".d").await, links(".e").await), (2, 4));
    fixture.rmdir(".e/x").await.unwrap();
    fixture.rmdir(".e/z").await.unwrap();
    fixture.mv(".e", ".f").await.unwrap();
    fixture.mkdir(".f/new").await.unwrap();
    assert_eq!(links(".f").await, 3);
}

#[tokio::test]
async fn a_temporary_file_belongs_to_its_creator() {
    let fixture = fixture();
    let root = crate::fs::ROOT;
    let attrs = CreateAttrs {
        perm: 0o750,
        uid: Some(7),
        gid: Some(8),
        ..CreateAttrs::default()
    };
    let fs = || fixture.fs.clone();
    fs().mkdir(root, OsStr::new(".d"), attrs).await.unwrap();
    let to = "x".into();
    let link = fs().symlink(root, OsStr::new(".l"), to, attrs);
    link.await.unwrap();
    let fifo = fs().mknod(root, OsStr::new(".p"), FileKind::Fifo, 0, attrs);
    fifo.await.unwrap();
    for name in [".d", ".l", ".p"] {
        let attr = fixture.stat(name).await.unwrap();
        assert_eq!((attr.uid, attr.gid), (Some(7), Some(8)), "{name}");
    }
    // A repository belongs to the owner of the mount, like everything in it.
    fs().mkdir(root, OsStr::new("new"), attrs).await.unwrap();
    let attr = fixture.stat("new").await.unwrap();
    assert_eq!((attr.uid, attr.gid, attr.perm), (None, None, 0o755));
}

#[tokio::test]
async fn named_pipes_sockets_and_devices_are_scratch_files_only() {
    let fixture = fixture();
    let dir = fixture.stat("app").await.unwrap().ino;
    let mknod = async |name: &str, kind| {
        let (name, attrs) = (OsStr::new(name), CreateAttrs::default());
        let made = fixture.fs.clone().mknod(dir, name, kind, 259, attrs).await;
        made.map(|entry| (entry.attr.kind, entry.attr.device))
    };
    for (name, kind, device) in [
        (".fifo", FileKind::Fifo, 0),
        (".socket", FileKind::Socket, 0),
        (".char", FileKind::CharDevice, 259),
        (".block", FileKind::BlockDevice, 259),
        (".file", FileKind::File, 0),
    ] {
        assert_eq!(mknod(name, kind).await, Ok((kind, device)), "{name}");
        assert_eq!(mknod(name, kind).await, Err(Error::Exists), "{name}");
        assert_eq!(fixture.stat(name).await, Err(Error::NotFound));
        if kind != FileKind::File {
            let onto = fixture.mv(&format!("app/{name}"), "app/schema").await;
            assert_eq!(onto, Err(Error::NotPermitted), "{name}");
        }
        for name in ["schema", "plans", "other"] {
            assert_eq!(mknod(name, kind).await, Err(Error::NotPermitted), "{name}");
        }
    }
    let listed = fixture.ls("app").await.unwrap();
    let all = ["plans", ".block", ".char", ".fifo", ".file", ".socket"];
    assert_eq!(listed, all);
    fixture.rm("app/.fifo").await.unwrap();
    assert_eq!(fixture.stat("app/.fifo").await, Err(Error::NotFound));
}
