//! A store in memory that implements the part of S3 that the subjects need, and answers in
//! microseconds: the measurements are of a mount, and not of a server. It is asked over HTTP on
//! loopback, through the tests' own proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use atlasfs::model::{Format, Stamp, when_to_text};
use chrono::{DateTime, Utc};

use super::support::serve::{Answering, Reply, Request};

/// The only bucket.
pub const BUCKET: &str = "bench";

/// The number of keys in a page of S3.
pub const PAGE: usize = 1000;

#[derive(Debug, Clone)]
struct Object {
    content: Arc<[u8]>,
    metadata: Vec<(String, String)>,
    etag: String,
    modified: DateTime<Utc>,
}

#[derive(Debug, Default)]
struct Stock {
    objects: BTreeMap<String, Object>,
    writes: u64,
}

/// The running store. Dropping it closes its port.
#[derive(Debug)]
pub struct Store {
    stock: Arc<Mutex<Stock>>,
    server: Answering,
}

impl Store {
    /// Starts an empty store on a free port.
    pub fn start() -> Self {
        let stock = Arc::<Mutex<Stock>>::default();
        let shared = Arc::clone(&stock);
        let server = Answering::start(move |request| answer(&shared, request));
        Self { stock, server }
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Stores an artifact with a stamp, as a push of atlasfs does.
    pub fn put(&self, key: &str, content: &[u8]) {
        let mut stock = lock(&self.stock);
        let stamp = Stamp::new(
            1_725_989_864_000_000_000 + stock.writes,
            content,
            Format::Hcl,
        );
        let metadata = [
            ("x-amz-meta-atlas-stamp", when_to_text(stamp.when)),
            ("x-amz-meta-atlas-sha256", stamp.sha256.to_string()),
            ("x-amz-meta-atlas-format", stamp.format.to_string()),
        ];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
        stock.put(key, content, metadata.into());
    }
}

impl Stock {
    fn put(&mut self, key: &str, content: &[u8], metadata: Vec<(String, String)>) -> String {
        self.writes += 1;
        let etag = format!("\"{:032x}\"", self.writes);
        let object = Object {
            content: content.into(),
            metadata,
            etag: etag.clone(),
            modified: SystemTime::now().into(),
        };
        self.objects.insert(key.to_owned(), object);
        etag
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    (status, Vec::new(), body.into_bytes())
}

fn answer(stock: &Mutex<Stock>, request: &Request) -> Reply {
    let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
    if bucket != BUCKET {
        return refuse(404, "NoSuchBucket");
    }
    let mut stock = lock(stock);
    let there = stock.objects.get(key).cloned();
    match (&*request.method, key, there) {
        ("GET", "", _) => list(&stock.objects, &request.query),
        ("HEAD" | "PUT", "", _) => (200, Vec::new(), Vec::new()),
        ("PUT", _, there) => {
            if !may_write(request, there.as_ref()) {
                return refuse(412, "PreconditionFailed");
            }
            let metadata = request.headers.iter();
            let metadata = metadata.filter(|(name, _)| name.starts_with("x-amz-meta-"));
            let metadata = metadata.map(|(n, v)| (n.clone(), v.clone())).collect();
            let etag = stock.put(key, &request.body, metadata);
            (200, vec![("ETag".into(), etag)], Vec::new())
        }
        ("DELETE", _, _) => {
            stock.objects.remove(key);
            (204, Vec::new(), Vec::new())
        }
        ("GET" | "HEAD", _, Some(object)) => read(request, &object),
        _ => refuse(404, "NoSuchKey"),
    }
}

fn may_write(request: &Request, there: Option<&Object>) -> bool {
    let unchanged = request.headers.get("if-match");
    let absent = request.headers.contains_key("if-none-match");
    match there {
        Some(object) => !absent && unchanged.is_none_or(|etag| *etag == object.etag),
        None => unchanged.is_none(),
    }
}

fn read(request: &Request, object: &Object) -> Reply {
    let modified = object.modified.format("%a, %d %b %Y %H:%M:%S GMT");
    let mut headers = vec![
        ("ETag".into(), object.etag.clone()),
        ("Last-Modified".into(), modified.to_string()),
        ("Accept-Ranges".into(), "bytes".into()),
    ];
    headers.extend(object.metadata.clone());
    let range = request.headers.get("range");
    let Some((from, to)) = range
        .and_then(|range| range.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return (200, headers, object.content.to_vec());
    };
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

/// Lists a page, in both versions of the interface. The cost of a page depends on its entries
/// alone.
fn list(objects: &BTreeMap<String, Object>, query: &BTreeMap<String, String>) -> Reply {
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or("");
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let most = text("max-keys").parse().unwrap_or(PAGE).min(PAGE);
    let tokens = ["continuation-token", "marker", "start-after"];
    let mut after = tokens.map(text).into_iter().max().unwrap_or("").to_owned();
    let (mut rows, mut shown, mut more) = (String::new(), 0, false);
    // The first name that may come next, and whether it is itself included.
    let mut from = match after.as_str() > prefix {
        true => beyond(&after, delimiter),
        false => Bound::Included(prefix.to_owned()),
    };
    while let Some((key, object)) = objects.range((from, Bound::Unbounded)).next() {
        let Some(rest) = key.strip_prefix(prefix) else {
            break;
        };
        if shown == most {
            more = true;
            break;
        }
        let cut = match delimiter {
            "" => None,
            delimiter => rest.find(delimiter),
        };
        let name = match cut {
            Some(cut) => &key[..prefix.len() + cut + delimiter.len()],
            None => key,
        };
        rows.push_str(&match cut {
            Some(_) => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
            None => format!(
                "<Contents><Key>{name}</Key><LastModified>{}</LastModified><ETag>{}</ETag>\
                 <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                object.modified.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
                object.etag.replace('"', "&quot;"),
                object.content.len()
            ),
        });
        shown += 1;
        after = name.to_owned();
        from = beyond(name, delimiter);
    }
    let next = match more {
        true => format!(
            "<NextContinuationToken>{after}</NextContinuationToken><NextMarker>{after}</NextMarker>"
        ),
        false => String::new(),
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{BUCKET}</Name>\
         <Prefix>{prefix}</Prefix><KeyCount>{shown}</KeyCount><MaxKeys>{most}</MaxKeys>\
         <IsTruncated>{more}</IsTruncated>{next}{rows}</ListBucketResult>"
    );
    let xml = ("Content-Type".into(), "application/xml".into());
    (200, vec![xml], body.into_bytes())
}

/// Returns where a listing continues after a name; after a folder's name it skips the whole folder.
fn beyond(name: &str, delimiter: &str) -> Bound<String> {
    match !delimiter.is_empty() && name.ends_with(delimiter) {
        true => Bound::Excluded(format!("{name}\u{10ffff}")),
        false => Bound::Excluded(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(objects: &BTreeMap<String, Object>, query: &[(&str, &str)]) -> (Vec<String>, String) {
        let query = query.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let (_, _, body) = list(objects, &query.collect());
        let body = String::from_utf8(body).unwrap();
        let values = |open: &str| -> Vec<String> {
            let parts = body.split(open).skip(1);
            parts
                .map(|part| part.split('<').next().unwrap().to_owned())
                .collect()
        };
        let mut names = values("<Key>");
        names.extend(values("<CommonPrefixes><Prefix>"));
        let next = values("<NextContinuationToken>").pop();
        (names, next.unwrap_or_default())
    }

    #[test]
    fn pages_put_together_are_the_whole_listing_and_folders_are_shown_once() {
        let mut stock = Stock::default();
        for number in 0..25 {
            stock.put(&format!("app/plans/{number:02}"), b"x", Vec::new());
            stock.put(&format!("app-{number:02}/schema"), b"x", Vec::new());
        }
        let all = |fixed: &[(&str, &str)]| {
            let (mut names, mut token, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let more = [("max-keys", "10"), ("continuation-token", &token)];
                let (mut some, next) = page(&stock.objects, &[fixed, &more].concat());
                names.append(&mut some);
                pages += 1;
                if next.is_empty() {
                    return (names, pages);
                }
                token = next;
            }
        };
        let (names, pages) = all(&[("prefix", "app/")]);
        assert_eq!((names.len(), pages), (25, 3));
        assert_eq!(names.last().unwrap(), "app/plans/24");
        let (names, pages) = all(&[("delimiter", "/")]);
        assert_eq!((names.len(), pages), (26, 3));
        assert_eq!(names.first().unwrap(), "app-00/");
        assert_eq!(names.last().unwrap(), "app/");
    }
}
