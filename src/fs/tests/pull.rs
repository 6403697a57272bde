//! Pulls: the answers of a read.

use std::time::Duration;

use super::fixtures::delete_from;
use super::fixtures::unstamped_lists;
use super::kernel::{Choice, Fixture, READ};
use super::{LISTED, V1, V2};
use crate::fs::Error;
use crate::registry::{FallbackOn, Settings};
use crate::store::{Fault, Kind};

/// Makes a mount without a cache, and a push by another mount: every read asks a target.
pub(super) async fn uncached(content: &[u8]) -> Fixture {
    with(
        content,
        Settings {
            cache_bytes: 0,
            ..Settings::default()
        },
    )
    .await
}

pub(super) async fn with(content: &[u8], settings: Settings) -> Fixture {
    let fixture = Fixture::with(Choice {
        registry: settings,
        named: vec!["app"],
        ..Choice::default()
    });
    fixture.another().push_first(content).await;
    fixture
}

impl Fixture {
    async fn push_first(&self, content: &[u8]) {
        self.mkdir("app").await.unwrap();
        self.cp("app/schema", content).await.unwrap();
    }
}

#[tokio::test]
async fn a_read_comes_from_the_registry_first() {
    let fixture = uncached(V1).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "registry"
    );
    for backup in &fixture.backups {
        let reads = backup.requests();
        assert!(
            reads.iter().all(|request| !request.starts_with("GET")),
            "{reads:?}"
        );
    }
}

#[tokio::test]
async fn an_outage_of_the_registry_falls_back_to_the_backups_in_order() {
    for fault in [
        Fault::Fail(Kind::Unreachable),
        Fault::Fail(Kind::Busy),
        Fault::Fail(Kind::StoreMissing),
        Fault::Corrupt,
    ] {
        let fixture = uncached(V1).await;
        fixture.registry.set_fault(fault);
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1, "{fault:?}");
        assert_eq!(
            fixture.xattr("app/schema", "source").await.unwrap(),
            "mem://backup-1"
        );
        fixture.backups[0].set_fault(fault);
        fixture.backups[0].requests();
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1, "{fault:?}");
        assert_eq!(
            fixture.xattr("app/schema", "source").await.unwrap(),
            "mem://backup-2"
        );
    }
}

