//! Invalid documents: refused before any target sees them.

use super::fixtures::{fixture_with, plan, with};
use super::kernel::{Choice, Fixture, WRITE, WRITE_ANEW};
use super::{V1, V2};
use crate::fs::{Error, OpenMode};
use crate::registry::{Settings, simulate_computing, simulate_disk};

const SQL: &[u8] = b"CREATE TABLE t (c int);\n";

#[tokio::test]
async fn an_empty_document_is_refused_and_nothing_changes() {
    let fixture = fixture_with(V1).await;
    assert_eq!(fixture.cp("app/schema", b"").await, Err(Error::Invalid));
    assert_eq!(fixture.cp("app/schema", b" \n").await, Err(Error::Invalid));
    let file = fixture.open("app/schema", WRITE, false).await.unwrap();
    file.truncate(0).await.unwrap();
    assert_eq!(file.close().await, Err(Error::Invalid));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("drop everything"), "{error}");
}

#[tokio::test]
async fn the_empty_close_of_a_shells_redirection_leaves_no_trace() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/schema", WRITE_ANEW, false).await.unwrap();
    assert_eq!(
        file.flush().await,
        Err(Error::Invalid),
        "the shell doesn't look"
    );
    file.write(0, V2).unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.xattr("app/schema", "error").await, None);
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pushes"]["refused"], 0);
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
}

#[tokio::test]
async fn a_new_file_that_was_only_touched_stays_local_and_empty() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/plans/p1", WRITE, true).await.unwrap();
    file.flush().await.unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.ls("app/plans").await.unwrap(), ["p1"]);
    assert_eq!(fixture.cat("app/plans/p1").await.unwrap(), b"");
    assert_eq!(fixture.registry.content("app/plans/p1"), None);
    fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
    assert_eq!(fixture.cat("app/plans/p1").await.unwrap(), plan("p1"));
    assert_eq!(fixture.ls("app/plans").await.unwrap(), ["p1"]);
}

#[tokio::test]
async fn an_empty_document_under_a_new_name_is_refused() {
    let fixture = fixture_with(V1).await;
    let exclusive = OpenMode {
        exclusive: true,
        ..WRITE
    };
    for (n, how) in [WRITE_ANEW, exclusive].into_iter().enumerate() {
        let path = format!("app/plans/p{n}");
        let file = fixture.open(&path, how, true).await.unwrap();
        assert_eq!(file.close().await, Err(Error::Invalid), "{how:?}");
        assert_eq!(fixture.cat(&path).await, Err(Error::Io), "{how:?}");
        let error = fixture.xattr(&path, "error").await.unwrap();
        assert!(error.contains("drop everything"), "{error}");
    }
    // truncate(1) makes the file as touch(1) does, and then sets its size to zero explicitly.
    let file = fixture.open("app/plans/p2", WRITE, true).await.unwrap();
    file.truncate(0).await.unwrap();
    assert_eq!(file.close().await, Err(Error::Invalid));
    // An earlier touch doesn't allow an empty document.
    let file = fixture.open("app/plans/p3", WRITE, true).await.unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.cp("app/plans/p3", b"").await, Err(Error::Invalid));
    fixture.cp("app/plans/p3", &plan("p3")).await.unwrap();
}

#[tokio::test]
async fn the_empty_close_of_a_redirection_to_a_new_name_leaves_no_trace() {
    let fixture = fixture_with(V1).await;
    let touched = fixture.open("app/plans/p2", WRITE, true).await.unwrap();
    touched.close().await.unwrap();
    for name in ["p1", "p2"] {
        let path = format!("app/plans/{name}");
        let file = fixture.open(&path, WRITE_ANEW, true).await.unwrap();
        // The shell closes its own descriptor first, and ignores the result.
        assert_eq!(file.flush().await, Err(Error::Invalid));
        file.write(0, &plan(name)).unwrap();
        file.close().await.unwrap();
        assert_eq!(fixture.cat(&path).await.unwrap(), plan(name));
        assert_eq!(fixture.xattr(&path, "error").await, None);
    }
    let status = fixture.json(".atlasfs/status").await;
    assert_eq!(status["pushes"]["refused"], 0);
}

