//! Every driver passes the same tests, each on a real store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use atlasfs::store::{FileLocation, Location};
use support::behind::{keys, location_on, open_at};
use support::contract::{self, MANY, Replaces, Subject, many_keys};
use support::server::{Kind, Server};

fn file() -> Subject {
    let temp = tempfile::tempdir().unwrap();
    let dir: PathBuf = temp.path().join("store");
    let location = Location::File(FileLocation {
        url: format!("file://{}", dir.display()),
        dir: dir.clone(),
        create_dir: true,
        known: false,
        read_only: false,
    });
    Subject {
        target: open_at(&location, &[]),
        inject: Box::new(move |key, content| {
            let path = dir.join(key);
            let made = std::fs::create_dir_all(path.parent().unwrap());
            made.and_then(|()| std::fs::write(path, content))
                .map_err(|error| error.to_string())
        }),
        replaces: Replaces::AtOnce,
        decides: true,
        longest: 255,
        foreign: 6,
        ends_with_dots: true,
        keep: Box::new(temp),
    }
}

fn cloud(kind: Kind, prefix: &'static str) -> Subject {
    let server = Server::shared(kind);
    let bucket = server.bucket();
    on(kind, server, bucket, prefix)
}

fn on(kind: Kind, server: Arc<Server>, bucket: String, prefix: &'static str) -> Subject {
    let mut location = location_on(kind, &bucket, server.endpoint());
    match &mut location {
        Location::S3(location) => location.prefix = prefix.into(),
        Location::Azure(location) => location.prefix = prefix.into(),
        Location::Gs(location) => location.prefix = prefix.into(),
        // An OCI location has no prefix.
        Location::Oci(_) => {}
        other => panic!("{other} has no prefix"),
    }
    let endpoint = server.endpoint();
    let emulator = ("STORAGE_EMULATOR_HOST", &*endpoint);
    let target = open_at(&location, &[keys(kind), vec![emulator]].concat());
    let injector = Arc::clone(&server);
    Subject {
        target,
        inject: Box::new(move |key, content| {
            let key = format!("{prefix}/{key}");
            injector.inject(&bucket, key.trim_start_matches('/'), content)
        }),
        replaces: match kind {
            Kind::Rclone => Replaces::WithAGap,
            Kind::S3s | Kind::Registry => Replaces::InParts,
            _ => Replaces::AtOnce,
        },
        decides: !matches!(kind, Kind::Rclone | Kind::S3s),
        // s3s-fs keeps metadata in files whose names contain the key in base64.
        longest: match kind {
            // A tag has at most 128 characters.
            Kind::S3s | Kind::Registry => 100,
            _ => 255,
        },
        foreign: if kind == Kind::Registry { 3 } else { 6 },
        // Azure may drop a dot at the end.
        ends_with_dots: kind != Kind::Azurite,
        keep: Box::new(server),
    }
}

macro_rules! contract {
    ($store:ident, $subject:expr, [$($shared:ident),*], [$($owned:ident),*]) => {
        mod $store {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $shared() {
                contract::$shared(&$subject).await;
            })*
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $owned() {
                contract::$owned(Arc::new($subject)).await;
            })*
        }
    };
    ($store:ident, $subject:expr) => {
        contract!(
            $store,
            $subject,
            [
                content_and_stamp_come_back_as_they_were_put,
                a_signature_comes_back_with_its_stamp,
                a_missing_artifact_is_not_found_and_can_be_deleted,
                a_deleted_artifact_is_gone_until_it_is_put_again,
                names_with_every_allowed_character_are_listed_as_they_are,
                repositories_are_kept_apart,
                a_listing_is_whole_beyond_a_thousand_keys,
                content_put_there_by_hand_is_served,
                foreign_keys_break_nothing_and_are_hidden,
                a_write_whose_condition_does_not_hold_is_a_conflict,
                a_put_that_is_given_up_is_there_whole_or_not_at_all,
                an_operation_dropped_in_its_middle_leaves_the_store_whole,
                a_content_over_the_limit_is_refused
            ],
            [
                of_many_conditional_writers_exactly_one_wins,
                many_writers_at_once_leave_one_whole_content
            ]
        );
    };
}

contract!(a_folder, file());
contract!(moto, cloud(Kind::Moto, "50% \u{e9}+x/pre.fix"));
contract!(moto_without_a_prefix, cloud(Kind::Moto, ""));
contract!(s3s_fs, cloud(Kind::S3s, "some/prefix"));
// rclone ignores conditions, and the mount doesn't rely on it for them.
contract!(
    rclone_serve_s3,
    cloud(Kind::Rclone, "some/prefix"),
    [
        content_and_stamp_come_back_as_they_were_put,
        a_signature_comes_back_with_its_stamp,
        a_missing_artifact_is_not_found_and_can_be_deleted,
        a_deleted_artifact_is_gone_until_it_is_put_again,
        names_with_every_allowed_character_are_listed_as_they_are,
        repositories_are_kept_apart,
        a_listing_is_whole_beyond_a_thousand_keys,
        content_put_there_by_hand_is_served,
        foreign_keys_break_nothing_and_are_hidden,
        a_put_that_is_given_up_is_there_whole_or_not_at_all,
        a_content_over_the_limit_is_refused
    ],
    [
        of_many_conditional_writers_exactly_one_wins,
        many_writers_at_once_leave_one_whole_content
    ]
);
contract!(azurite_blob, cloud(Kind::Azurite, "50% \u{e9}+x/pre.fix"));
contract!(azurite_without_a_prefix, cloud(Kind::Azurite, ""));
contract!(gcs_stub, cloud(Kind::Gcs, "50% \u{e9}+x/pre.fix"));
contract!(gcs_stub_without_a_prefix, cloud(Kind::Gcs, ""));
contract!(docker_registry, cloud(Kind::Registry, ""));

/// Makes a store with more than ten thousand artifacts.
fn filled(kind: Kind) -> Subject {
    let (server, bucket) = Server::with_many(kind, &many_keys(many_here(kind)));
    on(kind, server, bucket, "")
}

/// Returns the number of artifacts in the listed repository.
fn many_here(kind: Kind) -> usize {
    match kind {
        // Each artifact costs a request, and the driver gets the list of all tags in any case.
        Kind::Registry => 505,
        _ => MANY,
    }
}

macro_rules! whole_beyond_ten_thousand_keys {
    (@each $($store:ident: $subject:expr),*) => {
        mod a_listing_is_whole_beyond_ten_thousand_keys {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $store() {
                let (subject, here) = $subject;
                contract::a_listing_is_whole_beyond_ten_thousand_keys(&subject, here).await;
            })*
        }
    };
    ($($store:ident: $kind:expr),* $(,)?) => {
        whole_beyond_ten_thousand_keys!(
            @each
            a_folder: {
                let subject = file();
                for key in many_keys(MANY) {
                    (subject.inject)(&key, b"x").unwrap();
                }
                (subject, MANY)
            },
            $($store: (filled($kind), many_here($kind))),*
        );
    };
}

whole_beyond_ten_thousand_keys!(
    moto: Kind::Moto,
    s3s_fs: Kind::S3s,
    azurite_blob: Kind::Azurite,
    gcs_stub: Kind::Gcs,
    docker_registry: Kind::Registry,
);
