//! The part of the contract about writers: conditions, many writers at once, and interrupted ones.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use atlasfs::model::{Format, Item, Stamp};
use atlasfs::store::{Condition, Kind, Token};
use bytes::Bytes;
use tokio::time::Instant;

use super::{LIMIT, Replaces, Subject, id, soon};

/// Polls an operation at most `after` times, and drops it if it is not complete then.
async fn given_up<T>(after: usize, operation: impl Future<Output = T>) -> Option<T> {
    let mut operation = std::pin::pin!(operation);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        if polls == after {
            return Poll::Ready(None);
        }
        polls += 1;
        operation.as_mut().poll(context).map(Some)
    })
    .await
}

/// An operation that is dropped at any point leaves the store whole and the driver usable.
pub async fn an_operation_dropped_in_its_middle_leaves_the_store_whole(subject: &Subject) {
    let content = |n: usize| vec![b'a' + (n % 20) as u8; 20_000];
    let put = async |key: &str, n: usize| {
        let content = content(n);
        let put = subject.put_if(key, &content, 10 + n as u64, &Condition::None);
        match put.await {
            // moto answers one of two concurrent writers with a 500.
            Err(failure) if failure.kind != Kind::Busy => panic!("{failure}"),
            done => done.is_ok(),
        }
    };
    let (schema, plan) = (id("app/schema"), id("app/plans/p"));
    let target = &subject.target;
    assert!(put("app/schema", 0).await && put("app/plans/p", 0).await);
    for polls in 0..16 {
        given_up(polls, target.get(&schema, LIMIT, soon())).await;
        given_up(polls, target.head(&schema, soon())).await;
        given_up(polls, target.list(&schema.repo, soon())).await;
        given_up(polls, target.repos(soon())).await;
        given_up(polls, target.probe(soon())).await;
        given_up(polls, put("app/schema", polls)).await;
        given_up(polls, target.delete(&plan, soon())).await;
        // The driver continues at once; `get` compares the bytes with their stamp.
        match target.get(&schema, LIMIT, soon()).await {
            Ok(got) => assert!((0..16).any(|n| got.bytes == content(n)), "{polls}"),
            Err(failure) => assert!(
                !subject.is_atomic() && matches!(failure.kind, Kind::Corrupt | Kind::Busy),
                "{polls}: {failure}"
            ),
        }
        match target.get(&plan, LIMIT, soon()).await {
            Ok(got) => assert!((0..16).any(|n| got.bytes == content(n)), "{polls}"),
            Err(failure) if failure.kind == Kind::NotFound => {}
            Err(failure) => assert!(!subject.is_atomic(), "{polls}: {failure}"),
        }
        put("app/plans/p", polls).await;
    }
    // A request under way may still arrive.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(put("app/schema", 19).await && put("app/plans/p", 19).await);
    for key in ["app/schema", "app/plans/p"] {
        assert_eq!(subject.get(key).await.unwrap(), content(19), "{key}");
    }
    let listing = target.list(&schema.repo, soon()).await.unwrap();
    let items: Vec<String> = listing.items.keys().map(Item::to_string).collect();
    assert_eq!(items, ["schema", "plans/p"]);
    assert!(listing.hidden.is_empty(), "{:?}", listing.hidden);
}

/// Conditions work: a key that must be absent, a content that must be unchanged.
pub async fn a_write_whose_condition_does_not_hold_is_a_conflict(subject: &Subject) {
    let key = "app/schema";
    let one = subject
        .put_if(key, b"one", 1, &Condition::Absent)
        .await
        .unwrap();
    let conflict = subject.put_if(key, b"two", 2, &Condition::Absent).await;
    assert_eq!(conflict.unwrap_err().kind, Kind::Conflict);
    let unchanged = Condition::Unchanged(one.unwrap());
    subject.put_if(key, b"three", 3, &unchanged).await.unwrap();
    let conflict = subject.put_if(key, b"four", 4, &unchanged).await;
    assert_eq!(conflict.unwrap_err().kind, Kind::Conflict);
    assert_eq!(subject.get(key).await.unwrap(), "three");
    subject.target.delete(&id(key), soon()).await.unwrap();
    let conflict = subject.put_if(key, b"five", 5, &unchanged).await;
    assert_eq!(conflict.unwrap_err().kind, Kind::Conflict);
    for foreign in ["", "made up", "\"x\r\ny\"", "\u{e9}"] {
        let foreign = Condition::Unchanged(Token(foreign.into()));
        let conflict = subject.put_if(key, b"six", 6, &foreign).await;
        assert_eq!(conflict.unwrap_err().kind, Kind::Conflict);
    }
    assert_eq!(subject.get(key).await.unwrap_err().kind, Kind::NotFound);
}

