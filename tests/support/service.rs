//! A stub of a service that gives out tokens: OAuth 2.0 of Google and Entra, and the metadata
//! addresses of machines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::serve::{Answering, Reply, Request};

/// The service's reaction to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Gives out a new token that is valid for so many seconds.
    Give(u64),
    /// Answers with this status and body.
    Say(u16, &'static str),
    /// Gives out this token, for an hour.
    Token(String),
    /// Doesn't answer.
    Hang,
}

/// A received request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method and path.
    pub what: String,
    /// The fields of the form, or else of the URL.
    pub fields: BTreeMap<String, String>,
    /// The headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
}

#[derive(Debug)]
struct State {
    how: How,
    asked: Vec<Asked>,
    /// The tokens that were given out and not revoked.
    good: BTreeSet<String>,
    count: u32,
}

/// The running stub. Dropping it closes its port.
#[derive(Debug)]
pub struct Service {
    state: Arc<Mutex<State>>,
    server: Answering,
}

impl Service {
    /// Starts the stub on a free port; it gives out tokens for an hour.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            how: How::Give(3600),
            asked: Vec::new(),
            good: BTreeSet::new(),
            count: 0,
        }));
        let shared = Arc::clone(&state);
        let server = Answering::start(move |request| answer(&shared, request));
        Self { state, server }
    }

    /// Returns the URL of a path on the service.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.addr())
    }

    /// Changes the reaction.
    pub fn set(&self, how: How) {
        lock(&self.state).how = how;
    }

    /// Returns the received requests, and forgets them.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.state).asked)
    }

    /// Revokes every token that was given out.
    pub fn revoke(&self) {
        lock(&self.state).good.clear();
    }

    /// Returns a check whether a header has a valid token of this service.
    pub fn opens(&self) -> super::gcs::Opens {
        let state = Arc::clone(&self.state);
        Arc::new(move |authorization| {
            let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
            lock(&state).good.contains(token)
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A hung thread continues, and finds the connection closed.
        self.set(How::Say(503, ""));
    }
}

fn answer(state: &Mutex<State>, request: &Request) -> Reply {
    let form = String::from_utf8_lossy(&request.body).into_owned();
    let form = url::form_urlencoded::parse(form.as_bytes()).into_owned();
    let fields: BTreeMap<String, String> = form.collect();
    lock(state).asked.push(Asked {
        what: format!("{} /{}", request.method, request.path),
        fields: match fields.is_empty() {
            true => request.query.clone(),
            false => fields,
        },
        headers: request.headers.clone(),
    });
    loop {
        let mut state = lock(state);
        match state.how.clone() {
            How::Token(token) => {
                let body = format!("{{\"access_token\": \"{token}\", \"expires_in\": 3600}}");
                return (200, Vec::new(), body.into());
            }
            How::Give(lasts) => {
                state.count += 1;
                let token = format!("s3cret-token-{}", state.count);
                state.good.insert(token.clone());
                let body = format!(
                    "{{\"access_token\": \"{token}\", \"expires_in\": {lasts}, \
                     \"token_type\": \"Bearer\"}}"
                );
                return (200, Vec::new(), body.into());
            }
            How::Say(status, body) => return (status, Vec::new(), body.into()),
            How::Hang => {}
        }
        drop(state);
        thread::sleep(Duration::from_millis(5));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
