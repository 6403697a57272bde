//! Finding the credentials of an Azure account, in the order of Go CDK and of Azure's SDKs, and
//! never by asking an address that nobody has named.

use object_store::azure::{
    AzureAccessKey, AzureConfigKey as Key, MicrosoftAzureBuilder, split_sas,
};
use url::Url;

use super::opening::{Env, Refusal, denied, invalid, is_loopback, is_word, refuse, secret, set};
use crate::target::AzureLocation;

/// The account and the key that every emulator has; they are public.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// What a virtual machine's metadata address is asked for.
const METADATA_PATH: &str = "/metadata/identity/oauth2/token";

const NONE: &str = "no credentials: set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or \
                    AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_CONNECTION_STRING, or \
                    AZURE_TENANT_ID and AZURE_CLIENT_ID with AZURE_CLIENT_SECRET or \
                    AZURE_FEDERATED_TOKEN_FILE; on a virtual machine \
                    AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential";

/// An account, and what opens it.
pub(super) struct Found {
    /// The account's name.
    pub(super) account: String,
    /// What opens it.
    pub(super) credentials: Credentials,
    /// Whether it is an emulator's.
    pub(super) emulator: bool,
    /// `BlobEndpoint` of the connection string.
    pub(super) endpoint: Option<Url>,
    /// `DefaultEndpointsProtocol` of the connection string.
    pub(super) protocol: Option<String>,
    /// `EndpointSuffix` of the connection string.
    pub(super) suffix: Option<String>,
}

/// What opens an account. Never shown.
pub(super) struct Credentials(Vec<(Key, String)>);

impl Credentials {
    /// Gives them to a builder.
    pub(super) fn give(self, builder: MicrosoftAzureBuilder) -> MicrosoftAzureBuilder {
        let with = |builder: MicrosoftAzureBuilder, (key, value)| builder.with_config(key, value);
        self.0.into_iter().fold(builder, with)
    }
}

/// Finds the account and its credentials.
pub(super) fn find(location: &AzureLocation, env: Env<'_>) -> Result<Found, Refusal> {
    let names = [
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGEBLOB_CONNECTIONSTRING",
    ];
    let connection = names.iter().find_map(|name| set(env, name));
    let connection = Connection::parse(&connection.unwrap_or_default())?;
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
        return refuse(
            "the account is missing: add storage_account=… to the url, or set \
             AZURE_STORAGE_ACCOUNT",
        );
    };
    if !is_word(&account, "-") {
        return refuse("storage_account must be the account's name, without a domain");
    }
    let key = secret(env, "AZURE_STORAGE_KEY")?;
    let sas = secret(env, "AZURE_STORAGE_SAS_TOKEN")?;
    let from_connection = key.is_none() && sas.is_none();
    let of_another = |owner: &Option<String>| owner.as_ref().is_some_and(|owner| *owner != account);
    let credentials = if let Some(key) = key {
        if of_another(&named) {
            return Err(denied(
                "AZURE_STORAGE_KEY is the key of AZURE_STORAGE_ACCOUNT, and storage_account is \
                 another one; AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET can open both",
            ));
        }
        of_key(key, "AZURE_STORAGE_KEY")?
    } else if let Some(sas) = sas {
        of_sas(&sas, "AZURE_STORAGE_SAS_TOKEN")?
    } else if connection.key.is_some() || connection.sas.is_some() {
        if of_another(&connection.account) {
            return Err(denied(
                "AZURE_STORAGE_CONNECTION_STRING is another account's than storage_account",
            ));
        }
        match (connection.key, connection.sas) {
            (Some(key), _) => of_key(key, "AccountKey of AZURE_STORAGE_CONNECTION_STRING")?,
            (None, sas) => of_sas(
                &sas.unwrap_or_default(),
                "SharedAccessSignature of AZURE_STORAGE_CONNECTION_STRING",
            )?,
        }
    } else if emulator && account == EMULATOR_ACCOUNT {
        of_key(EMULATOR_KEY.into(), "the emulator's key")?
    } else {
        of_identity(env)?
    };
    Ok(Found {
        account,
        credentials,
        emulator,
        endpoint: connection.endpoint.filter(|_| from_connection),
        protocol: connection.protocol,
        suffix: connection.suffix,
    })
}

fn of_key(key: String, name: &str) -> Result<Credentials, Refusal> {
    match AzureAccessKey::try_new(&key) {
        Ok(_) => Ok(Credentials(vec![(Key::AccessKey, key)])),
        Err(_) => Err(invalid(format!("{name} is no key: it is not base64"))),
    }
}

