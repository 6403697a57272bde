//! Finding the credentials of a bucket, in the order of the AWS SDKs and of Go CDK. It never asks
//! an address that is not configured.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::client::CredentialProvider;

use super::aws_profile::{
    DEFAULT_PROFILE, Profile, SharedConfig, SharedFiles, SharedKeys, keys_of,
};
use super::aws_services::{AssumedRole, MachineService, RoleProof, StsEndpoint};
use crate::store::S3Location;
use crate::store::http::credential_cache::{CredentialCache, CredentialSource, Renewal};
use crate::store::http::opening::{Env, OpenError, denied, refuse, secret, set};

/// The default name of a role's session.
const DEFAULT_SESSION_NAME: &str = "atlasfs";
/// The longest chain of profiles, each with a role that the next one assumes.
const MAX_PROFILE_CHAIN: usize = 8;

const NO_CREDENTIALS: &str = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                    AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, or name a profile of the shared \
                    files with profile=… in the url or AWS_PROFILE; on EC2 \
                    AWS_EC2_METADATA_DISABLED=false; for a public bucket add anonymous=true to the \
                    url";

/// The settings that are known before any request: the environment, and the shared files.
pub(crate) struct AwsSettings<'a> {
    env: Env<'a>,
    files: SharedFiles,
    shared: SharedConfig,
    /// The reason why the files are unreadable; it matters only if they are needed.
    unread: Option<String>,
    /// The selected profile.
    name: String,
}

/// Reads the shared files and selects the profile.
///
/// # Errors
///
/// The named profile is missing; the AWS tools fail then too.
pub(crate) fn known<'a>(location: &S3Location, env: Env<'a>) -> Result<AwsSettings<'a>, OpenError> {
    let named = location
        .profile
        .clone()
        .or_else(|| set(env, "AWS_PROFILE"))
        // The older variable, which Go tools still accept.
        .or_else(|| set(env, "AWS_DEFAULT_PROFILE"));
    let files = SharedFiles::find(env);
    let (shared, unread) = match files.read() {
        Ok(shared) => (shared, None),
        Err(why) => (SharedConfig::default(), Some(why)),
    };
    if let Some(name) = &named
        && shared.profile(name).is_none()
    {
        return Err(denied(match &unread {
            Some(why) => format!("can't read the profile {name:?}: {why}"),
            None => format!(
                "there is no profile {name:?} in {files}: write it there, or correct its name"
            ),
        }));
    }
    Ok(AwsSettings {
        env,
        files,
        shared,
        unread,
        name: named.unwrap_or_else(|| DEFAULT_PROFILE.into()),
    })
}

impl AwsSettings<'_> {
    /// Returns the selected profile, if it exists.
    pub(crate) fn profile(&self) -> Option<Profile<'_>> {
        self.shared.profile(&self.name)
    }

    /// Tells whether a variable or the profile names the region.
    pub(crate) fn names_region(&self) -> bool {
        let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        let of_profile = self.profile().and_then(|profile| profile.get("region"));
        of_profile.is_some() || variables.iter().any(|name| set(self.env, name).is_some())
    }

    /// Gives a builder its credentials, and returns their renewal, if there is one.
    pub(crate) fn give(
        &self,
        builder: AmazonS3Builder,
        location: &S3Location,
        region: &str,
    ) -> Result<(AmazonS3Builder, Option<Renewal>), OpenError> {
        if location.anonymous {
            // The keys are never used; without any, object_store would ask the metadata address.
            let builder = builder
                .with_skip_signature(true)
                .with_access_key_id("anonymous")
                .with_secret_access_key("anonymous");
            return Ok((builder, None));
        }
        let search = KeySearch {
            known: self,
            builder: &builder,
            region,
        };
        // In Go's SDK, a profile named by the program, as Go CDK does for profile=…, comes before
        // the environment (config/resolve_credentials.go).
        let found = match &location.profile {
            Some(name) => search.of_profile(name, 0)?,
            None => search.of_environment()?,
        };
        let keys = match found {
            Some(keys) => keys,
            None => search.of_machine()?,
        };
        let keys = match &location.role {
            Some(arn) => AwsKeys::fetched(
                search
                    .role(arn, RoleProof::Keys(keys.provider))?
                    .checked()?,
            ),
            None => keys,
        };
        let renewal = keys.kept.map(|kept| Renewal::Signed(kept, region.into()));
        Ok((builder.with_credentials(keys.provider), renewal))
    }
}

/// The search for credentials.
struct KeySearch<'a> {
    known: &'a AwsSettings<'a>,
    builder: &'a AmazonS3Builder,
    region: &'a str,
}

