//! The location of a store: the parsed form of a target's URL.
//!
//! `config` parses URLs into locations; each backend opens its own kind. Every location carries its
//! URL for messages: without user info, tokens or signatures.

use std::fmt;
use std::path::PathBuf;

/// A folder: `file:///srv/registry?create_dir=true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLocation {
    /// The URL for messages.
    pub url: String,
    /// The folder, absolute.
    pub dir: PathBuf,
    /// `create_dir`: a missing folder is made at mount (never later: a folder that vanishes while
    /// mounted is an outage).
    pub create_dir: bool,
    /// An earlier mount has used the folder. If its `.atlasfs` is missing, the folder is only the
    /// mount point of an absent disk, and nothing is made in it.
    pub known: bool,
    /// The mount is read-only, so nothing is made in the folder.
    pub read_only: bool,
}

/// An S3 bucket: `s3://bucket/prefix?region=…`. The fields are the query parameters of Go CDK, and
/// therefore of Atlas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Location {
    /// The URL for messages.
    pub url: String,
    /// The bucket.
    pub bucket: String,
    /// The prefix, without leading or trailing slashes; empty for the whole bucket.
    pub prefix: String,
    /// `region`.
    pub region: Option<String>,
    /// `endpoint`, with its scheme.
    pub endpoint: Option<String>,
    /// `profile`.
    pub profile: Option<String>,
    /// `anonymous`: requests are not signed.
    pub anonymous: bool,
    /// `use_path_style` (old: `s3ForcePathStyle`).
    pub use_path_style: bool,
    /// `disable_https`.
    pub disable_https: bool,
    /// `role`: the ARN of a role to assume.
    pub role: Option<String>,
    /// `accelerate`.
    pub accelerate: bool,
    /// `dualstack`.
    pub dualstack: bool,
    /// `fips`.
    pub fips: bool,
    /// `hostname_immutable`: the endpoint's host name is used as it stands.
    pub hostname_immutable: bool,
    /// `ssetype`: `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub sse_type: Option<String>,
    /// `kmskeyid`.
    pub kms_key_id: Option<String>,
}

/// A Google Cloud Storage bucket: `gs://bucket/prefix`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GsLocation {
    /// The URL for messages.
    pub url: String,
    /// The bucket.
    pub bucket: String,
    /// The prefix, without leading or trailing slashes.
    pub prefix: String,
    /// `anonymous`.
    pub anonymous: bool,
    /// `access_id`; `-` means none.
    pub access_id: Option<String>,
    /// `universe_domain`.
    pub universe_domain: Option<String>,
}

/// An Azure Blob container: `azblob://container/prefix?storage_account=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureLocation {
    /// The URL for messages.
    pub url: String,
    /// The container.
    pub container: String,
    /// The prefix, without leading or trailing slashes.
    pub prefix: String,
    /// `storage_account`.
    pub storage_account: Option<String>,
    /// `domain`.
    pub domain: Option<String>,
    /// `protocol`: `http` or `https`.
    pub protocol: Option<String>,
    /// `localemu`.
    pub local_emulator: bool,
    /// `cdn`.
    pub cdn: bool,
}

/// An OCI repository: `oci://user:token@host/repository`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OciLocation {
    /// The URL for messages.
    pub url: String,
    /// The host and its port.
    pub host: String,
    /// The repository's path on the host.
    pub repository: String,
    /// User and token from the URL. Never shown.
    pub credentials: Option<(String, String)>,
}

impl fmt::Debug for OciLocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "OciLocation({})", self.url)
    }
}

/// The location of a target. Its `Display` is the URL for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder.
    File(FileLocation),
    /// An S3 bucket.
    S3(S3Location),
    /// A Google Cloud Storage bucket.
    Gs(GsLocation),
    /// An Azure Blob container.
    Azure(AzureLocation),
    /// An OCI registry.
    Oci(OciLocation),
    /// Atlas Cloud: the registry of a `repo` block without a `url`.
    AtlasCloud,
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Location::File(location) => &location.url,
            Location::S3(location) => &location.url,
            Location::Gs(location) => &location.url,
            Location::Azure(location) => &location.url,
            Location::Oci(location) => &location.url,
            Location::AtlasCloud => "atlas://",
        })
    }
}
