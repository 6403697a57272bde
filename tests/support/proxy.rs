//! A proxy that stands before a store and breaks what goes through it, as told, while it runs.
//!
//! It understands HTTP/1.1 well enough to count requests by method and path, and to break single
//! ones. Requests and replies are passed on whole, so signatures stay right: the client must know
//! the proxy's address as the store's endpoint.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::http::{self, Response};

/// What the proxy does to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it passes.
    Pass,
    /// Nobody listens: connections are refused. (Alone of all it works on every request.)
    Refuse,
    /// The request is read, then the connection is reset.
    Reset,
    /// The request is read and never answered.
    Hang,
    /// The request reaches the store; the reply is lost with the connection.
    LoseReply,
    /// The reply passes in pieces of so many bytes, with a pause after each.
    Drip(usize, Duration),
    /// The store isn't asked; this status comes back, with an S3 error document if there is a code.
    Status(u16, Option<&'static str>),
    /// The store isn't asked; this status and body come back.
    Body(u16, &'static str),
    /// The store isn't asked; the client is sent elsewhere.
    Redirect(String),
    /// So many requests get this status, then all pass.
    FailFirst(u32, u16),
    /// The reply's body ends in the middle, and with it the connection.
    CutBody,
    /// One byte in the middle of the reply's body to a GET is changed.
    CorruptBody,
    /// The request waits before it passes.
    Delay(Duration),
}

/// One request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path with its query, as it came.
    pub path: String,
    /// The headers, one a line, their names in lower case.
    pub headers: String,
}

#[derive(Debug)]
struct State {
    addr: SocketAddr,
    upstream: SocketAddr,
    /// The fault, and which methods it is for; empty for all.
    fault: Mutex<(Fault, Vec<&'static str>)>,
    /// Grows with each change of the fault: a hanging request then ends.
    changes: AtomicU64,
    failed: AtomicU64,
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
    /// Starts a proxy before a server; it passes everything.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let state = Arc::new(State {
            addr: listener.local_addr().expect("an address"),
            upstream,
            fault: Mutex::new((Fault::Pass, Vec::new())),
            changes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
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

    /// Returns the URL to use as the store's endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.state.addr)
    }

    /// Breaks every request from here on.
    pub fn set(&self, fault: Fault) {
        self.set_for(&[], fault);
    }

