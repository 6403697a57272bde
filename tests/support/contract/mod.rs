//! The contract of every target: the tests that all drivers pass, on every store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atlasfs::model::{
    ArtifactId, Base, Format, Item, PlanName, PlanStatus, RepoName, Sha256, Stamp,
};
use atlasfs::store::{Condition, Failure, Kind, StampKeys, Target, Token};
use bytes::Bytes;
use tokio::time::Instant;

mod writers;

pub use writers::*;

/// Puts an object into the store under exactly this key, around the driver.
pub type Inject = Box<dyn Fn(&str, &[u8]) -> Result<(), String> + Send + Sync>;

/// The way in which a store replaces an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// The store checks the condition and writes the content and the metadata as one step.
    AtOnce,
    /// The store does each in a step of its own.
    InParts,
    /// The same, and the store removes the old object before it moves the new one to its name. In
    /// between, a reader finds no object or the end of another one. A writer may fail then, and a
    /// failed write removes the object.
    WithAGap,
}

/// A target, and the abilities of its store.
pub struct Subject {
    /// The target; its store is empty.
    pub target: Target,
    /// Puts an object there around the driver; the key is relative to the target's URL.
    pub inject: Inject,
    /// How the store replaces an object.
    pub replaces: Replaces,
    /// Whether exactly one of many writers with the same condition wins.
    pub decides: bool,
    /// The longest plan name that the store can hold.
    pub longest: usize,
    /// The least number of foreign keys that the store accepts.
    pub foreign: usize,
    /// Whether a name may end with a dot.
    pub ends_with_dots: bool,
    /// Values that must live as long as the target.
    pub keep: Box<dyn std::any::Any + Send + Sync>,
}

/// A deadline that every reply meets, and that is short enough for a test.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// The largest content that the tests read.
pub const LIMIT: u64 = 8 << 20;

/// Returns the artifact of a key.
pub fn id(key: &str) -> ArtifactId {
    let (repo, item) = key.split_once('/').unwrap();
    ArtifactId {
        repo: RepoName::parse(repo).unwrap(),
        item: Item::from_key(item).unwrap(),
    }
}

impl Subject {
    fn is_atomic(&self) -> bool {
        self.replaces == Replaces::AtOnce
    }

    /// Writes an artifact on a condition.
    pub async fn put_if(
        &self,
        key: &str,
        content: &[u8],
        when: u64,
        condition: &Condition,
    ) -> Result<Option<Token>, Failure> {
        let stamp = Stamp::new(when, content, Format::Hcl);
        let content = Bytes::copy_from_slice(content);
        let put = &id(key);
        self.target
            .put(put, content, &stamp, condition, soon())
            .await
    }

    /// Writes an artifact.
    pub async fn put(&self, key: &str, content: &[u8], when: u64) -> Option<Token> {
        let put = self.put_if(key, content, when, &Condition::None).await;
        put.unwrap()
    }

    /// Reads an artifact's bytes.
    pub async fn get(&self, key: &str) -> Result<Bytes, Failure> {
        let got = self.target.get(&id(key), LIMIT, soon()).await;
        got.map(|content| content.bytes)
    }
}

/// Authors with everything that a store might change; the empty one is none.
const AUTHORS: [&str; 3] = ["alice@build-7", " Zoë  <z@x>, \"%41\" ", ""];

const WHEN: u64 = 1_726_000_000_123_456_789;

/// A read returns the pushed bytes with their stamp; HEAD shows the same stamp.
pub async fn content_and_stamp_come_back_as_they_were_put(subject: &Subject) {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    for (n, content) in [
        &b"schema \"a\" {}"[..],
        b"no newline",
        b"\0\xff\r\n",
        b"",
        &large,
    ]
    .into_iter()
    .enumerate()
    {
        for format in [Format::Hcl, Format::Sql] {
            let (key, when) = (id("app/schema"), WHEN + n as u64);
            let stamp = Stamp {
                base: Base::Deleted(Sha256::of(content)),
                author: AUTHORS[n % AUTHORS.len()].parse().ok(),
                status: [PlanStatus::Approved, PlanStatus::Pending][n % 2],
                ..Stamp::new(when, content, format)
            };
            let bytes = Bytes::copy_from_slice(content);
            let put = subject
                .target
                .put(&key, bytes, &stamp, &Condition::None, soon());
            let token = put.await.unwrap();
            let got = subject.target.get(&key, LIMIT, soon()).await.unwrap();
            assert_eq!(
                (&*got.bytes, got.stamp, got.stamped),
                (content, stamp, true)
            );
            let head = subject.target.head(&key, soon()).await.unwrap();
            for shown in [Some(got.stamp), head.stamp] {
                assert_eq!(shown.unwrap().author, stamp.author);
            }
            assert_eq!((head.size, head.stamp), (content.len() as u64, Some(stamp)));
            assert_eq!((&token, &token), (&got.token, &head.token));
        }
    }
}

