//! Names: the existing ones, the valid ones, and the refused ones.

use super::fixtures::is_write;
use super::kernel::{Choice, Fixture, READ, WRITE};
use super::{LISTED, V1};
use crate::fs::{CreateAttrs, Error, FileKind, OpenMode, ROOT};
use crate::registry::Settings;
use crate::store::{Fault, Kind};

const PLAN: &[u8] = b"plan \"p1\" {\n  from = \"a\"\n  to = \"b\"\n  migration = \"c\"\n}\n";

async fn fixture() -> Fixture {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        ..Choice::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    fixture.cp("app/plans/p1.plan.hcl", PLAN).await.unwrap();
    fixture
}

#[tokio::test]
async fn a_listing_shows_both_names_of_a_schema() {
    let fixture = fixture().await;
    assert_eq!(fixture.ls("").await.unwrap(), ["app"]);
    assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
    assert_eq!(fixture.ls("app/plans").await.unwrap(), ["p1"]);
    let schema = fixture.stat("app/schema").await.unwrap();
    assert_eq!(fixture.stat("app/schema.hcl").await.unwrap(), schema);
    assert_eq!((schema.links, schema.size), (1, V1.len() as u64));
    let plan = fixture.stat("app/plans/p1").await.unwrap();
    assert_eq!(fixture.stat("app/plans/p1.plan.hcl").await.unwrap(), plan);
    assert_eq!(plan.size, PLAN.len() as u64);
}

#[tokio::test]
async fn the_control_files_are_there_and_not_listed() {
    let fixture = fixture().await;
    assert_eq!(
        fixture.stat(".atlasfs").await.unwrap().kind,
        FileKind::Directory
    );
    let names = fixture.ls(".atlasfs").await.unwrap();
    assert_eq!(names, ["status", "metrics", "events", "jobs", "unpushed"]);
    assert_eq!(fixture.json(".atlasfs/status").await["mount"], "/mnt");
    let denied = fixture.open(".atlasfs/status", WRITE, false).await;
    assert_eq!(denied.err(), Some(Error::NotPermitted));
}

