//! Authentication at an OCI registry: credentials, and the tokens that they are exchanged for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::Url;

use super::docker::{DockerCredentials, DockerEntry, DockerFile, Helper};
use crate::store::backend::waits_for;
use crate::store::http::opening::{Env, OpenError, denied, is_loopback};
use crate::store::{Kind, OciLocation};

/// The lifetime of a token that doesn't state its own. 60 s, by the specification.
const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// A token that expires sooner than this may have expired on arrival.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// The authentication at one registry. Never shown.
pub(super) struct Auth {
    host: String,
    given: LoginSource,
    /// The helper that was asked last.
    helper: Mutex<Option<Arc<Helper>>>,
    /// The origin of the credentials that were used last.
    origin: Mutex<Origin>,
    /// The headers that worked last, with their expiry. Pushing and deleting may need different
    /// tokens.
    headers: Mutex<HashMap<TokenScope, (Arc<str>, Instant)>>,
    /// Held during a login; the other requests use its result.
    pub(super) login_lock: tokio::sync::Mutex<()>,
}

/// The permission that a header gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TokenScope {
    /// To delete.
    Delete,
    /// To pull and to push.
    Rest,
}

impl TokenScope {
    /// Returns the permission that a request needs.
    pub(super) fn to(method: &str) -> Self {
        match method {
            "DELETE" => Self::Delete,
            _ => Self::Rest,
        }
    }
}

/// The source of credentials.
enum LoginSource {
    /// The URL.
    Url(DockerCredentials),
    /// Docker's file.
    Docker(DockerFile),
    /// No source.
    Nothing,
}

/// The origin of credentials.
enum Origin {
    Nowhere,
    Url,
    File,
    Helper(String),
}

/// A registry's authentication challenge.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from this URL.
    Bearer(Url),
}

