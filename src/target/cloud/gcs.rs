//! Opening a Google Cloud Storage bucket: its parameters and the environment's credentials, each
//! honoured exactly or refused by name.

use std::path::Path;
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use serde_json::Value;
use url::Url;

use super::dialect::Dialect;
use super::opening::{
    Env, Refusal, connector, denied, invalid, is_of_client, is_word, opened, options, refuse, set,
    unbuilt,
};
use super::{CloudDriver, retries};
use crate::target::{Failure, GsLocation};

/// Google's own universe.
const UNIVERSE: &str = "googleapis.com";
/// gcloud's file, below its folder.
const DEFAULT_FILE: &str = "application_default_credentials.json";
/// A file of credentials is some kilobytes; another one is none.
const FILE_BYTES: u64 = 1 << 20;

const NONE: &str = "no credentials: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run \
                    gcloud auth application-default login; on Compute Engine and GKE set \
                    GCE_METADATA_HOST=metadata.google.internal; for a public bucket add \
                    anonymous=true to the url";

/// Opens the driver of a bucket. Nothing is sent.
///
/// `access_id` chooses whose name stands in signed URLs. None are made here, so any value does what
/// it says.
pub(in crate::target) fn open(location: &GsLocation, env: Env<'_>) -> Result<CloudDriver, Failure> {
    opened(&location.url, || {
        check(location)?;
        let found = find(location, env)?;
        let base = base(location, &found, env)?;
        let builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&location.bucket)
            .with_base_url(base.as_str().trim_end_matches('/'))
            .with_retry(retries())
            .with_http_connector(connector(&base))
            .with_client_options(options(&base));
        let builder = match found {
            // A token that is no token: without any, object_store would look for credentials, and
            // ask the metadata address for some.
            Found::Nobody => builder.with_skip_signature(true).with_credentials(Arc::new(
                StaticCredentialProvider::new(GcpCredential {
                    bearer: String::new(),
                }),
            )),
            Found::ServiceAccount { key, .. } => builder.with_service_account_key(key),
            Found::User { path, .. } => builder.with_application_credentials(path),
            Found::Metadata => builder,
        };
        let store = builder
            .build()
            .map_err(|error| match is_of_client(&error) {
                true => unbuilt(error),
                // The reason may quote the file.
                false => denied("the private_key of the credentials file can't be read"),
            })?;
        let (prefix, url) = (&location.prefix, &location.url);
        Ok(CloudDriver::new(store, Dialect::Gcs, prefix, url))
    })
}

/// Returns the service that has the bucket, whichever way it is spelled.
pub(in crate::target) fn place(location: &GsLocation, env: Env<'_>) -> String {
    let base = base(location, &Found::Nobody, env);
    base.map_or_else(|(_, why)| why, |url| crate::target::place::service(&url))
}

/// Refuses what Google would refuse later.
fn check(location: &GsLocation) -> Result<(), Refusal> {
    let name = &*location.bucket;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    if !(3..=222).contains(&name.len())
        || !name
            .bytes()
            .all(|byte| fits(byte) || b"-_.".contains(&byte))
        || !ends.into_iter().flatten().all(fits)
    {
        return refuse(
            "that is no name of a bucket: Google wants lower-case letters, digits, -, _ and .",
        );
    }
    match &location.universe_domain {
        Some(domain) if !is_word(domain, "-.") => {
            refuse("universe_domain must be a domain, as googleapis.com is")
        }
        _ => Ok(()),
    }
}

/// Whose credentials a bucket is opened with.
enum Found {
    /// Nobody's.
    Nobody,
    /// A service account's: the key file's content.
    ServiceAccount {
        key: String,
        universe: Option<String>,
    },
    /// A person's, who has logged in with gcloud.
    User {
        path: String,
        universe: Option<String>,
    },
    /// Those of the machine, from its metadata address.
    Metadata,
}