#[tokio::test]
async fn a_touched_file_has_another_mode_than_an_artifact() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/plans/p1", WRITE, true).await.unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.stat("app/plans/p1").await.unwrap().perm, 0o600);
    fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
    assert_eq!(fixture.stat("app/plans/p1").await.unwrap().perm, 0o644);
}

#[tokio::test]
async fn a_touched_file_can_be_removed_without_allow_delete() {
    let fixture = fixture_with(V1).await;
    let file = fixture.open("app/plans/p1", WRITE, true).await.unwrap();
    file.close().await.unwrap();
    fixture.rm("app/plans/p1").await.unwrap();
    assert!(fixture.ls("app/plans").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_write_over_the_limit_is_refused() {
    let fixture = with(Settings {
        max_size: 100,
        validate: false,
        ..Settings::default()
    });
    let file = fixture.open("app/schema", WRITE, true).await.unwrap();
    file.write(99, b"a").unwrap();
    file.close().await.unwrap();
    assert_eq!(fixture.registry.content("app/schema").unwrap().len(), 100);
    let file = fixture.open("app/schema", WRITE_ANEW, true).await.unwrap();
    assert_eq!(file.write(99, b"ab"), Err(Error::TooBig));
    let file = fixture.open("app/schema", WRITE_ANEW, true).await.unwrap();
    assert_eq!(file.write(u64::MAX, b"ab"), Err(Error::TooBig));
    let file = fixture.open("app/schema", WRITE_ANEW, true).await.unwrap();
    assert_eq!(file.truncate(101).await, Err(Error::TooBig));
}

#[tokio::test]
async fn half_a_document_is_not_pushed() {
    let fixture = with(Settings {
        max_size: 100,
        ..Settings::default()
    });
    fixture.cp("app/schema.sql", SQL).await.unwrap();
    let file = fixture
        .open("app/schema.sql", WRITE_ANEW, false)
        .await
        .unwrap();
    file.write(0, &[b'x'; 100]).unwrap();
    assert_eq!(file.write(100, b"y"), Err(Error::TooBig));
    assert_eq!(file.flush().await, Err(Error::TooBig));
    assert_eq!(file.close().await, Err(Error::TooBig));
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), SQL);
    }
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(error.contains("the partial document"), "{error}");
    assert_eq!(fixture.json(".atlasfs/status").await["healthy"], false);
}

