//! Tests of when the cache fetches, keeps and replaces a credential, on a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{advance, sleep};

use super::credential_cache::{
    CredentialCache, CredentialError, CredentialSource, FetchedCredential,
};
use crate::store::Kind;

const HOUR: Duration = Duration::from_secs(3600);

/// Returns `token-1`, `token-2` and so on.
#[derive(Default)]
struct Counting {
    asked: Arc<AtomicU32>,
    /// The first fetch that fails; 0 for none.
    fails_from: u32,
    takes: Duration,
    lasts: Duration,
    /// Whether the first fetch panics.
    panics: bool,
}

#[async_trait]
impl CredentialSource<String> for Counting {
    async fn fetch(&self) -> Result<FetchedCredential<String>, CredentialError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(self.takes).await;
        assert!(!self.panics || number > 1, "a bug");
        if self.fails_from > 0 && number >= self.fails_from {
            return Err(CredentialError::new(
                Kind::Busy,
                format!(": failure {number}"),
            ));
        }
        Ok(FetchedCredential::new(
            format!("token-{number}"),
            self.lasts,
        ))
    }

    fn source_name(&self) -> String {
        "the service".into()
    }
}

fn counting(fails_from: u32, takes: Duration) -> (Arc<CredentialCache<String>>, Arc<AtomicU32>) {
    let source = Counting {
        fails_from,
        takes,
        lasts: HOUR,
        ..Counting::default()
    };
    let asked = Arc::clone(&source.asked);
    (CredentialCache::new(source), asked)
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_want_the_first_token_cost_one_request() {
    let (tokens, asked) = counting(0, Duration::from_secs(1));
    let all = futures::future::join_all((0..20).map(|_| tokens.get())).await;
    assert!(
        all.iter().all(|one| *one == Ok("token-1".into())),
        "{all:?}"
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_before_it_ends_while_the_old_one_serves() {
    let (tokens, asked) = counting(0, Duration::from_secs(1));
    assert_eq!(tokens.get().await.unwrap(), "token-1");
    advance(HOUR - Duration::from_secs(310)).await;
    assert_eq!(tokens.get().await.unwrap(), "token-1");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    advance(Duration::from_secs(20)).await;
    // No caller waits for the next token.
    assert_eq!(tokens.get().await.unwrap(), "token-1");
    assert_eq!(tokens.get().await.unwrap(), "token-1");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(tokens.get().await.unwrap(), "token-2");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_costs_nothing_until_the_token_ends_and_is_not_pressed() {
    let (tokens, asked) = counting(2, Duration::ZERO);
    assert_eq!(tokens.get().await.unwrap(), "token-1");
    advance(HOUR - Duration::from_secs(100)).await;
    for _ in 0..50 {
        assert_eq!(tokens.get().await.unwrap(), "token-1");
        settle().await;
        advance(Duration::from_secs(1)).await;
    }
    let pressed = asked.load(Ordering::SeqCst);
    assert!((2..=3).contains(&pressed), "{pressed}");
    advance(Duration::from_secs(60)).await;
    let none = tokens.get().await.unwrap_err();
    assert_eq!(none.kind, Kind::Busy);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_taken_and_is_refused_is_replaced_at_once() {
    let (tokens, asked) = counting(0, Duration::ZERO);
    let first = tokens.get().await.unwrap();
    tokens.accepted(&first);
    let second = tokens.replace_refused(&first).await.unwrap();
    assert_eq!(second.as_deref(), Some("token-2"));
    // A late caller gets the current token.
    assert_eq!(tokens.replace_refused(&first).await.unwrap(), second);
    assert_eq!(tokens.get().await.unwrap(), "token-2");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_never_taken_is_not_replaced_over_and_over() {
    let (tokens, asked) = counting(0, Duration::ZERO);
    let first = tokens.get().await.unwrap();
    for _ in 0..10 {
        assert_eq!(tokens.replace_refused(&first).await, Ok(None));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // The clock may have been wrong at the time of signing, and corrected since.
    advance(Duration::from_secs(31)).await;
    let second = tokens.replace_refused(&first).await.unwrap();
    assert_eq!(second.as_deref(), Some("token-2"));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_the_token_for_the_next_one() {
    let (tokens, asked) = counting(0, Duration::from_secs(3));
    let hasty = tokio::time::timeout(Duration::from_secs(2), tokens.get()).await;
    assert!(hasty.is_err());
    sleep(Duration::from_secs(2)).await;
    let next = tokio::time::timeout(Duration::from_millis(1), tokens.get()).await;
    assert_eq!(next.unwrap().unwrap(), "token-1");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_told_of_and_asked_again() {
    let (tokens, asked) = counting(0, HOUR);
    for count in 1..=2 {
        let none = tokens.get().await.unwrap_err();
        assert_eq!(none.kind, Kind::Unreachable);
        assert_eq!(
            none.why,
            "can't get credentials: the service does not answer within 10 s"
        );
        assert_eq!(asked.load(Ordering::SeqCst), count);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_show_nothing_when_they_are_printed() {
    let (tokens, _) = counting(0, Duration::ZERO);
    let token = tokens.get().await.unwrap();
    assert!(!format!("{tokens:?}").contains(&token));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_an_outage_and_not_for_ever() {
    let source = Counting {
        panics: true,
        lasts: HOUR,
        ..Counting::default()
    };
    let tokens = CredentialCache::new(source);
    let none = tokens.get().await.unwrap_err();
    assert_eq!(none.kind, Kind::Unreachable);
    assert!(none.why.contains("hit a bug"), "{none}");
    assert_eq!(tokens.get().await.unwrap(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_fetched_anew_and_who_waits_is_told_why_there_is_none() {
    let source = Counting {
        fails_from: 3,
        ..Counting::default()
    };
    let tokens = CredentialCache::new(source);
    assert_eq!(tokens.get().await.unwrap(), "token-1");
    assert_eq!(tokens.get().await.unwrap(), "token-2");
    let none = futures::future::join_all((0..10).map(|_| tokens.get())).await;
    let credential_error = CredentialError::new(Kind::Busy, ": failure 3");
    assert!(
        none.iter().all(|got| *got == Err(credential_error.clone())),
        "{none:?}"
    );
    let error = object_store::Error::from(credential_error.clone());
    assert_eq!(CredentialError::of(&error), Some(&credential_error));
}
