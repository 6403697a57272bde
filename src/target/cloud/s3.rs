//! Opening an S3 bucket: its parameters and the environment's credentials, each honoured exactly
//! or refused by name.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use url::{Host, Url};

use super::dialect::Dialect;
use super::opening::{
    Env, Refusal, connector, denied, invalid, is_loopback, is_word, opened, options, refuse,
    secret, set, unbuilt,
};
use super::{CloudDriver, retries};
use crate::target::{Failure, S3Location};

/// Where a bucket answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The URL of the bucket, or with `virtual_hosted` false of the service.
    pub(super) url: String,
    pub(super) virtual_hosted: bool,
    pub(super) region: String,
}

/// Opens the driver of a bucket. Nothing is sent.
pub(in crate::target) fn open(location: &S3Location, env: Env<'_>) -> Result<CloudDriver, Failure> {
    opened(&location.url, || {
        let endpoint = endpoint(location, env)?;
        let url = Url::parse(&endpoint.url).map_err(invalid)?;
        let builder = AmazonS3Builder::new()
            .with_bucket_name(&location.bucket)
            .with_region(&endpoint.region)
            .with_endpoint(&endpoint.url)
            .with_virtual_hosted_style_request(endpoint.virtual_hosted)
            // One DELETE an object: not every store has the bulk request.
            .with_disable_bulk_delete(true)
            .with_retry(retries())
            .with_http_connector(connector(&url))
            .with_client_options(options(&url));
        let builder = encryption(builder, location)?;
        let builder = credentials(builder, location, env)?;
        let store = builder.build().map_err(unbuilt)?;
        let (prefix, url) = (&location.prefix, &location.url);
        Ok(CloudDriver::new(store, Dialect::S3, prefix, url))
    })
}

/// Refuses what neither object_store nor this driver can do, and what contradicts itself.
fn check(location: &S3Location) -> Result<(), Refusal> {
    let named = location.endpoint.is_some();
    if location.profile.is_some() {
        return refuse(
            "profile is not supported, for shared config files are not read; set AWS_ACCESS_KEY_ID \
             and AWS_SECRET_ACCESS_KEY (aws configure export-credentials prints them)",
        );
    }
    if location.role.is_some() {
        return refuse(
            "role is not supported; assume it outside and set AWS_ACCESS_KEY_ID, \
             AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_ROLE_ARN with \
             AWS_WEB_IDENTITY_TOKEN_FILE",
        );
    }
    if !is_word(&location.bucket, "-._") {
        return refuse("that is no name of a bucket");
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
        Some(region) if !is_word(region, "-") => refuse("that is no name of a region"),
        _ => Ok(()),
    }
}

