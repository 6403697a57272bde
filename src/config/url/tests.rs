//! URLs of targets: the accepted ones, and the text of each refusal.

use super::*;

fn refusal(url: &str) -> String {
    match parse_target(url) {
        Ok(location) => format!("{url} parsed: {location:?}"),
        Err(error) => error.to_string(),
    }
}

fn s3(url: &str) -> S3Location {
    match parse_target(url).unwrap() {
        Location::S3(location) => location,
        other => panic!("{url}: {other:?}"),
    }
}

#[test]
fn an_s3_url_has_bucket_prefix_and_every_parameter_of_go_cdk() {
    let url = "s3://my-bucket/a/b%20c/?region=eu-west-1&endpoint=localhost:9000&profile=p\
               &anonymous=true&use_path_style=1&disable_https=T&role=arn:aws:iam::1:role/r\
               &accelerate=true&ssetype=aws:kms&kmskeyid=k&dualstack=true&fips=true\
               &hostname_immutable=TRUE&prefix=x/y/";
    let expected = S3Location {
        url: url.into(),
        bucket: "my-bucket".into(),
        prefix: "a/b c/x/y".into(),
        region: Some("eu-west-1".into()),
        endpoint: Some("http://localhost:9000".into()),
        profile: Some("p".into()),
        anonymous: true,
        use_path_style: true,
        disable_https: true,
        role: Some("arn:aws:iam::1:role/r".into()),
        accelerate: true,
        dualstack: true,
        fips: true,
        hostname_immutable: true,
        sse_type: Some("aws:kms".into()),
        kms_key_id: Some("k".into()),
    };
    assert_eq!(s3(url), expected);
}

#[test]
fn a_parameter_that_is_not_there_has_its_default() {
    let expected = S3Location {
        url: "s3://b".into(),
        bucket: "b".into(),
        ..S3Location::default()
    };
    assert_eq!(s3("s3://b"), expected);
}

#[test]
fn an_endpoint_without_a_scheme_gets_one() {
    for (query, endpoint) in [
        ("endpoint=h:1", "https://h:1"),
        ("endpoint=h:1/", "https://h:1"),
        ("endpoint=h:1&disable_https=true", "http://h:1"),
        ("endpoint=http://h", "http://h"),
        ("endpoint=https%3A%2F%2Fh", "https://h"),
    ] {
        let location = s3(&format!("s3://b?{query}"));
        assert_eq!(location.endpoint.as_deref(), Some(endpoint), "{query}");
    }
    for bad in [
        "ftp://h",
        "https://",
        "http://u:pw@h",
        "h?x",
        "h%23x",
        ":80",
        "h%20x",
    ] {
        let message = refusal(&format!("s3://b?endpoint={bad}"));
        assert!(message.contains("parameter endpoint"), "{message}");
        assert!(!message.contains("u:pw"), "{message}");
    }
}

#[test]
fn the_old_name_of_use_path_style_still_works_and_both_at_once_do_not() {
    assert!(s3("s3://b?s3ForcePathStyle=true").use_path_style);
    assert!(!s3("s3://b?use_path_style=false").use_path_style);
    let message = refusal("s3://b?s3ForcePathStyle=true&use_path_style=true");
    assert!(message.contains("keep use_path_style"), "{message}");
}

#[test]
fn gs_azure_file_and_oci_urls_have_their_own_parameters() {
    let url = "gs://b/p?anonymous=false&access_id=-&universe_domain=u.example&prefix=q";
    let expected = Location::Gs(GsLocation {
        url: url.into(),
        bucket: "b".into(),
        prefix: "p/q".into(),
        anonymous: false,
        access_id: Some("-".into()),
        universe_domain: Some("u.example".into()),
    });
    assert_eq!(parse_target(url), Ok(expected));
    for scheme in ["azblob", "azureblob"] {
        let url = format!(
            "{scheme}://c/p?storage_account=a&domain=d&protocol=http&localemu=true&cdn=true"
        );
        let expected = Location::Azure(AzureLocation {
            url: url.clone(),
            container: "c".into(),
            prefix: "p".into(),
            storage_account: Some("a".into()),
            domain: Some("d".into()),
            protocol: Some("http".into()),
            local_emulator: true,
            cdn: true,
        });
        assert_eq!(parse_target(&url), Ok(expected));
    }
    for url in [
        "file:///a%20b/c/?create_dir=true",
        "file://localhost/a%20b/c?create_dir=t",
    ] {
        let expected = Location::File(FileLocation {
            url: url.into(),
            dir: "/a b/c".into(),
            create_dir: true,
            known: false,
            read_only: false,
        });
        assert_eq!(parse_target(url), Ok(expected));
    }
    let expected = Location::Oci(OciLocation {
        url: "oci://ghcr.io:443/org/repo/".into(),
        host: "ghcr.io:443".into(),
        repository: "org/repo".into(),
        credentials: Some(("me".into(), "t@k/n".into())),
    });
    assert_eq!(
        parse_target("oci://me:t%40k%2Fn@ghcr.io:443/org/repo/"),
        Ok(expected)
    );
}

