//! Opening an Azure Blob container: its parameters, each honoured exactly or refused by name.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error as StoreError, ListResult};
use url::Url;

use super::backend::CloudBackend;
use super::credentials::azure::{AzureAccount, find};
use super::opened::opened;
use super::quirks::{Quirks, RemoveObject};
use crate::store::http::credential_cache::CredentialError;
use crate::store::http::middleware::Connector;
use crate::store::http::opening::{
    Env, OpenError, connector, invalid, is_word, options, refuse, set, unbuilt,
};
use crate::store::http::reply::Provider;
use crate::store::http::{retries, retry_once};
use crate::store::{AzureLocation, Failure};

/// The domain of Azure's public cloud.
const DEFAULT_DOMAIN: &str = "blob.core.windows.net";
/// Azurite's default address.
const EMULATOR_HOST: &str = "127.0.0.1:10000";

/// Opens the backend for a container, without sending anything.
pub(crate) fn open(location: &AzureLocation, env: Env<'_>) -> Result<CloudBackend, Failure> {
    opened(&location.url, || {
        check(location)?;
        let found = find(location, env)?;
        let service = service(location, &found, env)?;
        let connector = Connector {
            renewal: found.credentials.renewal(),
            ..connector(&service, Provider::Azure)
        };
        let client = connector.connect(&options(&service)).map_err(unbuilt)?;
        let builder = MicrosoftAzureBuilder::new()
            .with_account(&found.account)
            .with_container_name(&location.container)
            .with_endpoint(service.as_str().trim_end_matches('/').to_owned())
            .with_retry(retries())
            .with_http_connector(connector)
            .with_client_options(options(&service));
        let store = found.credentials.give(builder).build().map_err(unbuilt)?;
        let mut container = service.clone();
        if let Ok(mut segments) = container.path_segments_mut() {
            segments.pop_if_empty().push(&location.container);
        }
        let own = Arc::new(AzureContainer {
            client,
            credentials: store.credentials().clone(),
            account: found.account,
            url: container,
        });
        let (prefix, url) = (&location.prefix, &location.url);
        let mut driver = CloudBackend::new(store, Quirks::Azure, prefix, url);
        driver.bucket.lister = Arc::clone(&own) as _;
        driver.remover = own;
        Ok(driver)
    })
}

/// Returns the account's service, however the location is written.
pub(crate) fn service_name(location: &AzureLocation, env: Env<'_>) -> String {
    let found = find(location, env).and_then(|found| service(location, &found, env));
    found.map_or_else(
        // Without credentials the account may be unknown; then the same name means the same
        // account.
        |_| {
            let account = location.storage_account.clone();
            let account = account.or_else(|| set(env, "AZURE_STORAGE_ACCOUNT"));
            let domain = location.domain.as_deref().unwrap_or(DEFAULT_DOMAIN);
            format!("{}.{domain}", account.unwrap_or_default())
        },
        |url| crate::store::http::opening::service_name(&url),
    )
}

/// Refuses parameters that Azure would refuse later, or that contradict each other.
fn check(location: &AzureLocation) -> Result<(), OpenError> {
    let name = &*location.container;
    if matches!(name, "$root" | "$logs") {
        return refuse("Azure reserves the containers $root and $logs; use another one");
    }
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (3..=63).contains(&name.len())
        && name.bytes().all(lower)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !fits && name != "$web" {
        return refuse(
            "invalid container name: Azure requires 3 to 63 lower-case letters, digits and single \
             hyphens",
        );
    }
    if location.local_emulator && location.cdn {
        return refuse("cdn excludes localemu: an emulator's urls hold the account, a cdn's don't");
    }
    Ok(())
}

