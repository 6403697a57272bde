//! The servers' programs, and their start commands.

use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::super::{registry, tool::tool};
use super::{ACCESS_KEY, Kind, ROOT, SECRET_KEY};

/// moto with the bucket `many`, filled from the start. The arguments are a port and a file of keys.
const FILLED_MOTO: &str = "
import sys
from moto.s3.models import s3_backends
from moto.server import main
port, keys = sys.argv[1:]
backend = s3_backends['123456789012']['aws']
backend.create_bucket('many', 'us-east-1')
for key in open(keys).read().splitlines():
    backend.put_object('many', key, b'x')
main(['-H', '127.0.0.1', '-p', port])
";

/// azurite, in which all objects from a file of keys appear with the first written blob.
const FILLED_AZURITE: &str = "
const store = require(
    process.env.AZURITE + '/dist/src/blob/persistence/LokiBlobMetadataStore'
).default.prototype;
const create = store.createBlob;
store.createBlob = async function (context, blob, ...more) {
    const created = await create.call(this, context, blob, ...more);
    const blobs = this.db.getCollection(this.BLOBS_COLLECTION);
    const first = blobs.findOne({ name: blob.name });
    for (const name of require('fs').readFileSync(process.env.KEYS, 'utf8').split('\\n')) {
        if (name !== blob.name) {
            blobs.insert({ ...first, $loki: undefined, meta: undefined, name });
        }
    }
    return created;
};
";

/// Starts a server on an address, with a folder for its data.
pub(super) fn spawn(
    kind: Kind,
    addr: SocketAddr,
    data: &tempfile::TempDir,
    more: &[&OsStr],
) -> Child {
    let (program, port) = (program(kind), addr.port().to_string());
    let mut command = Command::new(&program);
    match kind {
        Kind::Moto if !more.is_empty() => command
            .args(["-c", FILLED_MOTO, &port])
            .arg(in_file(data, "keys", more[0])),
        Kind::Moto => command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/support/locked_moto.py"
            ))
            .args(["-H", "127.0.0.1", "-p", &port]),
        Kind::S3s => command
            .args(["--host", "127.0.0.1", "--port", &port])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(data.path().join(ROOT)),
        Kind::Rclone => command
            .args(["serve", "s3", "--addr", &addr.to_string()])
            .args(["--auth-key", &format!("{ACCESS_KEY},{SECRET_KEY}")])
            // With this, rclone soon sees files that are put into the folder by hand. (With 0s it
            // would only expire its cache, and do nothing else.)
            .args(["--dir-cache-time", "10ms", "--config", "/dev/null"])
            .arg(data.path().join(ROOT)),
        Kind::Gcs => panic!("the GCS stub is no process"),
        Kind::Registry => {
            let config = registry::configure(addr, data.path(), more).expect("a configuration");
            command.arg("serve").arg(config)
        }
        Kind::Azurite => command
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port])
            .args([
                "--inMemoryPersistence",
                "--skipApiVersionCheck",
                "--disableTelemetry",
            ])
            // azurite writes its configuration into its working directory.
            .current_dir(data.path()),
    };
    std::fs::create_dir(data.path().join(ROOT)).expect("a folder");
    let log = File::create(data.path().join("log")).expect("a log");
    match (kind, more) {
        (Kind::Azurite, [keys]) => {
            let hook = in_file(data, "hook.js", OsStr::new(FILLED_AZURITE));
            command
                .env("NODE_OPTIONS", format!("--require {}", hook.display()))
                .env("AZURITE", tool("azurite/node_modules/azurite"))
                .env("KEYS", in_file(data, "keys", keys));
        }
        (Kind::Azurite, more) => {
            command.args(more);
        }
        _ => {}
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

fn in_file(data: &tempfile::TempDir, name: &str, content: &OsStr) -> PathBuf {
    let path = data.path().join(name);
    std::fs::write(&path, content.as_encoded_bytes()).expect("a file");
    path
}

/// Finds an installed server.
pub fn program(kind: Kind) -> PathBuf {
    tool(match kind {
        Kind::Moto => "moto/bin/python",
        Kind::S3s => "bin/s3s-fs",
        Kind::Rclone => "rclone/bin/rclone",
        Kind::Gcs => panic!("the GCS stub is no tool"),
        Kind::Registry => "docker-registry/usr/bin/docker-registry",
        Kind::Azurite => "azurite/node_modules/.bin/azurite-blob",
    })
}
