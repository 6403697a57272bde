//! Who one is to an OCI registry: credentials, and the tokens that are had for them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use url::Url;

use super::opening::{Env, Refusal, denied, is_loopback, set};
use crate::target::OciLocation;

/// How long a token is good that doesn't say how long: by the specification, 60 s.
const LIFE: Duration = Duration::from_secs(60);
/// A token this near its end may be over when it arrives.
const SPARE: Duration = Duration::from_secs(10);

/// What opens a registry. Never shown.
pub(super) struct Auth {
    /// `user:password` in base64; `None` for anonymous.
    basic: Option<String>,
    /// The header that worked last, and until when.
    header: Mutex<Option<(Arc<str>, Instant)>>,
}

/// What a registry demands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from here.
    Bearer(Url),
}

impl Auth {
    /// Finds the credentials: the URL's, Docker's file's, or none.
    pub(super) fn find(location: &OciLocation, env: Env<'_>) -> Result<Self, Refusal> {
        let basic = match &location.credentials {
            Some((user, password)) => Some(STANDARD.encode(format!("{user}:{password}"))),
            None => from_docker(&location.host, env)?,
        };
        Ok(Self {
            basic,
            header: Mutex::default(),
        })
    }

    /// Returns the header to begin with: the one that worked, while it lasts.
    pub(super) fn header(&self) -> Option<Arc<str>> {
        let kept = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.as_ref().filter(|(_, until)| Instant::now() < *until);
        fresh.map(|(header, _)| Arc::clone(header))
    }

    fn keep(&self, header: String, life: Duration) -> Arc<str> {
        let header: Arc<str> = header.into();
        let until = Instant::now() + life.saturating_sub(SPARE);
        let mut kept = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((Arc::clone(&header), until));
        header
    }

    /// Returns the header of user and password.
    pub(super) fn basic(&self) -> Option<String> {
        self.basic.as_ref().map(|basic| format!("Basic {basic}"))
    }

    /// Answers a demand for user and password.
    pub(super) fn answer_basic(&self) -> Option<Arc<str>> {
        // Until it is refused.
        const LONG: Duration = Duration::from_secs(24 * 60 * 60);
        self.basic().map(|header| self.keep(header, LONG))
    }

    /// Takes the token out of a token service's answer.
    pub(super) fn answer_bearer(&self, document: &[u8]) -> Option<Arc<str>> {
        let json: Value = serde_json::from_slice(document).ok()?;
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let token = text("token").or_else(|| text("access_token"))?;
        let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let life = json.get("expires_in").and_then(Value::as_u64);
        let life = life.map_or(LIFE, Duration::from_secs);
        fits.then(|| self.keep(format!("Bearer {token}"), life))
    }
}

impl Challenge {
    /// Reads the demand of a 401: `Bearer realm="https://…",service="…",scope="…"`.
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
        // User and password go there.
        if realm.scheme() != "https" && !(is_loopback(&realm) && is_loopback(store)) {
            return None;
        }
        if !pairs.is_empty() {
            realm.query_pairs_mut().extend_pairs(pairs);
        }
        Some(Self::Bearer(realm))
    }
}

/// Takes `name="value",name=value` apart.
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

/// Reads what `docker login` has kept of a host.
fn from_docker(host: &str, env: Env<'_>) -> Result<Option<String>, Refusal> {
    let folder = set(env, "DOCKER_CONFIG");
    let home = set(env, "HOME").map(|home| home + "/.docker");
    let Some(folder) = folder.or(home) else {
        return Ok(None);
    };
    let path = Path::new(&folder).join("config.json");
    if !path.exists() {
        return Ok(None);
    }
    let shown = path.display();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| denied(format!("docker's {shown} can't be read: {error}")))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|_| denied(format!("docker's {shown} is not json")))?;
    let entry = json.get("auths").and_then(|auths| {
        let names = [
            host.to_owned(),
            format!("https://{host}"),
            format!("https://{host}/v2/"),
        ];
        names.iter().find_map(|name| auths.get(name))
    });
    if let Some(basic) = entry.and_then(|e| e.get("auth")).and_then(Value::as_str) {
        let pair = STANDARD.decode(basic).ok();
        return match pair.is_some_and(|pair| pair.contains(&b':')) {
            true => Ok(Some(basic.into())),
            false => Err(denied(format!(
                "docker's {shown} has no user:password for {host}"
            ))),
        };
    }
    let helped = json
        .get("credHelpers")
        .and_then(|helpers| helpers.get(host));
    if helped.is_some() || (entry.is_some() && json.get("credsStore").is_some()) {
        return Err(denied(format!(
            "docker's {shown} keeps the credentials for {host} in a helper, and helpers are not \
             asked: put user:token@ into the url by a variable"
        )));
    }
    Ok(None)
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

    #[test]
    fn dockers_file_is_read_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let env = |name: &str| (name == "DOCKER_CONFIG").then(|| path.clone());
        let location = OciLocation {
            host: "ghcr.io".into(),
            ..OciLocation::default()
        };
        let find = |text: &str| {
            std::fs::write(folder.path().join("config.json"), text).unwrap();
            Auth::find(&location, &env)
                .map(|auth| auth.basic())
                .map_err(|(_, why)| why)
        };
        let known = r#"{"auths": {"ghcr.io": {"auth": "bWU6czNjcmV0"}}}"#;
        assert_eq!(find(known), Ok(Some("Basic bWU6czNjcmV0".into())));
        assert_eq!(
            find(r#"{"auths": {"docker.io": {"auth": "bWU6czNjcmV0"}}}"#),
            Ok(None)
        );
        for (text, expected) in [
            ("s3cret", "is not json"),
            (
                r#"{"auths": {"ghcr.io": {"auth": "s3cret"}}}"#,
                "no user:password",
            ),
            (r#"{"credHelpers": {"ghcr.io": "s3cret"}}"#, "in a helper"),
            (
                r#"{"auths": {"ghcr.io": {}}, "credsStore": "s3cret"}"#,
                "in a helper",
            ),
        ] {
            let why = find(text).unwrap_err();
            assert!(why.contains(expected) && !why.contains("s3cret"), "{why}");
        }
    }
}
