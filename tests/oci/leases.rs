//! Leases decide which of two concurrent writers wins. Here: leases that a mount left behind, and
//! registries that can't keep them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atlasfs::model::{Format, Stamp};
use atlasfs::store::{Condition, Failure, Kind, Location, Target};
use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::stub_registry::{StubRegistry, header, json_reply, refusal};
use super::support::behind::{location_on, open_at, put, target_on};
use super::support::contract::{LIMIT, id, soon};
use super::support::registry;
use super::support::serve::{Reply, Request};
use super::support::server::{Kind as Store, Server};

const KEY: &str = "app/schema";

/// A registry with an artifact.
struct Site {
    server: Arc<Server>,
    repo: String,
    target: Target,
    /// The condition that the artifact has not changed since the put.
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

    /// Takes a lease on the artifact, as another mount would have done `ago` seconds ago.
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
async fn no_writer_ignores_a_lease_and_a_waiting_writer_leaves_nothing_behind() {
    let site = Site::new().await;
    let theirs = site.claim(0);
    let deadline = Instant::now() + Duration::from_secs(4);
    let why = site.write("two", deadline).await.unwrap_err();
    assert!(why.contains("another writer holds the lease"), "{why}");
    assert_eq!(site.read().await, "one");
    let deadline = Instant::now() + Duration::from_secs(3);
    let why = site.target.delete(&id(KEY), deadline).await.unwrap_err();
    assert!(why.reason.contains("holds the lease"), "{why}");
    assert_eq!(site.read().await, "one");
    site.until_claims_are(&[theirs]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_lease_is_waited_for_and_removed() {
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
    // A write that was given up while it moved the tag keeps its lease until the lease ends.
    let _ = site
        .write("last", Instant::now() + Duration::from_secs(45))
        .await;
    site.until_claims_are(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_waited_spares_newer_content() {
    let site = Site::new().await;
    let theirs = site.claim(0);
    let (target, key) = (site.target.clone(), id(KEY));
    let deletion = tokio::spawn(async move { target.delete(&key, soon()).await });
    let ours = || site.claims().len() > 1;
    while !ours() && !deletion.is_finished() {
        sleep(Duration::from_millis(5)).await;
    }
    put(&site.target, KEY, "two", 2).await.unwrap();
    registry::delete_claim(site.server.addr(), &site.repo, &theirs);
    let failure = deletion.await.unwrap().unwrap_err();
    assert_eq!(failure.kind, Kind::Conflict, "{failure}");
    assert_eq!(site.read().await, "two");
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
async fn a_registry_without_deletion_is_read_before_and_after_a_write() {
    let server = Server::registry_that_keeps();
    let repo = server.bucket();
    let location = location_on(Store::Registry, &repo, server.endpoint());
    let target = open_at(&location, &[]);
    let trial = target.try_conditions(soon()).await.unwrap();
    assert!(!trial.honours_conditions);
    let refused = trial.refused.unwrap();
    assert_eq!(refused.kind, Kind::Denied);
    assert!(refused.reason.contains("allows no deletions"), "{refused}");
    put(&target, KEY, "one", 1).await.unwrap();
    let site = Site {
        server: Arc::new(server),
        repo,
        target,
        unchanged: Condition::Absent,
    };
    let why = site.write("two", soon()).await.unwrap_err();
    assert!(why.contains("something else is stored there"), "{why}");
    let tags = registry::tags(site.server.addr(), &site.repo);
    assert_eq!(tags, ["app_.schema"], "nothing else is left there");
}

const DATE: Option<&str> = Some("Sat, 28 Nov 2026 19:31:11 GMT");

/// A registry that stores manifests under their tags, with answers that a test can replace.
struct Answers {
    stub: StubRegistry,
    tags: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Answers {
    /// Starts a registry whose Date header is `date`. `answer` comes first.
    fn start(
        date: Option<&'static str>,
        answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let tags = Arc::new(Mutex::new(BTreeMap::<String, Vec<u8>>::new()));
        let kept = Arc::clone(&tags);
        let usual = move |request: &Request| {
            let name = request.path.rsplit('/').next().unwrap_or("").to_owned();
            let mut tags = kept.lock().unwrap();
            match (&*request.method, &*request.path) {
                ("PUT", path) if path.contains("/manifests/") => {
                    tags.insert(name, request.body.clone());
                    let place = header("Location", "/v2/acme/atlas/there");
                    Some((201, vec![place], Vec::new()))
                }
                ("GET", path) if path.contains("/manifests/") => Some(match tags.get(&name) {
                    Some(manifest) => (200, Vec::new(), manifest.clone()),
                    None => refusal(404, "MANIFEST_UNKNOWN"),
                }),
                ("GET", path) if path.ends_with("tags/list") => {
                    let names: Vec<&String> = tags.keys().collect();
                    Some(json_reply(
                        200,
                        &json!({"name": "acme/atlas", "tags": names}),
                    ))
                }
                ("DELETE", _) => {
                    let before = tags.len();
                    tags.retain(|_, manifest| registry::digest(manifest) != name);
                    Some(match tags.len() == before {
                        true => refusal(404, "MANIFEST_UNKNOWN"),
                        false => (202, Vec::new(), Vec::new()),
                    })
                }
                _ => None,
            }
        };
        let stub = StubRegistry::start(move |request| {
            let mut reply = answer(request).or_else(|| usual(request))?;
            reply.1.extend(date.map(|date| header("Date", date)));
            Some(reply)
        });
        Self { stub, tags }
    }

    fn open(&self) -> Target {
        open_at(&Location::Oci(self.stub.location()), &[])
    }

    fn claims(&self) -> usize {
        let tags = self.tags.lock().unwrap();
        tags.keys().filter(|tag| tag.starts_with("_claim")).count()
    }
}

fn is_tag(request: &Request, method: &str) -> bool {
    request.method == method && request.path.ends_with("manifests/app_.schema")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_may_still_come_is_not_repeated_and_keeps_its_claim() {
    for (hangs, patience) in [(false, 20_000), (true, 2_000)] {
        let registry = Answers::start(DATE, move |request| match is_tag(request, "PUT") {
            true if hangs => {
                std::thread::sleep(Duration::from_secs(5));
                Some(refusal(504, "UNKNOWN"))
            }
            true => Some(refusal(504, "UNKNOWN")),
            false => None,
        });
        let target = registry.open();
        let patience = Instant::now() + Duration::from_millis(patience);
        let failure = put_until(&target, patience).await.unwrap_err();
        assert!(failure.is_outage(), "{failure}");
        sleep(Duration::from_millis(500)).await;
        assert_eq!(registry.stub.count("PUT v2/acme/atlas/manifests/app_"), 1);
        assert_eq!(registry.claims(), 1, "nobody else writes meanwhile");
        let soon = Instant::now() + Duration::from_secs(3);
        let waits = put_until(&registry.open(), soon).await.unwrap_err();
        assert!(waits.reason.contains("holds the lease"), "{waits}");
    }
}

async fn put_until(target: &Target, deadline: Instant) -> Result<(), Failure> {
    let (key, content) = (id(KEY), Bytes::from_static(b"x"));
    let stamp = Stamp::new(1, &content, Format::Hcl);
    let put = target.put(&key, content, &stamp, &Condition::Absent, deadline);
    put.await.map(drop)
}

/// Returns whether a registry can keep leases. `date` is its Date header, and `lists` says whether
/// it lists the tags that it has stored.
async fn keeps_claims(date: Option<&'static str>, lists: bool) -> bool {
    let registry = Answers::start(date, move |request| {
        let none = json!({"name": "acme/atlas", "tags": null});
        (!lists && request.path.ends_with("tags/list")).then(|| json_reply(200, &none))
    });
    let trial = registry.open().try_conditions(soon()).await.unwrap();
    assert_eq!(trial.refused, None);
    assert_eq!(registry.claims(), 0);
    trial.honours_conditions
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_need_a_clock_and_a_current_list_of_tags() {
    assert!(keeps_claims(DATE, true).await);
    assert!(!keeps_claims(None, true).await);
    assert!(!keeps_claims(DATE, false).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_may_change_is_asked_for_again() {
    for (status, denied) in [(401, true), (403, true), (500, false)] {
        let good = Arc::new(AtomicBool::new(false));
        let is_good = Arc::clone(&good);
        let registry = Answers::start(DATE, move |request| {
            let bad = request.method == "DELETE" && !is_good.load(Ordering::SeqCst);
            bad.then(|| refusal(status, "DENIED"))
        });
        let target = registry.open();
        match target.try_conditions(soon()).await {
            Ok(trial) => {
                assert!(denied && !trial.honours_conditions);
                assert_eq!(trial.refused.unwrap().kind, Kind::Denied);
            }
            Err(failure) => assert!(!denied && failure.is_outage(), "{failure}"),
        }
        good.store(true, Ordering::SeqCst);
        let trial = target.try_conditions(soon()).await.unwrap();
        assert!(trial.honours_conditions, "{status}");
    }
}
