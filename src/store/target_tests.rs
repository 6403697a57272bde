//! Tests of the target over a backend with prepared answers.

use std::time::Duration;

use super::*;
use crate::store::Stored;

/// A backend that gives one answer to everything, or none at all.
#[derive(Debug, Default)]
struct Fake {
    hangs: bool,
    stored: Option<Stored>,
    listed: Vec<Listed>,
    prefixes: Vec<String>,
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
        _: &Stamp,
        _: &Condition,
    ) -> Result<Option<Token>, Failure> {
        self.answer(None).await
    }
    async fn delete(&self, _: &str) -> Result<(), Failure> {
        self.answer(()).await
    }
    async fn list(&self, _: &str) -> Result<Vec<Listed>, Failure> {
        self.answer(self.listed.clone()).await
    }
    async fn list_prefixes(&self) -> Result<Vec<String>, Failure> {
        self.answer(self.prefixes.clone()).await
    }
    async fn probe(&self) -> Result<(), Failure> {
        self.answer(()).await
    }
}

fn listed(key: &str) -> Listed {
    Listed {
        key: key.into(),
        size: 1,
        stamp: None,
        token: None,
        modified: UNIX_EPOCH,
    }
}

fn stored(content: &'static [u8], stamp: Option<Stamp>) -> Fake {
    Fake {
        stored: Some(Stored {
            content: Bytes::from_static(content),
            stamp,
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
    assert_eq!(items, ["schema", "plans/p1"]);
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
