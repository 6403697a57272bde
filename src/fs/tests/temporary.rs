//! Temporary files: the files that tools make for themselves, in this mount alone.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use super::fixtures::{choice, fixture_of, is_write};
use super::kernel::{Choice, Fixture, READ, READ_WRITE, WRITE, WRITE_ANEW};
use super::{LISTED, V1};
use crate::fs::{CreateAttrs, Error, FileKind, OpenMode, SetAttr, XattrFlag};
use crate::store::Fault;

async fn fixture() -> Fixture {
    fixture_of(choice(), V1).await
}

/// Asserts that the targets have got no write except that of the first schema.
fn nothing_else_was_pushed(fixture: &Fixture) {
    for store in fixture.all() {
        let requests = store.requests();
        let writes = requests.iter().filter(|request| is_write(request));
        assert_eq!(writes.count(), 1, "{requests:?}");
    }
}

#[tokio::test]
async fn temporary_files_are_kept_in_every_directory_and_pushed_nowhere() {
    let fixture = fixture().await;
    for path in [
        ".f",
        "f~",
        "#f#",
        "app/.schema.swp",
        "app/schema~",
        "app/sedAbC123",
        "app/XXAbC123",
        "app/schema.tmp",
        "app/schema.tmp.77",
        "app/schema___jb_tmp___",
        "app/schema.hcl.AbC123",
        "app/plans/.p1.AbC123",
        "app/plans/p1.tmp",
        "app/plans/sedAbC123",
    ] {
        fixture.cp(path, b"mine").await.unwrap();
        assert_eq!(fixture.cat(path).await.unwrap(), b"mine", "{path}");
        fixture.cp(path, b"other").await.unwrap();
        assert_eq!(fixture.cat(path).await.unwrap(), b"other", "{path}");
        let file = fixture.open(path, READ_WRITE, false).await.unwrap();
        file.write(2, b"HERS").unwrap();
        assert_eq!(file.read_all().await.unwrap(), b"otHERS", "{path}");
        fixture.fs.clone().fsync(file.fh).await.unwrap();
        file.truncate(3).await.unwrap();
        assert_eq!(file.size().await, 3);
        file.close().await.unwrap();
        assert_eq!(fixture.cat(path).await.unwrap(), b"otH", "{path}");
        fixture.rm(path).await.unwrap();
        assert_eq!(fixture.stat(path).await, Err(Error::NotFound), "{path}");
    }
    nothing_else_was_pushed(&fixture);
}

#[tokio::test]
async fn temporary_files_need_no_target() {
    let fixture = fixture().await;
    for store in fixture.all() {
        store.set_fault(Fault::Hang);
    }
    fixture.cp("app/.schema.swp", b"swap").await.unwrap();
    fixture.mv("app/.schema.swp", "app/schema~").await.unwrap();
    assert_eq!(fixture.cat("app/schema~").await.unwrap(), b"swap");
    fixture.rm("app/schema~").await.unwrap();
}

#[tokio::test]
async fn temporary_files_are_listed_and_gone_with_the_mount() {
    let fixture = fixture().await;
    fixture.cp("app/.schema.swp", b"swap").await.unwrap();
    fixture.cp("app/plans/p~", b"old").await.unwrap();
    fixture.cp(".x", b"x").await.unwrap();
    fixture.symlink("me@here.1", "app/.#schema").await.unwrap();
    let listed = fixture.ls("app").await.unwrap();
    assert_eq!(listed, [&LISTED[..], &[".#schema", ".schema.swp"]].concat());
    assert_eq!(fixture.ls("app/plans").await.unwrap(), ["p~"]);
    assert_eq!(fixture.ls("").await.unwrap(), ["app", ".x"]);
    let other = fixture.another();
    assert_eq!(other.ls("app").await.unwrap(), LISTED);
    let fixture = fixture.restart(Choice {
        named: vec!["app"],
        ..Choice::default()
    });
    assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
    let staging = fixture.state_dir.path().join("staging");
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
}

