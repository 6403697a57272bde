//! Races of two mounts: two processes that share only their targets.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::home::Home;
use super::mounted::Mounted;
use super::program::run;
use super::racer::{Race, Racer, Way};
use super::races;
use super::store::{Store, flags, plan};
use super::support::behind::keys;
use super::support::registry;
use super::support::server::{Kind, Server};

/// Two mounts of the same registry and the same backup.
struct Rivals {
    home: Home,
    stores: [Store; 2],
    mounts: [Mounted; 2],
}

/// The results of a store's races.
#[derive(Debug, Default)]
struct Tally {
    /// The races that each mount has won.
    won: [usize; 2],
    /// The races in which both saves succeeded.
    both: usize,
    /// The races in which both saves failed.
    none: usize,
}

impl Rivals {
    fn new(registry: impl FnOnce(&Home) -> Store) -> Self {
        let home = Home::in_memory();
        let registry = registry(&home);
        let stores = [registry, Store::folder(&home, "backup")];
        let mounts = ["one", "two"].map(|name| {
            let more = ["--ttl", "0s", "--repair-interval", "0s"];
            let mut args = flags(&stores);
            args.extend(more.map(str::to_owned));
            let mut command = home.mounting(name, args);
            command.envs(keys(Kind::Gcs));
            if let Store::Bucket { server, .. } = &stores[0] {
                command.env("STORAGE_EMULATOR_HOST", server.endpoint());
            }
            let (mounted, _) = home.mount_by(name, &mut command);
            mounted.unwatched()
        });
        std::fs::create_dir(mounts[0].path("app")).unwrap();
        mounts[0]
            .cp(
                "app/plans/begun",
                plan("begun", "so that there is a repository"),
            )
            .ok();
        Self {
            home,
            stores,
            mounts,
        }
    }

    fn on(kind: Kind) -> Self {
        Self::at(Server::shared(kind), kind)
    }

    fn at(server: Arc<Server>, kind: Kind) -> Self {
        Self::new(|home| {
            if kind == Kind::Registry {
                log_in(home, &server);
            }
            Store::on(server.clone(), server.endpoint())
        })
    }

    fn held(&self, key: &str) -> [Option<String>; 2] {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        self.stores.each_ref().map(|store| store.get(key).map(text))
    }

    /// Runs races, and asserts that each has one winner. On a store without conditions, both may
    /// win, but nothing worse may happen.
    fn run(&self, count: usize, one_wins: bool) -> Tally {
        let mut racer = Racer::start(self.mounts.each_ref().map(Mounted::dir));
        let mut tally = Tally::default();
        for number in 0..count {
            let race = race(number);
            let went = racer.run(&race);
            let said = |what: &str| format!("{what} in race {number} ({:?}): {went:#}", race.ways);
            assert_eq!(
                went["bases"][0],
                went["bases"][1],
                "{}",
                said("another base")
            );
            let stale = &went["stale"];
            let ends = &went["ends"];
            let winner = match (ends[0] == 0, ends[1] == 0) {
                (true, false) if ends[1] == *stale => 0,
                (false, true) if ends[0] == *stale => 1,
                (true, true) if !one_wins => {
                    tally.both += 1;
                    self.both_have_won(&race);
                    continue;
                }
                (false, false) if !one_wins => {
                    tally.none += 1;
                    self.hold_whole_contents(&race);
                    continue;
                }
                _ => panic!("{}", said("not one winner")),
            };
            tally.won[winner] += 1;
            self.one_has_won(&race, &went, winner, &said);
        }
        tally
    }

    #[track_caller]
    fn one_has_won(&self, race: &Race, went: &Value, winner: usize, said: &dyn Fn(&str) -> String) {
        let loser = 1 - winner;
        let [won, lost] = [winner, loser].map(|place| &race.contents[place]);
        assert_eq!(went["reads"], json!([won, won]), "{}", said("what is read"));
        let mut kept = [json!([]), json!([])];
        kept[loser] = json!([lost]);
        assert_eq!(went["kept"], json!(kept), "{}", said("what is kept"));
        let error = went["errors"][loser].as_str().unwrap_or_default();
        assert!(
            error.starts_with(&format!("can't push {}: ", race.key)),
            "{}",
            said("the loser's error")
        );
        let winners = &went["errors"][winner];
        assert!(winners.is_null(), "{}", said("the winner's error"));
        let last = if race.resolves { lost } else { won };
        assert_eq!(went["after"], json!([last, last]), "{}", said("in the end"));
        assert_eq!(went["left"], json!([0, 0]), "{}", said("what is left"));
        assert_eq!(
            went["errors_after"],
            json!([null, null]),
            "{}",
            said("errors")
        );
        let held = self.held(&race.key);
        assert!(
            held.iter().all(|held| held.as_ref() == Some(last)),
            "{}",
            said("stores")
        );
    }

    /// Asserts that no content is a mixture, and that the repair makes the targets equal.
    fn both_have_won(&self, race: &Race) {
        self.hold_whole_contents(race);
        let before = self
            .held(&race.key)
            .map(|held| held.map(|text| text[..100].to_owned()));
        let mut synced = Vec::new();
        // Without conditional writes, a background repair by one mount can use an older view and
        // undo the other's sync. The next sync repairs that.
        for _ in 0..5 {
            for mounted in &self.mounts {
                let ran = run(self.home.atlasfs(["sync", "--json"]).arg(mounted.dir()));
                synced.push(ran.text());
            }
            let [registry, backup] = self.held(&race.key);
            if registry == backup {
                break;
            }
        }
        let [registry, backup] = self.held(&race.key);
        assert_eq!(registry, backup, "{race:?}: {before:?} {synced:?}");
        for mounted in &self.mounts {
            let read = String::from_utf8(mounted.read(&race.key)).unwrap();
            assert_eq!(Some(read), registry, "{race:?}: {before:?} {synced:?}");
        }
    }

