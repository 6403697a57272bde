//! Tests of the target over a backend with prepared answers.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::model::{Format, Item, MAX_AHEAD};
use crate::store::SignedStamp;
use crate::store::{Listed, Stored};

/// A backend that gives one answer to everything, or none at all.
#[derive(Debug, Default)]
struct Fake {
    hangs: bool,
    stored: Option<Stored>,
    listed: Vec<Listed>,
    prefixes: Vec<String>,
    keeps_time: bool,
}

impl Fake {
    async fn answer<T>(&self, answer: T) -> Result<T, Failure> {
        match self.hangs {
            true => std::future::pending().await,
            false => Ok(answer),
        }
    }
}

#[async_trait::async_trait]
impl Backend for Fake {
    async fn get(&self, _: &str, _: u64) -> Result<Stored, Failure> {
        let stored = self.stored.clone();
        self.answer(()).await?;
        stored.ok_or_else(|| Failure::new(Kind::NotFound, "no"))
    }
    async fn head(&self, key: &str) -> Result<Listed, Failure> {
        self.answer(listed(key)).await
    }
    async fn put(
        &self,
        _: &str,
        _: Bytes,
        _: &SignedStamp,
        _: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.answer(None).await
    }
    async fn delete(&self, _: &str) -> Result<(), Failure> {
        self.answer(()).await
    }
    async fn list_up_to(&self, _: &str, _: Option<&str>) -> Result<Vec<Listed>, Failure> {
        self.answer(self.listed.clone()).await
    }
    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        self.answer(self.prefixes.clone()).await
    }
    async fn probe(&self) -> Result<(), Failure> {
        self.answer(()).await
    }
    fn keeps_time(&self) -> bool {
        self.keeps_time
    }
}

fn listed(key: &str) -> Listed {
    Listed {
        key: key.into(),
        size: 1,
        stamp: None,
        unreadable: false,
        token: None,
        modified: UNIX_EPOCH,
    }
}

fn stored(content: &'static [u8], stamp: Option<Stamp>) -> Fake {
    Fake {
        stored: Some(Stored {
            content: Bytes::from_static(content),
            stamp: stamp.map(SignedStamp::from),
            unreadable: false,
            token: None,
            modified: UNIX_EPOCH + Duration::from_nanos(42),
        }),
        ..Fake::default()
    }
}

fn target(driver: Fake) -> Target {
    Target::new(Role::Backup(0), "fake://store", Arc::new(driver))
}