#[tokio::test]
async fn the_total_size_of_temporary_files_is_limited() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        temporary_bytes: Some(10),
        ..Choice::default()
    });
    fixture.cp("app/.a", b"123456").await.unwrap();
    assert_eq!(fixture.cp("app/.b", b"12345").await, Err(Error::NoSpace));
    fixture.cp("app/.b", b"1234").await.unwrap();
    let file = fixture.open("app/.a", WRITE, false).await.unwrap();
    assert_eq!(file.write(6, b"7"), Err(Error::NoSpace));
    assert_eq!(file.truncate(7).await, Err(Error::NoSpace));
    // Overwriting takes no more space.
    file.write(0, b"abcdef").unwrap();
    file.truncate(5).await.unwrap();
    file.write(5, b"x").unwrap();
    file.close().await.unwrap();
    let ino = fixture.stat("app/.a").await.unwrap().ino;
    let name = OsStr::new("user.x");
    let fs = fixture.fs.clone();
    let set = fs.setxattr(ino, name, b"", XattrFlag::Any, 0);
    assert_eq!(set.await, Err(Error::NoSpace));
    // An artifact takes no space from this quota.
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.rm("app/.a").await.unwrap();
    fixture.fs.forget(ino, 100);
    fixture.cp("app/.c", b"123456").await.unwrap();
}

#[tokio::test]
async fn a_removed_temporary_file_stays_usable_while_open() {
    let fixture = fixture().await;
    let file = fixture.open("app/.f", READ_WRITE, true).await.unwrap();
    file.write(0, b"here").unwrap();
    fixture.rm("app/.f").await.unwrap();
    assert_eq!(fixture.stat("app/.f").await, Err(Error::NotFound));
    assert_eq!(file.read_all().await.unwrap(), b"here");
    file.write(4, b" still").unwrap();
    assert_eq!(file.read_all().await.unwrap(), b"here still");
    let (attr, _) = fixture.fs.clone().getattr(file.ino, None, 0).await.unwrap();
    assert_eq!((attr.links, attr.size), (0, 10));
    fixture.cp("app/.f", b"another").await.unwrap();
    assert_eq!(file.read_all().await.unwrap(), b"here still");
    file.close().await.unwrap();
}

#[tokio::test]
async fn temporary_files_are_renamed_among_themselves() {
    let fixture = fixture().await;
    fixture.cp("app/.a", b"a").await.unwrap();
    fixture.cp("app/plans/b~", b"b").await.unwrap();
    fixture.mv("app/.a", "app/plans/b~").await.unwrap();
    assert_eq!(fixture.cat("app/plans/b~").await.unwrap(), b"a");
    assert_eq!(fixture.stat("app/.a").await, Err(Error::NotFound));
    fixture.cp("app/.a", b"new").await.unwrap();
    let pid = fixture.pid();
    let kept = fixture.rename("app/.a", "app/plans/b~", true, pid).await;
    assert_eq!(kept, Err(Error::Exists));
    fixture.rename("app/.a", ".root", true, pid).await.unwrap();
    assert_eq!(fixture.cat(".root").await.unwrap(), b"new");
    assert_eq!(fixture.mv("app/.a", ".x").await, Err(Error::NotFound));
    // Never onto a name that vim would then take for a writable directory.
    assert_eq!(
        fixture.mv(".root", "app/4913").await,
        Err(Error::NotPermitted)
    );
    assert_eq!(
        fixture.mv(".root", "app/README").await,
        Err(Error::NotPermitted)
    );
    assert_eq!(fixture.mv(".root", "new").await, Err(Error::NotPermitted));
    assert_eq!(
        fixture.mv(".root", ".atlasfs/x").await,
        Err(Error::NotPermitted)
    );
    nothing_else_was_pushed(&fixture);
}

#[tokio::test]
async fn the_probe_of_vim_and_a_git_repository_are_refused() {
    let fixture = fixture().await;
    for path in ["app/4913", "app/plans/4913", "app/.git", ".git"] {
        let made = fixture.open(path, WRITE, true).await;
        assert_eq!(made.err(), Some(Error::NotPermitted), "{path}");
    }
    assert_eq!(fixture.mkdir("app/.git").await, Err(Error::NotPermitted));
    fixture.cp("app/.gitignore", b"*~\n").await.unwrap();
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("would be lost at unmount"), "{events}");
}

#[tokio::test]
async fn a_symbolic_link_among_temporary_files_keeps_its_destination() {
    let fixture = fixture().await;
    let to = "me@here.4711:1732000000";
    fixture.symlink(to, "app/.#schema").await.unwrap();
    assert_eq!(
        fixture.symlink("x", "app/.#schema").await,
        Err(Error::Exists)
    );
    assert_eq!(fixture.readlink("app/.#schema").await.unwrap(), to);
    let attr = fixture.stat("app/.#schema").await.unwrap();
    assert_eq!((attr.kind, attr.size), (FileKind::Symlink, to.len() as u64));
    fixture.rm("app/.#schema").await.unwrap();
    for path in ["app/schema.sql", "app/plans/p2", "app/README", "link"] {
        assert_eq!(
            fixture.symlink("x", path).await,
            Err(Error::NotPermitted),
            "{path}"
        );
    }
    assert_eq!(fixture.readlink("app/schema").await, Err(Error::Invalid));
}

