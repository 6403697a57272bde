//! Opening an S3 bucket: its parameters, each honoured exactly or refused by name.

use object_store::aws::AmazonS3Builder;
use url::{Host, Url};

use super::backend::CloudBackend;
use super::credentials::aws::known;
use super::credentials::aws_profile::Profile;
use super::credentials::aws_services::domain;
use super::opened::opened;
use super::quirks::Quirks;
use crate::store::http::middleware::Connector;
use crate::store::http::opening::{
    Env, OpenError, connector, invalid, is_word, options, refuse, set, unbuilt,
};
use crate::store::http::reply::Provider;
use crate::store::http::retries;
use crate::store::{Failure, S3Location};

/// The endpoint of a bucket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The URL of the bucket, or of the service if `virtual_hosted` is false.
    pub(super) url: String,
    pub(super) virtual_hosted: bool,
    pub(super) region: String,
}

/// Opens the backend for a bucket, without sending anything.
pub(crate) fn open(location: &S3Location, env: Env<'_>) -> Result<CloudBackend, Failure> {
    opened(&location.url, || {
        let known = known(location, env)?;
        let endpoint = endpoint(location, env, known.profile())?;
        let url = Url::parse(&endpoint.url).map_err(invalid)?;
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&location.bucket)
            .with_region(&endpoint.region)
            .with_endpoint(&endpoint.url)
            .with_virtual_hosted_style_request(endpoint.virtual_hosted)
            // One DELETE for each object: not every store supports the bulk request.
            .with_disable_bulk_delete(true)
            .with_retry(retries())
            .with_http_connector(connector(&url, Provider::S3))
            .with_client_options(options(&url));
        let builder = encryption(builder, location)?;
        let (builder, renewal) = known.give(builder, location, &endpoint.region)?;
        let connector = Connector {
            renewal,
            ..connector(&url, Provider::S3)
        };
        let store = builder
            .with_http_connector(connector)
            .build()
            .map_err(unbuilt)?;
        let (prefix, url) = (&location.prefix, &location.url);
        Ok(CloudBackend::new(store, Quirks::S3, prefix, url))
    })
}

/// Returns the bucket's service, however the location is written.
pub(crate) fn service_name(location: &S3Location, env: Env<'_>) -> String {
    let find = |location: &S3Location, env: Env<'_>| {
        let known = known(location, env)?;
        let unnamed = location.region.is_none() && !known.names_region();
        let location = S3Location {
            // All addresses of a bucket count as the same.
            use_path_style: true,
            accelerate: false,
            region: match unnamed {
                true => Some("us-east-1".into()),
                false => location.region.clone(),
            },
            ..location.clone()
        };
        endpoint(&location, env, known.profile())
    };
    let found = find(location, env).or_else(|_| {
        // A missing profile does not affect the location.
        let location = S3Location {
            profile: None,
            ..location.clone()
        };
        find(&location, &|name| {
            env(name).filter(|_| !name.ends_with("_PROFILE"))
        })
    });
    let Ok(found) = found else {
        // Such a location can't be opened either.
        return location.endpoint.clone().unwrap_or_default();
    };
    let service = Url::parse(&found.url).map_or(found.url, |url| {
        crate::store::http::opening::service_name(&url)
    });
    let region = &found.region;
    // A bucket's name is unique within each AWS partition, and all regions of the partition serve
    // it.
    match service.strip_suffix(domain(region)) {
        Some(_) if region.starts_with("us-gov-") => "aws-us-gov".into(),
        Some(_) => domain(region).into(),
        None => service,
    }
}

/// Refuses parameters that object_store or this backend can't honour, or that contradict each
/// other.
fn check(location: &S3Location) -> Result<(), OpenError> {
    let named = location.endpoint.is_some();
    if location.role.is_some() && location.anonymous {
        return refuse("anonymous excludes role: assuming a role needs credentials");
    }
    if !is_word(&location.bucket, "-._") {
        return refuse("invalid bucket name");
    }
    if location.bucket.ends_with("--x-s3") {
        return refuse("directory buckets (S3 Express) are not supported; use a general one");
    }
    if named && (location.accelerate || location.dualstack || location.fips) {
        return refuse("endpoint excludes accelerate, dualstack and fips, which choose one");
    }
    if location.accelerate && (location.fips || location.use_path_style) {
        return refuse("accelerate excludes fips and use_path_style");
    }
    if location.accelerate && location.bucket.contains('.') {
        return refuse("accelerate needs a bucket without dots in its name");
    }
    if location.hostname_immutable && !named {
        return refuse("hostname_immutable needs endpoint");
    }
    match location.region.as_deref() {
        Some(region) if !is_word(region, "-") => {
            refuse("invalid region: write region=eu-west-1, for example")
        }
        _ => Ok(()),
    }
}