#[tokio::test]
async fn a_fallback_is_reported() {
    let fixture = uncached(V1).await;
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    fixture.cat("app/schema").await.unwrap();
    let events = String::from_utf8(fixture.cat(".atlasfs/events").await.unwrap()).unwrap();
    let fallback = events
        .lines()
        .find(|line| line.contains("\"event\":\"fallback\""));
    assert!(fallback.unwrap().contains("mem://backup-1"));
    let metrics = String::from_utf8(fixture.cat(".atlasfs/metrics").await.unwrap()).unwrap();
    assert!(
        metrics.contains("atlasfs_pulls_total{source=\"backup\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("atlasfs_target_up{target=\"mem://registry\"} 0\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_refusal_is_no_outage() {
    for (kind, error) in [
        (Kind::Denied, Error::Denied),
        (Kind::Invalid, Error::Invalid),
    ] {
        let fixture = uncached(V1).await;
        fixture.registry.set_fault(Fault::Fail(kind));
        assert_eq!(fixture.cat("app/schema").await, Err(error));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_from_the_registry_is_not_undone_by_a_backup() {
    let fixture = uncached(V1).await;
    fixture.cat("app/schema").await.unwrap();
    delete_from(&fixture.registry, "app/schema").await;
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
    fixture.registry.set_fault(Fault::Fail(Kind::Busy));
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await, Err(Error::NotFound));
}

#[tokio::test]
async fn a_site_may_fall_back_on_refusals_too() {
    let fallback_on = FallbackOn {
        not_found: true,
        denied: true,
    };
    let fixture = with(
        V1,
        Settings {
            fallback_on,
            ..Settings::default()
        },
    )
    .await;
    fixture.registry.remove("app/schema");
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    let fixture = with(
        V1,
        Settings {
            fallback_on,
            ..Settings::default()
        },
    )
    .await;
    fixture.registry.set_fault(Fault::Fail(Kind::Denied));
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
}

#[tokio::test(start_paused = true)]
async fn hung_targets_leave_time_for_the_next_one() {
    let fixture = uncached(V1).await;
    fixture.registry.set_fault(Fault::Hang);
    fixture.backups[0].set_fault(Fault::Hang);
    let begun = tokio::time::Instant::now();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    // A LIST and a GET, each within its own deadline.
    assert!(
        begun.elapsed() <= Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_open_keeps_its_deadline_also_when_it_has_to_list_first() {
    let fixture = uncached(V1).await;
    let ino = fixture.stat("app/schema").await.unwrap().ino;
    fixture.wait().await;
    for store in fixture.all() {
        store.set_fault(Fault::Hang);
    }
    let begun = tokio::time::Instant::now();
    let opened = fixture.fs.clone().open(ino, READ, 1).await;
    assert_eq!(opened.unwrap_err(), Error::Io);
    assert!(
        begun.elapsed() <= Duration::from_millis(5_010),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn with_every_target_hung_each_operation_ends_by_its_deadline() {
    let fixture = uncached(V1).await;
    for store in fixture.all() {
        store.set_fault(Fault::Hang);
    }
    let begun = tokio::time::Instant::now();
    fixture.stat("app/schema").await.unwrap();
    assert!(begun.elapsed() <= Duration::from_millis(2_010));
    let begun = tokio::time::Instant::now();
    assert_eq!(fixture.cat("app/schema").await, Err(Error::Io));
    assert!(
        begun.elapsed() <= Duration::from_millis(10),
        "it has just been tried"
    );
}

#[tokio::test(start_paused = true)]
async fn cached_content_is_served_labelled_when_no_target_answers() {
    let fixture = with(V1, Settings::default()).await;
    fixture.cat("app/schema").await.unwrap();
    assert_eq!(fixture.xattr("app/schema", "stale").await, None);
    for store in fixture.all() {
        store.set_fault(Fault::Fail(Kind::Unreachable));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.xattr("app/schema", "stale").await.unwrap(), "10");
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "cache"
    );
    assert_eq!(fixture.ls("app").await.unwrap(), LISTED);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pushed_from_stale_knowledge_without_an_error() {
    let fixture = with(V1, Settings::default()).await;
    fixture.cat("app/schema").await.unwrap();
    for store in fixture.all() {
        store.set_fault(Fault::Fail(Kind::Unreachable));
    }
    fixture.wait().await;
    assert_eq!(fixture.cp("app/schema", V2).await, Err(Error::Io));
    assert_eq!(fixture.cp("app/plans/new", V2).await, Err(Error::Invalid));
}

#[tokio::test(start_paused = true)]
async fn names_and_sizes_cost_one_list_a_repository_within_the_ttl() {
    let fixture = with(V1, Settings::default()).await;
    fixture.registry.requests();
    for _ in 0..100 {
        assert_eq!(
            fixture.stat("app/schema").await.unwrap().size,
            V1.len() as u64
        );
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
        assert_eq!(fixture.stat("app/plans/none").await, Err(Error::NotFound));
    }
    assert_eq!(fixture.registry.requests(), ["LIST app", "GET app/schema"]);
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V1);
    assert_eq!(fixture.registry.requests(), ["LIST app"]);
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_one_cold_file_cost_one_request() {
    let fixture = with(V1, Settings::default()).await;
    fixture.registry.requests();
    fixture
        .registry
        .set_fault(Fault::Slow(Duration::from_millis(50)));
    let readers = (0..100).map(|_| fixture.cat("app/schema"));
    for content in futures::future::join_all(readers).await {
        assert_eq!(content.unwrap(), V1);
    }
    assert_eq!(fixture.registry.requests(), ["LIST app", "GET app/schema"]);
}

#[tokio::test(start_paused = true)]
async fn another_mounts_push_is_seen_after_the_ttl_and_open_files_keep_theirs() {
    let fixture = with(V1, Settings::default()).await;
    let before = fixture.stat("app/schema").await.unwrap();
    let reader = fixture.open("app/schema", READ, false).await.unwrap();
    fixture.another().cp("app/schema", V2).await.unwrap();
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    let after = fixture.stat("app/schema").await.unwrap();
    assert_eq!(reader.read_all().await.unwrap(), V1);
    assert_ne!(after.ino, before.ino);
    assert!(after.time > before.time);
}

#[tokio::test(start_paused = true)]
async fn a_reader_on_an_old_inode_is_sent_to_the_newest_content() {
    let fixture = with(V1, Settings::default()).await;
    fixture.cat("app/schema").await.unwrap();
    let pid = fixture.pid();
    let old = fixture.walk("app/schema", pid).await.unwrap().ino;
    fixture.cp("app/schema", V2).await.unwrap();
    let opened = fixture.fs.clone().open(old, READ, pid).await;
    assert_eq!(opened.unwrap_err(), Error::Stale);
    let opened = fixture.fs.clone().open(old, READ, pid).await.unwrap();
    let read = fixture.fs.clone().read(opened.fh, 0, 1_000).await.unwrap();
    assert_eq!(
        read, V1,
        "sent back once, it gets what its inode stands for"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_overtaken_twice_gets_a_complete_content() {
    let fixture = uncached(V1).await;
    let pid = fixture.pid();
    let old = fixture.walk("app/schema", pid).await.unwrap().ino;
    fixture.cp("app/schema", V2).await.unwrap();
    let opened = fixture.fs.clone().open(old, READ, pid).await;
    assert_eq!(opened.unwrap_err(), Error::Stale);
    let opened = fixture.fs.clone().open(old, READ, pid).await.unwrap();
    assert!(opened.direct_io, "these pages are another inode's");
}

#[tokio::test(start_paused = true)]
async fn a_mount_never_goes_back_in_time() {
    let fixture = uncached(V1).await;
    let old = fixture.registry.object("app/schema").unwrap();
    fixture.cp("app/schema", V2).await.unwrap();
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    // Restore the registry and the first backup from yesterday's snapshot.
    for store in [&fixture.registry, &fixture.backups[0]] {
        store.place("app/schema", V1, old.stamp);
    }
    fixture.wait().await;
    assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
    assert_eq!(
        fixture.xattr("app/schema", "source").await.unwrap(),
        "mem://backup-2"
    );
    fixture.backups[1].set_fault(Fault::Fail(Kind::Busy));
    assert_eq!(
        fixture.cat("app/schema").await,
        Err(Error::Io),
        "rather none than an old one"
    );
}

#[tokio::test(start_paused = true)]
async fn content_pending_for_the_registry_is_served_from_backups() {
    for stores in [None, unstamped_lists()] {
        let fixture = Fixture::with(Choice {
            registry: Settings {
                cache_bytes: 0,
                ..Settings::default()
            },
            named: vec!["app"],
            stores,
            ..Choice::default()
        });
        fixture.cp("app/schema", V1).await.unwrap();
        fixture.registry.set_fault(Fault::Fail(Kind::Busy));
        fixture.cp("app/schema", V2).await.unwrap();
        fixture
            .cp(
                "app/plans/p",
                b"plan \"p\" {\nfrom=\"a\"\nto=\"b\"\nmigration=\"c\"\n}\n",
            )
            .await
            .unwrap();
        fixture.registry.set_fault(None);
        fixture.wait().await;
        assert_eq!(fixture.cat("app/schema").await.unwrap(), V2);
        assert!(fixture.cat("app/plans/p").await.is_ok());
        assert_eq!(
            fixture.stat("app/schema").await.unwrap().size,
            V2.len() as u64
        );
        fixture.cp("app/schema", V1).await.unwrap();
        assert_eq!(fixture.registry.content("app/schema").unwrap(), V1);
        assert_eq!(fixture.xattr("app/schema", "pending").await, None);
    }
}
