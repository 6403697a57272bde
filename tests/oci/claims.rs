//! Claims, by which of two who write at once one wins: those that somebody leaves behind, and
//! registries that can't keep them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atlasfs::artifact::{Format, Stamp};
use atlasfs::target::{Condition, Kind, Location, Target};
use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::stand_in::{StandIn, header, json_reply, refusal};
use super::support::behind::{location_on, open_at, put, target_on};
use super::support::contract::{LIMIT, id, soon};
use super::support::registry;
use super::support::server::{Kind as Store, Server};

const KEY: &str = "app/schema";

/// A registry with an artifact.
struct Site {
    server: Arc<Server>,
    repo: String,
    target: Target,
    /// That the artifact is as it was put.
    unchanged: Condition,
}

impl Site {
    async fn new() -> Self {
        let server = Server::shared(Store::Registry);
        let repo = server.bucket();
        let target = target_on(Store::Registry, &repo, server.endpoint(), &[]);
        put(&target, KEY, "one", 1).await.unwrap();
        let token = target.head(&id(KEY), soon()).await.unwrap().token.unwrap();
        Self {
            server,
            repo,
            target,
            unchanged: Condition::Unchanged(token),
        }
    }

    /// Claims the artifact as another mount would have that many seconds ago.
    fn claim(&self, ago: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.claim_at(&(now.as_secs() - ago).to_string())
    }

    fn claim_at(&self, time: &str) -> String {
        let hash = registry::digest(b"app_.schema").split_off("sha256:".len());
        let tag = format!("_claim.{}.{time}.0123456789abcdef", &hash[..32]);
        registry::put_claim(self.server.addr(), &self.repo, &tag);
        tag
    }

    async fn write(&self, content: &str, deadline: Instant) -> Result<(), String> {
        let stamp = Stamp::new(2, content.as_bytes(), Format::Hcl);
        let (key, content) = (id(KEY), Bytes::copy_from_slice(content.as_bytes()));
        let written = self
            .target
            .put(&key, content, &stamp, &self.unchanged, deadline);
        written.await.map(drop).map_err(|failure| failure.reason)
    }

    async fn read(&self) -> Bytes {
        self.target
            .get(&id(KEY), LIMIT, soon())
            .await
            .unwrap()
            .bytes
    }

    fn claims(&self) -> Vec<String> {
        let tags = registry::tags(self.server.addr(), &self.repo);
        let claims = tags.into_iter().filter(|tag| tag.starts_with("_claim"));
        claims.collect()
    }

    async fn until_claims_are(&self, expected: &[String]) {
        for _ in 0..200 {
            if self.claims() == expected {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.claims(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_over_a_claim_and_nothing_is_left_of_who_waited() {
    let site = Site::new().await;
    let theirs = site.claim(0);
    let deadline = Instant::now() + Duration::from_millis(1500);
    let why = site.write("two", deadline).await.unwrap_err();
    assert!(why.contains("somebody else has claimed it"), "{why}");
    assert_eq!(site.read().await, "one");
    let deadline = Instant::now() + Duration::from_millis(500);
    let why = site.target.delete(&id(KEY), deadline).await.unwrap_err();
    assert!(why.reason.contains("has claimed it"), "{why}");
    assert_eq!(site.read().await, "one");
    site.until_claims_are(&[theirs]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_left_behind_is_waited_for_and_removed() {
    let site = Site::new().await;
    site.claim(28);
    site.write("two", soon()).await.unwrap();
    assert_eq!(site.read().await, "two");
    site.until_claims_are(&[]).await;
    for garbage in ["0", "x", "99999999999"] {
        site.claim_at(garbage);
    }
    site.claim(1000);
    site.target.delete(&id(KEY), soon()).await.unwrap();
    site.until_claims_are(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_withdrawn_wherever_a_write_is_given_up() {
    let site = Site::new().await;
    for milliseconds in 1..60 {
        let deadline = Instant::now() + Duration::from_millis(milliseconds);
        let _ = site.write(&milliseconds.to_string(), deadline).await;
    }
    site.until_claims_are(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_no_artifacts() {
    let site = Site::new().await;
    site.claim(0);
    let (repos, hidden) = site.target.repos(soon()).await.unwrap();
    assert_eq!(repos.len(), 1, "{repos:?}");
    assert!(hidden.is_empty(), "{hidden:?}");
    let listing = site.target.list(&repos[0], soon()).await.unwrap();
    assert_eq!((listing.items.len(), listing.hidden.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lets_nobody_delete_is_looked_at_before_and_after() {
    let server = Server::registry_that_keeps();
    let repo = server.bucket();
    let location = location_on(Store::Registry, &repo, server.endpoint());
    let target = open_at(&location, &[]);
    let trial = target.try_conditions(soon()).await.unwrap();
    assert!(!trial.honours_conditions);
    let refused = trial.refused.unwrap();
    assert_eq!(refused.kind, Kind::Denied);
    assert!(refused.reason.contains("lets nobody delete"), "{refused}");
    put(&target, KEY, "one", 1).await.unwrap();
    let site = Site {
        server: Arc::new(server),
        repo,
        target,
        unchanged: Condition::Absent,
    };
    let why = site.write("two", soon()).await.unwrap_err();
    assert!(why.contains("something else is there"), "{why}");
    let tags = registry::tags(site.server.addr(), &site.repo);
    assert_eq!(tags, ["app_.schema"], "nothing else is left there");
}

/// Tells whether claims can be kept by a registry that says it is this date, and lists or doesn't list
/// what it has taken.
async fn keeps_claims(date: Option<&'static str>, lists: bool) -> bool {
    let put = Mutex::new(Vec::<String>::new());
    let stand_in = StandIn::start(move |request| {
        let tag = request.path.rsplit('/').next().unwrap_or("").to_owned();
        let mut reply = match (&*request.method, &*request.path) {
            ("PUT", path) if path.contains("/manifests/") => {
                put.lock().unwrap().push(tag);
                let place = header("Location", "/v2/acme/atlas/there");
                (201, vec![place], Vec::new())
            }
            ("GET", path) if path.ends_with("tags/list") => {
                let tags = put.lock().unwrap().clone();
                let tags = if lists { tags } else { Vec::new() };
                json_reply(200, &json!({"name": "acme/atlas", "tags": tags}))
            }
            ("DELETE", path) if path.ends_with(&registry::digest(b"nothing")) => {
                refusal(404, "MANIFEST_UNKNOWN")
            }
            ("DELETE", _) => (202, Vec::new(), Vec::new()),
            _ => return None,
        };
        reply.1.extend(date.map(|date| header("Date", date)));
        Some(reply)
    });
    let target = open_at(&Location::Oci(stand_in.location()), &[]);
    let trial = target.try_conditions(soon()).await.unwrap();
    assert_eq!(trial.refused, None);
    trial.honours_conditions
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_want_a_clock_and_a_list_of_tags_that_has_what_was_taken() {
    const DATE: Option<&str> = Some("Sat, 28 Nov 2026 19:31:11 GMT");
    assert!(keeps_claims(DATE, true).await);
    assert!(!keeps_claims(None, true).await);
    assert!(!keeps_claims(DATE, false).await);
}