/// Decides the endpoint of the bucket, as the AWS SDKs do.
pub(super) fn endpoint(
    location: &S3Location,
    env: Env<'_>,
    profile: Option<Profile<'_>>,
) -> Result<Endpoint, OpenError> {
    check(location)?;
    let bucket = &location.bucket;
    let from_env = || {
        // A choice of one of AWS's own endpoints takes precedence over a general variable.
        let chosen = location.accelerate || location.dualstack || location.fips;
        let ignored = set(env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        let ignored = ignored.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
        let found = names.iter().find_map(|name| set(env, name));
        let of_profile = || profile?.endpoint("s3").map(String::from);
        found.or_else(of_profile).filter(|_| !chosen && !ignored)
    };
    let named = location.endpoint.clone().or_else(from_env);
    let region = location
        .region
        .clone()
        .or_else(|| set(env, "AWS_REGION"))
        .or_else(|| set(env, "AWS_DEFAULT_REGION"))
        .or_else(|| profile?.get("region").map(String::from))
        // Other stores accept any region in the signature, or expect this one.
        .or_else(|| named.as_ref().map(|_| "us-east-1".into()));
    let Some(region) = region else {
        return refuse("the region is missing: add region=… to the url, or set AWS_REGION");
    };
    if !is_word(&region, "-") {
        return refuse("AWS_REGION, or the profile's region, is invalid");
    }
    if let Some(named) = named {
        return custom(location, &named, region);
    }
    named_for_aws(bucket, &region)?;
    let scheme = if location.disable_https {
        "http"
    } else {
        "https"
    };
    let domain = domain(&region);
    let dual = if location.dualstack { ".dualstack" } else { "" };
    let host = match (location.accelerate, location.fips) {
        (true, _) => format!("s3-accelerate{dual}.{domain}"),
        (false, true) => format!("s3-fips{dual}.{region}.{domain}"),
        (false, false) => format!("s3{dual}.{region}.{domain}"),
    };
    let virtual_hosted = !location.use_path_style && hostable(bucket, scheme);
    Ok(Endpoint {
        url: match virtual_hosted {
            true => format!("{scheme}://{bucket}.{host}"),
            false => format!("{scheme}://{host}"),
        },
        virtual_hosted,
        region,
    })
}

/// Refuses a bucket name that AWS does not allow. In us-east-1 some old buckets have other names.
fn named_for_aws(bucket: &str, region: &str) -> Result<(), OpenError> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|byte| inner(byte) || b"-.".contains(&byte))
        && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bucket.ends_with(|c: char| c.is_ascii_alphanumeric());
    match fits || (region == "us-east-1" && bucket.len() >= 3) {
        true => Ok(()),
        false => refuse(
            "invalid AWS bucket name: use 3 to 63 lower-case letters, digits, - and .; another \
             store needs endpoint=…",
        ),
    }
}

/// Tells whether a bucket's name can be part of a host name. With https it must have no dot,
/// because a certificate for *.host would not cover it.
fn hostable(bucket: &str, scheme: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    bucket
        .bytes()
        .all(|byte| fits(byte) || (byte == b'.' && scheme == "http"))
}

/// Decides the endpoint of the bucket from a custom URL.
fn custom(location: &S3Location, named: &str, region: String) -> Result<Endpoint, OpenError> {
    let url =
        Url::parse(named).map_err(|_| invalid("endpoint is not a url (https://host:port)"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("endpoint must start with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("endpoint must not hold credentials; set AWS_ACCESS_KEY_ID and so on");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("endpoint must not have a query or fragment");
    }
    if location.disable_https && url.scheme() == "https" {
        return refuse("disable_https contradicts the https:// of endpoint");
    }
    let name = match url.host() {
        Some(Host::Domain(name)) if name != "localhost" => Some(name.to_owned()),
        // The SDKs never put a bucket before an IP address, and names below localhost don't
        // resolve.
        Some(_) => None,
        None => return refuse("endpoint has no host"),
    };
    let path = url.path().trim_end_matches('/');
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let fixed = location.use_path_style || location.hostname_immutable;
    let virtual_host = name.filter(|_| !fixed && hostable(&location.bucket, url.scheme()));
    Ok(Endpoint {
        virtual_hosted: virtual_host.is_some(),
        url: match virtual_host {
            Some(host) => {
                format!("{}://{}.{host}{port}{path}", url.scheme(), location.bucket)
            }
            None => format!("{}://{}{path}", url.scheme(), url.authority()),
        },
        region,
    })
}

fn encryption(
    builder: AmazonS3Builder,
    location: &S3Location,
) -> Result<AmazonS3Builder, OpenError> {
    let key = location.kms_key_id.as_deref();
    match (location.sse_type.as_deref(), key) {
        (None, None) => Ok(builder),
        (None | Some("AES256"), Some(_)) => refuse("kmskeyid needs ssetype=aws:kms"),
        (Some(kind @ ("AES256" | "aws:kms" | "aws:kms:dsse")), key) => {
            use object_store::aws::AmazonS3ConfigKey as Key;
            let parse = |name: &str| name.parse::<Key>().map_err(|error| invalid(&error));
            let builder = builder.with_config(parse("aws_server_side_encryption")?, kind);
            match key {
                Some(key) => Ok(builder.with_config(parse("aws_sse_kms_key_id")?, key)),
                None => Ok(builder),
            }
        }
        (Some(_), _) => refuse("ssetype must be AES256, aws:kms or aws:kms:dsse"),
    }
}
