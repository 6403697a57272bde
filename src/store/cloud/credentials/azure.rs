//! Finding the credentials of an Azure account, in the order of Go CDK and of Azure's SDKs. It
//! never asks an address that is not configured.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::azure::{
    AzureAccessKey, AzureConfigKey as Key, AzureCredential, MicrosoftAzureBuilder, split_sas,
};
use object_store::client::CredentialProvider;
use url::Url;

use super::token_service::{FormField, TokenRequest, TokenService, is_safe};
use crate::store::AzureLocation;
use crate::store::http::credential_cache::{CredentialCache, Renewal};
use crate::store::http::opening::{Env, OpenError, denied, invalid, is_word, refuse, secret, set};

/// The account and the key of every emulator; they are public.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// The login host of Azure's public cloud.
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// The scope that a principal requests.
const SCOPE: &str = "https://storage.azure.com/.default";
/// The metadata address of Azure's virtual machines.
const METADATA_HOST: &str = "http://169.254.169.254";
/// The path of its tokens.
const METADATA_PATH: &str = "/metadata/identity/oauth2/token";
/// The parameters that it requires.
const METADATA_QUERY: [(&str, &str); 2] = [
    ("api-version", "2019-08-01"),
    ("resource", "https://storage.azure.com"),
];

const NO_CREDENTIALS: &str = "no credentials: set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or \
                    AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_CONNECTION_STRING, or \
                    AZURE_TENANT_ID and AZURE_CLIENT_ID with AZURE_CLIENT_SECRET or \
                    AZURE_FEDERATED_TOKEN_FILE; on a virtual machine \
                    AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential";

/// An account and its credentials.
pub(crate) struct AzureAccount {
    /// The account's name.
    pub(crate) account: String,
    /// The account's credentials.
    pub(crate) credentials: AzureCredentials,
    /// Whether it is an emulator's.
    pub(crate) emulator: bool,
    /// `BlobEndpoint` of the connection string.
    pub(crate) endpoint: Option<Url>,
    /// `DefaultEndpointsProtocol` of the connection string.
    pub(crate) protocol: Option<String>,
    /// `EndpointSuffix` of the connection string.
    pub(crate) suffix: Option<String>,
}

/// The credentials of an account. Never shown.
pub(crate) enum AzureCredentials {
    /// A key, or a shared access signature.
    Text(Key, String),
    /// The tokens of a principal or an identity.
    Tokens(Arc<CredentialCache<String>>),
}

impl AzureCredentials {
    /// Gives the credentials to a builder.
    pub(crate) fn give(&self, builder: MicrosoftAzureBuilder) -> MicrosoftAzureBuilder {
        match self {
            AzureCredentials::Text(key, value) => builder.with_config(*key, value),
            AzureCredentials::Tokens(tokens) => {
                builder.with_credentials(Arc::new(AzureProvider(Arc::clone(tokens))))
            }
        }
    }

    /// Returns the renewal of the credentials, if there is one.
    pub(crate) fn renewal(&self) -> Option<Renewal> {
        match self {
            AzureCredentials::Text(..) => None,
            AzureCredentials::Tokens(tokens) => Some(Renewal::Bearer(Arc::clone(tokens))),
        }
    }
}

