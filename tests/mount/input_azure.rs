//! Mistakes with Azure Blob Storage: `check` and the mount name the mistake and the remedy in one
//! line.

use super::home::Home;
use super::input::{Case, case, host, is_told, within, works};
use super::program::run;
use super::support::azurite;
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind, Server};

#[test]
fn a_mistake_about_azure_is_reported_without_a_request() {
    let home = Home::new();
    // No server listens there, so a request would change the message.
    let at = "protocol=http&domain=127.0.0.1:9";
    let long = "a".repeat(64);
    let no_container = "Azure requires 3 to 63 lower-case letters, digits and single hyphens";
    let mut cases: Vec<Case> = ["Backup", "a--b", "ab", &long, "-abc", "abc-", "a_b"]
        .iter()
        .map(|name| case(format!("azblob://{name}?{at}"), &[], &[no_container]))
        .collect();
    let none = [("AZURE_STORAGE_KEY", "-"), ("AZURE_STORAGE_ACCOUNT", "-")];
    let with = |pair: (&'static str, &'static str)| [&none[..], &[pair]].concat();
    const STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
    let url = format!("azblob://backup?{at}");
    cases.extend([
        case(
            format!("{url}&storage_account=acme.blob.core.windows.net"),
            &[],
            &["storage_account", "without a domain"],
        ),
        case(
            format!("{url}&storage_account=Acme"),
            &none[..1],
            &["account names have no capitals: correct storage_account"],
        ),
        case(
            &url,
            &none,
            &["the account is missing", "AZURE_STORAGE_ACCOUNT"],
        ),
        case(
            &url,
            &none[..1],
            &["no credentials: set", "AZURE_STORAGE_KEY"],
        ),
        case(
            &url,
            &[("AZURE_STORAGE_KEY", "s3cret!")],
            &["AZURE_STORAGE_KEY is not a key: it is not base64; copy it again"],
        ),
        case(
            &url,
            &[("AZURE_STORAGE_KEY", "c0VjUmVU\n")],
            &["AZURE_STORAGE_KEY holds a blank, a line break", "remove it"],
        ),
        case(
            &url,
            &[
                ("AZURE_STORAGE_KEY", "-"),
                ("AZURE_STORAGE_SAS_TOKEN", "s3cret"),
            ],
            &["AZURE_STORAGE_SAS_TOKEN is not a SAS: it must have the parts"],
        ),
        case(
            &url,
            &[
                ("AZURE_STORAGE_KEY", "-"),
                ("AZURE_STORAGE_SAS_TOKEN", "sp=rl&sig=s3cret"),
            ],
            &[
                "AZURE_STORAGE_SAS_TOKEN has no se",
                "copy it whole, in quotes",
            ],
        ),
        case(
            &url,
            &[
                ("AZURE_STORAGE_KEY", "-"),
                ("AZURE_STORAGE_SAS_TOKEN", "?se=2030-01-01&sig=s3cret"),
            ],
            &["AZURE_STORAGE_SAS_TOKEN has no sp"],
        ),
        case(
            &url,
            &with((STRING, "AccountName=acme;AcountKey=s3cret==")),
            &[
                "no AccountKey or SharedAccessSignature",
                "\"AcountKey\" is unknown",
                "misspelt",
            ],
        ),
        case(
            &url,
            &with((STRING, "AcountName=acme;AccountKey=c0VjUmVU")),
            &[
                "no AccountName",
                "\"AcountName\" is unknown: is it misspelt?",
            ],
        ),
        case(
            &url,
            &with((STRING, "s3cret")),
            &[STRING, "name=value;name=value"],
        ),
        case(
            &url,
            &with((
                STRING,
                "AccountName=acme;AccountKey=c0VjUmVU;BlobEndpoint=acme",
            )),
            &["BlobEndpoint must be https://host"],
        ),
        case(
            "azblob://backup?protocol=ftp",
            &[],
            &["parameter protocol is \"ftp\": known are http, https"],
        ),
        case(
            "azblob://backup?domain=https://acme.blob.core.windows.net",
            &[],
            &["domain must be a host name"],
        ),
        case(
            format!("azblob://backup/50%/x?{at}"),
            &[],
            &["path is not percent-encoded"],
        ),
        case(
            format!("azblob://backup/a//b?{at}"),
            &[],
            &["empty segment (//): remove one slash"],
        ),
    ]);
    for case in &cases {
        is_told(&home, case, &["s3cret", "c0VjUmVU", azurite::KEY]);
    }
}

