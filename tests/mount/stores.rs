//! One mount with stores of all providers at once.

use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::contention::exactly_one_of_many_writers_wins;
use super::home::Home;
use super::mounted::Mounted;
use super::program::until;
use super::store::{Store, all_hold, flags, none_holds, plan, schema};
use super::support::azurite;
use super::support::behind::keys;
use super::support::proxy::{Fault, Proxy};
use super::support::registry;
use super::support::server::{Kind, SECRET_KEY, Server};

/// A registry on S3, and backups on Azure, GCS, an OCI registry and a disk. All but the last are
/// behind a proxy each.
struct Site {
    home: Home,
    stores: Vec<Store>,
    proxies: Vec<Proxy>,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        let kinds = [Kind::Moto, Kind::Azurite, Kind::Gcs, Kind::Registry];
        let servers = kinds.map(Server::shared);
        let proxies: Vec<Proxy> = servers.iter().map(|s| Proxy::start(s.addr())).collect();
        let behind = servers.iter().zip(&proxies);
        let mut stores: Vec<Store> = behind
            .map(|(server, proxy)| Store::on(Arc::clone(server), proxy.endpoint()))
            .collect();
        // The form that docker login writes.
        let host = proxies[3].endpoint().replace("http://", "");
        let auth = STANDARD.encode(format!("{}:{}", registry::USER, registry::PASSWORD));
        let logins = serde_json::json!({"auths": {host: {"auth": auth}}});
        home.folder(".docker");
        home.file(".docker/config.json", logins.to_string());
        stores.push(Store::folder(&home, "backup"));
        Self {
            home,
            stores,
            proxies,
        }
    }

    fn mounting(&self, name: &str, more: &[&str]) -> Command {
        let flags = flags(&self.stores);
        let all = flags.iter().map(String::as_str).chain(more.iter().copied());
        let mut command = self.home.mounting(name, all);
        command
            .envs(keys(Kind::Gcs))
            .env("STORAGE_EMULATOR_HOST", self.proxies[2].endpoint());
        command
    }

    fn mount(&self, name: &str, more: &[&str]) -> Mounted {
        self.home.mount_by(name, &mut self.mounting(name, more)).0
    }
}

#[test]
fn a_push_reaches_every_providers_store_and_each_serves_it_when_those_before_are_out() {
    let site = Site::new();
    let first = site.mount("first", &["--allow-delete", "--durability", "all"]);
    std::fs::create_dir(first.path("app")).unwrap();
    let state = schema("everywhere");
    first.cp("app/schema.hcl", &state).ok();
    first.cp("app/plans/p1", plan("p1", "a")).ok();
    all_hold(&site.stores, "app/schema", state.as_bytes());
    all_hold(&site.stores, "app/plans/p1", plan("p1", "a").as_bytes());
    std::fs::remove_file(first.path("app/plans/p1")).unwrap();
    none_holds(&site.stores, "app/plans/p1");
    let status = first.status();
    assert_eq!(status["healthy"], true, "{status:#}");
    first.unmount();
    for out in 0..site.proxies.len() {
        site.proxies[out].set(Fault::Refuse);
        let mounted = site.mount(&format!("without-{out}"), &[]);
        assert_eq!(mounted.read("app/schema"), state.as_bytes());
        let source = mounted.xattr("app/schema", "source");
        assert_eq!(source, Some(site.stores[out + 1].url()));
        mounted.unmount();
    }
    let mounted = site.mount("again", &[]);
    let newer = schema("made while all but the folder were out");
    mounted.cp("app/schema", &newer).ok();
    for proxy in &site.proxies {
        proxy.set(Fault::Pass);
    }
    until("every store to have it", || {
        let pending = mounted.status()["pending"].clone();
        (pending.as_array().is_some_and(Vec::is_empty)).then_some(())
    });
    all_hold(&site.stores, "app/schema", newer.as_bytes());
    mounted.unmount();
    for name in ["first", "without-3", "again"] {
        let log = std::fs::read_to_string(site.home.log_of(name)).unwrap();
        for secret in [
            SECRET_KEY,
            azurite::KEY,
            "PRIVATE KEY",
            "Bearer",
            "SharedKey",
        ] {
            assert!(!log.contains(secret), "{name}: {log}");
        }
    }
}

#[test]
fn of_many_writers_on_two_mounts_exactly_one_wins_on_azure_and_on_gcs() {
    for kind in [Kind::Azurite, Kind::Gcs] {
        let home = Home::new();
        let stores = [Store::bucket(kind), Store::folder(&home, "backup")];
        let mounts = ["mnt", "mnt-2"].map(|name| {
            let mut command = home.mounting(name, flags(&stores));
            command
                .envs(keys(Kind::Gcs))
                .env("STORAGE_EMULATOR_HOST", Server::shared(kind).endpoint());
            home.mount_by(name, &mut command).0
        });
        exactly_one_of_many_writers_wins(&home, &stores, &[&mounts[0], &mounts[1]]);
    }
}

#[test]
fn the_metadata_address_is_asked_if_the_environment_names_it_and_a_refusal_is_reported() {
    let home = Home::new();
    let service = Proxy::start(Server::shared(Kind::Gcs).addr());
    service.set(Fault::Status(403, None));
    let address = service.endpoint().trim_start_matches("http://").to_owned();
    let backup = home.url("backup");
    std::fs::create_dir_all(home.path("backup")).unwrap();
    let flags = ["--registry", &*backup, "--backup", "gs://acme-backup"];
    let mut command = home.mounting("mnt", flags);
    // Without a token, Google gets no request.
    for name in ["GCE_METADATA_HOST", "GCE_METADATA_IP"] {
        command.env(name, &address);
    }
    let (mounted, _) = home.mount_by("mnt", &mut command);
    until("the backup to be known as one that refuses", || {
        let status = mounted.status();
        (status["targets"][1]["state"] == "denied").then_some(())
    });
    let asked = "/computeMetadata/v1/instance/service-accounts/default/token";
    assert!(service.count("GET", asked) > 0, "{:?}", service.requests());
    mounted.unmount();
}