#[tokio::test]
async fn a_hard_link_is_one_file_under_two_temporary_names() {
    let fixture = fixture().await;
    fixture.cp("app/.a", b"one").await.unwrap();
    fixture.ln("app/.a", "app/plans/.b").await.unwrap();
    assert_eq!(fixture.stat("app/.a").await.unwrap().links, 2);
    fixture.cp("app/plans/.b", b"both").await.unwrap();
    assert_eq!(fixture.cat("app/.a").await.unwrap(), b"both");
    assert_eq!(
        fixture.ln("app/.a", "app/plans/.b").await,
        Err(Error::Exists)
    );
    fixture.mv("app/.a", "app/plans/.b").await.unwrap();
    assert_eq!(
        fixture.cat("app/.a").await.unwrap(),
        b"both",
        "two names of one file stay"
    );
    fixture.rm("app/.a").await.unwrap();
    assert_eq!(fixture.stat("app/plans/.b").await.unwrap().links, 1);
    assert_eq!(fixture.cat("app/plans/.b").await.unwrap(), b"both");
    // Tools then copy.
    assert_eq!(
        fixture.ln("app/schema", "app/schema~").await,
        Err(Error::NotPermitted)
    );
    assert_eq!(
        fixture.ln("app/plans/.b", "app/schema.sql").await,
        Err(Error::NotPermitted)
    );
}

#[tokio::test]
async fn temporary_directories_hold_whatever_a_tool_puts_there() {
    let fixture = fixture().await;
    fixture.mkdir("app/.~tmp~").await.unwrap();
    assert_eq!(fixture.mkdir("app/.~tmp~").await, Err(Error::Exists));
    fixture
        .cp("app/.~tmp~/schema", b"on its way")
        .await
        .unwrap();
    fixture.mkdir("app/.~tmp~/deep").await.unwrap();
    fixture.cp("app/.~tmp~/deep/any name", b"x").await.unwrap();
    assert_eq!(fixture.ls("app/.~tmp~").await.unwrap(), ["deep", "schema"]);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.rmdir("app/.~tmp~").await, Err(Error::NotEmpty));
    assert_eq!(fixture.rm("app/.~tmp~").await, Err(Error::IsDirectory));
    assert_eq!(
        fixture.rmdir("app/.~tmp~/schema").await,
        Err(Error::NotDirectory)
    );
    fixture.mv("app/.~tmp~", "app/plans/.moved").await.unwrap();
    assert_eq!(
        fixture.cat("app/plans/.moved/deep/any name").await.unwrap(),
        b"x"
    );
    let refused = fixture.mv("app/plans/.moved/deep", "app/plans/p1").await;
    assert_eq!(refused, Err(Error::NotPermitted));
    let refused = fixture.mv("app/plans/.moved/deep", "app/schema").await;
    assert_eq!(refused, Err(Error::NotDirectory));
    let held = fixture.stat("app/plans/.moved/deep").await.unwrap().ino;
    fixture.rm("app/plans/.moved/deep/any name").await.unwrap();
    fixture.rmdir("app/plans/.moved/deep").await.unwrap();
    let made = fixture
        .fs
        .clone()
        .create(held, OsStr::new("x"), WRITE, CreateAttrs::default());
    assert_eq!(
        made.await.err(),
        Some(Error::NotFound),
        "the directory is gone"
    );
    fixture.rm("app/plans/.moved/schema").await.unwrap();
    fixture.rmdir("app/plans/.moved").await.unwrap();
    nothing_else_was_pushed(&fixture);
}