/// Decides where the bucket answers.
fn base(location: &GsLocation, found: &Found, env: Env<'_>) -> Result<Url, Refusal> {
    if let Some(host) = set(env, "STORAGE_EMULATOR_HOST") {
        let url = match host.contains("://") {
            true => host,
            false => format!("http://{host}"),
        };
        let plain = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.path() == "/"
                && url.query().is_none()
        };
        let url = Url::parse(&url).ok().filter(plain);
        return url.ok_or_else(|| invalid("STORAGE_EMULATOR_HOST must be host:port"));
    }
    let named = location
        .universe_domain
        .clone()
        .or_else(|| set(env, "GOOGLE_CLOUD_UNIVERSE_DOMAIN"));
    let universe = named.unwrap_or_else(|| UNIVERSE.into());
    let own = match found {
        Found::ServiceAccount { universe, .. } | Found::User { universe, .. } => {
            Some(universe.as_deref().unwrap_or(UNIVERSE))
        }
        Found::Nobody | Found::Metadata => None,
    };
    if let Some(own) = own.filter(|own| *own != universe) {
        return Err(denied(format!(
            "the credentials are of the universe {own:?}, and the bucket is in {universe:?}: set \
             universe_domain to the same"
        )));
    }
    if !is_word(&universe, "-.") {
        return refuse("GOOGLE_CLOUD_UNIVERSE_DOMAIN must be a domain, as googleapis.com is");
    }
    Url::parse(&format!("https://storage.{universe}"))
        .map_err(|_| invalid("universe_domain is no domain"))
}

/// Finds the credentials, in the order of Google's clients, and never by asking an address that
/// nobody has named.
fn find(location: &GsLocation, env: Env<'_>) -> Result<Found, Refusal> {
    if location.anonymous {
        return Ok(Found::Nobody);
    }
    const NAME: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    if let Some(path) = set(env, NAME) {
        return read(Path::new(&path), NAME);
    }
    if set(env, "STORAGE_EMULATOR_HOST").is_some() {
        // An emulator wants none, and gets no token that is good at Google's.
        return Ok(Found::Nobody);
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
    match set(env, "GCE_METADATA_HOST") {
        // object_store looks there by itself.
        Some(_) if home.is_some_and(|path| path.exists()) => Err(denied(
            "gcloud's file in HOME stands before GCE_METADATA_HOST, and CLOUDSDK_CONFIG before \
             both: name one file with GOOGLE_APPLICATION_CREDENTIALS",
        )),
        Some(host) if is_word(&host, "-.:[]") => Ok(Found::Metadata),
        Some(_) => refuse("GCE_METADATA_HOST must be a host name, and perhaps a port"),
        None => Err(denied(NONE)),
    }
}

/// Reads a file of credentials. What is in it never gets into a message.
fn read(path: &Path, name: &str) -> Result<Found, Refusal> {
    let shown = path.display();
    let file = std::fs::metadata(path).and_then(|about| match about.len() <= FILE_BYTES {
        true => std::fs::read_to_string(path),
        false => Err(std::io::ErrorKind::FileTooLarge.into()),
    });
    let text = file.map_err(|error| denied(format!("{name} ({shown}) can't be read: {error}")))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|_| denied(format!("{name} ({shown}) is not json")))?;
    let text_of = |field: &str| json.get(field).and_then(Value::as_str);
    let has = |fields: &[&str]| match fields.iter().find(|field| text_of(field).is_none()) {
        None => Ok(()),
        Some(lacking) => Err(denied(format!("{name} ({shown}) has no {lacking}"))),
    };
    let universe = text_of("universe_domain").map(String::from);
    match text_of("type") {
        Some("service_account") => {
            has(&["private_key", "private_key_id", "client_email"])?;
            Ok(Found::ServiceAccount {
                key: text,
                universe,
            })
        }
        Some("authorized_user") => {
            has(&["client_id", "client_secret", "refresh_token"])?;
            Ok(Found::User {
                path: path.to_string_lossy().into_owned(),
                universe,
            })
        }
        Some(other) if is_word(other, "_") && other.len() <= 64 => Err(denied(format!(
            "{name} ({shown}) is of the type {other}, which is not supported; service_account and \
             authorized_user are"
        ))),
        _ => Err(denied(format!(
            "{name} ({shown}) is no file of credentials: it has no type"
        ))),
    }
}