    fn hold_whole_contents(&self, race: &Race) {
        for held in self.held(&race.key) {
            let held = held.unwrap_or_else(|| panic!("{race:?}: nothing is there"));
            assert!(race.contents.contains(&held), "{race:?}: {held}");
        }
    }
}

/// Logs in with the file that docker login writes.
fn log_in(home: &Home, server: &Server) {
    let host = server.addr().to_string();
    let auth = STANDARD.encode(format!("{}:{}", registry::USER, registry::PASSWORD));
    let logins = json!({"auths": {host: {"auth": auth}}});
    home.file(".docker/config.json", logins.to_string());
}

/// Makes a race. Ten races share each name, and the first of them makes it. After some races, the
/// loser copies its bytes over the winner's.
fn race(number: usize) -> Race {
    let name = format!("p{}", number / 10);
    // Different lengths, so that a mixture shows, and sometimes one write takes longer.
    let mut sizes = match number % 6 {
        5 => [number * 37 % 3000, number * 911 % 90_000],
        _ => [number * 37 % 3000, number * 53 % 3000],
    };
    if number % 12 > 6 {
        sizes.reverse();
    }
    let content =
        |who: &str, size: usize| plan(&name, &format!("{number} {who} {}", "x".repeat(size)));
    let mut ways = match number % 4 {
        1 => [Way::Rename, Way::Close],
        2 => [Way::Close, Way::Rename],
        3 if number % 8 == 3 => [Way::Rename, Way::Rename],
        _ => [Way::Close, Way::Close],
    };
    if number.is_multiple_of(10) {
        // A rename replaces the content that was read, and there is none yet.
        ways = [Way::Close, Way::Close];
    }
    Race {
        key: format!("app/plans/{name}"),
        contents: [content("one", sizes[0]), content("two", sizes[1])],
        ways,
        resolves: number % 5 == 4,
    }
}

#[track_caller]
fn exactly_one_save_succeeds(rivals: &Rivals, store: &str) {
    let (begun, count) = (Instant::now(), races(20));
    let tally = rivals.run(count, true);
    println!(
        "{store}: {count} races in {:.1} s: {tally:?}",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(tally.won[0] + tally.won[1], count);
    let conflicts = rivals.mounts.each_ref().map(|mounted| {
        let status = mounted.status();
        assert_eq!(
            status["targets"][0]["conditional_writes"], true,
            "{status:#}"
        );
        status["pushes"]["conflict"].as_u64().unwrap()
    });
    let conflicts: u64 = conflicts.iter().sum();
    assert_eq!(conflicts, u64::try_from(count).unwrap());
    let told = rivals
        .mounts
        .iter()
        .map(|mounted| mounted.events("conflict").len());
    assert!(told.sum::<usize>() > 0);
}

#[test]
fn of_two_mounts_that_save_at_once_exactly_one_wins_on_folders() {
    let rivals = Rivals::new(|home| Store::folder(home, "registry"));
    exactly_one_save_succeeds(&rivals, "file");
}

#[test]
fn of_two_mounts_that_save_at_once_exactly_one_wins_on_s3() {
    exactly_one_save_succeeds(&Rivals::on(Kind::Moto), "moto");
}

#[test]
fn of_two_mounts_that_save_at_once_exactly_one_wins_on_azure() {
    exactly_one_save_succeeds(&Rivals::on(Kind::Azurite), "azurite");
}

#[test]
fn of_two_mounts_that_save_at_once_exactly_one_wins_on_the_stub_of_gcs() {
    exactly_one_save_succeeds(&Rivals::on(Kind::Gcs), "the GCS stub");
}

#[test]
fn of_two_mounts_that_save_at_once_exactly_one_wins_in_an_oci_registry() {
    let rivals = Rivals::on(Kind::Registry);
    exactly_one_save_succeeds(&rivals, "docker-registry");
    let Store::Bucket { server, bucket, .. } = &rivals.stores[0] else {
        panic!("a registry");
    };
    let tags = registry::tags(server.addr(), bucket);
    let claims = tags.iter().filter(|tag| tag.starts_with("_claim"));
    assert_eq!(claims.count(), 0, "{tags:?}");
}

#[track_caller]
fn nothing_is_mixed_and_repair_makes_the_targets_the_same(rivals: &Rivals, store: &str) {
    for mounted in &rivals.mounts {
        let status = mounted.status();
        assert_eq!(
            status["targets"][0]["conditional_writes"], false,
            "{status:#}"
        );
        assert_eq!(mounted.events("conditions-ignored").len(), 1);
    }
    let (begun, count) = (Instant::now(), races(20));
    let tally = rivals.run(count, false);
    println!(
        "{store}: {count} races in {:.1} s: {tally:?}",
        begun.elapsed().as_secs_f64()
    );
    assert!(
        tally.won[0] + tally.won[1] > 0,
        "some races are seen: {tally:?}"
    );
}

#[test]
fn two_mounts_that_save_at_once_leave_no_mixture_in_an_oci_registry_without_deletion() {
    let server = Arc::new(Server::registry_that_keeps());
    let rivals = Rivals::at(server, Kind::Registry);
    nothing_is_mixed_and_repair_makes_the_targets_the_same(&rivals, "docker-registry that keeps");
}

#[test]
fn two_mounts_that_save_at_once_leave_no_mixture_in_a_store_that_ignores_conditions() {
    let rivals = Rivals::on(Kind::Rclone);
    nothing_is_mixed_and_repair_makes_the_targets_the_same(&rivals, "rclone");
}
