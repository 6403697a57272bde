//! Opening a Google Cloud Storage bucket: its parameters, each honoured exactly or refused by name.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use url::Url;

use super::backend::CloudBackend;
use super::credentials::gcs::{GcsCredentials, GcsProvider, UNIVERSE, find};
use super::opened::opened;
use super::quirks::Quirks;
use crate::store::http::credential_cache::Renewal;
use crate::store::http::opening::{
    Env, OpenError, connector, denied, invalid, is_word, options, refuse, set, unbuilt,
};
use crate::store::http::reply::Provider;
use crate::store::http::retries;
use crate::store::{Failure, GsLocation};

/// Opens the backend for a bucket, without sending anything.
///
/// `access_id` chooses the name in signed URLs. This backend makes none, so any value is honoured.
pub(crate) fn open(location: &GsLocation, env: Env<'_>) -> Result<CloudBackend, Failure> {
    opened(&location.url, || {
        check(location)?;
        let found = find(location, env)?;
        let base = base(location, &found, env)?;
        let mut connector = connector(&base, Provider::Gcs);
        connector.renewal = found.tokens.clone().map(Renewal::Bearer);
        let builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&location.bucket)
            .with_base_url(base.as_str().trim_end_matches('/'))
            .with_retry(retries())
            .with_http_connector(connector)
            .with_client_options(options(&base));
        let builder = match found.tokens {
            Some(tokens) => builder.with_credentials(Arc::new(GcsProvider(tokens))),
            // An empty token: without any, object_store would look for credentials, and ask the
            // metadata address for some.
            None => builder.with_skip_signature(true).with_credentials(Arc::new(
                StaticCredentialProvider::new(GcpCredential {
                    bearer: String::new(),
                }),
            )),
        };
        let store = builder.build().map_err(unbuilt)?;
        let (prefix, url) = (&location.prefix, &location.url);
        Ok(CloudBackend::new(store, Quirks::Gcs, prefix, url))
    })
}

/// Returns the bucket's service, however the location is written.
pub(crate) fn service_name(location: &GsLocation, env: Env<'_>) -> String {
    let base = base(location, &GcsCredentials::default(), env);
    base.map_or_else(
        |(_, why)| why,
        |url| crate::store::http::opening::service_name(&url),
    )
}

/// Refuses parameters that Google would refuse later.
fn check(location: &GsLocation) -> Result<(), OpenError> {
    let name = &*location.bucket;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    // 222 characters in names with dots, and at most 63 between two dots.
    if !(3..=222).contains(&name.len())
        || !name
            .bytes()
            .all(|byte| fits(byte) || b"-_.".contains(&byte))
        || !ends.into_iter().flatten().all(fits)
        || !name.split('.').all(|part| (1..=63).contains(&part.len()))
    {
        return refuse(
            "invalid bucket name: Google requires 3 to 63 lower-case letters, digits, -, _ and \
             single dots, with a letter or digit at both ends",
        );
    }
    if name.starts_with("goog") || name.parse::<std::net::Ipv4Addr>().is_ok() {
        return refuse(
            "invalid bucket name: Google allows no address, and no name that begins with goog",
        );
    }
    match &location.universe_domain {
        Some(domain) if !is_word(domain, "-.") => {
            refuse("universe_domain must be a domain, such as googleapis.com")
        }
        _ => Ok(()),
    }
}

/// Decides the URL of the service.
fn base(location: &GsLocation, found: &GcsCredentials, env: Env<'_>) -> Result<Url, OpenError> {
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
        return url.ok_or_else(|| {
            invalid("STORAGE_EMULATOR_HOST must be host:port, or http://host:port without a path")
        });
    }
    let named = location
        .universe_domain
        .clone()
        .or_else(|| set(env, "GOOGLE_CLOUD_UNIVERSE_DOMAIN"));
    let universe = named.unwrap_or_else(|| UNIVERSE.into());
    if let Some(own) = found.universe.as_ref().filter(|own| **own != universe) {
        return Err(denied(format!(
            "the credentials belong to the universe {own:?}, but the bucket is in {universe:?}: \
             set universe_domain to match"
        )));
    }
    if !is_word(&universe, "-.") {
        return refuse("GOOGLE_CLOUD_UNIVERSE_DOMAIN must be a domain, such as googleapis.com");
    }
    Url::parse(&format!("https://storage.{universe}"))
        .map_err(|_| invalid("universe_domain is not a domain"))
}
