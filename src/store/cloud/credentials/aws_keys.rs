//! The keys of a profile of the shared files: read when they are needed, again and again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::AwsCredential;

use super::aws_profile::{Files, Profile};
use crate::store::Kind;
use crate::store::http::credential_cache::{CredentialError, Lasting, Source};
use crate::store::http::opening::fit;

/// How long a key of the shared files counts before they are looked at again: whoever rotates keys
/// has the old ones work for longer than that.
const LOOK: Duration = Duration::from_secs(1);
/// How long the keys serve on while the files can't be read, for they may be being written.
const WRITING: Duration = Duration::from_secs(10);
/// The keys of a profile of the shared files, read again and again: whoever rotates them writes
/// there, and nobody has to mount anew.
#[derive(Debug, Clone)]
pub(crate) struct SharedKeys {
    pub(crate) files: Files,
    pub(crate) name: String,
}

impl SharedKeys {
    fn read(&self) -> Result<AwsCredential, CredentialError> {
        let Self { files, name } = self;
        let keys = files.read().and_then(|shared| match shared.profile(name) {
            Some(profile) => keys_of(&profile).map_err(|why| format!("it {why}")),
            None => Err(format!("it is no longer in {files}")),
        });
        keys.map_err(|why| {
            let why = format!(" from the profile {name:?}: {why}");
            CredentialError::new(Kind::Denied, why)
        })
    }
}

#[async_trait]
impl Source<Arc<AwsCredential>> for SharedKeys {
    async fn fetch(&self) -> Result<Lasting<Arc<AwsCredential>>, CredentialError> {
        let keys = self.clone();
        // A home may lie on a server that hangs.
        let read = tokio::task::spawn_blocking(move || keys.read()).await;
        let stopped = |_| CredentialError::new(Kind::Unreachable, ": none were read");
        Ok(Lasting {
            credential: Arc::new(read.map_err(stopped).flatten()?),
            fresh: LOOK,
            good: WRITING,
        })
    }

    fn place(&self) -> String {
        format!("the folder of {}", self.files)
    }
}

/// Takes the keys out of a profile, or says what they lack, and never what they are.
pub(crate) fn keys_of(profile: &Profile<'_>) -> Result<AwsCredential, String> {
    let key = |name: &str| match profile.get(name) {
        Some(value) if !fit(value) => Err(format!(
            "has a {name} with a blank, a line break or another character that no key has"
        )),
        value => Ok(value.map(String::from)),
    };
    let lacks = |name: &str| format!("has no {name}");
    Ok(AwsCredential {
        key_id: key("aws_access_key_id")?.ok_or_else(|| lacks("aws_access_key_id"))?,
        secret_key: key("aws_secret_access_key")?.ok_or_else(|| lacks("aws_secret_access_key"))?,
        token: key("aws_session_token")?,
    })
}
