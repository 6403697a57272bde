//! A mount that starts without local state while every target is out.

use super::fixtures::{plan, set_all};
use super::kernel::{Choice, Fixture, READ_WRITE, WRITE, WRITE_ANEW};
use super::{V1, V2};
use crate::fs::Error;
use crate::store::{Fault, Kind};

/// Makes a mount without local state, while every target is out.
fn cold_start() -> Fixture {
    let fixture = Fixture::new();
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    fixture
}

#[tokio::test(start_paused = true)]
async fn an_outage_from_the_start_stops_no_mkdir() {
    let fixture = cold_start();
    fixture.mkdir("app").await.unwrap();
    assert_eq!(fixture.mkdir("app").await, Err(Error::Exists));
    assert_eq!(fixture.ls("app").await.unwrap(), ["plans"]);
    assert_eq!(fixture.ls("app/plans").await.unwrap(), [""; 0]);
    assert_eq!(fixture.stat("app/schema").await, Err(Error::NotFound));
    assert_eq!(fixture.stat("other").await, Err(Error::NotFound));
    assert_eq!(fixture.ls("").await, Err(Error::Io));
    fixture.rmdir("app").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_from_the_start_keeps_the_bytes_of_every_save() {
    let fixture = cold_start();
    fixture.mkdir("app").await.unwrap();
    assert_eq!(fixture.cp("app/schema.hcl", V1).await, Err(Error::Io));
    fixture.cp("app/.new", V2).await.unwrap();
    assert_eq!(fixture.mv("app/.new", "app/schema").await, Err(Error::Io));
    let kept = fixture.ls(".atlasfs/unpushed/app").await.unwrap();
    assert_eq!(kept.len(), 2, "{kept:?}");
    for (name, content) in kept.iter().zip([V1, V2]) {
        let path = format!(".atlasfs/unpushed/app/{name}");
        assert_eq!(fixture.cat(&path).await.unwrap(), content);
    }
    assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
    // The targets are back, and hold nothing.
    set_all(&fixture, None::<Fault>);
    fixture.wait().await;
    fixture.cp("app/schema.hcl", V2).await.unwrap();
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_configured_repository_in_the_dark_keeps_every_save() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        ..Choice::default()
    });
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    assert_eq!(fixture.cp("app/schema.hcl", V1).await, Err(Error::Io));
    assert_eq!(fixture.cp("app/plans/p", &plan("p")).await, Err(Error::Io));
    fixture.cp("app/.new", V2).await.unwrap();
    assert_eq!(fixture.mv("app/.new", "app/schema").await, Err(Error::Io));
    assert_eq!(fixture.ls(".atlasfs/unpushed/app").await.unwrap().len(), 3);
    for name in ["app/schema", "app/schema.hcl", "app/plans/p", "app/plans/q"] {
        assert_eq!(fixture.cat(name).await, Err(Error::Io), "{name}");
    }
    set_all(&fixture, None::<Fault>);
    fixture.wait().await;
    fixture.settle().await;
    for store in fixture.all() {
        assert_eq!(
            store.content("app/schema"),
            None,
            "a failed push is not made"
        );
    }
    assert_eq!(fixture.stat("app/plans/q").await, Err(Error::NotFound));
    fixture.cp("app/schema.hcl", V2).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn unknown_content_is_never_extended() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        ..Choice::default()
    });
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    for how in [WRITE, READ_WRITE] {
        let opened = fixture.open("app/schema", how, false).await;
        assert_eq!(opened.map(|_| ()).unwrap_err(), Error::Io, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_configured_repository_in_the_dark_replaces_nothing() {
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        ..Choice::default()
    });
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    set_all(&fixture, Fault::Fail(Kind::Unreachable));
    let file = fixture.open("app/schema", WRITE_ANEW, true).await.unwrap();
    file.write(0, V2).unwrap();
    set_all(&fixture, None::<Fault>);
    fixture.wait().await;
    assert_eq!(file.flush().await, Err(Error::Stale));
    file.close().await.unwrap_err();
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn a_save_begun_in_the_dark_replaces_nothing() {
    let fixture = cold_start();
    fixture.mkdir("app").await.unwrap();
    let file = fixture.open("app/schema", WRITE_ANEW, true).await.unwrap();
    file.write(0, V2).unwrap();
    let other = fixture.another();
    set_all(&fixture, None::<Fault>);
    other.mkdir("app").await.unwrap();
    other.cp("app/schema", V1).await.unwrap();
    for down in [false, true] {
        // The same while the registry is out again, and only the backups answer.
        let fault = down.then_some(Fault::Fail(Kind::Unreachable));
        fixture.registry.set_fault(fault);
        fixture.wait().await;
        assert_eq!(file.flush().await, Err(Error::Stale), "{down}");
    }
    file.close().await.unwrap_err();
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
}
