//! The ways to get tokens for the stores of Google and Azure, and stores that accept nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use atlasfs::store::Target;
use tempfile::NamedTempFile;

use super::behind::{location_on, open_at};
use super::gcs::{Gcs, Opens};
use super::serve::{Answering, Reply, Request};
use super::server::Kind as Store;
use super::service::Service;

/// A way to get tokens: its environment, and the expected request to the service.
pub struct Way {
    pub name: &'static str,
    /// The kind of store that it opens.
    pub kind: Store,
    /// The variables that select it.
    pub env: Vec<(String, String)>,
    /// The expected request: method and path.
    pub what: &'static str,
    /// The expected fields.
    pub fields: Vec<(&'static str, &'static str)>,
    /// The expected headers.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The file that it reads.
    pub file: Option<NamedTempFile>,
}

/// Writes a file with a content.
pub fn file(content: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

/// Makes the login of a person at Google, for which a service gives out tokens.
fn login(service: &Service) -> NamedTempFile {
    file(
        &serde_json::json!({
            "type": "authorized_user",
            "client_id": "the-client",
            "client_secret": "s3cret-of-the-client",
            "refresh_token": "s3cret-refresh",
            "token_uri": service.url("/oauth"),
        })
        .to_string(),
    )
}

/// Returns every way that can use a loopback address.
pub fn ways(service: &Service) -> Vec<Way> {
    let login = login(service);
    let assertion = file("s3cret-assertion\n");
    let path = |file: &NamedTempFile| file.path().to_str().unwrap().to_owned();
    let azure = |more: &[(&str, &str)]| {
        let more = [&[("AZURE_CLIENT_ID", "the-client")], more].concat();
        more.iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect()
    };
    let principal = [
        ("AZURE_TENANT_ID", "the-tenant"),
        ("AZURE_AUTHORITY_HOST", &*service.url("/")),
    ];
    let oauth = "POST /the-tenant/oauth2/v2.0/token";
    let scope = ("scope", "https://storage.azure.com/.default");
    let client = ("client_id", "the-client");
    let resource = ("resource", "https://storage.azure.com");
    vec![
        Way {
            name: "a person's login",
            kind: Store::Gcs,
            env: vec![("GOOGLE_APPLICATION_CREDENTIALS".into(), path(&login))],
            what: "POST /oauth",
            fields: vec![
                ("grant_type", "refresh_token"),
                client,
                ("client_secret", "s3cret-of-the-client"),
                ("refresh_token", "s3cret-refresh"),
            ],
            headers: vec![("content-type", "application/x-www-form-urlencoded")],
            file: Some(login),
        },
        Way {
            name: "a client's secret",
            kind: Store::Azurite,
            env: azure(&[&principal[..], &[("AZURE_CLIENT_SECRET", "s3cret+&=")]].concat()),
            what: oauth,
            fields: vec![
                ("grant_type", "client_credentials"),
                client,
                scope,
                ("client_secret", "s3cret+&="),
            ],
            headers: vec![("content-type", "application/x-www-form-urlencoded")],
            file: None,
        },
        Way {
            name: "workload identity",
            kind: Store::Azurite,
            env: azure(
                &[
                    &principal[..],
                    &[("AZURE_FEDERATED_TOKEN_FILE", &path(&assertion))],
                ]
                .concat(),
            ),
            what: oauth,
            fields: vec![
                ("grant_type", "client_credentials"),
                client,
                scope,
                ("client_assertion", "s3cret-assertion"),
                (
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ),
            ],
            headers: vec![],
            file: Some(assertion),
        },
        Way {
            name: "an app's identity",
            kind: Store::Azurite,
            env: azure(&[
                ("IDENTITY_ENDPOINT", &service.url("/msi/token")),
                ("IDENTITY_HEADER", "s3cret-header"),
            ]),
            what: "GET /msi/token",
            fields: vec![client, resource, ("api-version", "2019-08-01")],
            headers: vec![("x-identity-header", "s3cret-header"), ("metadata", "true")],
            file: None,
        },
        Way {
            name: "a pod's identity",
            kind: Store::Azurite,
            env: azure(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &service.url("/"))]),
            what: "GET /metadata/identity/oauth2/token",
            fields: vec![client, resource],
            headers: vec![("metadata", "true")],
            file: None,
        },
    ]
}

/// A store that accepts only the tokens of a service, and counts its requests.
pub struct Gate {
    asked: Arc<Mutex<u32>>,
    addr: SocketAddr,
    _keep: Box<dyn std::any::Any>,
}

impl Gate {
    /// Makes a store of a kind.
    pub fn new(kind: Store, service: &Service) -> Self {
        let (asked, opens) = (Arc::<Mutex<u32>>::default(), service.opens());
        let counted = Arc::clone(&asked);
        let opens: Opens = Arc::new(move |token| {
            *counted.lock().unwrap() += 1;
            opens(token)
        });
        let (addr, keep): (_, Box<dyn std::any::Any>) = match kind {
            Store::Gcs => {
                let gcs = Gcs::opened_by(opens);
                gcs.create("bucket");
                (gcs.addr(), Box::new(gcs))
            }
            _ => {
                let azure = Answering::start(move |request| azure(&opens, request));
                (azure.addr(), Box::new(azure))
            }
        };
        Self {
            asked,
            addr,
            _keep: keep,
        }
    }

    /// Opens the store in one of the ways.
    pub fn target(&self, way: &Way) -> Target {
        let endpoint = format!("http://{}", self.addr);
        let location = location_on(way.kind, "bucket", endpoint.clone());
        let env = way.env.iter().map(|(n, v)| (&**n, &**v));
        let emulator = ("STORAGE_EMULATOR_HOST", &*endpoint);
        open_at(&location, &env.chain([emulator]).collect::<Vec<_>>())
    }

    /// Returns the number of requests since the last call.
    pub fn asked(&self) -> u32 {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Checks the token in place of Azure: azurite accepts no tokens without TLS.
fn azure(opens: &Opens, request: &Request) -> Reply {
    let token = request.headers.get("authorization");
    if !token.is_some_and(|token| opens(token)) {
        let code = ("x-ms-error-code".into(), "InvalidAuthenticationInfo".into());
        return (401, vec![code], Vec::new());
    }
    let body = match request.query.get("comp").map(String::as_str) {
        // The object without a stamp that a HEAD shows.
        Some("list") => {
            "<EnumerationResults><Blobs><Blob><Name>pre/app/schema</Name><Properties>\
             <Content-Length>0</Content-Length><Etag>\"0x1\"</Etag>\
             <Last-Modified>Tue, 10 Sep 2024 17:37:44 GMT</Last-Modified>\
             </Properties></Blob></Blobs></EnumerationResults>"
        }
        _ => "",
    };
    let headers = [
        ("ETag", "\"0x1\""),
        ("Last-Modified", "Tue, 10 Sep 2024 17:37:44 GMT"),
    ];
    let headers = headers.map(|(name, value)| (name.into(), value.into()));
    let status = if request.method == "PUT" { 201 } else { 200 };
    (status, headers.into(), body.into())
}
