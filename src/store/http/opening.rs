//! Opening a store, the part that all providers share: refusals, variables, and the client's
//! options.

use object_store::{ClientOptions, Error as StoreError};
use url::{Host, Url};

use super::connection::innermost;
use super::middleware::{CLIENT_ERROR, Connector, PROXY_ERROR};
use super::reply::Provider;
use crate::store::Kind;

/// Looks up environment variables.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;
/// The reason why a location is refused.
pub(crate) type OpenError = (Kind, String);

/// Refuses a location that can never work as it is written.
pub(crate) fn invalid(why: impl ToString) -> OpenError {
    (Kind::Invalid, why.to_string())
}

/// Refuses a store without usable credentials; the other targets still serve.
pub(crate) fn denied(why: impl ToString) -> OpenError {
    (Kind::Denied, why.to_string())
}

/// Refuses a location that can never work as it is written.
pub(crate) fn refuse<T>(why: &str) -> Result<T, OpenError> {
    Err(invalid(why))
}

/// Tells whether the error is about the HTTP client itself.
pub(crate) fn is_of_client(error: &StoreError) -> bool {
    matches!(error, StoreError::Generic { store, .. } if [CLIENT_ERROR, PROXY_ERROR].contains(store))
}

/// Converts the error of a failed builder.
pub(crate) fn unbuilt(error: StoreError) -> OpenError {
    let why = innermost(&error);
    match error {
        StoreError::Generic {
            store: CLIENT_ERROR,
            ..
        } => invalid(format!(
            "https is not available ({why}): install ca-certificates, or name a file of \
             certificates with SSL_CERT_FILE"
        )),
        StoreError::Generic {
            store: PROXY_ERROR,
            source,
        } => invalid(source),
        _ => invalid(why),
    }
}

/// Returns a variable, if it is set and not empty.
pub(crate) fn set(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// Returns a variable with a key or a token; it must fit into a header.
pub(crate) fn secret(env: Env<'_>, name: &str) -> Result<Option<String>, OpenError> {
    match set(env, name) {
        Some(value) if !fit(&value) => Err(invalid(format!(
            "{name} holds a blank, a line break or another character that is invalid in a key: remove it"
        ))),
        value => Ok(value),
    }
}

/// Tells whether a key or a token fits into a header.
pub(crate) fn fit(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Tells whether a word has only ASCII letters, digits and the characters in `more`.
pub(crate) fn is_word(text: &str, more: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte))
}

/// Tells whether a URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Returns the connector for a provider's store at a URL.
pub(crate) fn connector(url: &Url, provider: Provider) -> Connector {
    Connector {
        authority: url.authority().to_owned(),
        renewal: None,
        provider: Some(provider),
    }
}

/// Returns the client options for a store at a URL.
pub(crate) fn options(url: &Url) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(url.scheme() == "http")
        // The caller's deadline ends a request, not a default of the library.
        .with_timeout_disabled()
}

/// Returns the service at a URL: its host, without the default port of its scheme. This machine has
/// one name.
pub(crate) fn service_name(url: &Url) -> String {
    let host = match url.host() {
        Some(Host::Ipv4(address)) if address.is_loopback() => "localhost".into(),
        Some(Host::Ipv6(address)) if address.is_loopback() => "localhost".into(),
        Some(Host::Domain(name)) => name.trim_end_matches('.').to_ascii_lowercase(),
        Some(address) => address.to_string(),
        None => String::new(),
    };
    let port = url.port().filter(|port| !matches!(port, 80 | 443));
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    format!("{host}{port}{}", url.path().trim_end_matches('/'))
}

/// Makes an environment for a test.
#[cfg(test)]
pub(crate) fn env_of(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let pairs: std::collections::HashMap<String, String> = pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    move |name: &str| pairs.get(name).cloned()
}
