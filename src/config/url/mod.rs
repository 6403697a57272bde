//! The URL of a registry or a backup, parsed into the location that a driver opens.

mod parts;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use self::parts::{
    AZURE_PARAMETERS, FILE_PARAMETERS, GS_PARAMETERS, Parts, Query, S3_PARAMETERS, decode_path,
    has_user_info, prefix_of, shown,
};
use crate::store::{AzureLocation, FileLocation, GsLocation, Location, OciLocation, S3Location};

pub(crate) use self::parts::did_you_mean;

/// The schemes of a target, as messages list them.
pub const SCHEMES: [&str; 6] = ["file", "s3", "gs", "azblob", "azureblob", "oci"];

/// The values of `ssetype` that S3 supports.
const SSE_TYPES: [&str; 3] = ["AES256", "aws:kms", "aws:kms:dsse"];

/// The reason why a URL is refused, in one line without user info, token or signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("target {url:?} can't be used: {reason}")]
pub struct UrlError {
    url: String,
    reason: String,
}

impl UrlError {
    pub(super) fn new(url: &str, reason: impl Into<String>) -> Self {
        Self {
            url: shown(url),
            reason: reason.into(),
        }
    }

    /// Returns the URL in a form that is safe to show.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Parses the URL of a registry or a backup.
///
/// # Errors
///
/// [`UrlError`] for an unknown scheme or parameter (with the known ones), a missing or malformed
/// part, user info outside `oci://`, and a fragment.
pub fn parse_target(url: &str) -> Result<Location, UrlError> {
    locate(url).map_err(|reason| UrlError::new(url, reason))
}

/// Parses the URL of a flag (`--registry`, `--backup`).
///
/// # Errors
///
/// [`UrlError`] as for [`parse_target`], and for user info with any scheme: every user of the
/// machine can read a command line.
pub fn parse_flag(url: &str) -> Result<Location, UrlError> {
    match has_user_info(url) {
        true => Err(UrlError::new(
            url,
            "credentials never come from the command line, where every user of the machine can \
             read them: put the URL into atlas.hcl, its token into a variable or getenv",
        )),
        false => parse_target(url),
    }
}

/// Decodes a path's percent-encoding; `None` if it is malformed.
pub(super) fn decode(text: &str) -> Option<String> {
    parts::decode(text, false)
}

fn locate(url: &str) -> Result<Location, String> {
    let parts = Parts::split(url)?;
    if parts.fragment {
        return Err("a fragment (#…) has no meaning here: remove it, or write # as %23".into());
    }
    if parts.user_info.is_some() && parts.scheme != "oci" {
        return Err(format!(
            "user info before the {:?} is not allowed in a {} URL: credentials come from the \
             provider's own chain (environment, profile, instance)",
            "@", parts.scheme
        ));
    }
    match parts.scheme.as_str() {
        "file" => file(&parts).map(Location::File),
        "s3" => s3(&parts).map(Location::S3),
        "gs" => gs(&parts).map(Location::Gs),
        "azblob" | "azureblob" => azure(&parts).map(Location::Azure),
        "oci" => oci(&parts).map(Location::Oci),
        "atlas" => Err("atlas:// is not a target's URL: for Atlas Cloud leave the url out".into()),
        unknown => Err(format!(
            "unknown scheme {unknown:?}{}: known are {}",
            did_you_mean(unknown, &SCHEMES),
            SCHEMES.join(", ")
        )),
    }
}

fn file(parts: &Parts<'_>) -> Result<FileLocation, String> {
    let mut query = Query::parse(parts, &FILE_PARAMETERS)?;
    if !matches!(parts.authority, "" | "localhost") {
        return Err(format!(
            "a folder's path must be absolute, but {:?} is in the place of a host: did you mean \
             file:///{}{}?",
            parts.authority, parts.authority, parts.path
        ));
    }
    let segments = decode_path(parts.path)?;
    if segments.is_empty() {
        return Err("it names no folder: write file:///path/of/a/folder".into());
    }
    let mut dir = PathBuf::from("/");
    dir.extend(segments);
    Ok(FileLocation {
        url: parts.shown.clone(),
        dir,
        create_dir: query.flag("create_dir")?,
        known: false,
        read_only: false,
    })
}

fn s3(parts: &Parts<'_>) -> Result<S3Location, String> {
    let mut query = Query::parse(parts, &S3_PARAMETERS)?;
    let disable_https = query.flag("disable_https")?;
    let sse_type = query.text("ssetype")?;
    if let Some(value) = sse_type.as_deref().filter(|v| !SSE_TYPES.contains(v)) {
        return Err(format!(
            "parameter ssetype is {value:?}: known are {}",
            SSE_TYPES.join(", ")
        ));
    }
    let old = query.optional_flag("s3ForcePathStyle")?;
    let new = query.optional_flag("use_path_style")?;
    if old.is_some() && new.is_some() {
        return Err(
            "s3ForcePathStyle is the old name of use_path_style: keep use_path_style".into(),
        );
    }
    Ok(S3Location {
        bucket: store(parts, "bucket", "")?,
        prefix: prefix_of(parts.path, query.text("prefix")?)?,
        region: query.text("region")?,
        endpoint: match query.text("endpoint")? {
            Some(endpoint) => Some(parts::endpoint(&endpoint, disable_https)?),
            None => None,
        },
        profile: query.text("profile")?,
        anonymous: query.flag("anonymous")?,
        use_path_style: new.or(old).unwrap_or(false),
        disable_https,
        role: query.text("role")?,
        accelerate: query.flag("accelerate")?,
        dualstack: query.flag("dualstack")?,
        fips: query.flag("fips")?,
        hostname_immutable: query.flag("hostname_immutable")?,
        sse_type,
        kms_key_id: query.text("kmskeyid")?,
        url: parts.shown.clone(),
    })
}

fn gs(parts: &Parts<'_>) -> Result<GsLocation, String> {
    let mut query = Query::parse(parts, &GS_PARAMETERS)?;
    Ok(GsLocation {
        bucket: store(parts, "bucket", "")?,
        prefix: prefix_of(parts.path, query.text("prefix")?)?,
        anonymous: query.flag("anonymous")?,
        access_id: query.text("access_id")?,
        universe_domain: query.text("universe_domain")?,
        url: parts.shown.clone(),
    })
}

fn azure(parts: &Parts<'_>) -> Result<AzureLocation, String> {
    let mut query = Query::parse(parts, &AZURE_PARAMETERS)?;
    let protocol = query.text("protocol")?;
    if let Some(value) = protocol
        .as_deref()
        .filter(|v| !matches!(*v, "http" | "https"))
    {
        return Err(format!(
            "parameter protocol is {value:?}: known are http, https"
        ));
    }
    Ok(AzureLocation {
        // Azure's own containers are named `$root`, `$web` and `$logs`.
        container: store(parts, "container", "$")?,
        prefix: prefix_of(parts.path, query.text("prefix")?)?,
        storage_account: query.text("storage_account")?,
        domain: query.text("domain")?,
        protocol,
        local_emulator: query.flag("localemu")?,
        cdn: query.flag("cdn")?,
        url: parts.shown.clone(),
    })
}

fn oci(parts: &Parts<'_>) -> Result<OciLocation, String> {
    Query::parse(parts, &[])?;
    let host = parts.authority;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.is_empty() || host.starts_with(':') || !host.bytes().all(valid) {
        return Err(format!(
            "{host:?} is not a host: write oci://host/repository or oci://host:port/repository"
        ));
    }
    let repository = decode_path(parts.path)?.join("/");
    if repository.is_empty() {
        return Err("it names no repository: write oci://host/repository".into());
    }
    if repository.contains(['@', ':']) {
        // That part may be half of a token, so the message doesn't repeat it.
        return Err(
            "it must not have a tag or digest, because each artifact has its own tag: end it \
             before the ':' or '@'"
                .into(),
        );
    }
    // The characters of the distribution specification's repository names.
    if !repository
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
    {
        return Err(
            "its repository has a character other than letters, digits, '-', '.' and '_'".into(),
        );
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("its repository must have lower-case letters only: correct it".into());
    }
    let ends = |byte: u8| byte.is_ascii_alphanumeric();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().copied().is_some_and(ends) && bytes.last().copied().is_some_and(ends)
    };
    if !repository.split('/').all(is_part) {
        return Err("each part of its repository must begin and end with a letter or digit".into());
    }
    let credentials = match parts.user_info {
        None => None,
        Some(info) => match info.split_once(':') {
            Some((user, token)) if !user.is_empty() && !token.is_empty() => Some((
                parts::decode(user, false).ok_or("its user is not percent-encoded UTF-8")?,
                parts::decode(token, false).ok_or("its token is not percent-encoded UTF-8")?,
            )),
            _ => return Err("its user info must be user:token, neither of them empty".into()),
        },
    };
    Ok(OciLocation {
        url: parts.shown.clone(),
        host: host.into(),
        repository,
        credentials,
    })
}

/// Returns the bucket or container, which is in the position of a host.
fn store(parts: &Parts<'_>, what: &str, extra: &str) -> Result<String, String> {
    let name = parts.authority;
    if name.is_empty() {
        return Err(format!(
            "it names no {what}: write {}://{what}/prefix",
            parts.scheme
        ));
    }
    // All characters that some provider allows in a bucket's name; each provider checks its
    // stricter rules itself.
    let valid = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || extra.contains(c);
    match name.chars().all(valid) {
        true => Ok(name.into()),
        false => Err(format!(
            "{name:?} is not a valid {what} name: use letters, digits, '-', '.' and '_'"
        )),
    }
}