/// Decides the URL of the account, as Go CDK does.
pub(super) fn service(
    location: &AzureLocation,
    found: &AzureAccount,
    env: Env<'_>,
) -> Result<Url, OpenError> {
    let flag = |name: &str, given: bool| match set(env, name).map(|v| v.to_lowercase()) {
        _ if given => Ok(true),
        None => Ok(false),
        Some(value) => match &*value {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            _ => Err(invalid(format!("{name} must be true or false"))),
        },
    };
    let cdn = flag("AZURE_STORAGE_IS_CDN", location.cdn)?;
    let emulator = found.emulator;
    let domain = location
        .domain
        .clone()
        .or_else(|| set(env, "AZURE_STORAGE_DOMAIN"));
    if let (None, Some(endpoint)) = (&domain, &found.endpoint) {
        return Ok(endpoint.clone());
    }
    if cdn && domain.is_none() {
        return refuse("cdn needs domain, the host name of the account");
    }
    let protocol = location
        .protocol
        .clone()
        .or_else(|| set(env, "AZURE_STORAGE_PROTOCOL"))
        .or_else(|| found.protocol.clone())
        .unwrap_or_else(|| if emulator { "http" } else { "https" }.into());
    if !matches!(&*protocol, "http" | "https") {
        return refuse("AZURE_STORAGE_PROTOCOL must be http or https");
    }
    let domain = match (domain, emulator, &found.suffix) {
        (Some(domain), _, _) => domain,
        (None, true, _) => EMULATOR_HOST.into(),
        (None, false, Some(suffix)) => format!("blob.{suffix}"),
        (None, false, None) => DEFAULT_DOMAIN.into(),
    };
    if !is_word(&domain, "-.:[]") {
        return refuse("domain must be a host name, optionally with a port: blob.core.windows.net");
    }
    let account = &found.account;
    let local = domain.starts_with("127.0.0.1") || domain.starts_with("localhost");
    let url = if local || emulator {
        format!("{protocol}://{domain}/{account}")
    } else if cdn {
        format!("{protocol}://{domain}")
    } else {
        format!("{protocol}://{account}.{domain}")
    };
    Url::parse(&url).map_err(|_| invalid("domain is not a host name"))
}

/// A container and its credentials.
pub(super) struct AzureContainer {
    pub(super) client: HttpClient,
    pub(super) credentials: AzureCredentialProvider,
    pub(super) account: String,
    /// The container's URL.
    pub(super) url: Url,
}

/// object_store has only Azure's batch request: its reply is a 202 whatever happens to the blob,
/// and many SAS tokens and gateways don't allow it.
#[async_trait]
impl RemoveObject for AzureContainer {
    async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.parts());
        }
        self.ask("DELETE", &url).await
    }
}

/// object_store doesn't request the metadata, so a listing would have no stamps.
#[async_trait]
impl PaginatedListStore for AzureContainer {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult, StoreError> {
        let mut url = self.url.clone();
        let most = options.max_keys.map(|most| most.to_string());
        url.query_pairs_mut()
            .extend_pairs([
                ("restype", "container"),
                ("comp", "list"),
                ("include", "metadata"),
            ])
            .extend_pairs(prefix.map(|prefix| ("prefix", prefix)))
            .extend_pairs(options.delimiter.map(|delimiter| ("delimiter", delimiter)))
            .extend_pairs(options.page_token.map(|token| ("marker", token)))
            .extend_pairs(most.map(|most| ("maxresults", most)));
        self.ask("GET", &url).await?;
        // The HTTP client has already read the page.
        Ok(PaginatedListResult {
            result: ListResult {
                common_prefixes: Vec::new(),
                objects: Vec::new(),
                extensions: Default::default(),
            },
            page_token: None,
        })
    }
}

impl AzureContainer {
    /// Sends a request, with one retry, as for all requests.
    async fn ask(&self, method: &str, url: &Url) -> Result<(), StoreError> {
        let is_transient = |sent: &Result<u16, StoreError>| match sent {
            Ok(status) => *status == 429 || *status >= 500,
            Err(error) => CredentialError::of(error).is_none(),
        };
        match retry_once(|| self.send(method, url), is_transient).await? {
            200..=299 => Ok(()),
            refused => Err(generic(format!("status {refused}"))),
        }
    }

    async fn send(&self, method: &str, url: &Url) -> Result<u16, StoreError> {
        let credential = self.credentials.get_credential().await?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method.parse().map_err(generic)?;
        *request.uri_mut() = url.as_str().parse().map_err(generic)?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        let response = self.client.execute(request).await.map_err(generic)?;
        Ok(response.status().as_u16())
    }
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Generic {
        store: "MicrosoftAzure",
        source: source.into(),
    }
}
