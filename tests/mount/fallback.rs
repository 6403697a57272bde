//! The fallback: the replies of the registry that send a read to the backup, and those that don't.

use std::sync::Arc;
use std::time::Duration;

use super::home::Home;
use super::mounted::Mounted;
use super::program::run;
use super::store::{Store, all_hold, flags, plan, schema};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind, Server};

const KEY: &str = "app/schema";
const PLAN: &str = "app/plans/p";

/// Short deadlines, for a registry that hangs.
const DEADLINES: [&str; 6] = [
    "--metadata-timeout",
    "2s",
    "--read-timeout",
    "4s",
    "--push-timeout",
    "8s",
];

/// A bucket behind a proxy with a folder as its backup, and one schema state in both.
struct Site {
    home: Home,
    server: Arc<Server>,
    proxy: Proxy,
    stores: Vec<Store>,
    content: String,
}

impl Site {
    fn new(server: Arc<Server>) -> Self {
        let home = Home::new();
        let proxy = Proxy::start(server.addr());
        let stores = vec![
            Store::on(Arc::clone(&server), proxy.endpoint()),
            Store::folder(&home, "backup"),
        ];
        let content = schema(&"x".repeat(2_000));
        let first = home.mount("first", flags(&stores));
        std::fs::create_dir(first.path("app")).unwrap();
        first.cp(KEY, &content).ok();
        first.unmount();
        Self {
            home,
            server,
            proxy,
            stores,
            content,
        }
    }

    /// Mounts with an empty cache.
    fn mount(&self, name: &str, more: &[&str]) -> Mounted {
        let mut flags = flags(&self.stores);
        // Each mount has a cache of its own, as on another machine.
        let state = self.home.path(&format!("state-of-{name}"));
        flags.extend(["--state-dir".into(), state.display().to_string()]);
        let all = flags.iter().map(String::as_str).chain(DEADLINES);
        self.home.mount(name, all.chain(more.iter().copied()))
    }

    #[track_caller]
    fn falls_back(&self, mounted: &Mounted, why: &str) {
        let backup = self.stores[1].url();
        let ran = mounted.cat(KEY).ok();
        assert_eq!(ran.stdout, self.content.as_bytes(), "{why}: other bytes");
        // The deadlines of the look-up and of the read, and a reserve for a busy machine.
        let limit = Duration::from_secs(2 + 2 + 4 + 6);
        assert!(ran.took < limit, "{why}: took {:?}", ran.took);
        assert_eq!(mounted.xattr(KEY, "source"), Some(backup.clone()), "{why}");
        let events = mounted.events("fallback");
        assert!(!events.is_empty(), "{why}: no event");
        assert_eq!(events[0]["target"], backup, "{why}");
        assert!(mounted.metric("atlasfs_pulls_total{source=\"backup\"}") > 0);
        // The outage is known only at the registry's deadline, which is after the end of the read.
        super::program::until(&format!("the outage is known: {why}"), || {
            let status = mounted.status();
            let is_out = status["targets"][0]["state"] == "outage";
            (is_out && status["healthy"] == false).then_some(())
        });
    }

    #[track_caller]
    fn ends_with(&self, mounted: &Mounted, complaint: &str) {
        mounted.cat(KEY).fails(1, complaint);
        assert!(mounted.events("fallback").is_empty());
        assert_ne!(mounted.xattr(KEY, "source"), Some(self.stores[1].url()));
        assert_eq!(mounted.metric("atlasfs_pulls_total{source=\"backup\"}"), 0);
    }
}

fn shared() -> Site {
    Site::new(Server::shared(Kind::Moto))
}

#[test]
fn every_outage_of_the_registry_sends_a_read_to_the_backup_and_its_end_back() {
    let site = shared();
    for fault in [
        Fault::Refuse,
        Fault::Reset,
        Fault::LoseReply,
        Fault::Hang,
        Fault::Status(500, Some("InternalError")),
        Fault::Status(502, None),
        Fault::Status(503, Some("SlowDown")),
        Fault::Status(429, None),
        Fault::Status(408, None),
        Fault::Status(404, Some("NoSuchBucket")),
        Fault::Status(404, None),
        Fault::CutBody,
        Fault::Body(200, "<html>please log in</html>"),
    ] {
        let why = format!("{fault:?}");
        site.proxy.set(Fault::Pass);
        // One mount from before the outage, and one that starts during it.
        let before = site.mount("before", &["--ttl", "0s"]);
        site.proxy.set(fault);
        site.falls_back(&before, &why);
        let within = site.mount("within", &[]);
        site.falls_back(&within, &why);
        site.proxy.set(Fault::Pass);
        super::program::until("the registry is taken back", || {
            let status = before.status();
            before.cat(KEY).ok();
            (status["targets"][0]["state"] == "ok").then_some(())
        });
    }
}

