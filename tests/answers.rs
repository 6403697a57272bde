//! The verdict of each driver on an answer that is not the store's: a GET or HEAD must agree with
//! the listing, unless a stamp proves its bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use std::sync::{Arc, Mutex};

use atlasfs::model::RepoName;
use atlasfs::store::{Failure, Kind, Target};
use support::behind::{Behind, KEYS, put, target};
use support::contract::{LIMIT, id, soon};
use support::http;
use support::proxy::Fault;
use support::serve::{Answering, Reply, Request};
use support::server::Kind as Store;

const BY_HAND: &[u8] = b"create table t (id int);";

/// Reads an artifact and looks it up: both must be outages.
async fn outages(target: &Target, key: &str) -> [Failure; 2] {
    let got = target.get(&id(key), LIMIT, soon()).await;
    let looked_up = target.head(&id(key), soon()).await;
    let failures = [got.map(drop).unwrap_err(), looked_up.map(drop).unwrap_err()];
    for failure in &failures {
        assert_eq!(failure.kind, Kind::Unreachable, "{failure}");
    }
    failures
}

/// A store with a stamped artifact, `app/schema`, and one put there by hand, `app/plans/p`.
async fn with_both(kind: Store) -> Behind {
    let behind = Behind::on(kind).await;
    let prefix = match kind {
        Store::Registry => "",
        _ => "pre/",
    };
    let key = format!("{prefix}app/plans/p");
    behind.server.inject(&behind.bucket, &key, BY_HAND).unwrap();
    behind
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_what_the_store_lists_is_an_outage() {
    for kind in [
        Store::Moto,
        Store::S3s,
        Store::Rclone,
        Store::Azurite,
        Store::Gcs,
        Store::Registry,
    ] {
        let behind = with_both(kind).await;
        for page in ["text/html; charset=utf-8", "application/json"] {
            behind.proxy.set(Fault::Page(200, page));
            for key in ["app/schema", "app/plans/p"] {
                outages(&behind.target, key).await;
            }
        }
        behind.proxy.set(Fault::Pass);
        let got = behind.target.get(&id("app/plans/p"), LIMIT, soon()).await;
        assert_eq!(got.unwrap().bytes, BY_HAND, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_says_not_found_of_a_listed_object_is_an_outage() {
    for kind in [Store::Moto, Store::Azurite, Store::Gcs] {
        let behind = with_both(kind).await;
        behind.proxy.set(Fault::Page(404, "text/html"));
        for key in ["app/schema", "app/plans/p"] {
            outages(&behind.target, key).await;
        }
        let missing = behind.target.head(&id("app/plans/none"), soon()).await;
        assert_eq!(missing.unwrap_err().kind, Kind::NotFound, "{kind:?}");
    }
    let behind = with_both(Store::Registry).await;
    behind.proxy.set(Fault::Page(404, "text/html"));
    for key in ["app/schema", "app/plans/p"] {
        let failure = behind.target.get(&id(key), LIMIT, soon()).await;
        assert!(failure.unwrap_err().is_outage());
    }
    let app = RepoName::parse("app").unwrap();
    let listing = behind.target.list(&app, soon()).await;
    assert!(listing.unwrap_err().is_outage(), "the tags are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_put_into_the_store_by_hand_is_read() {
    let behind = Behind::new().await;
    let path = format!("/{}/pre/app/plans/p", behind.bucket);
    let kind = [("Content-Type", "text/html")];
    let page = b"<html>a page</html>";
    let addr = behind.server.addr();
    let made = http::request(addr, "PUT", &path, &kind, page).unwrap();
    assert_eq!(made.status, 200);
    let plan = id("app/plans/p");
    let got = behind.target.get(&plan, LIMIT, soon()).await.unwrap();
    assert_eq!((&*got.bytes, got.stamped), (&page[..], false));
    assert_eq!(behind.target.head(&plan, soon()).await.unwrap().size, 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn stamped_content_costs_one_request_and_content_put_by_hand_a_listing_more() {
    let behind = with_both(Store::Moto).await;
    for (key, listings) in [("app/schema", 0), ("app/plans/p", 1)] {
        behind.proxy.forget();
        behind.target.get(&id(key), LIMIT, soon()).await.unwrap();
        behind.target.head(&id(key), soon()).await.unwrap();
        assert_eq!(behind.proxy.count("GET", "list-type="), 2 * listings);
        let all = behind.proxy.requests().len();
        assert_eq!(all, 2 + 2 * listings, "{key}");
    }
    put(&behind.target, "app/plans/p", "now with a stamp", 9)
        .await
        .unwrap();
    behind.proxy.forget();
    let plan = id("app/plans/p");
    behind.target.get(&plan, LIMIT, soon()).await.unwrap();
    assert_eq!(behind.proxy.requests().len(), 1);
}

/// The size and the ETag of one object without a stamp, in each state of a store that changes.
type States = &'static [(&'static str, &'static str)];

/// Starts a store whose object goes on to its next state after each of its replies, up to the last.
fn changing(states: States) -> (Answering, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&asked);
    let server = Answering::start(move |request: &Request| -> Reply {
        let mut seen = seen.lock().unwrap();
        let (content, e_tag) = states[seen.len().min(states.len() - 1)];
        let lists = request.query.contains_key("list-type");
        seen.push(if lists {
            "LIST".into()
        } else {
            request.method.clone()
        });
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        if lists {
            let body = format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>pre/app/schema\
                 </Key><Size>{}</Size><ETag>{e_tag}</ETag><LastModified>2026-01-01T00:00:00.000Z\
                 </LastModified></Contents></ListBucketResult>",
                content.len()
            );
            return (200, Vec::new(), body.into());
        }
        let headers = vec![
            header("ETag", &format!("\"{e_tag}\"")),
            header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ];
        (200, headers, content.into())
    });
    (server, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_before_it_is_listed_is_read_again() {
    let (server, asked) = changing(&[("old", "a"), ("new", "b")]);
    let store = target("bucket", format!("http://{}", server.addr()), &KEYS);
    let got = store.get(&id("app/schema"), LIMIT, soon()).await.unwrap();
    assert_eq!(got.bytes, "new");
    assert_eq!(*asked.lock().unwrap(), ["GET", "LIST", "GET", "LIST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_never_is_what_the_store_lists_is_an_outage() {
    let (server, asked) = changing(&[("one", "a"), ("two", "b"), ("one", "a"), ("two", "b")]);
    let store = target("bucket", format!("http://{}", server.addr()), &KEYS);
    let failure = store.get(&id("app/schema"), LIMIT, soon()).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable, "{failure}");
    assert!(failure.reason.contains("not the object"), "{failure}");
    assert_eq!(*asked.lock().unwrap(), ["GET", "LIST", "GET", "LIST"]);
}
