//! The credentials that `docker login` has saved: in Docker's `config.json`, or in a helper, a
//! program named `docker-credential-<name>`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::store::http::opening::{Env, set};

/// Docker's name for its own hub.
const HUB_ENTRY: &str = "https://index.docker.io/v1/";
/// The hosts of Docker Hub.
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Credentials for a registry. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum DockerCredentials {
    /// No credentials: access is anonymous.
    None,
    /// `user:password` in base64.
    Basic(String),
    /// A token that is exchanged for other tokens: Docker's `identitytoken`.
    Identity(String),
}

/// Docker's entry for a host.
pub(super) enum DockerEntry {
    /// The file has the credentials.
    Here(DockerCredentials),
    /// A helper has the credentials, or the reason why there is no such helper. The second field is
    /// the file's own entry, used if the helper has none.
    Helper(Result<Helper, String>, DockerCredentials),
}

/// Docker's `config.json`.
#[derive(Debug, Clone)]
pub(super) struct DockerFile {
    path: PathBuf,
    /// The `PATH` that is searched for helpers.
    helpers: Option<String>,
}

impl DockerFile {
    /// Finds the path of the file, which need not exist.
    pub(super) fn find(env: Env<'_>) -> Option<Self> {
        let folder = set(env, "DOCKER_CONFIG").map(PathBuf::from);
        let home = || set(env, "HOME").map(|home| PathBuf::from(home).join(".docker"));
        Some(Self {
            path: folder.or_else(home)?.join("config.json"),
            helpers: set(env, "PATH"),
        })
    }

    /// Reads the entry for a host. The error says what is wrong with the file and what to do.
    pub(super) fn read(&self, host: &str) -> Result<DockerEntry, String> {
        let shown = self.path.display();
        if !self.path.exists() {
            return Ok(DockerEntry::Here(DockerCredentials::None));
        }
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| format!("docker's {shown} can't be read: {error}"))?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|_| format!("docker's {shown} is not json: correct or remove it"))?;
        let here = in_file(&json, host).ok_or_else(|| {
            format!("docker's {shown} has no user:password for {host}: run docker login {host}")
        });
        // In Docker's order: first the host's own helper, then the helper for all hosts.
        let own = || of_host(json.get("credHelpers")?, host);
        let name = own().or_else(|| json.get("credsStore"));
        match name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            None => here.map(DockerEntry::Here),
            Some(name) => {
                let asked = if is_hub(host) { HUB_ENTRY } else { host };
                let helper = Helper::find(name, asked, self.helpers.as_deref());
                let helper = helper.map_err(|why| format!("docker's {shown} {why}"));
                Ok(DockerEntry::Helper(
                    helper,
                    here.unwrap_or(DockerCredentials::None),
                ))
            }
        }
    }
}

/// Tells whether a host is Docker Hub, which has more than one name.
pub(super) fn is_hub(host: &str) -> bool {
    HUB_HOSTS.contains(&host)
}

/// Reads the credentials in the file itself; `None` if they are unreadable.
fn in_file(json: &Value, host: &str) -> Option<DockerCredentials> {
    let Some(entry) = json.get("auths").and_then(|auths| of_host(auths, host)) else {
        return Some(DockerCredentials::None);
    };
    let text = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    if let Some(token) = text("identitytoken") {
        return Some(DockerCredentials::Identity(token.into()));
    }
    match (text("auth"), text("username"), text("password")) {
        (Some(auth), _, _) => {
            let pair = STANDARD.decode(auth).ok()?;
            pair.contains(&b':')
                .then(|| DockerCredentials::Basic(auth.into()))
        }
        (None, Some(user), Some(password)) => Some(DockerCredentials::Basic(
            STANDARD.encode(format!("{user}:{password}")),
        )),
        // Docker leaves an empty entry for a host if a helper has its credentials.
        _ => Some(DockerCredentials::None),
    }
}

/// Finds a host's entry: under its name, or under the URL that older clients wrote.
fn of_host<'v>(entries: &'v Value, host: &str) -> Option<&'v Value> {
    let entries = entries.as_object()?;
    let is_its = |name: &str| {
        let bare = name
            .strip_prefix("https://")
            .or_else(|| name.strip_prefix("http://"))
            .unwrap_or(name);
        let (its, path) = bare.split_once('/').unwrap_or((bare, ""));
        let is_whole = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
        is_whole && (its == host || (is_hub(its) && is_hub(host)))
    };
    let exact = entries.get(host);
    exact.or_else(|| Some(entries.iter().find(|(name, _)| is_its(name))?.1))
}

