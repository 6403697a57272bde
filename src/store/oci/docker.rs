//! What `docker login` has kept of a host, in Docker's `config.json` or with a helper.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::helper::Helper;
use crate::store::http::opening::{Env, set};

/// What Docker calls its own hub.
const HUB: &str = "https://index.docker.io/v1/";
/// The hosts that are Docker's hub.
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What one has to show. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nothing: one is anonymous.
    None,
    /// `user:password` in base64.
    Basic(String),
    /// What tokens are had for: docker's `identitytoken`.
    Identity(String),
}

/// What Docker keeps of a host.
pub(super) enum Kept {
    /// It is in the file.
    Here(Credentials),
    /// A helper has it, if it is there to be asked; what the file has is for when the helper has
    /// nothing.
    Helper(Result<Helper, String>, Credentials),
}

/// Docker's file.
#[derive(Debug, Clone)]
pub(super) struct DockerFile {
    path: PathBuf,
    /// The `PATH` that helpers are looked for in.
    helpers: Option<String>,
}

impl DockerFile {
    /// Finds where it is; it need not be there.
    pub(super) fn find(env: Env<'_>) -> Option<Self> {
        let folder = set(env, "DOCKER_CONFIG").map(PathBuf::from);
        let home = || set(env, "HOME").map(|home| PathBuf::from(home).join(".docker"));
        Some(Self {
            path: folder.or_else(home)?.join("config.json"),
            helpers: set(env, "PATH"),
        })
    }

    /// Reads what it keeps of a host. The error says what is wrong with it and what to do.
    pub(super) fn read(&self, host: &str) -> Result<Kept, String> {
        let shown = self.path.display();
        if !self.path.exists() {
            return Ok(Kept::Here(Credentials::None));
        }
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| format!("docker's {shown} can't be read: {error}"))?;
        let json: Value = serde_json::from_str(&text)
            .map_err(|_| format!("docker's {shown} is not json: correct or remove it"))?;
        let here = in_file(&json, host).ok_or_else(|| {
            format!("docker's {shown} has no user:password for {host}: run docker login {host}")
        });
        // As docker looks for it: the host's own helper, then the one for all.
        let own = || of_host(json.get("credHelpers")?, host);
        let name = own().or_else(|| json.get("credsStore"));
        match name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            None => here.map(Kept::Here),
            Some(name) => {
                let asked = if is_hub(host) { HUB } else { host };
                let helper = Helper::find(name, asked, self.helpers.as_deref());
                let helper = helper.map_err(|why| format!("docker's {shown} {why}"));
                Ok(Kept::Helper(helper, here.unwrap_or(Credentials::None)))
            }
        }
    }
}

/// Tells whether a host is Docker's hub, which has more than one name.
pub(super) fn is_hub(host: &str) -> bool {
    HUB_HOSTS.contains(&host)
}

/// Reads what stands in the file itself; `None` if it can't be read.
fn in_file(json: &Value, host: &str) -> Option<Credentials> {
    let Some(entry) = json.get("auths").and_then(|auths| of_host(auths, host)) else {
        return Some(Credentials::None);
    };
    let text = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    if let Some(token) = text("identitytoken") {
        return Some(Credentials::Identity(token.into()));
    }
    match (text("auth"), text("username"), text("password")) {
        (Some(auth), _, _) => {
            let pair = STANDARD.decode(auth).ok()?;
            pair.contains(&b':')
                .then(|| Credentials::Basic(auth.into()))
        }
        (None, Some(user), Some(password)) => Some(Credentials::Basic(
            STANDARD.encode(format!("{user}:{password}")),
        )),
        // What docker leaves there of a host whose credentials a helper has.
        _ => Some(Credentials::None),
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

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