/// Decides where the bucket answers, as the AWS SDKs do.
pub(super) fn endpoint(location: &S3Location, env: Env<'_>) -> Result<Endpoint, Refusal> {
    check(location)?;
    let bucket = &location.bucket;
    let from_env = || {
        // What chooses an endpoint of AWS's own is more exact than a variable for everything.
        let chosen = location.accelerate || location.dualstack || location.fips;
        let ignored = set(env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        let ignored = ignored.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
        let found = names.iter().find_map(|name| set(env, name));
        found.filter(|_| !chosen && !ignored)
    };
    let named = location.endpoint.clone().or_else(from_env);
    let region = location
        .region
        .clone()
        .or_else(|| set(env, "AWS_REGION"))
        .or_else(|| set(env, "AWS_DEFAULT_REGION"))
        // Other stores sign for some region or other; this is the one that they expect.
        .or_else(|| named.as_ref().map(|_| "us-east-1".into()));
    let Some(region) = region else {
        return refuse("the region is missing: add region=… to the url, or set AWS_REGION");
    };
    if !is_word(&region, "-") {
        return refuse("AWS_REGION is no name of a region");
    }
    if let Some(named) = named {
        return custom(location, &named, region);
    }
    let scheme = if location.disable_https {
        "http"
    } else {
        "https"
    };
    let domain = match region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    };
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

/// Tells whether a bucket's name can be part of a host name. With https it then has no dot, for a
/// certificate for *.host does not cover it.
fn hostable(bucket: &str, scheme: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    bucket
        .bytes()
        .all(|byte| fits(byte) || (byte == b'.' && scheme == "http"))
}

/// Decides where the bucket answers at an endpoint that was named.
fn custom(location: &S3Location, named: &str, region: String) -> Result<Endpoint, Refusal> {
    let url = Url::parse(named).map_err(|_| invalid("endpoint is no url (https://host:port)"))?;
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
        // The SDKs never put a bucket before an address, and nothing resolves below localhost.
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

fn encryption(builder: AmazonS3Builder, location: &S3Location) -> Result<AmazonS3Builder, Refusal> {
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

/// Finds the credentials, in the order of the AWS SDKs, and never by asking an address that
/// nobody has named.
fn credentials(
    builder: AmazonS3Builder,
    location: &S3Location,
    env: Env<'_>,
) -> Result<AmazonS3Builder, Refusal> {
    if location.anonymous {
        // The keys are never used; without any, object_store would turn to the metadata address.
        return Ok(builder
            .with_skip_signature(true)
            .with_access_key_id("anonymous")
            .with_secret_access_key("anonymous"));
    }
    let key_id = secret(env, "AWS_ACCESS_KEY_ID")?;
    match (key_id, secret(env, "AWS_SECRET_ACCESS_KEY")?) {
        (Some(id), Some(key)) => {
            let builder = builder.with_access_key_id(id).with_secret_access_key(key);
            return Ok(match secret(env, "AWS_SESSION_TOKEN")? {
                Some(token) => builder.with_token(token),
                None => builder,
            });
        }
        (Some(_), None) => return refuse("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"),
        (None, Some(_)) => return refuse("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID"),
        (None, None) => {}
    }
    let keys = |builder: AmazonS3Builder, pairs: Vec<(AmazonS3ConfigKey, String)>| {
        let with = |builder: AmazonS3Builder, (key, value)| builder.with_config(key, value);
        pairs.into_iter().fold(builder, with)
    };
    use AmazonS3ConfigKey as Key;
    match (
        set(env, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        set(env, "AWS_ROLE_ARN"),
    ) {
        (Some(file), Some(role)) => {
            let mut pairs = vec![(Key::WebIdentityTokenFile, file), (Key::RoleArn, role)];
            let name = set(env, "AWS_ROLE_SESSION_NAME");
            pairs.extend(name.map(|name| (Key::RoleSessionName, name)));
            let service = set(env, "AWS_ENDPOINT_URL_STS");
            pairs.extend(service.map(|service| (Key::StsEndpoint, service)));
            return Ok(keys(builder, pairs));
        }
        (Some(_), None) => return refuse("AWS_WEB_IDENTITY_TOKEN_FILE needs AWS_ROLE_ARN"),
        (None, _) => {}
    }
    if let Some(path) = set(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        if !path.starts_with('/') {
            return refuse("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must start with a slash");
        }
        let pairs = vec![(Key::ContainerCredentialsRelativeUri, path)];
        return Ok(keys(builder, pairs));
    }
    if let Some(service) = set(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let Some(file) = set(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") else {
            return refuse(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI needs AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            );
        };
        if !trusted(&service) {
            return refuse(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this host, \
                 ECS or EKS",
            );
        }
        let pairs = vec![
            (Key::ContainerCredentialsFullUri, service),
            (Key::ContainerAuthorizationTokenFile, file),
        ];
        return Ok(keys(builder, pairs));
    }
    let disabled = set(env, "AWS_EC2_METADATA_DISABLED").map(|value| value.to_lowercase());
    match (
        set(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        disabled.as_deref(),
    ) {
        (_, Some("true")) | (None, None) => {}
        (Some(service), _) => {
            let service = service.trim_end_matches('/');
            Url::parse(service)
                .map_err(|_| invalid("AWS_EC2_METADATA_SERVICE_ENDPOINT is no url"))?;
            return Ok(builder.with_metadata_endpoint(service));
        }
        (None, Some("false")) => return Ok(builder),
        (None, Some(_)) => return refuse("AWS_EC2_METADATA_DISABLED must be true or false"),
    }
    Err(denied(
        "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
         AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN; on EC2 AWS_EC2_METADATA_DISABLED=false; for \
         a public bucket add anonymous=true to the url",
    ))
}

/// Tells whether the token for a container's credentials may be sent to a service, by the rule of
/// the AWS SDKs.
fn trusted(service: &str) -> bool {
    let Ok(url) = Url::parse(service) else {
        return false;
    };
    let known = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
    let local = is_loopback(&url);
    let known = url.host_str().is_some_and(|host| known.contains(&host));
    url.scheme() == "https" || (url.scheme() == "http" && (local || known))
}