fn of_sas(sas: &str, name: &str) -> Result<Credentials, Refusal> {
    let pairs = split_sas(sas).unwrap_or_default();
    match pairs.iter().any(|(name, _)| name == "sig") {
        true => Ok(Credentials(vec![(Key::SasKey, sas.into())])),
        false => Err(invalid(format!(
            "{name} is no signature: it must look like sv=…&sp=…&sig=…"
        ))),
    }
}

/// Finds a principal or an identity of Entra ID.
fn of_identity(env: Env<'_>) -> Result<Credentials, Refusal> {
    let (tenant, client) = (set(env, "AZURE_TENANT_ID"), set(env, "AZURE_CLIENT_ID"));
    let client_secret = set(env, "AZURE_CLIENT_SECRET");
    let token_file = set(env, "AZURE_FEDERATED_TOKEN_FILE");
    for (name, value) in [("AZURE_TENANT_ID", &tenant), ("AZURE_CLIENT_ID", &client)] {
        if value.as_ref().is_some_and(|value| !is_word(value, "-._")) {
            return Err(invalid(format!("{name} must be letters, digits, - and .")));
        }
    }
    let (key, value) = match (client_secret, token_file) {
        (Some(secret), _) => (Key::ClientSecret, secret),
        (None, Some(file)) => (Key::FederatedTokenFile, file),
        (None, None) => return managed(client, env),
    };
    let (Some(tenant), Some(client)) = (tenant, client) else {
        return Err(denied(
            "AZURE_CLIENT_SECRET and AZURE_FEDERATED_TOKEN_FILE need AZURE_TENANT_ID and \
             AZURE_CLIENT_ID",
        ));
    };
    let mut pairs = vec![
        (key, value),
        (Key::AuthorityId, tenant),
        (Key::ClientId, client),
    ];
    if let Some(host) = set(env, "AZURE_AUTHORITY_HOST") {
        let host = match host.contains("://") {
            true => host,
            false => format!("https://{host}"),
        };
        // The secret is sent there.
        match Url::parse(&host) {
            Ok(url) if url.scheme() == "https" || is_loopback(&url) => {}
            _ => return refuse("AZURE_AUTHORITY_HOST must be https://host"),
        }
        pairs.push((Key::AuthorityHost, host.trim_end_matches('/').into()));
    }
    Ok(Credentials(pairs))
}

/// Finds the identity that Azure gives to what runs there, if the environment says that it is to
/// be asked for.
fn managed(client: Option<String>, env: Env<'_>) -> Result<Credentials, Refusal> {
    let mut pairs: Vec<(Key, String)> = client.map(|id| (Key::ClientId, id)).into_iter().collect();
    let host = set(env, "AZURE_POD_IDENTITY_AUTHORITY_HOST");
    let host = host.map(|host| host.trim_end_matches('/').to_owned() + METADATA_PATH);
    let chosen = set(env, "AZURE_TOKEN_CREDENTIALS");
    match (set(env, "IDENTITY_ENDPOINT").or(host), chosen.as_deref()) {
        (Some(endpoint), _) => {
            Url::parse(&endpoint).map_err(|_| {
                invalid("IDENTITY_ENDPOINT or AZURE_POD_IDENTITY_AUTHORITY_HOST is no url")
            })?;
            pairs.push((Key::MsiEndpoint, endpoint));
        }
        (None, Some("ManagedIdentityCredential")) => {}
        (None, _) => return Err(denied(NONE)),
    }
    Ok(Credentials(pairs))
}

/// What a connection string says.
#[derive(Default)]
struct Connection {
    account: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    protocol: Option<String>,
    suffix: Option<String>,
    endpoint: Option<Url>,
    emulator: bool,
}

impl Connection {
    /// Takes a connection string apart; what it has for other services is nobody's concern.
    fn parse(text: &str) -> Result<Self, Refusal> {
        const NAME: &str = "AZURE_STORAGE_CONNECTION_STRING";
        let bad = |what: &str| invalid(format!("{NAME}: {what}"));
        let mut connection = Self::default();
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
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
                _ => {}
            }
        }
        let http = |protocol: &String| matches!(&**protocol, "http" | "https");
        if connection.protocol.as_ref().is_some_and(|p| !http(p)) {
            return Err(bad("DefaultEndpointsProtocol must be http or https"));
        }
        Ok(connection)
    }
}
