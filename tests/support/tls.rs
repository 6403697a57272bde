//! TLS for servers without TLS: certificates of an authority that exists in one test alone, and a
//! front that decrypts the requests to a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// Makes the authority and its certificates: valid ones, and one of each invalid kind.
const SCRIPT: &str = r#"
cd "$1"
make() {
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$2" -out "$3" "${@:4}"
}
make authority ca.key ca.pem -x509 -days 2
make other other.key other.pem -x509 -days 2
make localhost key.pem request.pem
cat > ca.conf <<END
[ca]
default_ca = authority
[authority]
database = index
serial = serial
new_certs_dir = .
policy = policy
default_md = sha256
unique_subject = no
[policy]
commonName = supplied
[here]
subjectAltName = DNS:localhost, DNS:registry.example, DNS:storage.googleapis.com, DNS:storage.google.example, DNS:acme.blob.core.windows.net
basicConstraints = CA:FALSE
[elsewhere]
subjectAltName = DNS:elsewhere.example
basicConstraints = CA:FALSE
END
: > index
echo 01 > serial
sign() {
    openssl ca -batch -notext -config ca.conf -cert ca.pem -keyfile ca.key -in request.pem \
        -out "$1.pem" -extensions "$2" -startdate "$3" -enddate "$4"
}
sign cert here 20200101000000Z 20900101000000Z
sign over here 20200101000000Z 20200102000000Z
sign early here 20890101000000Z 20900101000000Z
sign elsewhere elsewhere 20200101000000Z 20900101000000Z
"#;

/// A folder with an authority and its certificates. The authority is `ca.pem`. For the key
/// `key.pem` there are `cert.pem` (valid for `localhost`), `over.pem`, `early.pem` and
/// `elsewhere.pem`. `other.pem` is an authority that has signed none of them.
#[derive(Debug)]
pub struct Certificates(tempfile::TempDir);

impl Certificates {
    /// Makes the folder.
    pub fn new() -> Self {
        Self(in_folder(SCRIPT))
    }

    /// Returns the path of one of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Makes a folder with `cert.pem`, a certificate for loopback that no authority has signed, and its
/// `key.pem`.
pub fn self_signed() -> tempfile::TempDir {
    const SCRIPT: &str = r#"
cd "$1"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -out cert.pem -keyout key.pem \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::ffff:127.0.0.1
"#;
    in_folder(SCRIPT)
}

/// Runs a script with a new folder as its argument, and returns the folder.
fn in_folder(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bash = Command::new("bash");
    let made = bash.args(["-euo", "pipefail", "-c", script, "bash"]);
    let made = made.arg(folder.path()).output().expect("bash");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "openssl: {said}");
    folder
}

/// A port that speaks TLS before a server without it. Dropping it closes its connections.
#[derive(Debug)]
pub struct Front {
    addr: SocketAddr,
    _runtime: Runtime,
}

impl Front {
    /// Starts the front with the certificate and the key in two files.
    pub fn start(server: SocketAddr, certificate: &Path, key: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("a key that fits")));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await?;
                    let mut client = acceptor.accept(client).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self {
            addr,
            _runtime: runtime,
        }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }
}