#[test]
fn an_answer_of_the_registry_is_final() {
    let site = shared();
    for (fault, complaint) in [
        (
            Fault::Status(403, Some("AccessDenied")),
            "Permission denied",
        ),
        (Fault::Status(401, None), "Permission denied"),
        (
            Fault::Status(400, Some("InvalidRequest")),
            "Invalid argument",
        ),
        (Fault::Status(422, None), "Invalid argument"),
    ] {
        site.proxy.set(Fault::Pass);
        let before = site.mount("before", &["--ttl", "0s"]);
        site.proxy.set(fault);
        site.ends_with(&before, complaint);
        let within = site.mount("within", &[]);
        site.ends_with(&within, complaint);
    }
}

#[test]
fn a_portal_before_the_registry_is_neither_served_nor_spread() {
    let site = shared();
    let [registry, backup] = [0, 1].map(|n| site.stores[n].get(KEY));
    for kind in ["text/html; charset=utf-8", "application/json"] {
        site.proxy.set_for(&["GET", "HEAD"], Fault::Page(200, kind));
        let mounted = site.mount("within", &[]);
        assert_eq!(mounted.read(KEY), site.content.as_bytes(), "{kind}");
        assert_eq!(mounted.xattr(KEY, "source"), Some(site.stores[1].url()));
        for task in ["sync", "verify"] {
            let compared = run(site.home.atlasfs([task]).arg(mounted.dir()));
            assert_eq!(compared.code, Some(3), "{kind}: {compared}");
        }
        assert_eq!(site.stores[1].get(KEY), backup, "{kind}");
        // A push that the registry misses must not count as replayed.
        mounted.cp(PLAN, plan("p", kind)).ok();
        let new = schema(kind);
        mounted.cp(KEY, &new).ok();
        std::thread::sleep(Duration::from_secs(3));
        site.proxy.set(Fault::Pass);
        super::program::until("every target has the push", || {
            let status = mounted.status();
            (status["pending"].as_array()?.is_empty() && status["healthy"] == true).then_some(())
        });
        all_hold(&site.stores, KEY, new.as_bytes());
        all_hold(&site.stores, PLAN, plan("p", kind).as_bytes());
        mounted.unmount();
        let first = site.mount("first", &[]);
        first.cp(KEY, &site.content).ok();
        first.unmount();
    }
    assert_eq!(site.stores[0].get(KEY), registry);
}

#[test]
fn an_artifact_deleted_from_the_registry_does_not_come_back_from_a_backup() {
    let site = shared();
    let knowing = site.mount("knowing", &["--ttl", "5m"]);
    // A listing of the schema itself would read it, to learn its format.
    assert_eq!(knowing.ls("app/plans"), [""; 0]);
    assert!(knowing.path("app/schema").exists());
    // The backup misses the deletion.
    let alone = [
        "--registry".into(),
        site.stores[0].url(),
        "--allow-delete".into(),
    ];
    let deleting = site.home.mount("deleting", alone);
    std::fs::remove_file(deleting.path(KEY)).unwrap();
    deleting.unmount();
    let fresh = site.mount("fresh", &[]);
    // One mount still lists the artifact and gets the answer at the read; the other never lists it.
    site.ends_with(&knowing, "No such file or directory");
    site.ends_with(&fresh, "No such file or directory");
    assert_eq!(
        knowing.ls("app"),
        ["migrations", "plans", "tags", "versions"]
    );
    assert_eq!(fresh.ls("app"), ["migrations", "plans", "tags", "versions"]);
    assert_eq!(site.stores[1].get(KEY), Some(site.content.into_bytes()));
}

#[test]
fn a_site_may_fall_back_on_answers_too() {
    let site = shared();
    let denied = site.mount("denied", &["--fallback-on", "denied"]);
    site.proxy.set(Fault::Status(403, Some("AccessDenied")));
    assert_eq!(denied.read(KEY), site.content.as_bytes());
    assert_eq!(denied.xattr(KEY, "source"), Some(site.stores[1].url()));
    site.proxy.set(Fault::Pass);
    let missing = site.mount("missing", &["--fallback-on", "not-found"]);
    site.stores[0].delete(KEY);
    assert_eq!(missing.read(KEY), site.content.as_bytes());
    assert_eq!(missing.xattr(KEY, "source"), Some(site.stores[1].url()));
}