#[tokio::test]
async fn temporary_files_keep_modes_owners_times_and_extended_attributes() {
    let fixture = fixture().await;
    fixture.cp("app/.f", b"x").await.unwrap();
    let ino = fixture.stat("app/.f").await.unwrap().ino;
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1, 2);
    let set = SetAttr {
        perm: Some(0o600),
        uid: Some(7),
        accessed: Some(long_ago),
        modified: Some(long_ago),
        ..SetAttr::default()
    };
    fixture.fs.clone().setattr(ino, None, set, 0).await.unwrap();
    let attr = fixture.stat("app/.f").await.unwrap();
    assert_eq!((attr.perm, attr.uid, attr.gid), (0o600, Some(7), None));
    assert_eq!((attr.accessed, attr.time), (long_ago, long_ago));
    assert!(attr.changed > long_ago);

    let (fs, name) = (&fixture.fs, OsStr::new("user.mine"));
    let set = |name, value, flag| fs.clone().setxattr(ino, name, value, flag, 0);
    assert_eq!(
        set(name, b"1", XattrFlag::Replace).await,
        Err(Error::NoAttribute)
    );
    set(name, b"1", XattrFlag::Create).await.unwrap();
    assert_eq!(set(name, b"2", XattrFlag::Create).await, Err(Error::Exists));
    set(name, b"2", XattrFlag::Any).await.unwrap();
    assert_eq!(fs.clone().getxattr(ino, name).await.unwrap(), &b"2"[..]);
    assert_eq!(fs.clone().listxattr(ino).await.unwrap(), ["user.mine"]);
    fs.removexattr(ino, name).unwrap();
    assert_eq!(fs.removexattr(ino, name), Err(Error::NoAttribute));
    let trusted = set(OsStr::new("trusted.x"), b"", XattrFlag::Any);
    assert_eq!(trusted.await, Err(Error::NotSupported));
    let schema = fixture.stat("app/schema").await.unwrap().ino;
    let on_artifact = fs.clone().setxattr(schema, name, b"", XattrFlag::Any, 0);
    assert_eq!(on_artifact.await, Err(Error::NotSupported));
}

#[tokio::test]
async fn temporary_files_honour_o_excl_and_o_append() {
    let fixture = fixture().await;
    let exclusive = OpenMode {
        exclusive: true,
        ..WRITE
    };
    let file = fixture.open("app/.lock", exclusive, true).await.unwrap();
    let again = fixture.open("app/.lock", exclusive, true).await;
    assert_eq!(again.err(), Some(Error::Exists));
    file.write(0, b"one ").unwrap();
    let append = OpenMode {
        append: true,
        ..WRITE
    };
    let other = fixture.open("app/.lock", append, false).await.unwrap();
    other.write(0, b"two").unwrap();
    assert_eq!(file.size().await, 7);
    other.close().await.unwrap();
    file.write(9, b"!").unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.cat("app/.lock").await.unwrap(), b"one two\0\0!");
    let file = fixture.open("app/.lock", WRITE_ANEW, true).await.unwrap();
    assert_eq!(file.size().await, 0);
    file.close().await.unwrap();
}

#[tokio::test]
async fn a_read_only_mount_has_no_temporary_files() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        read_only: true,
        ..Choice::default()
    });
    let made = fixture.open("app/.f", WRITE, true).await;
    assert_eq!(made.err(), Some(Error::ReadOnly));
    assert_eq!(fixture.mkdir("app/.d").await, Err(Error::ReadOnly));
    assert_eq!(fixture.symlink("x", "app/.l").await, Err(Error::ReadOnly));
}

#[tokio::test]
async fn a_repository_with_temporary_files_is_not_empty() {
    let fixture = Fixture::new();
    fixture.mkdir("new").await.unwrap();
    fixture.cp("new/plans/.f", b"x").await.unwrap();
    assert_eq!(fixture.rmdir("new").await, Err(Error::NotEmpty));
    fixture.rm("new/plans/.f").await.unwrap();
    fixture.rmdir("new").await.unwrap();
}

#[tokio::test]
async fn open_temporary_files_count_as_open_files() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        max_writers: Some(1),
        ..Choice::default()
    });
    let file = fixture.open("app/.a", WRITE, true).await.unwrap();
    let second = fixture.open("app/.b", WRITE, true).await;
    assert_eq!(second.err(), Some(Error::TooManyHandles));
    file.close().await.unwrap();
    fixture
        .open("app/.a", READ, false)
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
}

#[tokio::test]
async fn the_close_of_a_plan_under_a_temporary_name_is_refused() {
    let fixture = fixture().await;
    let plan = |label: &str| {
        format!("plan \"{label}\" {{\n  from = \"a\"\n  to = \"b\"\n  migration = \"c\"\n}}\n")
    };
    for name in ["seditions", "p1.tmp"] {
        let path = format!("app/plans/{name}");
        let pushed = fixture.cp(&path, plan(name).as_bytes()).await;
        assert_eq!(pushed, Err(Error::NotPermitted), "{name}");
        // A plan with another label is a temporary file that will be renamed.
        fixture.cp(&path, plan("p1").as_bytes()).await.unwrap();
    }
    nothing_else_was_pushed(&fixture);
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("\"plan\":\"p1.tmp\""), "{events}");
}
