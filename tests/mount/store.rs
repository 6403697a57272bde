//! The stores that a mount uses as targets, read and written around the mount.

use std::path::PathBuf;
use std::sync::Arc;

use super::home::Home;
use super::support::server::{Kind, Server};

/// The prefix in every bucket's URL.
const PREFIX: &str = "pre/fix";

/// The listing of a repository that holds a schema in HCL.
pub const LISTED: [&str; 6] = [
    "migrations",
    "plans",
    "schema",
    "schema.hcl",
    "tags",
    "versions",
];

/// One store.
#[derive(Debug, Clone)]
pub enum Store {
    /// A folder.
    Folder(PathBuf),
    /// A bucket, with the endpoint for the mount.
    Bucket {
        server: Arc<Server>,
        bucket: String,
        /// The endpoint for the mount: the server itself or a proxy.
        endpoint: String,
    },
}

impl Store {
    /// Makes a folder in a home.
    pub fn folder(home: &Home, name: &str) -> Self {
        Self::Folder(home.folder(name))
    }

    /// Makes a bucket on a server that tests share.
    pub fn bucket(kind: Kind) -> Self {
        let server = Server::shared(kind);
        let endpoint = server.endpoint();
        Self::on(server, endpoint)
    }

    /// Makes a bucket on a server, with an endpoint.
    pub fn on(server: Arc<Server>, endpoint: String) -> Self {
        Self::Bucket {
            bucket: server.bucket(),
            server,
            endpoint,
        }
    }

    /// Returns the URL for the mount.
    pub fn url(&self) -> String {
        match self {
            Self::Folder(path) => format!("file://{}", path.display()),
            Self::Bucket {
                bucket,
                endpoint,
                server,
            } => match server.kind() {
                Kind::Moto | Kind::S3s | Kind::Rclone => format!(
                    "s3://{bucket}/{PREFIX}?region=us-east-1&use_path_style=true&\
                     endpoint={endpoint}"
                ),
                Kind::Azurite => format!(
                    "azblob://{bucket}/{PREFIX}?protocol=http&domain={}",
                    endpoint.trim_start_matches("http://")
                ),
                Kind::Registry => format!("{}/{bucket}", endpoint.replace("http", "oci")),
                // STORAGE_EMULATOR_HOST has its address.
                Kind::Gcs => format!("gs://{bucket}/{PREFIX}"),
            },
        }
    }

    /// Reads an object.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Folder(path) => std::fs::read(path.join(key)).ok(),
            Self::Bucket { server, bucket, .. } => server.read(bucket, &below(server, key)),
        }
    }

    /// Puts an object there by hand, without a stamp.
    pub fn put(&self, key: &str, content: impl AsRef<[u8]>) {
        match self {
            Self::Folder(path) => {
                let path = path.join(key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            Self::Bucket { server, bucket, .. } => server
                .inject(bucket, &below(server, key), content.as_ref())
                .unwrap(),
        }
    }

    /// Deletes an object by hand.
    pub fn delete(&self, key: &str) {
        match self {
            Self::Folder(path) => std::fs::remove_file(path.join(key)).unwrap(),
            Self::Bucket { server, bucket, .. } => {
                server.remove(bucket, &below(server, key));
            }
        }
    }
}

/// Returns the path of a key on a server: an OCI registry has no prefix.
fn below(server: &Server, key: &str) -> String {
    match server.kind() {
        Kind::Registry => key.to_owned(),
        _ => format!("{PREFIX}/{key}"),
    }
}

/// Returns the arguments for a registry and its backups, in order.
pub fn flags(stores: &[Store]) -> Vec<String> {
    let names = std::iter::once("--registry").chain(std::iter::repeat("--backup"));
    let flags = names.zip(stores);
    flags
        .flat_map(|(flag, store)| [flag.to_owned(), store.url()])
        .collect()
}

/// Makes a registry and two backups, all of them folders.
pub fn folders(home: &Home) -> Vec<Store> {
    let names = ["registry", "backup-1", "backup-2"];
    names.map(|name| Store::folder(home, name)).into()
}

/// Makes a bucket as the registry, and two backups: a bucket on another server, and a folder.
pub fn buckets(home: &Home) -> Vec<Store> {
    vec![
        Store::bucket(Kind::Moto),
        Store::bucket(Kind::S3s),
        Store::folder(home, "backup-2"),
    ]
}

/// Asserts that all stores hold these bytes under a key.
#[track_caller]
pub fn all_hold(stores: &[Store], key: &str, content: &[u8]) {
    for store in stores {
        let held = store.get(key);
        assert!(
            held.as_deref() == Some(content),
            "{} holds {:?} as {key}, not {:?}",
            store.url(),
            held.as_deref().map(String::from_utf8_lossy),
            String::from_utf8_lossy(content)
        );
    }
}

/// Asserts that no store holds anything under a key.
#[track_caller]
pub fn none_holds(stores: &[Store], key: &str) {
    for store in stores {
        assert_eq!(store.get(key), None, "{} holds {key}", store.url());
    }
}

/// Makes a schema state with a mark.
pub fn schema(mark: &str) -> String {
    format!("schema \"main\" {{\n  comment = \"{mark}\"\n}}\n")
}

/// Makes a plan with a mark.
pub fn plan(name: &str, mark: &str) -> String {
    format!(
        "plan \"{name}\" {{\n  from      = \"a1=\"\n  to        = \"b2=\"\n  migration = \
         <<-SQL\n  -- {mark}\n  CREATE TABLE t (id int);\n  SQL\n}}\n"
    )
}