/// Returns the target for a mount that signs with a key of these two digits.
pub fn signing(target: &Target, digits: &str) -> Target {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, digits.repeat(32).as_bytes()).unwrap();
    let mut target = target.clone();
    target.set_stamp_keys(Arc::new(StampKeys::read(file.path()).unwrap()));
    target
}

/// A signature comes back with its stamp. Without keys, it makes no difference.
pub async fn a_signature_comes_back_with_its_stamp(subject: &Subject) {
    let [ours, theirs] = ["ab", "cd"].map(|digits| signing(&subject.target, digits));
    let (key, content) = (id("app/schema"), Bytes::from_static(b"schema \"a\" {}"));
    let stamp = Stamp {
        author: AUTHORS[1].parse().ok(),
        status: PlanStatus::Pending,
        ..Stamp::new(WHEN, &content, Format::Hcl)
    };
    let put = ours.put(&key, content.clone(), &stamp, &Condition::None, soon());
    put.await.unwrap();
    for (target, counts) in [(&ours, true), (&subject.target, true), (&theirs, false)] {
        let head = target.head(&key, soon()).await.unwrap();
        assert_eq!(head.stamp, counts.then_some(stamp));
        assert_eq!(head.refused.is_none(), counts);
        let listing = target.list(&key.repo, soon()).await.unwrap();
        let listed = listing.items[&key.item].stamp;
        assert!(listed.is_none() || counts, "{listed:?}");
    }
    assert!(ours.get(&key, LIMIT, soon()).await.unwrap().stamped);
}

/// A missing artifact is not found, and may be deleted.
pub async fn a_missing_artifact_is_not_found_and_can_be_deleted(subject: &Subject) {
    for key in ["app/schema", "app/plans/p1"] {
        assert_eq!(subject.get(key).await.unwrap_err().kind, Kind::NotFound);
        let head = subject.target.head(&id(key), soon()).await;
        assert_eq!(head.unwrap_err().kind, Kind::NotFound);
        subject.target.delete(&id(key), soon()).await.unwrap();
    }
    let repo = RepoName::parse("app").unwrap();
    let listing = subject.target.list(&repo, soon()).await.unwrap();
    assert!(listing.items.is_empty() && listing.hidden.is_empty());
    let (repos, _) = subject.target.repos(soon()).await.unwrap();
    assert!(repos.is_empty());
    subject.target.probe(soon()).await.unwrap();
}

/// A deleted artifact is gone, and can be put again.
pub async fn a_deleted_artifact_is_gone_until_it_is_put_again(subject: &Subject) {
    subject.put("app/plans/p1", b"one", 1).await;
    subject.put("app/plans/p2", b"two", 2).await;
    let p1 = id("app/plans/p1");
    subject.target.delete(&p1, soon()).await.unwrap();
    assert_eq!(
        subject.get("app/plans/p1").await.unwrap_err().kind,
        Kind::NotFound
    );
    let listing = subject.target.list(&p1.repo, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 1);
    subject.put("app/plans/p1", b"again", 3).await;
    assert_eq!(subject.get("app/plans/p1").await.unwrap(), "again");
}

/// Names of every allowed character come back from listings as they were put.
pub async fn names_with_every_allowed_character_are_listed_as_they_are(subject: &Subject) {
    let mut names: Vec<String> = ('0'..='9')
        .chain('A'..='Z')
        .chain('a'..='z')
        .map(|first| format!("{first}-_.{first}"))
        .collect();
    names.extend(["a..b", "a.", "x%", "schema", "plans"].map(String::from));
    names.push("n".repeat(subject.longest));
    names.retain(|name| PlanName::parse(name).is_ok());
    if !subject.ends_with_dots {
        let refused = subject.put_if("app/plans/a.", b"x", 1, &Condition::None);
        assert_eq!(refused.await.unwrap_err().kind, Kind::Invalid);
        names.retain(|name| !name.ends_with('.'));
    }
    for name in &names {
        subject
            .put(&format!("My-App_1.x/plans/{name}"), name.as_bytes(), 1)
            .await;
    }
    let repo = RepoName::parse("My-App_1.x").unwrap();
    let listing = subject.target.list(&repo, soon()).await.unwrap();
    let listed: BTreeSet<String> = listing.items.keys().map(Item::to_string).collect();
    let put: BTreeSet<String> = names.iter().map(|name| format!("plans/{name}")).collect();
    assert_eq!(listed, put);
    assert!(listing.hidden.is_empty(), "{:?}", listing.hidden);
    for name in &names {
        let got = subject.get(&format!("My-App_1.x/plans/{name}")).await;
        assert_eq!(got.unwrap(), name.as_bytes());
    }
}