/// The keys from the search.
struct AwsKeys {
    provider: AwsCredentialProvider,
    /// The cache of the keys, if they can be fetched anew.
    kept: Option<Arc<CredentialCache<Arc<AwsCredential>>>>,
}

impl AwsKeys {
    /// Makes keys from a source.
    fn fetched(source: impl CredentialSource<Arc<AwsCredential>> + 'static) -> Self {
        let kept = CredentialCache::new(source);
        Self {
            provider: Arc::new(AwsProvider(Arc::clone(&kept))),
            kept: Some(kept),
        }
    }
}

type KeySearchResult = Result<Option<AwsKeys>, OpenError>;

impl KeySearch<'_> {
    fn set(&self, name: &str) -> Option<String> {
        set(self.known.env, name)
    }

    /// Finds keys, then a web identity, then the shared files.
    fn of_environment(&self) -> KeySearchResult {
        if let Some(keys) = self.keys()? {
            return Ok(Some(keys));
        }
        let token = self.set("AWS_WEB_IDENTITY_TOKEN_FILE");
        match (token, self.set("AWS_ROLE_ARN")) {
            (Some(file), Some(arn)) => {
                let role = self.role(&arn, RoleProof::Token(PathBuf::from(file)))?;
                return Ok(Some(AwsKeys::fetched(role.checked()?)));
            }
            (Some(_), None) => return refuse("AWS_WEB_IDENTITY_TOKEN_FILE needs AWS_ROLE_ARN"),
            (None, _) => {}
        }
        match self.known.profile() {
            Some(_) => self.of_profile(&self.known.name, 0),
            None => Ok(None),
        }
    }

    fn keys(&self) -> KeySearchResult {
        let secret = |name: &str| secret(self.known.env, name);
        let id = secret("AWS_ACCESS_KEY_ID")?;
        match (id, secret("AWS_SECRET_ACCESS_KEY")?) {
            (Some(key_id), Some(secret_key)) => {
                let keys = StaticCredentialProvider::new(AwsCredential {
                    key_id,
                    secret_key,
                    token: secret("AWS_SESSION_TOKEN")?,
                });
                Ok(Some(AwsKeys {
                    provider: Arc::new(keys),
                    kept: None,
                }))
            }
            (Some(_), None) => refuse("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"),
            (None, Some(_)) => refuse("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID"),
            (None, None) => Ok(None),
        }
    }

    /// Finds the keys of a profile, in the order of Go's SDK.
    fn of_profile(&self, name: &str, depth: usize) -> KeySearchResult {
        let lacks = |what: &str| Err(denied(format!("the profile {name:?} {what}")));
        let Some(profile) = self.known.shared.profile(name) else {
            return lacks("is in none of the shared files: write it there, or correct its name");
        };
        if depth == MAX_PROFILE_CHAIN {
            return lacks("ends a source_profile chain that is too long or circular");
        }
        let token = profile.get("web_identity_token_file");
        let Some(arn) = profile.get("role_arn") else {
            if token.is_some() {
                return lacks("has a web_identity_token_file, but no role_arn");
            }
            return self.of_profile_itself(name, &profile);
        };
        if profile.get("mfa_serial").is_some() {
            return lacks(
                "needs a device code (mfa_serial), and a mount can't ask for one: set the keys \
                 that aws configure export-credentials prints",
            );
        }
        let source = (
            profile.get("source_profile"),
            profile.get("credential_source"),
        );
        let by = match (source, token) {
            ((Some(_), Some(_)), _) => {
                return lacks("has both source_profile and credential_source: keep one");
            }
            ((Some(source), None), _) => {
                let keys = match source == name {
                    true => self.of_profile_itself(source, &profile)?,
                    false => self.of_profile(source, depth + 1)?,
                };
                let Some(keys) = keys else {
                    return lacks("has a source_profile without credentials");
                };
                RoleProof::Keys(keys.provider)
            }
            ((None, Some(source)), _) => RoleProof::Keys(self.of_source(source, name)?.provider),
            ((None, None), Some(file)) => RoleProof::Token(PathBuf::from(file)),
            ((None, None), None) => {
                return lacks(
                    "has a role_arn, but no credentials to assume it: add source_profile or credential_source",
                );
            }
        };
        let mut role = self.role(arn, by)?;
        let text = |name: &str| profile.get(name).map(String::from);
        role.session = text("role_session_name").unwrap_or(role.session);
        role.external_id = text("external_id");
        role.seconds = text("duration_seconds");
        // The fault is in the file, so another target may still serve.
        let role = role.checked().map_err(|(_, why)| denied(why))?;
        Ok(Some(AwsKeys::fetched(role)))
    }

    /// Finds a profile's own keys, without its role.
    fn of_profile_itself(&self, name: &str, profile: &Profile<'_>) -> KeySearchResult {
        let printed = format!(
            "aws configure export-credentials --profile {name} prints keys: set \
             AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN to them"
        );
        if profile.get("aws_access_key_id").is_some()
            || profile.get("aws_secret_access_key").is_some()
        {
            keys_of(profile).map_err(|why| denied(format!("the profile {name:?} {why}")))?;
            return Ok(Some(AwsKeys::fetched(SharedKeys {
                files: self.known.files.clone(),
                name: name.into(),
            })));
        }
        for (setting, what) in [
            ("sso_session", "a login (SSO)"),
            ("sso_start_url", "a login (SSO)"),
            ("credential_process", "the program of credential_process"),
        ] {
            if profile.get(setting).is_some() {
                return Err(denied(format!(
                    "the profile {name:?} gets its credentials from {what}, which is not \
                     supported; {printed}"
                )));
            }
        }
        Ok(None)
    }

    /// Finds the keys that a profile's `credential_source` names.
    fn of_source(&self, source: &str, name: &str) -> Result<AwsKeys, OpenError> {
        match source {
            "Environment" => self.keys()?.ok_or_else(|| {
                denied(format!(
                    "the profile {name:?} has credential_source=Environment: set AWS_ACCESS_KEY_ID \
                     and AWS_SECRET_ACCESS_KEY"
                ))
            }),
            "EcsContainer" => match MachineService::container(self.builder, self.known.env)? {
                Some(machine) => Ok(AwsKeys::fetched(machine)),
                None => Err(denied(format!(
                    "the profile {name:?} has credential_source=EcsContainer, and \
                     AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set"
                ))),
            },
            "Ec2InstanceMetadata" => match self.instance(true)? {
                Some(keys) => Ok(keys),
                None => Err(denied(NO_CREDENTIALS)),
            },
            _ => Err(denied(format!(
                "the profile {name:?} has an unknown credential_source: known are Environment, \
                 EcsContainer and Ec2InstanceMetadata"
            ))),
        }
    }

    /// Finds the keys of the container or the instance, if the environment names them.
    fn of_machine(&self) -> Result<AwsKeys, OpenError> {
        if let Some(machine) = MachineService::container(self.builder, self.known.env)? {
            return Ok(AwsKeys::fetched(machine));
        }
        let disabled = self.set("AWS_EC2_METADATA_DISABLED");
        let disabled = disabled.map(|value| value.to_lowercase());
        let instance = self.instance(disabled.as_deref() == Some("false"))?;
        match (instance, disabled.as_deref()) {
            (_, Some("true")) | (None, None | Some("false")) => {}
            (Some(keys), _) => return Ok(keys),
            (None, Some(_)) => return refuse("AWS_EC2_METADATA_DISABLED must be true or false"),
        }
        Err(denied(match (&self.known.unread, self.known.profile()) {
            (Some(why), _) => format!("{NO_CREDENTIALS} ({why})"),
            (None, Some(_)) => format!(
                "the profile {:?} has no keys; {NO_CREDENTIALS}",
                self.known.name
            ),
            (None, None) => NO_CREDENTIALS.into(),
        }))
    }

    fn instance(&self, called_for: bool) -> KeySearchResult {
        let found = MachineService::instance(self.builder, self.known.env, called_for)?;
        Ok(found.map(AwsKeys::fetched))
    }

    /// Makes a role that is not checked yet.
    fn role(&self, arn: &str, by: RoleProof) -> Result<AssumedRole, OpenError> {
        let ignored = self.set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        let ignored = ignored.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let endpoint = self
            .set("AWS_ENDPOINT_URL_STS")
            .or_else(|| self.set("AWS_ENDPOINT_URL"))
            .or_else(|| self.known.profile()?.endpoint("sts").map(String::from))
            .filter(|_| !ignored);
        Ok(AssumedRole {
            arn: arn.into(),
            session: self
                .set("AWS_ROLE_SESSION_NAME")
                .unwrap_or_else(|| DEFAULT_SESSION_NAME.into()),
            external_id: None,
            seconds: None,
            by,
            service: StsEndpoint::open(endpoint.as_deref(), self.region)?,
        })
    }
}

/// Provides keys to object_store's S3 client.
#[derive(Debug)]
pub(crate) struct AwsProvider(pub(crate) Arc<CredentialCache<Arc<AwsCredential>>>);

#[async_trait]
impl CredentialProvider for AwsProvider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        Ok(self.0.get().await?)
    }
}