/// Finds the account and its credentials.
pub(crate) fn find(location: &AzureLocation, env: Env<'_>) -> Result<AzureAccount, OpenError> {
    let names = [
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGEBLOB_CONNECTIONSTRING",
    ];
    let connection = names.iter().find_map(|name| set(env, name));
    let connection = ConnectionString::parse(&connection.unwrap_or_default())?;
    let emulator = location.local_emulator
        || connection.emulator
        || set(env, "AZURE_STORAGE_IS_LOCAL_EMULATOR")
            .is_some_and(|value| matches!(&*value.to_lowercase(), "1" | "t" | "true"));
    let named = set(env, "AZURE_STORAGE_ACCOUNT");
    let account = location
        .storage_account
        .clone()
        .or_else(|| named.clone())
        .or_else(|| connection.account.clone())
        .or_else(|| emulator.then(|| EMULATOR_ACCOUNT.into()));
    let Some(account) = account else {
        return Err(invalid(format!(
            "the account is missing: add storage_account=… to the url, or set \
             AZURE_STORAGE_ACCOUNT{}",
            connection.strange("AccountName")
        )));
    };
    if !is_word(&account, "-") {
        return refuse(
            "storage_account and AZURE_STORAGE_ACCOUNT must be the account's name, without a \
             domain",
        );
    }
    if account.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return refuse("account names have no capitals: correct storage_account");
    }
    let key = secret(env, "AZURE_STORAGE_KEY")?;
    let sas = secret(env, "AZURE_STORAGE_SAS_TOKEN")?;
    let from_connection = key.is_none() && sas.is_none();
    let of_another = |owner: &Option<String>| owner.as_ref().is_some_and(|owner| *owner != account);
    let credentials = if let Some(key) = key {
        if of_another(&named) {
            return Err(denied(
                "AZURE_STORAGE_KEY is the key of AZURE_STORAGE_ACCOUNT, but storage_account is \
                 another account; AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET can \
                 open both",
            ));
        }
        of_key(key, "AZURE_STORAGE_KEY")?
    } else if let Some(sas) = sas {
        of_sas(&sas, "AZURE_STORAGE_SAS_TOKEN")?
    } else if connection.key.is_some() || connection.sas.is_some() {
        if of_another(&connection.account) {
            return Err(denied(
                "AZURE_STORAGE_CONNECTION_STRING is for another account than storage_account or \
                 AZURE_STORAGE_ACCOUNT: name one of them",
            ));
        }
        match (&connection.key, &connection.sas) {
            (Some(key), _) => of_key(key.clone(), "AccountKey of AZURE_STORAGE_CONNECTION_STRING")?,
            (None, sas) => of_sas(
                sas.as_deref().unwrap_or_default(),
                "SharedAccessSignature of AZURE_STORAGE_CONNECTION_STRING",
            )?,
        }
    } else if emulator && account == EMULATOR_ACCOUNT {
        of_key(EMULATOR_KEY.into(), "the emulator's key")?
    } else {
        of_identity(env).map_err(|(kind, why)| {
            // The connection string was perhaps meant to provide them.
            let strange = connection.strange("AccountKey or SharedAccessSignature");
            (kind, why + &strange)
        })?
    };
    Ok(AzureAccount {
        account,
        credentials,
        emulator,
        endpoint: connection.endpoint.filter(|_| from_connection),
        protocol: connection.protocol,
        suffix: connection.suffix,
    })
}

fn of_key(key: String, name: &str) -> Result<AzureCredentials, OpenError> {
    match AzureAccessKey::try_new(&key) {
        Ok(_) => Ok(AzureCredentials::Text(Key::AccessKey, key)),
        Err(_) => Err(invalid(format!(
            "{name} is not a key: it is not base64; copy it again"
        ))),
    }
}

fn of_sas(sas: &str, name: &str) -> Result<AzureCredentials, OpenError> {
    if sas.starts_with(['"', '\'']) {
        return Err(invalid(format!(
            "{name} has quotes that are part of its value: remove them"
        )));
    }
    if sas.contains("://") {
        return Err(invalid(format!(
            "{name} is a whole URL: keep only the part after the ?"
        )));
    }
    let pairs = split_sas(sas).unwrap_or_default();
    let has = |wanted: &str| pairs.iter().any(|(name, _)| name == wanted);
    if !has("sig") {
        return Err(invalid(format!(
            "{name} is not a SAS: it must have the parts sv, sp, se and sig, joined by &"
        )));
    }
    // A stored policy of the container (`si`) may set permissions and expiry instead.
    let missing = ["sp", "se"].into_iter().find(|part| !has(part));
    match missing.filter(|_| !has("si")) {
        Some(missing) => Err(invalid(format!(
            "{name} has no {missing}, so part of it is missing: copy it whole, in quotes because \
             of the &"
        ))),
        None => Ok(AzureCredentials::Text(Key::SasKey, sas.into())),
    }
}

