//! A proxy before a store that adds faults to the requests. A test can change the fault at any
//! time.
//!
//! It parses enough of HTTP/1.1 to count requests by method and path, and to change single ones. It
//! forwards requests and replies unchanged, so signatures stay right: the client must use the
//! proxy's address as the store's endpoint.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use super::fault::Fault;
use super::fault::answer;

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path with its query, as it came.
    pub path: String,
    /// The headers, one a line, their names in lower case.
    pub headers: String,
}

/// The state that the threads of a proxy share.
#[derive(Debug)]
pub(super) struct State {
    addr: SocketAddr,
    pub(super) upstream: SocketAddr,
    /// The fault, and the methods that it applies to; empty for all.
    fault: Mutex<(Fault, Vec<&'static str>)>,
    /// Grows with each change of the fault, which ends hanging requests.
    changes: AtomicU64,
    /// The number of failed requests of each name since the last change.
    failed: Mutex<HashMap<String, u32>>,
    requests: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

/// A running proxy. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy before a server, without a fault.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let state = Arc::new(State {
            addr: listener.local_addr().expect("an address"),
            upstream,
            fault: Mutex::new((Fault::Pass, Vec::new())),
            changes: AtomicU64::new(0),
            failed: Mutex::default(),
            requests: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let acceptor = {
            let state = Arc::clone(&state);
            thread::spawn(move || accept(&state, Some(listener)))
        };
        Self {
            state,
            acceptor: Some(acceptor),
        }
    }

    /// Returns the URL for the store's endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.state.addr)
    }

    /// Applies a fault to every request from now on.
    pub fn set(&self, fault: Fault) {
        self.set_for(&[], fault);
    }

    /// Applies a fault to the requests of some methods from now on; the others pass.
    pub fn set_for(&self, methods: &[&'static str], fault: Fault) {
        let refuses = fault == Fault::Refuse;
        *lock(&self.state.fault) = (fault, methods.to_vec());
        lock(&self.state.failed).clear();
        self.state.changes.fetch_add(1, Ordering::SeqCst);
        // The port is closed or open again when this returns.
        for _ in 0..500 {
            if TcpStream::connect(self.state.addr).is_err() == refuses {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the proxy's port does not open or close");
    }

    /// Returns the requests received so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// Counts the requests of a method whose path contains a text.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let requests = lock(&self.state.requests);
        let counted = |request: &&Request| request.method == method && request.path.contains(path);
        requests.iter().filter(counted).count()
    }

    /// Forgets the requests received so far.
    pub fn forget(&self) {
        lock(&self.state.requests).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.state.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    /// Returns the number of changes of the fault.
    pub(super) fn era(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Counts a request of a name; returns whether it is among the first `count`.
    pub(super) fn is_among_first(&self, count: u32, name: String) -> bool {
        let mut failed = lock(&self.failed);
        let failed = failed.entry(name).or_default();
        *failed = failed.saturating_add(1);
        *failed <= count
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections, and opens or closes the port as the fault requires.
fn accept(state: &Arc<State>, mut listener: Option<TcpListener>) {
    while !state.stopped.load(Ordering::SeqCst) {
        let refuses = lock(&state.fault).0 == Fault::Refuse;
        if refuses {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(state.addr).ok();
        }
        let Some(open) = &listener else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let _ = open.set_nonblocking(true);
        match open.accept() {
            Ok((client, _)) => {
                let state = Arc::clone(state);
                thread::spawn(move || {
                    let _ = client.set_nonblocking(false);
                    let _ = client.set_nodelay(true);
                    let _ = serve(&state, &client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Serves the requests of one connection.
fn serve(state: &State, client: &TcpStream) -> io::Result<()> {
    // Wakes up to see whether the proxy has been stopped or must refuse.
    client.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut reader = BufReader::new(client);
    loop {
        loop {
            match reader.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(_) => break,
                Err(error) if timed_out(&error) => {}
                Err(error) => return Err(error),
            }
            if state.stopped.load(Ordering::SeqCst) || lock(&state.fault).0 == Fault::Refuse {
                return Ok(());
            }
        }
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (request, raw) = read_request(&mut reader)?;
        client.set_read_timeout(Some(Duration::from_millis(20)))?;
        lock(&state.requests).push(request.clone());
        let fault = {
            let (fault, methods) = &*lock(&state.fault);
            let meant = methods.is_empty() || methods.contains(&request.method.as_str());
            if meant { fault.clone() } else { Fault::Pass }
        };
        answer(state, client, &request, &raw, fault)?;
    }
}

/// Returns whether a read ended because nothing came within its timeout.
pub(super) fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Reads a request; returns it in the form to forward, one per connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<(Request, Vec<u8>)> {
    let mut head = String::new();
    let mut length = 0;
    let mut request: Option<Request> = None;
    let mut proxied = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if request.is_none() {
            let mut words = line.split(' ');
            request = Some(Request {
                method: words.next().unwrap_or_default().into(),
                path: words.next().unwrap_or_default().into(),
                headers: String::new(),
            });
        } else if let (Some(request), Some((name, value))) = (&mut request, line.split_once(':')) {
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            request.headers.push_str(&format!("{name}: {value}\n"));
        }
        let whole = request
            .as_ref()
            .and_then(|request| request.path.strip_prefix("http://"));
        if let (Some(whole), true) = (whole, head.is_empty()) {
            // The request is to a proxy: forward only the part after the host.
            let (host, path) = whole.split_once('/').unwrap_or((whole, ""));
            line = line.replacen(&format!("http://{host}/{path}"), &format!("/{path}"), 1);
            proxied = true;
        }
        // moto takes the first part of an unknown host as a bucket.
        let foreign = proxied && lower.starts_with("host:");
        if !lower.starts_with("connection:") && !foreign {
            head.push_str(&line);
        }
    }
    if proxied {
        head.push_str("Host: localhost\r\n");
    }
    head.push_str("Connection: close\r\n\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = request.ok_or(io::ErrorKind::InvalidData)?;
    Ok((request, [head.into_bytes(), body].concat()))
}
