//! Logging in to an OCI registry: its demand is answered with user and password, or with a token
//! that is had for them.

use std::sync::Arc;

use bytes::Bytes;
use object_store::Error as StoreError;
use object_store::client::HttpResponse;
use url::Url;

use super::auth::{Challenge, Right};
use super::client::{Client, MANIFEST_BYTES, body};
use super::docker::Credentials;
use super::error::told;
use crate::store::Kind;

impl Client {
    /// Answers a registry's demand, or uses what another one has been given meanwhile; `None` if
    /// there is nothing to answer it with. Tells whether it is new.
    pub(super) async fn log_in(
        &self,
        right: Right,
        response: &HttpResponse,
        refused: Option<&str>,
    ) -> Result<Option<(Arc<str>, bool)>, StoreError> {
        let demands = response.headers().get_all("www-authenticate").iter();
        let demands = demands.filter_map(|demand| demand.to_str().ok());
        let demands = demands.filter_map(|demand| Challenge::read(demand, &self.base));
        // A token says what it is for, and a password opens everything.
        let demand = demands.max_by_key(|demand| matches!(demand, Challenge::Bearer(_)));
        let Some(demand) = demand else {
            return Ok(None);
        };
        let _turn = self.auth.turn.lock().await;
        if let Some(header) = self.auth.header(right).filter(|h| Some(&**h) != refused) {
            return Ok(Some((header, false)));
        }
        let credentials = self.auth.credentials().await?;
        let header = match demand {
            Challenge::Basic => self.auth.answer_basic(right, &credentials),
            Challenge::Bearer(realm) => Some(self.token(right, realm, &credentials).await?),
        };
        Ok(header.map(|header| (header, true)))
    }

    /// Has a token service make a token.
    async fn token(
        &self,
        right: Right,
        realm: Url,
        credentials: &Credentials,
    ) -> Result<Arc<str>, StoreError> {
        let response = match credentials {
            Credentials::None => self.send("GET", &realm, &[], Bytes::new()).await?,
            Credentials::Basic(pair) => {
                let basic = format!("Basic {pair}");
                let headers = [("authorization", &*basic)];
                self.send("GET", &realm, &headers, Bytes::new()).await?
            }
            Credentials::Identity(token) => {
                let body = Bytes::from(refresh(&realm, token));
                let mut place = realm.clone();
                place.set_query(None);
                let headers = [("content-type", "application/x-www-form-urlencoded")];
                self.send("POST", &place, &headers, body).await?
            }
        };
        // Who gives tokens speaks for the registry, but a 404 of theirs is about no artifact.
        let status = response.status().as_u16();
        let host = realm.host_str().unwrap_or_default();
        if !response.status().is_success() {
            let mut why = format!("{host} gives no token: {status}");
            let kind = Kind::of_credentials(status);
            if kind == Kind::Denied {
                why = format!("{why}: {}", self.auth.hint());
            }
            return Err(told(kind, why));
        }
        let document = body(response, MANIFEST_BYTES).await?;
        let header = self.auth.answer_bearer(right, &document);
        header.ok_or_else(|| {
            let why = format!("{host} gives no token: its answer has none");
            told(Kind::Unreachable, why)
        })
    }
}

/// Returns the form that asks for a token with an identity token.
fn refresh(realm: &Url, token: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(realm.query_pairs())
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "atlasfs")
        .append_pair("refresh_token", token)
        .finish()
}
