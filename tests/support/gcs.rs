//! A stub of Google Cloud Storage: the part of its XML interface that a driver needs, with
//! generations, metadata and bearer tokens. It follows Google's documentation, and not Google's
//! servers: no real server of GCS can run on a test's machine.
//!
//! It checks that a request has a token, and that the test account made and signed it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::serve::{Answering, Reply, Request};
use super::token;

/// The default number of keys in a page.
const PAGE: usize = 1000;

/// One object.
#[derive(Debug, Clone)]
struct Object {
    content: Vec<u8>,
    /// The headers that come back as they were sent.
    headers: Vec<(String, String)>,
    generation: u64,
    modified: DateTime<Utc>,
}

/// Returns whether a header has a token that gives access.
pub type Opens = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The buckets and their objects.
#[derive(Debug, Default)]
struct Stock {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    generation: u64,
}

/// The running stub. Dropping it closes its port.
#[derive(Debug)]
pub struct Gcs {
    stock: Arc<Mutex<Stock>>,
    server: Answering,
}

impl Gcs {
    /// Starts the stub on a free port.
    pub fn start() -> Self {
        Self::opened_by(Arc::new(token::is_ours))
    }

    /// Starts a stub with its own check of tokens instead of the test account's.
    pub fn opened_by(opens: Opens) -> Self {
        let stock = Arc::<Mutex<Stock>>::default();
        let shared = Arc::clone(&stock);
        let server = Answering::start(move |request| {
            let token = request
                .headers
                .get("authorization")
                .map(|token| opens(token));
            match token {
                None => refuse(401, "AuthenticationRequired"),
                Some(false) => refuse(401, "AuthenticationRequired"),
                Some(true) => answer(&mut lock(&shared), request),
            }
        });
        Self { stock, server }
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Makes a bucket.
    pub fn create(&self, bucket: &str) {
        let mut stock = lock(&self.stock);
        stock.buckets.insert(bucket.into(), BTreeMap::new());
    }

    /// Writes an object without metadata.
    pub fn put(&self, bucket: &str, key: &str, content: &[u8]) -> Result<(), String> {
        if key.contains(['\r', '\n']) {
            // Google accepts no such names.
            return Err("a line break".into());
        }
        let mut stock = lock(&self.stock);
        stock.put(bucket, key, content.to_vec(), Vec::new());
        Ok(())
    }

    /// Reads an object, if it exists.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let stock = lock(&self.stock);
        Some(stock.buckets.get(bucket)?.get(key)?.content.clone())
    }

    /// Deletes an object.
    pub fn delete(&self, bucket: &str, key: &str) {
        let mut stock = lock(&self.stock);
        let objects = stock.buckets.get_mut(bucket).expect("a bucket");
        objects.remove(key).expect("an object");
    }
}

