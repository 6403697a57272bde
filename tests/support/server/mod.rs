//! Servers on free loopback ports. Each ends with the value that owns it.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::azurite;
use super::gcs::Gcs;
use super::http::{self, Response};
use super::registry;

mod program;

pub use program::program;

/// The access key that the servers accept.
pub const ACCESS_KEY: &str = "AKIDTESTTESTTEST";
/// The secret key that the servers accept.
pub const SECRET_KEY: &str = "secret/test+key";

/// The subfolder of a server's buckets.
const ROOT: &str = "buckets";

/// The header of a signed request: moto refuses unsigned reads, and checks no signature.
const SIGNED: [(&str, &str); 1] = [(
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=AKIDTESTTESTTEST/20240910/us-east-1/s3/aws4_request, \
     SignedHeaders=host, Signature=0",
)];

/// The kind of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// moto: handles conditions correctly, and races with a patch of ours; checks no signatures
    /// unless asked to.
    Moto,
    /// s3s-fs: checks signatures; keeps its data in a folder, one directory a bucket.
    S3s,
    /// rclone serve s3: ignores conditions; checks signatures; keeps contents in a folder, one
    /// directory a bucket, and metadata in its memory.
    Rclone,
    /// azurite: Azure Blob Storage; checks signatures; handles conditions and races correctly.
    Azurite,
    /// docker-registry: the reference of OCI registries; checks user and password.
    Registry,
    /// The stub of Google Cloud Storage, which is not a process.
    Gcs,
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    running: Running,
    addr: SocketAddr,
    data: tempfile::TempDir,
}

/// The running server.
#[derive(Debug)]
enum Running {
    Process(Child),
    Here(Gcs),
}