/// Listings keep repositories apart, even if one name begins with another's.
pub async fn repositories_are_kept_apart(subject: &Subject) {
    for repo in ["app", "app2", "ap", "app-x"] {
        subject
            .put(&format!("{repo}/schema"), repo.as_bytes(), 1)
            .await;
    }
    let app = RepoName::parse("app").unwrap();
    let listing = subject.target.list(&app, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 1);
    assert_eq!(listing.items[&Item::Schema].size, 3);
    assert!(listing.hidden.is_empty(), "{:?}", listing.hidden);
    let (repos, hidden) = subject.target.repos(soon()).await.unwrap();
    let repos: Vec<&str> = repos.iter().map(RepoName::as_str).collect();
    assert_eq!(repos, ["ap", "app", "app-x", "app2"]);
    assert!(hidden.is_empty(), "{hidden:?}");
}

/// A listing is complete beyond the thousand keys of a store's page.
pub async fn a_listing_is_whole_beyond_a_thousand_keys(subject: &Subject) {
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for n in (part..1105).step_by(4) {
                    (subject.inject)(&format!("app/plans/{n:05}"), b"x").unwrap();
                }
            });
        }
    });
    let app = RepoName::parse("app").unwrap();
    let listing = subject.target.list(&app, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 1105);
}

/// More names than fit in a page of any store: Azure's have 5,000.
pub const MANY: usize = 10_105;

/// Makes [`MANY`] keys: `here` of them in the repository `app`, the others in `other`.
pub fn many_keys(here: usize) -> Vec<String> {
    let repo = |n| if n < here { "app" } else { "other" };
    let key = |n| format!("{}/plans/{n:05}", repo(n));
    (0..MANY).map(key).collect()
}

/// A listing is complete with more than ten thousand keys.
pub async fn a_listing_is_whole_beyond_ten_thousand_keys(subject: &Subject, here: usize) {
    let app = RepoName::parse("app").unwrap();
    let end = Instant::now() + Duration::from_secs(300);
    let listing = subject.target.list(&app, end).await.unwrap();
    let listed: Vec<String> = listing.items.keys().map(|i| format!("app/{i}")).collect();
    assert_eq!(listed, many_keys(here)[..here]);
    assert!(listing.hidden.is_empty(), "{:?}", listing.hidden);
    let (repos, _) = subject.target.repos(end).await.unwrap();
    let other = RepoName::parse("other").unwrap();
    assert_eq!(repos, [app, other][..if here < MANY { 2 } else { 1 }]);
}

/// Content that was put there by hand is served, with a stamp of the store's time.
pub async fn content_put_there_by_hand_is_served(subject: &Subject) {
    (subject.inject)("app/schema", b"create table t (id int);").unwrap();
    let id = id("app/schema");
    let got = subject.target.get(&id, LIMIT, soon()).await.unwrap();
    assert!(!got.stamped);
    assert!(got.stamp.matches(b"create table t (id int);"));
    assert_eq!(got.stamp.format, Format::Sql);
    assert!(got.stamp.when > 1_700_000_000_000_000_000);
    assert_eq!(subject.target.head(&id, soon()).await.unwrap().stamp, None);
}

/// Foreign keys break no listing, and listings hide those that the store accepts.
pub async fn foreign_keys_break_nothing_and_are_hidden(subject: &Subject) {
    subject.put("app/schema", b"x", 1).await;
    subject.put("app/plans/p1", b"x", 2).await;
    let foreign = [
        "app/plans/a b",
        "app/plans/-a",
        "app/plans/\u{e9}",
        "app/plans/a%2Fb",
        "app/plans/a\u{1}b",
        "app/plans/a\nb",
        "app/plans/<&>'\"",
        "app/plans/deep/er",
        "app/other",
    ];
    // The driver is not responsible for keys that a store changes or refuses.
    let taken = foreign
        .iter()
        .filter(|key| (subject.inject)(key, b"foreign").is_ok());
    let taken: BTreeSet<String> = taken.map(ToString::to_string).collect();
    assert!(taken.len() >= subject.foreign, "{taken:?}");
    for known in ["app/versions/1", "app/tags/latest", "app/migrations/1.sql"] {
        (subject.inject)(known, b"known").unwrap();
    }
    let app = RepoName::parse("app").unwrap();
    let listing = subject.target.list(&app, soon()).await.unwrap();
    let items: Vec<String> = listing.items.keys().map(Item::to_string).collect();
    assert_eq!(items, ["schema", "plans/p1", "migrations/1.sql"]);
    let hidden: BTreeSet<String> = listing.hidden.into_iter().collect();
    assert_eq!(hidden, taken);
}

/// A content over the limit is refused.
pub async fn a_content_over_the_limit_is_refused(subject: &Subject) {
    subject.put("app/schema", &[b'x'; 5000], 1).await;
    let id = id("app/schema");
    subject.target.get(&id, 5000, soon()).await.unwrap();
    let failure = subject.target.get(&id, 4999, soon()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::TooBig);
    assert!(failure.reason.contains("5000 bytes"), "{failure}");
}