#[test]
fn the_prefix_is_the_path_and_then_the_prefix_parameter() {
    for (url, prefix) in [
        ("s3://b", ""),
        ("s3://b/", ""),
        ("s3://b/a/b/", "a/b"),
        ("s3://b?prefix=a/b/", "a/b"),
        ("s3://b/a?prefix=b", "a/b"),
        ("s3://b/a%2Bb?prefix=c+d", "a+b/c d"),
        ("s3://b/%C3%A9", "é"),
    ] {
        assert_eq!(s3(url).prefix, prefix, "{url}");
    }
    for path in [
        "a//b", "a/../b", "..", "a/%2e%2e", "./a", "%00", "a%0Ab", "a%2Fb", "%zz", "%f", "%ff",
    ] {
        for url in [format!("s3://b/{path}"), format!("file:///{path}")] {
            let message = refusal(&url);
            assert!(message.contains("its path"), "{message}");
        }
    }
    for prefix in ["a//b", "../x", "a/..", "a%00"] {
        let message = refusal(&format!("gs://b?prefix={prefix}"));
        assert!(message.starts_with("target"), "{message}");
    }
}

#[test]
fn an_unknown_scheme_or_parameter_is_named_and_the_known_ones_are_listed() {
    for (url, reason) in [
        (
            "s4://b",
            "unknown scheme \"s4\" (did you mean \"s3\"?): known are file, s3, gs, azblob, azureblob, oci",
        ),
        ("azurblob://b", "did you mean \"azureblob\"?"),
        ("https://b", "unknown scheme \"https\": known are file,"),
        ("atlas://app", "leave the url out"),
        (
            "s3://b?regoin=x",
            "unknown parameter \"regoin\" (did you mean \"region\"?): known for s3 are region, endpoint,",
        ),
        (
            "s3://b?awssdk=v2",
            "unknown parameter \"awssdk\": known for s3 are",
        ),
        (
            "gs://b?region=x",
            "unknown parameter \"region\": known for gs are anonymous,",
        ),
        (
            "azblob://c?storage_acount=x",
            "did you mean \"storage_account\"?",
        ),
        (
            "file:///d?create_dirs=1",
            "(did you mean \"create_dir\"?): known for file are create_dir",
        ),
        (
            "oci://h/r?plain_http=1",
            "unknown parameter \"plain_http\": oci URLs have no parameters",
        ),
    ] {
        let message = refusal(url);
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn every_refusal_says_what_to_do() {
    for (url, reason) in [
        ("", "it is empty"),
        ("/srv/x", "it has no scheme"),
        ("file:/srv/x", "did you mean file:///srv/x?"),
        ("s3:b", "it has no scheme"),
        ("file://srv/x", "did you mean file:///srv/x?"),
        ("file:///", "it names no folder"),
        ("file://", "it names no folder"),
        ("s3://", "it names no bucket: write s3://bucket/prefix"),
        ("s3:///p", "it names no bucket"),
        ("gs://?prefix=a", "it names no bucket"),
        ("azblob:///p", "it names no container"),
        ("s3://b:80/p", "is not a valid bucket name"),
        ("s3://b%20c", "is not a valid bucket name"),
        ("s3://b#f", "a fragment"),
        ("s3://b/a b", "white space"),
        ("s3://b/a\nb", "control characters"),
        ("s3://b?region=a&region=b", "parameter region appears twice"),
        ("s3://b?region=", "parameter region is empty"),
        ("s3://b?region", "parameter region is empty"),
        (
            "s3://b?anonymous=yes",
            "parameter anonymous is \"yes\": write true or false",
        ),
        ("s3://b?anonymous", "parameter anonymous is \"\""),
        (
            "s3://b?region=%zz",
            "parameter region is not percent-encoded",
        ),
        (
            "s3://b?profile=a%0ab",
            "parameter profile has a control character",
        ),
        (
            "s3://b?ssetype=aes",
            "known are AES256, aws:kms, aws:kms:dsse",
        ),
        ("azblob://c?protocol=ftp", "known are http, https"),
        ("oci://h", "it names no repository"),
        ("oci:///r", "is not a host"),
        ("oci://:80/r", "is not a host"),
        ("oci://me@h/r", "must be user:token"),
        ("oci://me:@h/r", "must be user:token"),
        ("oci://me:%zz@h/r", "its token is not percent-encoded"),
        ("oci://h/r é", "white space"),
        ("oci://h/r%20s", "its repository has a character"),
        ("oci://h/Acme/R", "must have lower-case letters only"),
        ("oci://h/r:v1", "it must not have a tag or digest"),
        ("oci://h/a/-r", "must begin and end with a letter or digit"),
    ] {
        let message = refusal(url);
        assert!(message.starts_with("target \""), "{message}");
        assert!(message.contains(reason), "{url:?}: {message}");
        assert!(!message.contains('\n'), "{message:?}");
    }
}

#[test]
fn no_refusal_shows_user_info_a_token_or_a_signature() {
    for url in [
        "s3://SECRET:SECRET@b/p",
        "s3://SECRET@b/p",
        "file://SECRET:SECRET@localhost/d",
        "ftp://u:SECRET@h/p",
        "oci://u:SECRET@h",
        "oci://u:SE/SECRET@h/r",
        "oci://u:SECRET/x@h/r",
        "oci://u:SECRET?x@h/r",
        "oci://u:SECRET#x@h/r",
        "oci://SECRET/x@h/r",
        "oci://x/SECRET@h/r",
        "oci://u:p@SECRET@h/r?x=1",
        "oci://u:SECRET@h/r#f",
        "u:SECRET@h/r",
        "s3://b?X-Amz-Signature=SECRET",
        "s3://b?secret_key=SECRET",
        "azblob://c?sv=1&sig=SECRET%3D",
        "azblob://c?SECRET%2Fabc=",
        "azblob://c#SECRET",
        "s3://b?endpoint=http://u:SECRET@h",
    ] {
        let message = refusal(url);
        assert!(message.starts_with("target"), "{message}");
        assert!(!message.contains("SECRET"), "{url}: {message}");
    }
    let message = refusal("azblob://c?sig=x");
    assert!(message.contains("never from the URL"), "{message}");
}

#[test]
fn a_location_shows_its_url_as_written_minus_the_user_info() {
    let location = parse_target("OCI://me:SECRET@ghcr.io/org/repo").unwrap();
    assert_eq!(location.to_string(), "OCI://ghcr.io/org/repo");
    assert!(!format!("{location:?}").contains("SECRET"));
    let location = parse_target("s3://b/p/?region=x").unwrap();
    assert_eq!(location.to_string(), "s3://b/p/?region=x");
}

#[test]
fn credentials_in_a_flags_url_are_refused_whatever_the_scheme() {
    for url in [
        "oci://u:SECRET@h/r",
        "s3://SECRET@b",
        "u:SECRET@h",
        "oci://u:SE/SECRET@h/r",
    ] {
        let message = parse_flag(url).unwrap_err().to_string();
        assert!(
            message.contains("never come from the command line"),
            "{message}"
        );
        assert!(!message.contains("SECRET"), "{message}");
    }
    for url in ["oci://h/r", "s3://b/a@b?region=x", "file:///a@b"] {
        assert!(parse_flag(url).is_ok(), "{url}");
    }
}

#[test]
fn no_bytes_panic_and_every_parse_is_quick() {
    let seeds = [
        "s3://my-bucket/a/b?region=eu&endpoint=h:1&prefix=x&anonymous=true",
        "oci://me:t%40ken@ghcr.io:443/org/repo",
        "azureblob://c/p?storage_account=a&protocol=http",
        "file:///srv/registry?create_dir=true",
        "gs://b/%C3%A9?access_id=-#f",
    ];
    let started = std::time::Instant::now();
    let mut random = crate::config::fuzz::Mutator::new(7);
    for round in 0..20_000 {
        let bytes = random.mutate(seeds[round % seeds.len()].as_bytes());
        let text = String::from_utf8_lossy(&bytes);
        let message = match parse_target(&text) {
            Ok(location) => location.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(!message.contains('\n'), "{message:?}");
        let _ = parse_flag(&text);
    }
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

#[test]
fn a_second_url_in_the_place_of_the_host_is_not_shown() {
    let refused = refusal("oci://me:SECRET@\0oci://me:SECRET@oci://me:SECRET");
    assert!(!refused.contains("SECRET"), "{refused}");
    let file = refusal("s3://b\n?endpoint=http://h&region=r");
    assert!(file.contains("endpoint=http://h"), "{file}");
}
