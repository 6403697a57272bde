//! Races of two drivers that hold the same token, as two mounts do.

use atlasfs::model::{Format, Stamp};
use atlasfs::store::{Condition, Kind, Target};
use bytes::Bytes;

use super::races;
use super::support::behind::{keys, target_on};
use super::support::contract::{LIMIT, id, soon};
use super::support::server::{Kind as Store, Server};

async fn exactly_one_of_two_wins(kind: Store) {
    let server = Server::shared(kind);
    let bucket = server.bucket();
    let open = || target_on(kind, &bucket, server.endpoint(), &keys(kind));
    let (one, two) = (open(), open());
    let mut condition = Condition::Absent;
    for race in 0..races(30) {
        let key = id(&format!("app/plans/p{}", race / 10));
        let put = |target: Target, who: &str, when: u64| {
            let content = Bytes::from(format!("race {race}: {who}"));
            let (key, condition) = (key.clone(), condition.clone());
            tokio::spawn(async move {
                let stamp = Stamp::new(when, &content, Format::Hcl);
                let put = target.put(&key, content.clone(), &stamp, &condition, soon());
                put.await.map(|token| (content, token))
            })
        };
        let when = 10 + 2 * u64::try_from(race).unwrap();
        let (first, second) = (
            put(one.clone(), "one", when),
            put(two.clone(), "two", when + 1),
        );
        let (content, token) = match (first.await.unwrap(), second.await.unwrap()) {
            (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => {
                assert_eq!(lost.kind, Kind::Conflict, "{lost}");
                won
            }
            both => panic!("{kind:?}, race {race}: {both:?}"),
        };
        let there = one.get(&key, LIMIT, soon()).await.unwrap();
        assert_eq!(there.bytes, content, "{kind:?}, race {race}");
        assert_eq!(there.token, token);
        // Every tenth race is for a new name.
        condition = match (race + 1) % 10 {
            0 => Condition::Absent,
            _ => Condition::Unchanged(token.unwrap()),
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_wins_on_s3() {
    exactly_one_of_two_wins(Store::Moto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_wins_on_azure() {
    exactly_one_of_two_wins(Store::Azurite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_wins_in_an_oci_registry() {
    exactly_one_of_two_wins(Store::Registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_wins_on_the_stub_of_gcs() {
    exactly_one_of_two_wins(Store::Gcs).await;
}
