//! A small HTTP/1.1 server: it parses requests and lets a function answer them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A parsed request.
pub struct Request {
    /// The method.
    pub method: String,
    /// The decoded path, without its first slash.
    pub path: String,
    /// The decoded query.
    pub query: BTreeMap<String, String>,
    /// The headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A reply: status, headers, body.
pub type Reply = (u16, Vec<(String, String)>, Vec<u8>);

/// A running server. Dropping it closes its port.
#[derive(Debug)]
pub struct Answering {
    addr: SocketAddr,
    stopped: Arc<AtomicBool>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Answering {
    /// Starts the server on a free port.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (stopped, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let ends = Arc::clone(&stopped);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                thread::spawn(move || {
                    let _ = client.set_nodelay(true);
                    let _ = serve(&*answer, &client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Self {
            addr,
            stopped,
            acceptor: Some(acceptor),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Serves the requests of one connection.
fn serve(answer: &dyn Fn(&Request) -> Reply, mut client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(client);
    while let Some(request) = receive(&mut reader)? {
        let (status, headers, body) = answer(&request);
        let mut head = format!(
            "HTTP/1.1 {status} Stub\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let close = request
            .headers
            .get("connection")
            .is_some_and(|v| v == "close");
        if close {
            head.push_str("Connection: close\r\n");
        }
        let mut reply = (head + "\r\n").into_bytes();
        if request.method != "HEAD" {
            reply.extend(body);
        }
        client.write_all(&reply)?;
        if close {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads a request; `None` at the end of the connection.
fn receive(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let first = lines.first().cloned().unwrap_or_default();
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let headers: BTreeMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().into()))
        .collect();
    let length = headers.get("content-length").and_then(|v| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    Ok(Some(Request {
        method: method.into(),
        path: decode(path.trim_start_matches('/')),
        query: pairs
            .map(|(n, v)| (n.into(), decode(&v.replace('+', "%20"))))
            .collect(),
        headers,
        body,
    }))
}

fn decode(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