#[tokio::test]
async fn repositories_of_the_configuration_are_always_there() {
    let fixture = Fixture::with(Choice {
        named: vec!["app", "billing"],
        ..Choice::default()
    });
    assert_eq!(fixture.ls("").await.unwrap(), ["app", "billing"]);
    assert_eq!(fixture.ls("app").await.unwrap(), ["plans"]);
    assert_eq!(fixture.rmdir("app").await, Err(Error::NotPermitted));
    for store in fixture.all() {
        store.set_fault(Fault::Fail(Kind::Unreachable));
    }
    assert!(fixture.stat("billing/plans").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn repositories_found_in_the_registry_appear_too() {
    let fixture = fixture().await;
    let other = fixture.another();
    assert_eq!(other.ls("").await.unwrap(), ["app"]);
    fixture.mkdir("billing").await.unwrap();
    fixture.cp("billing/schema", V1).await.unwrap();
    other.wait().await;
    assert_eq!(other.ls("").await.unwrap(), ["app", "billing"]);
    assert_eq!(other.cat("billing/schema").await.unwrap(), V1);
}

#[tokio::test]
async fn an_empty_repository_is_local_until_its_first_push() {
    let fixture = fixture().await;
    fixture.mkdir("new").await.unwrap();
    assert_eq!(fixture.mkdir("new").await, Err(Error::Exists));
    assert_eq!(fixture.mkdir("app").await, Err(Error::Exists));
    assert_eq!(fixture.ls("").await.unwrap(), ["app", "new"]);
    assert_eq!(fixture.another().ls("").await.unwrap(), ["app"]);
    assert_eq!(fixture.ls("new").await.unwrap(), ["plans"]);
    fixture.rmdir("new").await.unwrap();
    assert_eq!(fixture.stat("new").await, Err(Error::NotFound));
    assert_eq!(fixture.rmdir("new").await, Err(Error::NotFound));
}

#[tokio::test]
async fn a_repository_that_holds_something_is_not_removed() {
    let fixture = fixture().await;
    assert_eq!(fixture.rmdir("app").await, Err(Error::NotEmpty));
    fixture.mkdir("new").await.unwrap();
    let touched = fixture.open("new/schema", WRITE, true).await.unwrap();
    touched.close().await.unwrap();
    assert_eq!(fixture.rmdir("new").await, Err(Error::NotEmpty));
}

#[tokio::test]
async fn plans_is_always_there() {
    let fixture = fixture().await;
    for dir in ["app/plans", "app/migrations"] {
        assert_eq!(fixture.mkdir(dir).await, Err(Error::Exists));
        assert_eq!(fixture.rmdir(dir).await, Err(Error::NotPermitted));
    }
}

#[tokio::test]
async fn an_invalid_name_is_refused() {
    let fixture = fixture().await;
    for path in [
        "file",
        "app/README.md",
        "app/schema.txt",
        "app/migrations/README.md",
        "app/migrations/4913",
        "app/plans/-x",
        "app/4913",
        "app/plans/4913",
        ".git",
        "app/.git",
        "x.tmp",
        ".atlasfs/new",
        ".atlasfs/unpushed/x",
    ] {
        let created = fixture.open(path, WRITE, true).await;
        assert_eq!(created.err(), Some(Error::NotPermitted), "{path}");
    }
    for path in [
        ".git",
        "-x",
        "app/dir",
        "app/plans/dir",
        "app/migrations/dir",
        ".atlasfs/dir",
    ] {
        assert_eq!(
            fixture.mkdir(path).await,
            Err(Error::NotPermitted),
            "{path}"
        );
    }
    for store in fixture.all() {
        let writes = store
            .requests()
            .into_iter()
            .filter(|request| is_write(request));
        assert_eq!(writes.count(), 2, "the two of the set-up");
    }
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(events.contains("not a name of this mount"));
}

#[tokio::test]
async fn names_of_256_bytes_are_too_long_and_of_255_are_not() {
    let fixture = fixture().await;
    let long = format!("app/plans/{}", "a".repeat(256));
    assert_eq!(fixture.stat(&long).await, Err(Error::NameTooLong));
    let long = format!("app/plans/{}", "a".repeat(255));
    assert_eq!(fixture.stat(&long).await, Err(Error::NotFound));
}

#[tokio::test]
async fn a_read_only_mount_changes_nothing() {
    let fixture = fixture().await;
    let reader = Fixture::with(Choice {
        read_only: true,
        allow_delete: true,
        stores: Some([
            fixture.registry.clone(),
            fixture.backups[0].clone(),
            fixture.backups[1].clone(),
        ]),
        ..Choice::default()
    });
    assert_eq!(reader.cat("app/schema").await.unwrap(), V1);
    assert_eq!(reader.cp("app/schema", V1).await, Err(Error::ReadOnly));
    assert_eq!(reader.cp("app/plans/p2", PLAN).await, Err(Error::ReadOnly));
    assert_eq!(reader.rm("app/schema").await, Err(Error::ReadOnly));
    assert_eq!(reader.mkdir("x").await, Err(Error::ReadOnly));
    assert_eq!(reader.rmdir("app").await, Err(Error::ReadOnly));
    assert_eq!(reader.stat("app/schema").await.unwrap().perm, 0o444);
}

#[tokio::test]
async fn exclusive_creation_fails_where_something_is() {
    let fixture = fixture().await;
    let exclusive = OpenMode {
        exclusive: true,
        ..WRITE
    };
    let root = fixture.stat("app").await.unwrap().ino;
    let name = std::ffi::OsStr::new("schema");
    let created = fixture
        .fs
        .clone()
        .create(root, name, exclusive, CreateAttrs::default())
        .await;
    assert_eq!(created.err(), Some(Error::Exists));
}

#[tokio::test]
async fn the_extended_attributes_are_those_of_the_contract() {
    let fixture = fixture().await;
    fixture.cat("app/plans/p1").await.unwrap();
    let ino = fixture.stat("app/plans/p1").await.unwrap().ino;
    let names = fixture.fs.clone().listxattr(ino).await.unwrap();
    let expected = ["url", "version", "sha256", "status", "source", "push"]
        .map(|name| format!("user.atlas.{name}").into());
    let expected: [std::ffi::OsString; 6] = expected;
    assert_eq!(names, expected);
    assert_eq!(
        fixture.xattr("app/plans/p1", "url").await.unwrap(),
        "atlas://app/plans/p1"
    );
    assert_eq!(
        fixture.xattr("app/schema", "url").await.unwrap(),
        "atlas://app"
    );
    assert_eq!(
        fixture
            .xattr("app/plans/p1", "version")
            .await
            .unwrap()
            .len(),
        "20240910173744-0a1b2c3d".len()
    );
    assert_eq!(
        fixture.xattr("app/plans/p1", "source").await.unwrap(),
        "cache"
    );
    assert_eq!(fixture.xattr("app/plans/p1", "nonsense").await, None);
    assert!(fixture.fs.clone().listxattr(ROOT).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_with_foreign_names_shows_only_valid_ones() {
    let fixture = fixture().await;
    let foreign = [
        "app/../etc",
        "app//x",
        "app/plans/a\nb",
        "app/schema/nested",
        "app/plans/p1/nested",
        "app/README",
        "app/plans/-x",
        "app/plans/x.plan.hcl",
        "..",
        "é/schema",
        "app/plans/\u{1}",
    ];
    for key in foreign {
        fixture.registry.place(key, b"foreign", None);
    }
    let other = fixture.another();
    assert_eq!(other.ls("").await.unwrap(), ["app"]);
    assert_eq!(other.ls("app").await.unwrap(), LISTED);
    assert_eq!(other.ls("app/plans").await.unwrap(), ["p1"]);
    assert_eq!(other.cat("app/schema").await.unwrap(), V1);
    let hidden = other.json(".atlasfs/status").await["hidden_names"].as_u64();
    assert!(hidden.unwrap() >= 9, "{hidden:?}");
    other.ls("app").await.unwrap();
    let events = String::from_utf8(other.cat(".atlasfs/events").await.unwrap()).unwrap();
    assert!(
        events.matches("\"event\":\"hidden\"").count() <= 2,
        "logged once"
    );
}

#[tokio::test]
async fn a_known_artifact_is_read_from_a_target_that_has_it() {
    let fixture = fixture().await;
    let reader = fixture.open("app/schema", READ, false).await.unwrap();
    assert_eq!(reader.size().await, V1.len() as u64);
}

#[tokio::test]
async fn forgotten_inodes_are_freed() {
    let fixture = fixture().await;
    for _ in 0..50 {
        fixture.cat("app/schema").await.unwrap();
        fixture.ls("app/plans").await.unwrap();
    }
    let counted = crate::fs::lock(&fixture.fs.nodes).len();
    for ino in 2..1_000 {
        fixture.fs.forget(ino, 1_000_000);
    }
    assert!(
        counted < 20,
        "the same names have the same inodes: {counted}"
    );
    assert_eq!(crate::fs::lock(&fixture.fs.nodes).len(), 1, "the root");
}

#[tokio::test]
async fn a_listing_goes_on_where_it_was_left_and_begins_anew_at_zero() {
    let (fixture, fh) = five_plans().await;
    let all = names_from(&fixture, fh, 0, usize::MAX).await;
    assert_eq!(all.len(), 7);
    fixture.cp("app/plans/p9", b"x").await.unwrap();
    for (at, (offset, _)) in all.iter().enumerate() {
        assert_eq!(
            names_from(&fixture, fh, *offset, usize::MAX).await,
            all[at + 1..]
        );
    }
    assert_eq!(names_from(&fixture, fh, 0, usize::MAX).await.len(), 8);
    fixture.fs.releasedir(fh);
}

#[tokio::test]
async fn an_entry_that_finds_no_room_in_a_reply_is_not_held() {
    let (fixture, fh) = five_plans().await;
    let before = crate::fs::lock(&fixture.fs.nodes).len();
    let taken = names_from(&fixture, fh, 0, 4).await;
    assert_eq!(taken.len(), 4, "`.`, `..` and two plans");
    assert_eq!(crate::fs::lock(&fixture.fs.nodes).len(), before + 2);
    let (next, _) = taken[3];
    assert_eq!(names_from(&fixture, fh, next, 1).await[0].1, "p2");
    fixture.fs.releasedir(fh);
}

/// Makes five plans, and opens the directory that they are in.
async fn five_plans() -> (Fixture, u64) {
    let fixture = Fixture::with(Choice {
        registry: Settings {
            validate: false,
            ..Settings::default()
        },
        named: vec!["app"],
        ..Choice::default()
    });
    for n in 0..5 {
        fixture.cp(&format!("app/plans/p{n}"), b"x").await.unwrap();
    }
    let ino = fixture.stat("app/plans").await.unwrap().ino;
    let fh = fixture.fs.clone().opendir(ino, 0).await.unwrap();
    (fixture, fh)
}

/// Lists into a reply with room for this many entries; returns the next offset and the name of each
/// entry.
async fn names_from(fixture: &Fixture, fh: u64, offset: u64, room: usize) -> Vec<(u64, String)> {
    let listing = fixture.fs.clone().readdir(fh, offset).await.unwrap();
    let mut taken = Vec::new();
    fixture.fs.for_each_entry(&listing, offset, true, |listed| {
        if taken.len() < room {
            taken.push((listed.offset, listed.name.to_str().unwrap().to_owned()));
            return true;
        }
        false
    });
    taken
}

#[tokio::test]
async fn a_touched_file_that_was_pushed_since_is_no_touched_file() {
    let fixture = Fixture::new();
    fixture.mkdir("app").await.unwrap();
    let touched = fixture.open("app/schema.sql", WRITE, true).await.unwrap();
    fixture.cp("app/schema.hcl", V1).await.unwrap();
    touched.close().await.unwrap();
    assert_eq!(fixture.stat("app/schema.sql").await, Err(Error::NotFound));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    // The repository is touched first, and another mount then pushes it.
    fixture.mkdir("new").await.unwrap();
    let touched = fixture.open("new/schema.sql", WRITE, true).await.unwrap();
    touched.close().await.unwrap();
    fixture.stat("new/schema.sql").await.unwrap();
    let other = fixture.another();
    other.mkdir("new").await.unwrap();
    other.cp("new/schema.hcl", V1).await.unwrap();
    fixture.wait().await;
    assert_eq!(fixture.stat("new/schema.sql").await, Err(Error::NotFound));
    assert_eq!(fixture.cat("new/schema").await.unwrap(), V1);
    let exclusive = OpenMode {
        exclusive: true,
        ..WRITE
    };
    let made = fixture.open("new/schema.sql", exclusive, true).await;
    made.map(drop).unwrap();
}