/// A helper that makes a token needs a few seconds at most to ask its cloud. A slower helper waits
/// for a password to be typed.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that a helper's reply stays valid: one call serves a burst of requests, and a failed
/// helper is asked again soon.
const HELPER_REPLY_LIFETIME: Duration = Duration::from_secs(10);
/// The longest reply of a helper; a longer one is invalid.
const MAX_HELPER_REPLY_BYTES: u64 = 64 << 10;
/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";
/// Every helper's reply if it has no credentials for a host.
const NOT_FOUND: &str = "credentials not found in native keychain";

type HelperReply = Result<Arc<DockerCredentials>, Arc<str>>;
type HelperCall = Shared<BoxFuture<'static, HelperReply>>;

/// A helper, and the host in its request.
pub(super) struct Helper {
    name: String,
    program: PathBuf,
    host: String,
    last: Mutex<Option<(HelperCall, Instant)>>,
}

impl Helper {
    /// Finds a helper in the folders of a `PATH`. The error says what to do.
    pub(super) fn find(name: &str, host: &str, path: Option<&str>) -> Result<Self, String> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_word) {
            return Err("names an invalid helper: correct it".into());
        }
        let name = format!("docker-credential-{name}");
        let found = path.into_iter().flat_map(std::env::split_paths);
        let mut found = found.map(|folder| folder.join(&name));
        match found.find(|program| program.is_absolute() && program.is_file()) {
            Some(program) => Ok(Self {
                name,
                program,
                host: host.into(),
                last: Mutex::default(),
            }),
            None => Err(format!(
                "keeps the login for {host} with {name}, which is not in PATH: install it, or put \
                 user:token@ into the url with a variable"
            )),
        }
    }

    /// Returns the name of the program.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks the helper. An abandoned operation does not end the call; the next operation waits for
    /// the same reply.
    pub(super) async fn ask(&self) -> HelperReply {
        let asked = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match &*last {
                Some((asked, until)) if asked.peek().is_none() || Instant::now() < *until => {
                    asked.clone()
                }
                _ => {
                    let (name, program) = (self.name.clone(), self.program.clone());
                    let host = self.host.clone();
                    let run = tokio::spawn(async move { run(&name, &program, &host).await });
                    let asked = run.map(|ended| match ended {
                        Ok(Ok(credentials)) => Ok(Arc::new(credentials)),
                        Ok(Err(why)) => Err(why.into()),
                        Err(_) => Err("the helper was interrupted".into()),
                    });
                    let asked = asked.boxed().shared();
                    *last = Some((asked.clone(), Instant::now() + HELPER_REPLY_LIFETIME));
                    asked
                }
            }
        };
        asked.await
    }
}

async fn run(name: &str, program: &Path, host: &str) -> Result<DockerCredentials, String> {
    let by_hand = format!("ask it by hand: echo {host} | {name} get");
    match timeout(HELPER_TIMEOUT, converse(program, host)).await {
        Err(_) => Err(format!(
            "{name} has not answered within {} s: {by_hand}",
            HELPER_TIMEOUT.as_secs()
        )),
        Ok(Err(error)) => Err(format!("{name} can't be run: {error}")),
        Ok(Ok((_, answer))) if answer.trim_ascii() == NOT_FOUND.as_bytes() => {
            Ok(DockerCredentials::None)
        }
        Ok(Ok((false, _))) => Err(format!("{name} has failed: {by_hand}")),
        Ok(Ok((true, answer))) => {
            read(&answer).ok_or_else(|| format!("{name} returned no user and secret: {by_hand}"))
        }
    }
}

/// Runs the helper. Returns whether it succeeded, and its output.
async fn converse(program: &Path, host: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that reads no input may have ended already.
        let _ = stdin.write_all(host.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(MAX_HELPER_REPLY_BYTES)
            .read_to_end(&mut answer)
            .await?;
    }
    Ok((child.wait().await?.success(), answer))
}

/// Reads `{"Username": …, "Secret": …}`.
fn read(answer: &[u8]) -> Option<DockerCredentials> {
    let json: Value = serde_json::from_slice(answer).ok()?;
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let (user, secret) = (text("Username")?, text("Secret")?);
    Some(match user {
        _ if secret.is_empty() => DockerCredentials::None,
        TOKEN_USER => DockerCredentials::Identity(secret.into()),
        _ => DockerCredentials::Basic(STANDARD.encode(format!("{user}:{secret}"))),
    })
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