    /// Breaks the requests of some methods from here on; the others pass.
    pub fn set_for(&self, methods: &[&'static str], fault: Fault) {
        let refuses = fault == Fault::Refuse;
        *lock(&self.state.fault) = (fault, methods.to_vec());
        self.state.failed.store(0, Ordering::SeqCst);
        self.state.changes.fetch_add(1, Ordering::SeqCst);
        // The port is closed, or open again, when this returns.
        for _ in 0..500 {
            if TcpStream::connect(self.state.addr).is_err() == refuses {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the proxy's port does not open or close");
    }

    /// Returns the requests that have come in so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// Counts the requests with a method whose path holds a text.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let requests = lock(&self.state.requests);
        let counted = |request: &&Request| request.method == method && request.path.contains(path);
        requests.iter().filter(counted).count()
    }

    /// Forgets the requests that have come in so far.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes connections, opening and closing the port as the fault says.
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
    // Wakes up to see whether the proxy has been stopped or refuses.
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

fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Reads a request; returns it as it is to be sent on, one to a connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<(Request, Vec<u8>)> {
    let mut head = String::new();
    let mut length = 0;
    let mut request = None;
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
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    head.push_str("Connection: close\r\n\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = request.ok_or(io::ErrorKind::InvalidData)?;
    Ok((request, [head.into_bytes(), body].concat()))
}

/// Answers one request as the fault says; an error closes the connection.
fn answer(
    state: &State,
    client: &TcpStream,
    request: &Request,
    raw: &[u8],
    fault: Fault,
) -> io::Result<()> {
    let broken = || io::Error::from(io::ErrorKind::ConnectionAborted);
    match fault {
        Fault::Pass => pass(state, client, request, raw, |_| {}),
        Fault::Refuse => Err(broken()),
        Fault::Reset => {
            let at_once = linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(client, sockopt::Linger, &at_once)?;
            Err(broken())
        }
        Fault::Hang => {
            let before = state.changes.load(Ordering::SeqCst);
            while state.changes.load(Ordering::SeqCst) == before {
                thread::sleep(Duration::from_millis(5));
            }
            Err(broken())
        }
        Fault::LoseReply => {
            forward(state, raw)?;
            Err(broken())
        }
        Fault::Drip(size, pause) => {
            let response = forward(state, raw)?;
            let before = state.changes.load(Ordering::SeqCst);
            for piece in assemble(&response, request, false).chunks(size.max(1)) {
                (&*client).write_all(piece)?;
                thread::sleep(pause);
                if state.changes.load(Ordering::SeqCst) != before {
                    return Err(broken());
                }
            }
            Ok(())
        }
        Fault::Status(status, code) => {
            let document = code.map(|code| {
                format!("<Error><Code>{code}</Code><Message>told to fail</Message></Error>")
            });
            send(client, request, status, &document.unwrap_or_default())
        }
        Fault::Redirect(location) => {
            let response = Response {
                status: 307,
                head: format!("HTTP/1.1 307 Told\r\nLocation: {location}"),
                body: Vec::new(),
            };
            (&*client).write_all(&assemble(&response, request, true))
        }
        Fault::Body(status, body) => send(client, request, status, body),
        Fault::FailFirst(count, status) => {
            match state.failed.fetch_add(1, Ordering::SeqCst) < u64::from(count) {
                true => send(client, request, status, ""),
                false => pass(state, client, request, raw, |_| {}),
            }
        }
        Fault::CutBody => {
            let response = forward(state, raw)?;
            let whole = assemble(&response, request, false);
            let cut = whole.len() - response.body.len().div_ceil(2);
            (&*client).write_all(&whole[..cut])?;
            Err(broken())
        }
        Fault::CorruptBody => pass(state, client, request, raw, |response| {
            let middle = response.body.len() / 2;
            if let ("GET", Some(byte)) = (&*request.method, response.body.get_mut(middle)) {
                *byte ^= 1;
            }
        }),
        Fault::Delay(pause) => {
            thread::sleep(pause);
            pass(state, client, request, raw, |_| {})
        }
    }
}

fn pass(
    state: &State,
    client: &TcpStream,
    request: &Request,
    raw: &[u8],
    change: impl FnOnce(&mut Response),
) -> io::Result<()> {
    let mut response = forward(state, raw)?;
    change(&mut response);
    (&*client).write_all(&assemble(&response, request, true))
}

/// Sends a request to the server and reads its whole reply.
fn forward(state: &State, raw: &[u8]) -> io::Result<Response> {
    let mut server = TcpStream::connect_timeout(&state.upstream, Duration::from_secs(2))?;
    server.set_nodelay(true)?;
    server.write_all(raw)?;
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let before = state.changes.load(Ordering::SeqCst);
    let mut reply = Vec::new();
    loop {
        let mut piece = [0; 16 << 10];
        match server.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => reply.extend_from_slice(&piece[..read]),
            Err(error) if timed_out(&error) => {
                if state.changes.load(Ordering::SeqCst) != before {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    http::parse(&reply).ok_or_else(|| io::Error::other("the server's reply is not http"))
}

/// Writes a reply anew, its body unchunked.
fn assemble(response: &Response, request: &Request, keep_alive: bool) -> Vec<u8> {
    let mut head = String::new();
    for line in response.head.split("\r\n") {
        let lower = line.to_ascii_lowercase();
        let dropped = lower.starts_with("connection:")
            || lower.starts_with("transfer-encoding:")
            // The length of what HEAD doesn't carry can only come from the server.
            || (lower.starts_with("content-length:") && request.method != "HEAD");
        if !dropped {
            head.push_str(line);
            head.push_str("\r\n");
        }
    }
    if request.method != "HEAD" && response.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
    }
    // moto answers in HTTP/1.0's way; the client may keep the connection all the same.
    let head = head.replacen("HTTP/1.0", "HTTP/1.1", 1);
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut reply = format!("{head}Connection: {connection}\r\n\r\n").into_bytes();
    if request.method != "HEAD" {
        reply.extend_from_slice(&response.body);
    }
    reply
}

fn send(client: &TcpStream, request: &Request, status: u16, body: &str) -> io::Result<()> {
    let response = Response {
        status,
        head: format!("HTTP/1.1 {status} Told\r\nContent-Type: application/xml"),
        body: body.into(),
    };
    (&*client).write_all(&assemble(&response, request, true))
}