static SHARED: [Mutex<Weak<Server>>; 6] = [const { Mutex::new(Weak::new()) }; 6];
static BUCKETS: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Starts a server for one test.
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[])
    }

    fn start_with(kind: Kind, more: &[&OsStr]) -> Self {
        // Another program may take the free port before the server does.
        for _ in 0..5 {
            let data = tempfile::tempdir().expect("a temporary folder");
            let (running, addr) = match kind {
                Kind::Gcs => {
                    let gcs = Gcs::start();
                    let addr = gcs.addr();
                    (Running::Here(gcs), addr)
                }
                _ => {
                    let addr = free_port();
                    (
                        Running::Process(program::spawn(kind, addr, &data, more)),
                        addr,
                    )
                }
            };
            let mut server = Self {
                kind,
                running,
                addr,
                data,
            };
            // A server with TLS answers no plain request.
            if server.wait_until_up(more.is_empty()) {
                return server;
            }
        }
        panic!("{kind:?} does not start");
    }

    /// Starts azurite with TLS, with a certificate and key from files.
    pub fn with_tls(certificate: &Path, key: &Path) -> Self {
        let more = [
            OsStr::new("--cert"),
            certificate.as_os_str(),
            OsStr::new("--key"),
            key.as_os_str(),
            // azurite accepts tokens then, and checks everything but the signature.
            OsStr::new("--oauth"),
            OsStr::new("basic"),
        ];
        Self::start_with(Kind::Azurite, &more)
    }

    /// Returns a server with a bucket that holds many objects of one byte, stored in the fastest
    /// way; and the bucket's name.
    pub fn with_many(kind: Kind, keys: &[String]) -> (Arc<Self>, String) {
        let lines = keys.join("\n");
        let (server, bucket) = match kind {
            Kind::Moto => {
                let more = [OsStr::new(&lines)];
                (Arc::new(Self::start_with(kind, &more)), "many".to_owned())
            }
            Kind::Azurite => {
                let server = Arc::new(Self::start_with(kind, &[OsStr::new(&lines)]));
                let bucket = server.bucket();
                (server, bucket)
            }
            Kind::S3s | Kind::Rclone | Kind::Registry | Kind::Gcs => {
                let server = Self::shared(kind);
                let bucket = server.bucket();
                (server, bucket)
            }
        };
        match kind {
            Kind::Moto => {}
            Kind::Registry => {
                registry::put_many(server.addr, server.data.path(), &bucket, keys);
            }
            // The other objects appear with the first.
            Kind::Azurite => server.inject(&bucket, &keys[0], b"x").expect("an object"),
            Kind::S3s | Kind::Rclone | Kind::Gcs => {
                for key in keys {
                    server.inject(&bucket, key, b"x").expect("an object");
                }
            }
        }
        (server, bucket)
    }

    /// Starts docker-registry without login.
    pub fn open_registry() -> Self {
        Self::start_with(Kind::Registry, &[OsStr::new("open")])
    }

    /// Starts docker-registry so that it refuses deletions.
    pub fn registry_that_keeps() -> Self {
        Self::start_with(Kind::Registry, &[OsStr::new("keeps")])
    }

    /// Starts docker-registry with TLS, with a certificate and key from files.
    pub fn registry_with_tls(certificate: &Path, key: &Path) -> Self {
        let more = [certificate.as_os_str(), key.as_os_str()];
        Self::start_with(Kind::Registry, &more)
    }

    /// Returns a server that the running tests share. It ends with the last of them.
    pub fn shared(kind: Kind) -> Arc<Self> {
        let mut slot = SHARED[kind as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        slot.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(kind));
            *slot = Arc::downgrade(&server);
            server
        })
    }

    /// Returns the server's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the URL of its service: `http://127.0.0.1:4711`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::Process(child) => child.id(),
            Running::Here(_) => panic!("{:?} is no process", self.kind),
        }
    }

    fn gcs(&self) -> &Gcs {
        match &self.running {
            Running::Here(gcs) => gcs,
            Running::Process(_) => panic!("{:?} is a process", self.kind),
        }
    }

    /// Makes a bucket or container with a unique name.
    pub fn bucket(&self) -> String {
        let name = format!("bucket-{}", BUCKETS.fetch_add(1, Ordering::Relaxed));
        match self.kind {
            Kind::Moto => {
                let made = http::request(self.addr, "PUT", &format!("/{name}"), &[], b"");
                assert_eq!(made.expect("a reply").status, 200);
            }
            Kind::S3s | Kind::Rclone => {
                std::fs::create_dir(self.root().join(&name)).expect("a bucket")
            }
            Kind::Azurite => azurite::create(self.addr, &name),
            // A repository exists from the first push on.
            Kind::Registry => {}
            Kind::Gcs => self.gcs().create(&name),
        }
        name
    }

    /// Puts an object there under exactly this key, without a stamp.
    pub fn inject(&self, bucket: &str, key: &str, content: &[u8]) -> Result<(), String> {
        match self.kind {
            Kind::Moto => {
                let path = format!("/{bucket}/{}", http::encode(key));
                let made = http::request(self.addr, "PUT", &path, &[], content);
                match made.map_err(|error| error.to_string())?.status {
                    200 => Ok(()),
                    status => Err(format!("status {status}")),
                }
            }
            Kind::Rclone if key.contains(char::is_control) => {
                Err("rclone shows it under a changed name".into())
            }
            Kind::S3s | Kind::Rclone => {
                let path = self.root().join(bucket).join(key);
                let made = path
                    .parent()
                    .map_or(Ok(()), std::fs::create_dir_all)
                    .and_then(|()| std::fs::write(&path, content));
                self.wait_until_seen();
                made.map_err(|error| error.to_string())
            }
            Kind::Azurite => azurite::put(self.addr, bucket, key, content),
            Kind::Registry => registry::put(self.addr, bucket, key, content),
            Kind::Gcs => self.gcs().put(bucket, key, content),
        }
    }

    /// Reads an object under exactly this key, if it exists.
    pub fn read(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        match self.kind {
            Kind::Moto => {
                let path = format!("/{bucket}/{}", http::encode(key));
                let got = self.request("GET", &path, &[], b"");
                (got.status == 200).then_some(got.body)
            }
            Kind::S3s | Kind::Rclone => std::fs::read(self.root().join(bucket).join(key)).ok(),
            Kind::Azurite => azurite::get(self.addr, bucket, key),
            Kind::Registry => registry::get(self.addr, bucket, key),
            Kind::Gcs => self.gcs().get(bucket, key),
        }
    }

    /// Removes the object under exactly this key.
    pub fn remove(&self, bucket: &str, key: &str) {
        match self.kind {
            Kind::Moto => {
                let path = format!("/{bucket}/{}", http::encode(key));
                let done = self.request("DELETE", &path, &[], b"");
                assert_eq!(done.status, 204);
            }
            Kind::S3s | Kind::Rclone => {
                std::fs::remove_file(self.root().join(bucket).join(key)).expect("an object");
                self.wait_until_seen();
            }
            Kind::Azurite => azurite::delete(self.addr, bucket, key),
            Kind::Registry => registry::delete(self.addr, bucket, key),
            Kind::Gcs => self.gcs().delete(bucket, key),
        }
    }

    /// Waits until a server that caches its folders has read them again.
    fn wait_until_seen(&self) {
        if self.kind == Kind::Rclone {
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Sends a request that moto takes for a signed one.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let headers = [&SIGNED, headers].concat();
        http::request(self.addr, method, path, &headers, body).expect("a reply")
    }

    /// Makes moto check keys and signatures from now on.
    pub fn demand_credentials(&self) {
        let plain = [("Content-Type", "text/plain")];
        let done = http::request(self.addr, "POST", "/moto-api/reset-auth", &plain, b"0");
        assert_eq!(done.expect("a reply").status, 200);
    }

    /// Stops the process: connections are accepted and never answered.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Continues a stopped process.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends the process at once: connections are refused from now on.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        for _ in 0..500 {
            if TcpStream::connect(self.addr).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server outlives its SIGKILL");
    }

    /// Makes moto check neither keys nor signatures from now on.
    pub fn waive_credentials(&self) {
        let plain = [("Content-Type", "text/plain")];
        let done = http::request(self.addr, "POST", "/moto-api/reset-auth", &plain, b"inf");
        assert_eq!(done.expect("a reply").status, 200);
    }

    fn root(&self) -> PathBuf {
        self.data.path().join(ROOT)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().expect("a process id"));
        kill(pid, signal).expect("our own child");
    }

    fn wait_until_up(&mut self, plain: bool) -> bool {
        let patience = Instant::now() + Duration::from_secs(60);
        while Instant::now() < patience {
            if let Running::Process(child) = &mut self.running
                && let Ok(Some(_)) = child.try_wait()
            {
                return false;
            }
            let up = match plain {
                true => http::request(self.addr, "GET", "/", &[], b"").is_ok(),
                false => TcpStream::connect(self.addr).is_ok(),
            };
            if up {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Running::Process(child) = &mut self.running {
            // SIGKILL ends a stopped process too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