/// Finds a principal or an identity of Entra ID.
fn of_identity(env: Env<'_>) -> Result<AzureCredentials, OpenError> {
    let (tenant, client) = (set(env, "AZURE_TENANT_ID"), set(env, "AZURE_CLIENT_ID"));
    let client_secret = set(env, "AZURE_CLIENT_SECRET");
    let token_file = set(env, "AZURE_FEDERATED_TOKEN_FILE");
    for (name, value) in [("AZURE_TENANT_ID", &tenant), ("AZURE_CLIENT_ID", &client)] {
        if value.as_ref().is_some_and(|value| !is_word(value, "-._")) {
            return Err(invalid(format!("{name} must be letters, digits, - and .")));
        }
    }
    let mut form = match (client_secret, token_file) {
        (Some(secret), _) => vec![("client_secret", FormField::Text(secret))],
        (None, Some(file)) => vec![
            (
                "client_assertion_type",
                FormField::Text("urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into()),
            ),
            ("client_assertion", FormField::File(file.into())),
        ],
        (None, None) => return managed(client, env),
    };
    let (Some(tenant), Some(client)) = (tenant, client) else {
        return Err(denied(
            "AZURE_CLIENT_SECRET and AZURE_FEDERATED_TOKEN_FILE need AZURE_TENANT_ID and \
             AZURE_CLIENT_ID",
        ));
    };
    let host = set(env, "AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.into());
    let host = match host.contains("://") {
        true => host,
        false => format!("https://{host}"),
    };
    let url = format!("{}/{tenant}/oauth2/v2.0/token", host.trim_end_matches('/'));
    // The secret is sent to this host.
    let Some(url) = Url::parse(&url).ok().filter(is_safe) else {
        return refuse("AZURE_AUTHORITY_HOST must be https://host");
    };
    for (name, value) in [
        ("client_id", &*client),
        ("scope", SCOPE),
        ("grant_type", "client_credentials"),
    ] {
        form.push((name, FormField::Text(value.into())));
    }
    let advice = " (are AZURE_TENANT_ID, AZURE_CLIENT_ID and the secret or token file right?)";
    let service = TokenService::new(url, TokenRequest::Form(form), advice)?;
    Ok(AzureCredentials::Tokens(CredentialCache::new(service)))
}

/// Finds Azure's managed identity, if the environment selects it.
fn managed(client: Option<String>, env: Env<'_>) -> Result<AzureCredentials, OpenError> {
    let endpoint = set(env, "IDENTITY_ENDPOINT");
    let mut headers = vec![("metadata", "true".to_owned())];
    if endpoint.is_some() {
        let header = secret(env, "IDENTITY_HEADER")?;
        headers.extend(header.map(|value| ("x-identity-header", value)));
    }
    let chosen = set(env, "AZURE_TOKEN_CREDENTIALS");
    let machine = chosen.is_some_and(|chosen| chosen == "ManagedIdentityCredential");
    let host = set(env, "AZURE_POD_IDENTITY_AUTHORITY_HOST")
        .or_else(|| machine.then(|| METADATA_HOST.into()));
    let by_host = host.map(|host| host.trim_end_matches('/').to_owned() + METADATA_PATH);
    let Some(endpoint) = endpoint.or(by_host) else {
        return Err(denied(NO_CREDENTIALS));
    };
    let url = Url::parse(&endpoint).ok();
    let Some(mut url) = url.filter(|url| url.has_host() && url.scheme().starts_with("http")) else {
        return refuse("IDENTITY_ENDPOINT or AZURE_POD_IDENTITY_AUTHORITY_HOST is not a url");
    };
    url.query_pairs_mut().extend_pairs(METADATA_QUERY);
    if let Some(client) = client {
        url.query_pairs_mut().append_pair("client_id", &client);
    }
    let advice = " (does this machine or workload have a managed identity?)";
    let service = TokenService::new(url, TokenRequest::Get(headers), advice)?;
    Ok(AzureCredentials::Tokens(CredentialCache::new(service)))
}

/// The parts of a connection string.
#[derive(Default)]
struct ConnectionString {
    account: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    protocol: Option<String>,
    suffix: Option<String>,
    endpoint: Option<Url>,
    emulator: bool,
    /// Whether there is a connection string.
    given: bool,
    /// The first unknown part, if it may be shown.
    unknown: Option<String>,
}

/// The keys of connection strings for other services, and for secondary endpoints.
const ELSEWHERE: [&str; 10] = [
    "queueendpoint",
    "tableendpoint",
    "fileendpoint",
    "dfsendpoint",
    "webendpoint",
    "blobsecondaryendpoint",
    "queuesecondaryendpoint",
    "tablesecondaryendpoint",
    "filesecondaryendpoint",
    "developmentstorageproxyuri",
];

impl ConnectionString {
    /// Splits a connection string; ignores the parts for other services.
    fn parse(text: &str) -> Result<Self, OpenError> {
        const NAME: &str = "AZURE_STORAGE_CONNECTION_STRING";
        let bad = |what: &str| invalid(format!("{NAME}: {what}"));
        let mut connection = Self::default();
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            connection.given = true;
            let Some((name, value)) = part.trim().split_once('=') else {
                return Err(bad("it must be name=value;name=value;…"));
            };
            if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(bad("it holds a blank or a line break"));
            }
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            match name.to_ascii_lowercase().as_str() {
                "accountname" => connection.account = value,
                "accountkey" => connection.key = value,
                "sharedaccesssignature" => connection.sas = value,
                "defaultendpointsprotocol" => connection.protocol = value,
                "endpointsuffix" => connection.suffix = value,
                "usedevelopmentstorage" => {
                    connection.emulator = value.is_some_and(|v| v.eq_ignore_ascii_case("true"));
                }
                "blobendpoint" => {
                    let url = value.and_then(|value| Url::parse(&value).ok());
                    let plain = |url: &Url| {
                        matches!(url.scheme(), "http" | "https")
                            && url.username().is_empty()
                            && url.password().is_none()
                            && url.query().is_none()
                            && url.has_host()
                    };
                    let Some(url) = url.filter(plain) else {
                        return Err(bad("BlobEndpoint must be https://host"));
                    };
                    connection.endpoint = Some(url);
                }
                other if ELSEWHERE.contains(&other) => {}
                // Names are up to 26 letters. A key has digits, and 88 characters.
                _ if is_name(name) => {
                    connection.unknown.get_or_insert_with(|| name.into());
                }
                _ => {}
            }
        }
        let of_endpoint = connection.endpoint.as_ref().and_then(account_of);
        connection.account = connection.account.or(of_endpoint);
        let http = |protocol: &String| matches!(&**protocol, "http" | "https");
        if connection.protocol.as_ref().is_some_and(|p| !http(p)) {
            return Err(bad("DefaultEndpointsProtocol must be http or https"));
        }
        Ok(connection)
    }

    /// Names the missing part of a connection string, and any unknown part; empty if there is no
    /// connection string.
    fn strange(&self, missing: &str) -> String {
        let unknown = self.unknown.as_ref();
        let unknown = unknown.map_or_else(String::new, |name| {
            format!(", and {name:?} is unknown: is it misspelt?")
        });
        match self.given {
            true => {
                format!(" (AZURE_STORAGE_CONNECTION_STRING has no {missing}{unknown})")
            }
            false => String::new(),
        }
    }
}

/// Tells whether a text may be a misspelt name, and no part of a key.
fn is_name(text: &str) -> bool {
    (1..=30).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Returns the account of an endpoint: <https://acme.blob.core.windows.net>, or an emulator's
/// <http://127.0.0.1:10000/acme>.
fn account_of(endpoint: &Url) -> Option<String> {
    let account = match endpoint.domain() {
        Some(domain) if domain.contains('.') => domain.split('.').next(),
        _ => endpoint.path_segments()?.next(),
    };
    account
        .filter(|account| is_word(account, "-"))
        .map(String::from)
}

/// Provides tokens to object_store's Azure client.
#[derive(Debug)]
pub(crate) struct AzureProvider(pub(crate) Arc<CredentialCache<String>>);

#[async_trait]
impl CredentialProvider for AzureProvider {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let bearer = self.0.get().await?;
        Ok(Arc::new(AzureCredential::BearerToken(bearer)))
    }
}