#[test]
fn a_refusal_of_azure_is_reported_with_a_remedy() {
    let home = Home::new();
    let server = Server::shared(Kind::Azurite);
    let bucket = server.bucket();
    let proxy = Proxy::start(server.addr());
    let url = |container: &str, server: &str| {
        format!("azblob://{container}/pre?protocol=http&domain={server}")
    };
    let here = url(&bucket, &host(&server));
    let by_sas = |permissions: &str, end: &str| {
        let sas = azurite::sas(&bucket, permissions, end);
        vec![
            ("AZURE_STORAGE_KEY", None),
            ("AZURE_STORAGE_SAS_TOKEN", Some(sas)),
        ]
    };
    let sas = |permissions: &str, end: &str, says: &[&str]| Case {
        env: by_sas(permissions, end),
        ..case(&here, &[], says)
    };
    for case in [
        case(
            url("no-such-container", &host(&server)),
            &[],
            &[
                "404 ContainerNotFound",
                "create the bucket, container or folder",
            ],
        ),
        case(
            &here,
            &[("AZURE_STORAGE_KEY", "d3Jvbmc=")],
            &["403 Auth", "permission for listing and reading"],
        ),
        sas(
            "rl",
            "2020-01-01T00:00:00Z",
            &["403 Auth", "permission for listing"],
        ),
        sas(
            "r",
            "2090-01-01T00:00:00Z",
            &["403 Auth", "permission to list blobs"],
        ),
        case(
            url(&bucket, "127.0.0.1:9") + "&localemu=true",
            &[],
            &["connection refused", "nothing listens"],
        ),
        case(
            here.replace("protocol=http", "protocol=https"),
            &[],
            &["is http meant, or another port?"],
        ),
    ] {
        is_told(&home, &case, &[azurite::KEY, "sig="]);
    }
    for (fault, says) in [
        (
            Fault::Body(
                403,
                "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate \
                 the request.</Message><AuthenticationErrorDetail>Request date header too old: \
                 'Tue, 10 Sep 2024'</AuthenticationErrorDetail></Error>",
            ),
            "403 AuthenticationFailed: Server failed to authenticate the request. (this machine's \
             clock is wrong)",
        ),
        (
            Fault::Body(
                403,
                "<Error><Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not \
                 valid in the specified time frame: Start [x]</AuthenticationErrorDetail></Error>",
            ),
            "403 AuthenticationFailed (the SAS has expired, or is not valid yet)",
        ),
        (
            Fault::Body(400, "Client sent an HTTP request to an HTTPS server.\n"),
            "400 (the server speaks https, not http)",
        ),
        (Fault::Status(404, None), "404"),
        (
            Fault::Body(200, "<html>log in</html>"),
            "the answer is not a listing",
        ),
    ] {
        proxy.set(fault);
        let endpoint = proxy.endpoint().replace("http://", "");
        is_told(
            &home,
            &case(url(&bucket, &endpoint), &[], &[says]),
            &[azurite::KEY],
        );
    }
    // The documented permissions suffice.
    for prefix in ["/", "/pre/", "/50%25/x%20y/", "/pre?prefix=in/ner/"] {
        let separator = if prefix.contains('?') { '&' } else { '?' };
        let host = host(&server);
        let url = format!("azblob://{bucket}{prefix}{separator}protocol=http&domain={host}");
        works(&home, &case(&url, &[], &[]));
        let mut writer = Case {
            env: by_sas("rcwdl", "2090-01-01T00:00:00Z"),
            ..case(&url, &[], &[])
        };
        works(&home, &writer);
        // The form that the portal shows.
        let sas = writer.env[1].1.take().map(|sas| format!("?{sas}"));
        writer.env[1].1 = sas;
        works(&home, &writer);
    }
    server
        .inject(&bucket, "pre/app/schema", b"schema \"a\" {}\n")
        .unwrap();
    let reader = Case {
        env: by_sas("rl", "2090-01-01T00:00:00Z"),
        ..case(&here, &[], &[])
    };
    let ran = run(&mut within(
        &reader,
        home.atlasfs(["check", "--registry", &here]),
    ))
    .ok();
    assert!(ran.text().contains("yes"), "{ran}");
    let args = ["check", "--write", "--registry", &here];
    let ran = run(&mut within(&reader, home.atlasfs(args)));
    assert!(ran.text().contains("permission to write blobs"), "{ran}");
}
