//! What goes wrong with an OCI registry, and is said in other words than a reply's.

use object_store::Error as StoreError;
use object_store::client::HttpResponse;

use crate::store::http::failure::{Attempt, failure, refusal};
use crate::store::http::middleware::Outcome;
use crate::store::{Failure, Kind};

/// What the verdict and the message are, whatever the last reply was.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct Told {
    kind: Kind,
    why: String,
}

/// Makes an error whose verdict comes from the last reply.
pub(super) fn error(why: &str) -> StoreError {
    StoreError::Generic {
        store: "oci",
        source: why.into(),
    }
}

/// Makes an error that says itself what it is. The words are shown: they hold no secret.
pub(super) fn told(kind: Kind, why: impl Into<String>) -> StoreError {
    let why = why.into();
    StoreError::Generic {
        store: "oci",
        source: Box::new(Told { kind, why }),
    }
}

/// Makes the failure of an attempt. `hint` says what to do, where that is known.
pub(super) fn failed(
    url: &str,
    attempt: Attempt<'_>,
    outcome: &Outcome,
    error: &StoreError,
    hint: impl FnOnce(&Outcome) -> Option<String>,
) -> Failure {
    if let StoreError::Generic { source, .. } = error
        && let Some(Told { kind, why }) = source.downcast_ref::<Told>()
    {
        return refusal(url, *kind, attempt, why);
    }
    failure(url, attempt, outcome, error, hint(outcome))
}

/// Demands success of a reply.
pub(super) fn succeeded(response: HttpResponse) -> Result<HttpResponse, StoreError> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(error("refused")),
    }
}

/// Returns a header's text.
pub(super) fn header<'r>(response: &'r HttpResponse, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}