#[tokio::test]
async fn broken_documents_are_refused_before_any_target_sees_a_byte() {
    let fixture = fixture_with(V1).await;
    for (path, content) in [
        ("app/schema.hcl", SQL),
        ("app/schema", SQL),
        ("app/plans/p1", b"plan {" as &[u8]),
        ("app/plans/p1", b"plan \"p2\" {}"),
        ("app/plans/p1", SQL),
    ] {
        assert_eq!(
            fixture.cp(path, content).await,
            Err(Error::Invalid),
            "{path}"
        );
        let error = fixture.xattr(path, "error").await.unwrap();
        assert!(error.starts_with("can't push app/"), "{error}");
    }
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
        assert_eq!(store.content("app/plans/p1"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_hcl_state_that_was_only_listed_is_not_turned_into_sql_by_accident() {
    let stores = std::array::from_fn(|_| crate::store::Memory::without_listed_stamps());
    let fixture = Fixture::with(Choice {
        named: vec!["app"],
        stores: Some(stores),
        ..Choice::default()
    });
    let other = fixture.another();
    other.mkdir("app").await.unwrap();
    other.cp("app/schema.hcl", V1).await.unwrap();
    fixture.ls("app/plans").await.unwrap();
    assert_eq!(fixture.cp("app/schema", SQL).await, Err(Error::Invalid));
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
}

#[tokio::test]
async fn schema_sql_turns_the_state_into_sql_on_purpose() {
    let fixture = fixture_with(V1).await;
    assert_eq!(fixture.stat("app/schema.sql").await, Err(Error::NotFound));
    fixture.cp("app/schema.sql", SQL).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), SQL);
    assert_eq!(fixture.cat("app/schema.sql").await.unwrap(), SQL);
    assert_eq!(fixture.stat("app/schema.hcl").await, Err(Error::NotFound));
    let names = ["schema", "schema.sql", "plans"];
    assert_eq!(fixture.ls("app").await.unwrap(), names);
}

#[tokio::test]
async fn without_validation_the_bytes_are_pushed_as_they_are() {
    let fixture = with(Settings {
        validate: false,
        ..Settings::default()
    });
    fixture
        .cp("app/plans/p1", b"\0\xff not a plan")
        .await
        .unwrap();
    assert_eq!(
        fixture.cat("app/plans/p1").await.unwrap(),
        b"\0\xff not a plan"
    );
    assert_eq!(fixture.cp("app/plans/p1", b"").await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn white_space_is_empty_also_where_nothing_is_checked() {
    let fixture = with(Settings {
        validate: false,
        ..Settings::default()
    });
    fixture.cp("app/schema", V1).await.unwrap();
    assert_eq!(fixture.cp("app/schema", b" \n").await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn content_that_declares_nothing_is_never_pushed() {
    for validate in [true, false] {
        let fixture = with(Settings {
            validate,
            ..Settings::default()
        });
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.cp("app/plans/p1", &plan("p1")).await.unwrap();
        for nothing in [
            &b"\xef\xbb\xbf"[..],
            b"\xff\xfe \0\n\0",
            &[0; 100],
            b"# c\n",
            b"/* /* c */ */",
            b"-- atlas:import a.sql\n",
            "\u{a0}".as_bytes(),
        ] {
            for path in ["app/schema", "app/schema.sql", "app/plans/p1"] {
                let pushed = fixture.cp(path, nothing).await;
                assert_eq!(pushed, Err(Error::Invalid), "{path} {nothing:?}");
            }
        }
        for store in fixture.all() {
            assert_eq!(store.content("app/schema").unwrap(), V1);
            assert_eq!(store.content("app/plans/p1").unwrap(), plan("p1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_order_mark_stays_in_the_stored_bytes() {
    let fixture = fixture_with(V1).await;
    let marked = [b"\xef\xbb\xbf", V2].concat();
    fixture.cp("app/schema", &marked).await.unwrap();
    assert_eq!(fixture.cat("app/schema.hcl").await.unwrap(), marked);
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), marked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_outlasts_the_push_fails_it_by_name() {
    let fixture = fixture_with(V1).await;
    let stalled = fixture.fs.registry.stall_checks();
    let (pushed, read) = tokio::join!(fixture.cp("app/schema", V2), fixture.cat("app/schema"));
    assert_eq!((pushed, read), (Err(Error::Io), Ok(V1.to_vec())));
    let error = fixture.xattr("app/schema", "error").await.unwrap();
    assert!(
        error.contains("the validation did not finish in time"),
        "{error}"
    );
    for store in fixture.all() {
        assert_eq!(store.content("app/schema").unwrap(), V1);
    }
    let kept = fixture.ls(".atlasfs/unpushed/app").await.unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    drop(stalled);
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(fixture.registry.content("app/schema").unwrap(), V2);
}

#[tokio::test(start_paused = true)]
async fn two_documents_at_most_are_checked_at_once() {
    let fixture = fixture_with(V1).await;
    // A refused push computes for 1 s twice: for its check, and for the hash of the kept bytes.
    simulate_disk(std::time::Duration::ZERO);
    simulate_computing(std::time::Duration::from_secs(1));
    let begun = tokio::time::Instant::now();
    let [one, two, three] = ["app/plans/p1", "app/plans/p2", "app/plans/p3"];
    let pushed = tokio::join!(
        fixture.cp(one, b"plan {"),
        fixture.cp(two, b"plan {"),
        fixture.cp(three, b"plan {"),
    );
    simulate_computing(std::time::Duration::ZERO);
    let refused = Err(Error::Invalid);
    assert_eq!(pushed, (refused, refused, refused));
    // The third check begins when one of the others has finished its work.
    assert_eq!(begun.elapsed().as_secs(), 5);
}