impl Stock {
    fn put(
        &mut self,
        bucket: &str,
        key: &str,
        content: Vec<u8>,
        headers: Vec<(String, String)>,
    ) -> Object {
        self.generation += 1;
        let object = Object {
            content,
            headers,
            // Google's generations are the time in microseconds, and so larger than 32 bits.
            generation: 1_700_000_000_000_000 + self.generation,
            modified: SystemTime::now().into(),
        };
        let objects = self.buckets.get_mut(bucket).expect("a bucket");
        objects.insert(key.into(), object.clone());
        object
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse(status: u16, code: &str) -> Reply {
    let body =
        format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>");
    (status, Vec::new(), body.into_bytes())
}

/// Answers a request as Google's documentation describes.
fn answer(stock: &mut Stock, request: &Request) -> Reply {
    let (bucket, key) = match request.path.split_once('/') {
        Some((bucket, key)) => (bucket, key),
        None => (&*request.path, ""),
    };
    let Some(objects) = stock.buckets.get(bucket) else {
        return refuse(404, "NoSuchBucket");
    };
    let there = objects.get(key);
    match (&*request.method, key) {
        ("GET", "") => list(objects, &request.query),
        ("PUT", key) => {
            let wanted = request.headers.get("x-goog-if-generation-match");
            let generation = there.map_or(0, |object| object.generation);
            if wanted.is_some_and(|wanted| *wanted != generation.to_string()) {
                return refuse(412, "PreconditionFailed");
            }
            let kept = request
                .headers
                .iter()
                .filter(|(name, _)| name.starts_with("x-goog-meta-") || *name == "content-type");
            let kept = kept.map(|(n, v)| (n.clone(), v.clone())).collect();
            let object = stock.put(bucket, key, request.body.clone(), kept);
            (200, about(&object), Vec::new())
        }
        (_, _) if there.is_none() => refuse(404, "NoSuchKey"),
        ("DELETE", key) => {
            stock
                .buckets
                .get_mut(bucket)
                .and_then(|all| all.remove(key));
            (204, Vec::new(), Vec::new())
        }
        ("GET" | "HEAD", _) => {
            let object = there.cloned().expect("it is there");
            let mut headers = about(&object);
            headers.extend(object.headers.clone());
            let Some(range) = request.headers.get("range") else {
                return (200, headers, object.content);
            };
            let bounds = range.strip_prefix("bytes=").and_then(|r| r.split_once('-'));
            let (from, to) = bounds.unwrap_or(("", ""));
            let size = object.content.len();
            let from: usize = from.parse().unwrap_or(0);
            let to = to.parse().map_or(size, |to: usize| size.min(to + 1));
            match object.content.get(from..to) {
                Some(part) if !part.is_empty() => {
                    let range = format!("bytes {from}-{}/{size}", to - 1);
                    headers.push(("Content-Range".into(), range));
                    (206, headers, part.to_vec())
                }
                _ => refuse(416, "InvalidRange"),
            }
        }
        _ => refuse(405, "MethodNotAllowed"),
    }
}

fn about(object: &Object) -> Vec<(String, String)> {
    let modified = object.modified.format("%a, %d %b %Y %H:%M:%S GMT");
    vec![
        ("ETag".into(), format!("\"{:x}\"", object.generation)),
        ("Last-Modified".into(), modified.to_string()),
        ("x-goog-generation".into(), object.generation.to_string()),
    ]
}

/// Lists a page of objects, and with a delimiter also the prefixes.
fn list(objects: &BTreeMap<String, Object>, query: &BTreeMap<String, String>) -> Reply {
    let text = |name: &str| query.get(name).map(String::as_str);
    let prefix = text("prefix").unwrap_or("");
    let delimiter = text("delimiter").filter(|delimiter| !delimiter.is_empty());
    let most = text("max-keys").and_then(|n| n.parse().ok());
    let most = most.unwrap_or(PAGE).min(PAGE);
    // A token is the last name of the page before.
    let after = text("continuation-token").unwrap_or("").to_owned();
    let (mut rows, mut last, mut more) = (Vec::new(), after.clone(), false);
    for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let end =
            delimiter.and_then(|d| Some(prefix.len() + key[prefix.len()..].find(d)? + d.len()));
        let name = key[..end.unwrap_or(key.len())].to_owned();
        if name <= after || (name == last && !rows.is_empty()) {
            continue;
        }
        if rows.len() == most {
            more = true;
            break;
        }
        let shown = escape(&name);
        rows.push(match end {
            Some(_) => format!("<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>"),
            None => format!(
                "<Contents><Key>{shown}</Key><Generation>{}</Generation><MetaGeneration>1\
                 </MetaGeneration><LastModified>{}</LastModified><ETag>\"{:x}\"</ETag>\
                 <Size>{}</Size></Contents>",
                object.generation,
                object.modified.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
                object.generation,
                object.content.len()
            ),
        });
        last = name;
    }
    let next = match more {
        true => format!(
            "<NextContinuationToken>{}</NextContinuationToken>",
            escape(&last)
        ),
        false => String::new(),
    };
    let body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult \
         xmlns='http://doc.s3.amazonaws.com/2006-03-01'>{}<IsTruncated>{more}</IsTruncated>{next}\
         </ListBucketResult>",
        rows.concat()
    );
    (200, Vec::new(), body.into_bytes())
}

fn escape(text: &str) -> String {
    let each = text.chars().map(|c| match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        c if c.is_control() => format!("&#{};", c as u32),
        c => c.to_string(),
    });
    each.collect()
}