fn id(key: &str) -> ArtifactId {
    let (repo, item) = key.split_once('/').unwrap();
    ArtifactId {
        repo: RepoName::parse(repo).unwrap(),
        item: Item::from_key(item).unwrap(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(1500)
}

#[tokio::test(start_paused = true)]
async fn every_operation_of_a_target_that_hangs_ends_at_its_deadline() {
    let target = target(Fake {
        hangs: true,
        ..Fake::default()
    });
    let (id, repo) = (id("app/schema"), RepoName::parse("app").unwrap());
    let stamp = Stamp::new(1, b"x", Format::Hcl);
    let start = Instant::now();
    let failures = [
        target.get(&id, 9, soon()).await.unwrap_err(),
        target.head(&id, soon()).await.unwrap_err(),
        target
            .put(
                &id,
                Bytes::from_static(b"x"),
                &stamp,
                &Condition::None,
                soon(),
            )
            .await
            .unwrap_err(),
        target.delete(&id, soon()).await.unwrap_err(),
        target.list(&repo, soon()).await.unwrap_err(),
        target.repos(soon()).await.unwrap_err(),
        target.probe(soon()).await.unwrap_err(),
    ];
    assert!(start.elapsed() <= Duration::from_millis(7 * 1501));
    for failure in failures {
        assert_eq!(failure.kind, Kind::Unreachable);
        assert!(
            failure.reason.starts_with("no answer within 1.5 s "),
            "{failure}"
        );
        assert!(failure.reason.ends_with("at fake://store"), "{failure}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_the_stamps_are_corrupt() {
    let stamp = Stamp::new(7, b"schema", Format::Hcl);
    let good = target(stored(b"schema", Some(stamp)));
    let content = good.get(&id("app/schema"), 9, soon()).await.unwrap();
    assert_eq!((content.stamp, content.stamped), (stamp, true));
    let bad = target(stored(b"schemA", Some(stamp)));
    let failure = bad.get(&id("app/schema"), 9, soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Corrupt);
}

#[tokio::test]
async fn content_put_there_by_hand_gets_a_stamp_of_the_stores_time() {
    let sql = target(stored(b"create table t (id int);", None));
    let content = sql.get(&id("app/schema"), 99, soon()).await.unwrap();
    assert!(!content.stamped);
    assert_eq!(content.stamp.when, 42);
    assert_eq!(content.stamp.format, Format::Sql);
    assert!(content.stamp.matches(&content.bytes));
    let hcl = target(stored(b"schema \"public\" {}", None));
    let content = hcl.get(&id("app/schema"), 99, soon()).await.unwrap();
    assert_eq!(content.stamp.format, Format::Hcl);
}

/// The clock of the tests below, in nanoseconds since the epoch.
const NOW: u64 = 1_700_000_000_000_000_000;

fn at_now(driver: Fake) -> Target {
    let target = target(driver);
    target.set_wall(&WallClock::new(|| UNIX_EPOCH + Duration::from_nanos(NOW)));
    target
}

#[tokio::test]
async fn a_stamp_more_than_five_minutes_ahead_is_no_stamp() {
    for (when, refused) in [
        (NOW + MAX_AHEAD, None),
        (
            NOW + MAX_AHEAD + 1,
            Some(StampRefusal::Ahead(NOW + MAX_AHEAD + 1)),
        ),
        (u64::MAX, Some(StampRefusal::Ahead(u64::MAX))),
    ] {
        let stamp = Stamp::new(when, b"schema", Format::Hcl);
        let ahead = at_now(stored(b"schema", Some(stamp)));
        let content = ahead.get(&id("app/schema"), 9, soon()).await.unwrap();
        assert_eq!(
            (content.stamped, content.refused),
            (refused.is_none(), refused)
        );
        // The content is served all the same, with the store's own time.
        assert_eq!(&*content.bytes, b"schema");
        let counts = if refused.is_some() { 42 } else { when };
        assert_eq!(content.stamp.when, counts);
        let mut object = listed("app/schema");
        object.stamp = Some(stamp.into());
        let listing = at_now(Fake {
            listed: vec![object],
            ..Fake::default()
        });
        let app = RepoName::parse("app").unwrap();
        let listing = listing.list(&app, soon()).await.unwrap();
        let meta = &listing.items[&Item::Schema];
        assert_eq!(
            (meta.stamp.is_none(), meta.refused),
            (refused.is_some(), refused)
        );
    }
}

#[tokio::test]
async fn a_store_with_a_clock_speaks_for_the_stamp_of_its_object() {
    let when = NOW + 2 * MAX_AHEAD;
    let stamp = Stamp::new(when, b"schema", Format::Hcl);
    for (by_store, counts) in [(when, true), (NOW, false)] {
        let mut driver = stored(b"schema", Some(stamp));
        driver.keeps_time = true;
        let modified = UNIX_EPOCH + Duration::from_nanos(by_store);
        driver.stored.as_mut().unwrap().modified = modified;
        let content = at_now(driver).get(&id("app/schema"), 9, soon()).await;
        assert_eq!(content.unwrap().stamped, counts);
    }
}

#[tokio::test]
async fn a_file_time_far_ahead_tells_nothing() {
    let mut driver = stored(b"schema", None);
    driver.stored.as_mut().unwrap().modified = UNIX_EPOCH + Duration::from_nanos(u64::MAX);
    let content = at_now(driver).get(&id("app/schema"), 9, soon()).await;
    assert_eq!(content.unwrap().stamp.when, NOW);
}

#[tokio::test]
async fn an_unreadable_stamp_is_no_stamp() {
    let mut driver = stored(b"schema", None);
    driver.stored.as_mut().unwrap().unreadable = true;
    let content = target(driver)
        .get(&id("app/schema"), 9, soon())
        .await
        .unwrap();
    assert_eq!(content.refused, Some(StampRefusal::Unreadable));
    assert!(!content.stamped);
}

#[tokio::test]
async fn a_stamp_of_other_bytes_is_never_written() {
    let stamp = Stamp::new(7, b"other", Format::Hcl);
    let put = target(Fake::default());
    let content = Bytes::from_static(b"bytes");
    let id = id("app/schema");
    let put = put.put(&id, content, &stamp, &Condition::None, soon());
    assert_eq!(put.await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn a_listing_keeps_artifacts_and_counts_what_is_foreign() {
    let keys = [
        "app/schema",
        "app/schema/nested",
        "app/plans/p1",
        "app/plans/p1/nested",
        "app/plans/",
        "app/",
        "app/versions/1",
        "app/tags/latest",
        "app/migrations/1.sql",
        "app//schema",
        "app/../other/schema",
        "app/plans/a\nb",
        "app/README",
        "apple/schema",
    ];
    let target = target(Fake {
        listed: keys.iter().map(|key| listed(key)).collect(),
        ..Fake::default()
    });
    let repo = RepoName::parse("app").unwrap();
    let listing = target.list(&repo, soon()).await.unwrap();
    let items: Vec<String> = listing.items.keys().map(Item::to_string).collect();
    assert_eq!(items, ["schema", "plans/p1", "migrations/1.sql"]);
    assert_eq!(
        listing.hidden,
        [
            "app/schema/nested",
            "app/plans/p1/nested",
            "app//schema",
            "app/../other/schema",
            "app/plans/a\nb",
            "app/README",
            "apple/schema",
        ]
    );
}

#[tokio::test]
async fn repositories_are_sorted_and_our_own_objects_are_none() {
    let target = target(Fake {
        prefixes: ["web", ".atlasfs", "app", "..", "", "a b"]
            .map(String::from)
            .to_vec(),
        ..Fake::default()
    });
    let (repos, hidden) = target.repos(soon()).await.unwrap();
    assert_eq!(
        repos.iter().map(RepoName::as_str).collect::<Vec<_>>(),
        ["app", "web"]
    );
    assert_eq!(hidden, ["..", "", "a b"]);
}