/// Of many writers with the same condition exactly one wins, and the store has its content.
pub async fn of_many_conditional_writers_exactly_one_wins(subject: Arc<Subject>) {
    let mut condition = Condition::Absent;
    let gaps = subject.replaces == Replaces::WithAGap;
    for round in 0..5_u64 {
        let writers = (0..8_u64).map(|writer| {
            let (subject, condition) = (Arc::clone(&subject), condition.clone());
            tokio::spawn(async move {
                let content = format!("{round} {writer}");
                let when = round * 10 + writer + 1;
                let put = subject.put_if("app/schema", content.as_bytes(), when, &condition);
                (content.clone(), put.await)
            })
        });
        let mut won = Vec::new();
        for writer in futures::future::join_all(writers).await {
            match writer.unwrap() {
                (content, Ok(token)) => won.push((content, token)),
                (_, Err(failure)) => match failure.kind {
                    Kind::Conflict => {}
                    Kind::Busy | Kind::Unreachable if gaps => {}
                    _ => panic!("{failure}"),
                },
            }
        }
        if !subject.decides {
            // Such a store only guarantees that at least one wins.
            assert!(!won.is_empty());
            return;
        }
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(subject.get("app/schema").await.unwrap(), won[0].0);
        condition = Condition::Unchanged(won.remove(0).1.unwrap());
    }
}

/// After many concurrent writes, the content is that of one writer, whole, with its own stamp.
/// Every reader meanwhile sees such a content as well.
pub async fn many_writers_at_once_leave_one_whole_content(subject: Arc<Subject>) {
    let content = |n: u64| n.to_string().repeat(2000);
    let known = move |bytes: &Bytes| (0..40).find(|n| *bytes == content(*n));
    let (atomic, gaps) = (subject.is_atomic(), subject.replaces == Replaces::WithAGap);
    subject.put("app/schema", content(0).as_bytes(), 10).await;
    let writers: Vec<_> = (0..40_u64)
        .map(|n| {
            let subject = Arc::clone(&subject);
            tokio::spawn(async move {
                let (content, always) = (content(n), Condition::None);
                let put = subject.put_if("app/schema", content.as_bytes(), 10 + n, &always);
                let failure = put.await.err();
                match failure.as_ref().map(|failure| failure.kind) {
                    // moto answers some of so many writers with a 500.
                    None | Some(Kind::Busy) => {}
                    // The server closes the connection before it has read the request.
                    Some(Kind::Unreachable) if gaps => {}
                    _ => panic!("{failure:?}"),
                }
            })
        })
        .collect();
    while writers.iter().any(|writer| !writer.is_finished()) {
        // `get` compares the bytes with their stamp, and so detects a store that keeps the two
        // apart.
        match subject.get("app/schema").await {
            Ok(bytes) => assert!(known(&bytes).is_some(), "a mixture: {bytes:?}"),
            Err(failure) => match failure.kind {
                // docker-registry answers with a 500 while a tag is being written.
                Kind::Corrupt | Kind::Busy if !atomic => {}
                Kind::NotFound | Kind::Unreachable if gaps => {}
                _ => panic!("{failure}"),
            },
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let schema = id("app/schema");
    match subject.target.get(&schema, LIMIT, soon()).await {
        Ok(last) => {
            let whose = known(&last.bytes).expect("the content of one of them");
            assert!(last.stamped || !atomic, "the stamp is gone");
            assert!(!last.stamped || last.stamp.when == 10 + whose);
        }
        Err(failure) => match failure.kind {
            Kind::Corrupt if !atomic => {}
            // For a moment, the server sends the size of one content and the bytes of another. A
            // failed PutObject removes the key, and with it another writer's content.
            Kind::Busy | Kind::Unreachable | Kind::NotFound if gaps => {}
            _ => panic!("{failure}"),
        },
    }
    // A single writer repairs the result.
    subject.put("app/schema", content(1).as_bytes(), 50).await;
    let last = subject.target.get(&schema, LIMIT, soon()).await.unwrap();
    assert_eq!((&*last.bytes, last.stamp.when), (content(1).as_bytes(), 50));
}

/// After its caller has stopped waiting, a put is stored whole, or not at all.
pub async fn a_put_that_is_given_up_is_there_whole_or_not_at_all(subject: &Subject) {
    let content = vec![b'x'; 300_000];
    let stamp = Stamp::new(1, &content, Format::Hcl);
    for patience in 0..25_u64 {
        let id = id(&format!("app/plans/p{patience}"));
        let deadline = Instant::now() + Duration::from_micros(patience * patience * 40);
        let bytes = Bytes::from(content.clone());
        let put = subject
            .target
            .put(&id, bytes, &stamp, &Condition::None, deadline);
        if let Err(failure) = put.await {
            assert_eq!(failure.kind, Kind::Unreachable, "{failure}");
        }
    }
    // A request under way may still arrive.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for patience in 0..25 {
        match subject.get(&format!("app/plans/p{patience}")).await {
            Ok(got) => assert_eq!(got, content),
            Err(failure) => assert_eq!(failure.kind, Kind::NotFound, "{failure}"),
        }
    }
}
