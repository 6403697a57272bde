//! A plain HTTP/1.1 client: one connection per request, without encoding or checks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers as received, including the status line.
    pub head: String,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

/// Sends a request and reads the response to the end of the connection.
pub fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    parse(&raw).ok_or_else(|| io::Error::other("not an http response"))
}

/// Returns the offset of the body of a request or a response.
pub fn end_of_head(raw: &[u8]) -> Option<usize> {
    let blank = raw.windows(4).position(|four| four == b"\r\n\r\n");
    blank.map(|blank| blank + 4)
}

/// Parses a whole response.
pub fn parse(raw: &[u8]) -> Option<Response> {
    let begin = end_of_head(raw)?;
    let head = String::from_utf8_lossy(&raw[..begin - 4]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &raw[begin..];
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Some(Response {
        status,
        body: match chunked {
            true => unchunk(body),
            false => body.to_vec(),
        },
        head,
    })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16);
        let (Ok(size), data) = (size, &rest[end + 2..]) else {
            break;
        };
        if size == 0 || data.len() < size {
            break;
        }
        body.extend_from_slice(&data[..size]);
        rest = data.get(size + 2..).unwrap_or_default();
    }
    body
}

/// Percent-encodes every byte of a key except letters, digits, `-`, `_` and slashes.
pub fn encode(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => {
                (byte as char).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Returns a request without the headers of these lower-case names.
pub fn without_headers(raw: &[u8], names: &[&str]) -> Vec<u8> {
    let end = end_of_head(raw).unwrap_or(raw.len());
    let head = String::from_utf8_lossy(&raw[..end]);
    let kept = head.split_inclusive("\r\n").filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !names.contains(&name.to_ascii_lowercase().as_str())
    });
    let head: String = kept.collect();
    [head.as_bytes(), &raw[end..]].concat()
}
