//! The faults that a proxy can add to a request and to its reply.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use super::http::{self, Response};
use super::proxy::{Request, State, timed_out};

/// The effect of the proxy on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No fault: the request passes.
    Pass,
    /// Connections are refused. (This fault alone applies to every request.)
    Refuse,
    /// The request is read, then the connection is reset.
    Reset,
    /// The request is read and never answered.
    Hang,
    /// The request reaches the store; the reply is lost with the connection.
    LoseReply,
    /// The reply passes in pieces of so many bytes, with a pause after each.
    Drip(usize, Duration),
    /// Request and reply pass in so many pieces each, with a pause after each.
    Crawl(usize, Duration),
    /// The proxy answers with this status, and with an S3 error document if there is a code.
    Status(u16, Option<&'static str>),
    /// A request with this session token gets this status and code; all others pass.
    Over(&'static str, u16, &'static str),
    /// The proxy answers with this status, and with a demand to retry after half a minute.
    Wait(u16),
    /// The proxy answers with this status and body.
    Body(u16, &'static str),
    /// The proxy answers with this status and body, and all headers of a success.
    Claim(u16, &'static str),
    /// The proxy answers reads of objects with this status and a document of this type, as a portal
    /// before the store does. Listings pass.
    Page(u16, &'static str),
    /// The store carries the request out, and the proxy changes the reply's status.
    Restate(u16),
    /// The proxy redirects the client to this URL.
    Redirect(String),
    /// The first requests, this many, get this status; then all pass.
    FailFirst(u32, u16),
    /// The first requests of each method and path, this many, get this status; then they pass.
    FailFirstOfEach(u32, u16),
    /// The reply's body and the connection end in the middle of the body.
    CutBody,
    /// The body and the connection end in the middle of the body. This applies to the request if it
    /// has a body, or else to the reply.
    CutEither,
    /// One byte in the middle of the reply's body to a GET is changed.
    CorruptBody,
    /// One byte in the middle of a read object is changed. Listings pass.
    CorruptObject,
    /// The request waits before it passes.
    Delay(Duration),
    /// The proxy removes the conditions from the request.
    IgnoreConditions,
    /// The proxy answers a PUT with success, and doesn't forward it.
    Lie,
    /// The proxy forwards only the first half of a PUT's body, and reports success.
    Tear,
}

/// Answers one request according to the fault; an error closes the connection.
pub(super) fn answer(
    state: &State,
    client: &TcpStream,
    request: &Request,
    raw: &[u8],
    fault: Fault,
) -> io::Result<()> {
    let broken = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let is_put = request.method == "PUT";
    let body = http::end_of_head(raw).map_or(&[][..], |end| &raw[end..]);
    match fault {
        Fault::Pass => pass(state, client, request, raw, |_| {}),
        Fault::Refuse => Err(broken()),
        Fault::IgnoreConditions => {
            let raw = http::without_headers(raw, &["if-match", "if-none-match"]);
            pass(state, client, request, &raw, |_| {})
        }
        Fault::Reset => {
            let at_once = linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(client, sockopt::Linger, &at_once)?;
            Err(broken())
        }
        Fault::Hang => {
            let before = state.era();
            while state.era() == before {
                thread::sleep(Duration::from_millis(5));
            }
            Err(broken())
        }
        Fault::LoseReply => {
            forward(state, raw)?;
            Err(broken())
        }
        Fault::Drip(size, pause) => {
            let before = state.era();
            let response = forward(state, raw)?;
            let reply = assemble(&response, request, false);
            match drip(state, before, client, &reply, size, pause)? {
                true => Ok(()),
                false => Err(broken()),
            }
        }
        Fault::Crawl(pieces, pause) => {
            let before = state.era();
            let mut server = connect(state)?;
            let size = raw.len().div_ceil(pieces);
            // Send the whole request even if the client has stopped waiting: the store gets it some
            // time.
            if !drip(state, before, &server, raw, size, pause)? {
                return Err(broken());
            }
            let response = receive(state, &mut server)?;
            let reply = assemble(&response, request, false);
            let size = reply.len().div_ceil(pieces);
            match drip(state, before, client, &reply, size, pause)? {
                true => Ok(()),
                false => Err(broken()),
            }
        }
        Fault::Over(token, status, code) => {
            let header = format!("x-amz-security-token: {token}\n");
            let fault = match request.headers.contains(&header) {
                true => Fault::Status(status, Some(code)),
                false => Fault::Pass,
            };
            answer(state, client, request, raw, fault)
        }
        Fault::Status(status, code) => {
            let document = code.map(|code| {
                format!("<Error><Code>{code}</Code><Message>told to fail</Message></Error>")
            });
            send(client, request, status, &document.unwrap_or_default())
        }
        Fault::Wait(status) => {
            let response = Response {
                status,
                head: format!("HTTP/1.1 {status} Told\r\nRetry-After: 30"),
                body: Vec::new(),
            };
            (&*client).write_all(&assemble(&response, request, true))
        }
        Fault::Redirect(location) => {
            let response = Response {
                status: 307,
                head: format!("HTTP/1.1 307 Told\r\nLocation: {location}"),
                body: Vec::new(),
            };
            (&*client).write_all(&assemble(&response, request, true))
        }
        Fault::Claim(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} Told\r\nETag: \"claim\"\r\nLast-Modified: Mon, 30 Nov 2026 00:00:00 \
                 GMT\r\nx-goog-generation: 7\r\nLocation: /v2/claim\r\nContent-Type: text/plain"
            );
            let response = Response {
                status,
                head,
                body: body.into(),
            };
            (&*client).write_all(&assemble(&response, request, true))
        }
        Fault::Page(..) if is_listing(request) => pass(state, client, request, raw, |_| {}),
        Fault::Page(status, kind) => {
            // Later than every object, as a page that was made just now.
            let head = format!(
                "HTTP/1.1 {status} Told\r\nETag: \"login\"\r\nLast-Modified: Mon, 30 Nov 2026 \
                 00:00:00 GMT\r\nx-goog-generation: 7\r\nContent-Type: {kind}"
            );
            let response = Response {
                status,
                head,
                body: b"<html>please log in</html>".into(),
            };
            (&*client).write_all(&assemble(&response, request, true))
        }
        Fault::Restate(status) => pass(state, client, request, raw, |response| {
            let rest = response.head.find("\r\n").unwrap_or(response.head.len());
            response.head = format!("HTTP/1.1 {status} Told{}", &response.head[rest..]);
            response.status = status;
        }),
        Fault::Body(status, body) => send(client, request, status, body),
        Fault::FailFirst(count, status) => match state.is_among_first(count, String::new()) {
            true => send(client, request, status, ""),
            false => pass(state, client, request, raw, |_| {}),
        },
        Fault::FailFirstOfEach(count, status) => {
            let name = format!("{} {}", request.method, request.path);
            match state.is_among_first(count, name) {
                true => send(client, request, status, ""),
                false => pass(state, client, request, raw, |_| {}),
            }
        }
        Fault::CutEither if !body.is_empty() => {
            let server = connect(state)?;
            (&server).write_all(&raw[..raw.len() - body.len().div_ceil(2)])?;
            server.shutdown(Shutdown::Both)?;
            Err(broken())
        }
        Fault::CutBody | Fault::CutEither => {
            let response = forward(state, raw)?;
            let whole = assemble(&response, request, false);
            let cut = whole.len() - response.body.len().div_ceil(2);
            (&*client).write_all(&whole[..cut])?;
            Err(broken())
        }
        Fault::CorruptObject if is_listing(request) => pass(state, client, request, raw, |_| {}),
        Fault::CorruptBody | Fault::CorruptObject => {
            pass(state, client, request, raw, |response| {
                let middle = response.body.len() / 2;
                if let ("GET", Some(byte)) = (&*request.method, response.body.get_mut(middle)) {
                    *byte ^= 1;
                }
            })
        }
        Fault::Delay(pause) => {
            thread::sleep(pause);
            pass(state, client, request, raw, |_| {})
        }
        Fault::Lie if is_put => {
            let response = Response {
                status: 200,
                // Stores return an ETag, and other servers that answer with 200 don't.
                head: "HTTP/1.1 200 Told\r\nETag: \"lie\"".into(),
                body: Vec::new(),
            };
            (&*client).write_all(&assemble(&response, request, true))
        }
        Fault::Tear if is_put => {
            let half = &body[..body.len() / 2];
            let head = String::from_utf8_lossy(&raw[..raw.len() - body.len()]).into_owned();
            let lines = head
                .split_inclusive("\r\n")
                .map(|line| match line.to_ascii_lowercase() {
                    lower if lower.starts_with("content-length:") => {
                        format!("Content-Length: {}\r\n", half.len())
                    }
                    _ => line.to_owned(),
                });
            let head: String = lines.collect();
            pass(
                state,
                client,
                request,
                &[head.as_bytes(), half].concat(),
                |_| {},
            )
        }
        Fault::Lie | Fault::Tear => pass(state, client, request, raw, |_| {}),
    }
}

fn is_listing(request: &Request) -> bool {
    let listings = ["list-type=", "comp=list", "/tags/list"];
    listings.iter().any(|part| request.path.contains(part))
}

/// Writes in pieces with a pause after each; returns whether all pieces were written before the
/// fault changed.
fn drip(
    state: &State,
    era: u64,
    mut to: &TcpStream,
    whole: &[u8],
    size: usize,
    pause: Duration,
) -> io::Result<bool> {
    for piece in whole.chunks(size.max(1)) {
        to.write_all(piece)?;
        thread::sleep(pause);
        if state.era() != era {
            return Ok(false);
        }
    }
    Ok(true)
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
    let mut server = connect(state)?;
    server.write_all(raw)?;
    receive(state, &mut server)
}

fn connect(state: &State) -> io::Result<TcpStream> {
    let server = TcpStream::connect_timeout(&state.upstream, Duration::from_secs(2))?;
    server.set_nodelay(true)?;
    Ok(server)
}

fn receive(state: &State, server: &mut TcpStream) -> io::Result<Response> {
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let before = state.era();
    let mut reply = Vec::new();
    loop {
        let mut piece = [0; 16 << 10];
        match server.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => reply.extend_from_slice(&piece[..read]),
            Err(error) if timed_out(&error) => {
                if state.era() != before {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    http::parse(&reply).ok_or_else(|| io::Error::other("the server's reply is not http"))
}

/// Formats a reply with an unchunked body.
fn assemble(response: &Response, request: &Request, keep_alive: bool) -> Vec<u8> {
    let mut head = String::new();
    for line in response.head.split("\r\n") {
        let lower = line.to_ascii_lowercase();
        let dropped = lower.starts_with("connection:")
            || lower.starts_with("transfer-encoding:")
            // Only the server knows the length of the body that a HEAD leaves out.
            || (lower.starts_with("content-length:") && request.method != "HEAD");
        if !dropped {
            head.push_str(line);
            head.push_str("\r\n");
        }
    }
    if request.method != "HEAD" && response.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
    }
    // moto answers with HTTP/1.0; the client may keep the connection even so.
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
