//! The endpoint of a subject: the store, behind a proxy of its own that counts and delays requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use super::clock::{Cpu, on, time};
use super::store::{BUCKET, Store};
use super::support::proxy::{Fault, Proxy};

/// The number of requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Listings.
    pub list: usize,
    /// Reads of an object.
    pub get: usize,
    /// Reads of an object's metadata without its content.
    pub head: usize,
    /// Writes.
    pub put: usize,
    /// Deletions and all other requests.
    pub other: usize,
}

impl Counts {
    /// Returns the number of requests of all kinds.
    pub fn all(self) -> usize {
        self.list + self.get + self.head + self.put + self.other
    }
}

/// The endpoint: a store behind a proxy.
#[derive(Debug)]
pub struct Place {
    store: Arc<Store>,
    proxy: Proxy,
}

impl Place {
    /// Starts a proxy before a store. Its threads stay off the measured processor.
    pub fn before(store: &Arc<Store>) -> Self {
        Self {
            store: Arc::clone(store),
            proxy: on(Cpu::Beside, || Proxy::start(store.addr())),
        }
    }

    /// Starts a store and its proxy.
    pub fn new() -> Self {
        Self::before(&on(Cpu::Beside, || Arc::new(Store::start())))
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns the endpoint's URL.
    pub fn endpoint(&self) -> String {
        self.proxy.endpoint()
    }

    /// Returns the URL for atlasfs.
    pub fn url(&self) -> String {
        let endpoint = self.endpoint();
        format!("s3://{BUCKET}?region=us-east-1&use_path_style=true&endpoint={endpoint}")
    }

    /// Delays every request from now on.
    pub fn delay(&self, pause: Duration) {
        self.proxy.set(match pause.is_zero() {
            true => Fault::Pass,
            false => Fault::Delay(pause),
        });
    }

    /// Refuses connections from now on.
    pub fn refuse(&self) {
        self.proxy.set(Fault::Refuse);
    }

    /// Counts the requests since the last [`Place::forget`].
    pub fn counts(&self) -> Counts {
        self.counts_of("")
    }

    /// Counts the requests whose path and query contain a text.
    pub fn counts_of(&self, part: &str) -> Counts {
        let mut counts = Counts::default();
        for request in self.proxy.requests() {
            if !request.path.contains(part) {
                continue;
            }
            let path = request.path.split('?').next().unwrap_or_default();
            let is_bucket = path.trim_matches('/') == BUCKET;
            let kind = match (&*request.method, is_bucket) {
                ("GET", true) => &mut counts.list,
                ("GET", false) => &mut counts.get,
                ("HEAD", _) => &mut counts.head,
                ("PUT", _) => &mut counts.put,
                _ => &mut counts.other,
            };
            *kind += 1;
        }
        counts
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.proxy.forget();
    }

    /// Opens a connection of a plain client, which measures the store's own round trip.
    pub fn connect(&self) -> Line {
        let addr = self.endpoint();
        let stream = TcpStream::connect(addr.trim_start_matches("http://")).expect("the proxy");
        stream.set_nodelay(true).expect("a socket");
        Line(BufReader::new(stream))
    }
}

/// A connection for many requests.
#[derive(Debug)]
pub struct Line(BufReader<TcpStream>);

impl Line {
    /// Reads an object; returns the time that took.
    pub fn get(&mut self, key: &str) -> f64 {
        self.ask("GET", key, b"")
    }

    /// Writes an object; returns the time that took.
    pub fn put(&mut self, key: &str, content: &[u8]) -> f64 {
        self.ask("PUT", key, content)
    }

    fn ask(&mut self, method: &str, key: &str, content: &[u8]) -> f64 {
        let head = format!(
            "{method} /{BUCKET}/{key} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        let (took, status) = time(|| {
            let request = [head.as_bytes(), content].concat();
            self.0.get_mut().write_all(&request).expect("the proxy");
            self.receive()
        });
        assert_eq!(status, 200, "{method} {key}");
        took
    }

    fn receive(&mut self) -> u16 {
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a reply");
            let lower = line.trim().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(code) = lower.strip_prefix("http/1.1 ") {
                status = code
                    .get(..3)
                    .and_then(|code| code.parse().ok())
                    .unwrap_or(0);
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        status
    }
}