impl Auth {
    /// Finds the source of credentials: the URL, Docker's file, or none.
    pub(super) fn find(location: &OciLocation, env: Env<'_>) -> Result<Self, OpenError> {
        let (given, origin) = match (&location.credentials, DockerFile::find(env)) {
            (Some((user, password)), _) => {
                let pair = STANDARD.encode(format!("{user}:{password}"));
                (
                    LoginSource::Url(DockerCredentials::Basic(pair)),
                    Origin::Url,
                )
            }
            (None, Some(file)) => {
                // Report an error in the file now, not at the first request.
                let origin = match file.read(&location.host).map_err(denied)? {
                    DockerEntry::Here(DockerCredentials::None) => Origin::Nowhere,
                    DockerEntry::Here(_) | DockerEntry::Helper(..) => Origin::File,
                };
                (LoginSource::Docker(file), origin)
            }
            (None, None) => (LoginSource::Nothing, Origin::Nowhere),
        };
        Ok(Self {
            host: location.host.clone(),
            given,
            helper: Mutex::default(),
            origin: Mutex::new(origin),
            headers: Mutex::default(),
            login_lock: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the current credentials: `docker login` may have changed them.
    pub(super) async fn credentials(&self) -> Result<DockerCredentials, OpenError> {
        let (credentials, origin) = match &self.given {
            LoginSource::Nothing => (DockerCredentials::None, Origin::Nowhere),
            LoginSource::Url(credentials) => (credentials.clone(), Origin::Url),
            LoginSource::Docker(file) => self.docker_has(file.clone()).await?,
        };
        let origin = match credentials {
            DockerCredentials::None => Origin::Nowhere,
            DockerCredentials::Basic(_) | DockerCredentials::Identity(_) => origin,
        };
        *lock(&self.origin) = origin;
        Ok(credentials)
    }

    async fn docker_has(&self, file: DockerFile) -> Result<(DockerCredentials, Origin), OpenError> {
        let host = self.host.clone();
        // The home directory may be on a disk that hangs.
        let read = tokio::task::spawn_blocking(move || file.read(&host)).await;
        let kept = read.unwrap_or_else(|_| Err("reading docker's file was interrupted".into()));
        match kept.map_err(|why| (Kind::Unreachable, why))? {
            DockerEntry::Here(credentials) => Ok((credentials, Origin::File)),
            DockerEntry::Helper(helper, here) => {
                let helper = helper.map_err(denied)?;
                let helper = self.reuse_or(helper);
                let name = helper.name();
                waits_for(Some(format!("{name} has not answered")));
                let answer = helper.ask().await;
                waits_for(None);
                match answer {
                    // The store itself has not answered.
                    Err(why) => Err((Kind::Unreachable, why.to_string())),
                    Ok(had) if *had == DockerCredentials::None => Ok((here, Origin::File)),
                    Ok(had) => Ok(((*had).clone(), Origin::Helper(name.into()))),
                }
            }
        }
    }

    /// Returns the helper that was asked last if it is the same one: its answer may still be on the
    /// way.
    fn reuse_or(&self, helper: Helper) -> Arc<Helper> {
        let mut last = lock(&self.helper);
        match &*last {
            Some(known) if known.name() == helper.name() => Arc::clone(known),
            _ => Arc::clone(last.insert(Arc::new(helper))),
        }
    }

    /// Says what to do if the registry refuses the credentials.
    pub(super) fn hint(&self) -> String {
        let host = &self.host;
        match &*lock(&self.origin) {
            Origin::Nowhere => format!(
                "{host} requires credentials: run docker login {host}, or put user:token@ into the \
                 url with a variable"
            ),
            Origin::Url => "the user or token in its url is wrong or expired".into(),
            Origin::File => format!(
                "docker's login for {host} is wrong or expired: run docker login {host} again"
            ),
            Origin::Helper(name) => {
                format!(
                    "the login that {name} returns for {host} is wrong or expired: run docker login {host}"
                )
            }
        }
    }

    /// Returns the header for the first attempt: the one that worked last, until it expires.
    pub(super) fn header(&self, right: TokenScope) -> Option<Arc<str>> {
        let kept = lock(&self.headers);
        let fresh = kept
            .get(&right)
            .filter(|(_, until)| Instant::now() < *until);
        fresh.map(|(header, _)| Arc::clone(header))
    }

    fn keep(&self, right: TokenScope, header: String, life: Duration) -> Arc<str> {
        let header: Arc<str> = header.into();
        let until = Instant::now() + life.saturating_sub(EXPIRY_MARGIN);
        lock(&self.headers).insert(right, (Arc::clone(&header), until));
        header
    }

    /// Answers a challenge for user and password; `None` if there are none.
    pub(super) fn answer_basic(
        &self,
        right: TokenScope,
        credentials: &DockerCredentials,
    ) -> Option<Arc<str>> {
        // The header is used until the registry refuses it.
        const BASIC_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
        match credentials {
            DockerCredentials::Basic(pair) => {
                Some(self.keep(right, format!("Basic {pair}"), BASIC_LIFETIME))
            }
            DockerCredentials::None | DockerCredentials::Identity(_) => None,
        }
    }

    /// Takes the token out of a token service's answer.
    pub(super) fn answer_bearer(&self, right: TokenScope, document: &[u8]) -> Option<Arc<str>> {
        let json: Value = serde_json::from_slice(document).ok()?;
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let token = text("token").or_else(|| text("access_token"))?;
        let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let life = json.get("expires_in").and_then(Value::as_u64);
        let life = life.map_or(DEFAULT_TOKEN_LIFETIME, Duration::from_secs);
        fits.then(|| self.keep(right, format!("Bearer {token}"), life))
    }
}

impl Challenge {
    /// Reads the challenge of a 401: `Bearer realm="https://…",service="…",scope="…"`.
    pub(super) fn read(header: &str, store: &Url) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut realm = None;
        let mut pairs = Vec::new();
        for (name, value) in parameters(rest) {
            match &*name {
                "realm" => realm = Url::parse(&value).ok(),
                "service" | "scope" => pairs.push((name, value)),
                _ => {}
            }
        }
        let mut realm = realm?;
        // User and password are sent there.
        if realm.scheme() != "https" && !(is_loopback(&realm) && is_loopback(store)) {
            return None;
        }
        if !pairs.is_empty() {
            realm.query_pairs_mut().extend_pairs(pairs);
        }
        Some(Self::Bearer(realm))
    }
}

/// Splits `name="value",name=value` into pairs.
fn parameters(mut rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.to_owned()));
        rest = next;
    }
    found
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_challenge_is_read_and_passwords_go_nowhere_without_tls() {
        let store = url("https://ghcr.io/");
        let header = "Bearer realm=\"https://ghcr.io/token\",service=\"ghcr.io\",scope=\"repository:a/b:pull,push\"";
        let asked = "https://ghcr.io/token?service=ghcr.io&scope=repository%3Aa%2Fb%3Apull%2Cpush";
        let challenge = Challenge::read(header, &store);
        assert_eq!(challenge, Some(Challenge::Bearer(url(asked))));
        assert_eq!(
            Challenge::read("Basic realm=\"x\"", &store),
            Some(Challenge::Basic)
        );
        for foreign in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer realm=\"http://ghcr.io/token\"",
            "Bearer realm=\"http://127.0.0.1/\"",
        ] {
            assert_eq!(Challenge::read(foreign, &store), None, "{foreign}");
        }
        let local = Challenge::read(
            "bearer realm=http://127.0.0.1:1/t",
            &url("http://127.0.0.1:2/"),
        );
        assert_eq!(local, Some(Challenge::Bearer(url("http://127.0.0.1:1/t"))));
    }
}
