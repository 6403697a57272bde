//! HTTP for the network stores: the client, its credentials, and the meaning of a reply.

use std::time::Duration;

use object_store::{BackoffConfig, RetryConfig};

pub(super) mod connection;
pub(super) mod credential_cache;
pub(super) mod failure;
pub(super) mod middleware;
pub(super) mod opening;
pub(super) mod reply;
pub(super) mod verdict;
pub(super) mod xml;

#[cfg(test)]
mod credential_cache_tests;

/// The pause before the only retry.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// object_store's only quick retry: for a connection that was dropped while idle, or a single 503.
/// Longer retries are left to the caller, which has other targets to ask meanwhile.
pub(super) fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: RETRY_PAUSE,
            max_backoff: RETRY_PAUSE * 2,
            base: 2.0,
        },
        max_retries: 1,
        retry_timeout: Duration::from_secs(2),
    }
}

/// Runs an operation, and once more after a pause if its result is transient.
pub(super) async fn retry_once<F: Future>(
    operation: impl Fn() -> F,
    is_transient: impl FnOnce(&F::Output) -> bool,
) -> F::Output {
    let result = operation().await;
    if !is_transient(&result) {
        return result;
    }
    tokio::time::sleep(RETRY_PAUSE).await;
    operation().await
}
