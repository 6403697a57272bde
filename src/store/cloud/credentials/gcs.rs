//! Finding the credentials of a Google Cloud Storage bucket, in the order of Google's clients. It
//! never asks an address that is not configured.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::client::CredentialProvider;
use object_store::gcp::GcpCredential;
use serde_json::Value;
use url::Url;

use super::token_service::{FormField, SelfSigned, TokenRequest, TokenService, is_safe};
use crate::store::GsLocation;
use crate::store::http::credential_cache::CredentialCache;
use crate::store::http::opening::{Env, OpenError, denied, invalid, is_word, set};

/// Google's own universe.
pub(crate) const UNIVERSE: &str = "googleapis.com";
/// The default URL where a user's login is exchanged for tokens; the login's file may name another.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// The path of a metadata server's tokens.
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// gcloud's file, below its folder.
const DEFAULT_FILE: &str = "application_default_credentials.json";
/// The longest file of credentials. 1 MiB: such files have a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

const NO_CREDENTIALS: &str = "no credentials: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run \
                    gcloud auth application-default login; on Compute Engine and GKE set \
                    GCE_METADATA_HOST=metadata.google.internal; for a public bucket add \
                    anonymous=true to the url";

/// The credentials of a bucket; none by default.
#[derive(Default)]
pub(crate) struct GcsCredentials {
    /// The tokens for the requests.
    pub(crate) tokens: Option<Arc<CredentialCache<String>>>,
    /// The universe of the tokens, if it is known.
    pub(crate) universe: Option<String>,
}

/// Finds the credentials, in the order of Google's clients. It never asks an address that is not
/// configured.
pub(crate) fn find(location: &GsLocation, env: Env<'_>) -> Result<GcsCredentials, OpenError> {
    if location.anonymous {
        return Ok(GcsCredentials::default());
    }
    const NAME: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    if let Some(path) = set(env, NAME) {
        return read(Path::new(&path), NAME);
    }
    if set(env, "STORAGE_EMULATOR_HOST").is_some() {
        // An emulator needs no token, and must not get one that is valid at Google.
        return Ok(GcsCredentials::default());
    }
    let home = set(env, "HOME").map(|home| Path::new(&home).join(".config/gcloud"));
    let home = home.map(|folder| folder.join(DEFAULT_FILE));
    let named = set(env, "CLOUDSDK_CONFIG").map(|folder| Path::new(&folder).join(DEFAULT_FILE));
    if let Some(path) = named
        .as_ref()
        .or(home.as_ref())
        .filter(|path| path.exists())
    {
        return read(path, "gcloud's application-default file");
    }
    let Some(host) = set(env, "GCE_METADATA_HOST") else {
        return Err(denied(NO_CREDENTIALS));
    };
    let url = Url::parse(&format!("http://{host}{METADATA_PATH}")).ok();
    let Some(url) = url.filter(|_| is_word(&host, "-.:[]")) else {
        return Err(invalid(
            "GCE_METADATA_HOST must be a host name, optionally with a port",
        ));
    };
    // The server requires this header, which protects it from forged requests.
    let flavor = ("metadata-flavor", "Google".to_owned());
    let advice = " (does this machine have a service account with the scope of Cloud Storage?)";
    Ok(GcsCredentials {
        tokens: Some(CredentialCache::new(TokenService::new(
            url,
            TokenRequest::Get(vec![flavor]),
            advice,
        )?)),
        universe: None,
    })
}

/// Reads a file of credentials. Its content never gets into a message.
fn read(path: &Path, name: &str) -> Result<GcsCredentials, OpenError> {
    let shown = path.display();
    // A pipe or a device may never end.
    let file = std::fs::metadata(path).and_then(|about| match about.is_file() {
        true if about.len() <= MAX_FILE_BYTES => std::fs::read_to_string(path),
        true => Err(std::io::ErrorKind::FileTooLarge.into()),
        false => Err(std::io::Error::other("it is not a file")),
    });
    let text = file.map_err(|error| denied(format!("{name} ({shown}) can't be read: {error}")))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|_| denied(format!("{name} ({shown}) is not json")))?;
    let text_of = |field: &str| json.get(field).and_then(Value::as_str);
    let has = |fields: &[&str]| match fields.iter().find(|field| text_of(field).is_none()) {
        None => Ok(()),
        Some(missing) => Err(denied(format!("{name} ({shown}) has no {missing}"))),
    };
    let universe = text_of("universe_domain").unwrap_or(UNIVERSE).to_owned();
    let tokens = match text_of("type") {
        Some("service_account") => {
            has(&["private_key", "private_key_id", "client_email"])?;
            CredentialCache::new(SelfSigned::new(text)?)
        }
        Some("authorized_user") => {
            has(&["client_id", "client_secret", "refresh_token"])?;
            let url = Url::parse(text_of("token_uri").unwrap_or(TOKEN_URI));
            let Some(url) = url.ok().filter(is_safe) else {
                return Err(denied(format!(
                    "{name} ({shown}): its token_uri must be https"
                )));
            };
            let field = |name| FormField::Text(text_of(name).unwrap_or_default().into());
            let form = vec![
                ("grant_type", FormField::Text("refresh_token".into())),
                ("client_id", field("client_id")),
                ("client_secret", field("client_secret")),
                ("refresh_token", field("refresh_token")),
            ];
            let advice = " (log in again: gcloud auth application-default login)";
            CredentialCache::new(TokenService::new(url, TokenRequest::Form(form), advice)?)
        }
        Some(other) if is_word(other, "_") && other.len() <= 64 => {
            return Err(denied(format!(
                "{name} ({shown}) has the unsupported type {other}; use service_account or \
                 authorized_user"
            )));
        }
        _ => {
            return Err(denied(format!(
                "{name} ({shown}) is not a credentials file: it has no type"
            )));
        }
    };
    Ok(GcsCredentials {
        tokens: Some(tokens),
        universe: Some(universe),
    })
}

/// Provides tokens to object_store's Google client.
#[derive(Debug)]
pub(crate) struct GcsProvider(pub(crate) Arc<CredentialCache<String>>);

#[async_trait]
impl CredentialProvider for GcsProvider {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let bearer = self.0.get().await?;
        Ok(Arc::new(GcpCredential { bearer }))
    }
}