#[test]
fn wrong_bytes_are_an_outage_and_never_an_answer() {
    let site = shared();
    let Store::Bucket { bucket, .. } = &site.stores[0] else {
        panic!("a bucket")
    };
    // The same object with the same stamp, and one changed byte in its content.
    let path = format!("/{bucket}/pre/fix/{KEY}");
    let object = site.server.request("GET", &path, &[], b"");
    let stamps: Vec<(&str, &str)> = object
        .head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-amz-meta-"))
        .collect();
    assert_eq!(stamps.len(), 5, "{}", object.head);
    let mut wrong = object.body.clone();
    wrong[1_000] ^= 1;
    let put = site.server.request("PUT", &path, &stamps, &wrong);
    assert_eq!(put.status, 200);
    let mounted = site.mount("mnt", &[]);
    site.falls_back(&mounted, "wrong bytes");
    let failure = &mounted.status()["targets"][0]["last_failure"];
    assert_eq!(failure["kind"], "corrupt", "{failure:#}");
}

#[test]
fn a_frozen_server_and_a_dead_one_send_every_read_to_the_backup_in_time() {
    let server = Arc::new(Server::start(Kind::Moto));
    let site = Site::new(Arc::clone(&server));
    let uncached = site.mount("uncached", &["--cache-size", "0", "--ttl", "0s"]);
    assert_eq!(uncached.read(KEY), site.content.as_bytes());
    assert_eq!(uncached.xattr(KEY, "source").as_deref(), Some("registry"));
    server.freeze();
    let before = site.mount("before", &[]);
    for mounted in [&uncached, &before] {
        site.falls_back(mounted, "frozen");
    }
    server.thaw();
    drop(before);
    server.kill();
    let after = site.mount("after", &[]);
    for mounted in [&uncached, &after] {
        site.falls_back(mounted, "dead");
    }
}

#[test]
fn a_frozen_server_keeps_no_cached_file_waiting_for_its_deadlines() {
    let (home, server) = (Home::new(), Arc::new(Server::start(Kind::Moto)));
    let store = Store::on(Arc::clone(&server), server.endpoint());
    let deadlines = ["--metadata-timeout", "30s", "--read-timeout", "60s"];
    let mounted = home.mount(
        "mnt",
        flags(&[store]).into_iter().chain(deadlines.map(Into::into)),
    );
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp(KEY, schema("cached")).ok();
    server.freeze();
    std::thread::sleep(Duration::from_millis(1_100));
    let begun = std::time::Instant::now();
    assert_eq!(mounted.read(KEY), schema("cached").as_bytes());
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "half of the shortest deadline"
    );
    assert!(mounted.xattr(KEY, "stale").is_some());
    server.thaw();
}

#[test]
fn a_server_that_goes_on_is_noticed_by_the_request_that_needs_it() {
    let (home, server) = (Home::new(), Arc::new(Server::start(Kind::Moto)));
    let store = Store::on(Arc::clone(&server), server.endpoint());
    let more = [
        "--cache-size=0",
        "--disk-cache-size=0",
        "--breaker=1",
        "--metadata-timeout=2s",
        // A failed listing is not cached, so each request reaches the breaker.
        "--ttl=0s",
    ];
    let more = more.map(Into::into);
    let mounted = home.mount("mnt", flags(&[store]).into_iter().chain(more));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp(KEY, schema("before")).ok();
    server.freeze();
    super::program::until("the target is skipped", || {
        let _ = std::fs::read_dir(mounted.path("app"));
        let skipped = mounted.status()["targets"][0]["breaker"] == "open";
        skipped.then_some(())
    });
    server.thaw();
    assert_eq!(mounted.read(KEY), schema("before").as_bytes());
    mounted.cp(KEY, schema("after")).ok();
    assert_eq!(mounted.read(KEY), schema("after").as_bytes());
}

#[test]
fn backups_are_asked_in_the_order_listed() {
    let home = Home::new();
    let stores = super::store::folders(&home);
    let first = home.mount("first", flags(&stores));
    std::fs::create_dir(first.path("app")).unwrap();
    first.cp(KEY, schema("same")).ok();
    first.unmount();
    for gone in 1..=3 {
        std::fs::rename(
            home.path(["registry", "backup-1", "backup-2"][gone - 1]),
            home.path(&format!("gone-{gone}")),
        )
        .unwrap();
        // A registry alone in a missing folder would be refused, so keep at least one backup.
        if let Some(next) = stores.get(gone) {
            let mounted = home.mount("mnt", flags(&stores));
            assert_eq!(mounted.read(KEY), schema("same").as_bytes());
            assert_eq!(mounted.xattr(KEY, "source"), Some(next.url()));
            mounted.unmount();
        }
    }
}
