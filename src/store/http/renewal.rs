//! The renewal: another credential for a request whose own the store takes no longer.

use std::sync::Arc;

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;
use reqwest::header::{AUTHORIZATION, HeaderValue};

use super::credential_cache::{CredentialError, Kept};
use super::middleware::Seen;

const DIGEST: &str = "x-amz-content-sha256";
const SESSION: &str = "x-amz-security-token";

/// The credentials that a store's requests carry, for those that have to be replaced.
#[derive(Debug, Clone)]
pub(crate) enum Renewal {
    /// Tokens.
    Bearer(Arc<Kept<String>>),
    /// Keys, with which S3's requests in a region are signed.
    Signed(Arc<Kept<Arc<AwsCredential>>>, String),
}

impl Renewal {
    /// Returns the name of the credential that a request carries.
    pub(crate) fn carried(&self, request: &HttpRequest) -> Option<String> {
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let authorization = header("authorization");
        let name = match self {
            Renewal::Bearer(_) => authorization?.strip_prefix("Bearer ")?,
            Renewal::Signed(..) => match header(SESSION) {
                Some(session) => session,
                None => {
                    let (_, scope) = authorization?.split_once("Credential=")?;
                    scope.split_once('/')?.0
                }
            },
        };
        (!name.is_empty()).then(|| name.into())
    }

    /// Notes that the store has taken the credential of a name.
    pub(crate) fn taken(&self, name: &str) {
        match self {
            Renewal::Bearer(tokens) => tokens.taken(name),
            Renewal::Signed(keys, _) => keys.taken(name),
        }
    }

    /// Tells whether the store takes a credential no longer, by its reply to a method.
    pub(crate) fn is_due(&self, method: &str, seen: &Seen) -> bool {
        match (self, seen.status, seen.error.code.as_deref()) {
            (Renewal::Bearer(_), status, _) => status == 401,
            (
                Renewal::Signed(..),
                400 | 401 | 403,
                Some(
                    "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId",
                ),
            ) => true,
            // The reply to HEAD has no document, and whoever is refused anything else gets a 403.
            (Renewal::Signed(..), status, None) => status == 400 && method == "HEAD",
            (Renewal::Signed(..), ..) => false,
        }
    }

    /// Gives a request another credential, if there is a better one than that of a name.
    pub(crate) async fn renew(
        &self,
        request: &mut HttpRequest,
        refused: &str,
    ) -> Result<bool, CredentialError> {
        match self {
            Renewal::Bearer(tokens) => {
                let fresh = tokens.instead_of(refused).await?;
                let value = fresh.and_then(|fresh| format!("Bearer {fresh}").parse().ok());
                let value: Option<HeaderValue> = value;
                Ok(value.is_some_and(|value| {
                    request.headers_mut().insert(AUTHORIZATION, value).is_some()
                }))
            }
            Renewal::Signed(keys, region) => {
                let fresh = keys.instead_of(refused).await?;
                Ok(fresh.is_some_and(|fresh| sign(request, &fresh, region).is_some()))
            }
        }
    }
}

/// Signs a request anew that others have signed.
fn sign(request: &mut HttpRequest, keys: &AwsCredential, region: &str) -> Option<()> {
    let digest = request.headers().get(DIGEST)?.to_str().ok();
    // It says "UNSIGNED-PAYLOAD" where the bytes aren't signed.
    let digest = digest.and_then(from_hex);
    // Whatever has a name of its own is signed; the old signature has none.
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(SESSION);
    AwsAuthorizer::new(keys, "s3", region)
        .with_sign_payload(digest.is_some())
        .try_authorize(request, digest.as_deref())
        .ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}
