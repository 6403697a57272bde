//! The AWS tools' shared files, and the keys of a profile in them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::AwsCredential;

use crate::store::Kind;
use crate::store::http::credential_cache::{CredentialError, CredentialSource, FetchedCredential};
use crate::store::http::opening::{Env, fit, set};

/// The profile to use if none is named.
pub(crate) const DEFAULT_PROFILE: &str = "default";
/// The longest shared file. 1 MiB: the files have a few kilobytes, so a longer one is something
/// else.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The paths of the shared files, which need not exist.
#[derive(Debug, Clone)]
pub(crate) struct SharedFiles {
    credentials: Option<PathBuf>,
    config: Option<PathBuf>,
}

/// The values of a section in a file, with names in lower case. A nested name follows its parent's:
/// `s3.endpoint_url`.
type Values = BTreeMap<String, String>;

/// The content of the shared files.
#[derive(Clone, Default)]
pub(crate) struct SharedConfig {
    profiles: BTreeMap<String, Values>,
    services: BTreeMap<String, Values>,
}

/// One profile, merged from both files. Its values are never shown.
#[derive(Clone, Copy)]
pub(crate) struct Profile<'a> {
    values: &'a Values,
    services: Option<&'a Values>,
}

/// One of the two files: the headings of their sections differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SharedFile {
    Config,
    Credentials,
}

impl SharedFiles {
    /// Finds the paths of the files, as the AWS tools do.
    pub(crate) fn find(env: Env<'_>) -> Self {
        let home = set(env, "HOME").map(PathBuf::from);
        let path = |variable: &str, name: &str| match set(env, variable) {
            Some(path) => Some(match (path.strip_prefix("~/"), &home) {
                (Some(below), Some(home)) => home.join(below),
                _ => PathBuf::from(path),
            }),
            None => home.as_ref().map(|home| home.join(".aws").join(name)),
        };
        Self {
            credentials: path("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: path("AWS_CONFIG_FILE", "config"),
        }
    }

    /// Reads the files; a missing one counts as empty.
    ///
    /// # Errors
    ///
    /// The name of an unreadable file, and the reason, without its content.
    pub(crate) fn read(&self) -> Result<SharedConfig, String> {
        let mut shared = SharedConfig::default();
        // The order matters: a key in both files gets its value from the credentials file.
        let files = [
            (SharedFile::Config, &self.config),
            (SharedFile::Credentials, &self.credentials),
        ];
        for (which, path) in files {
            let Some(path) = path else { continue };
            if let Some(text) = text_of(path)? {
                shared.add(&text, which).map_err(|line| {
                    format!(
                        "line {line} of {} is neither a [section] nor name = value",
                        path.display()
                    )
                })?;
            }
        }
        Ok(shared)
    }
}

impl fmt::Display for SharedFiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = [&self.credentials, &self.config];
        let paths = paths.into_iter().flatten();
        let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
        match &paths[..] {
            [] => out.write_str("~/.aws (HOME is not set)"),
            _ => out.write_str(&paths.join(" and ")),
        }
    }
}

/// Reads a file; `None` if it is missing.
fn text_of(path: &Path) -> Result<Option<String>, String> {
    let told = |why: &dyn fmt::Display| format!("{} can't be read: {why}", path.display());
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(&error)),
    };
    // Reading a pipe could block.
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        return Err(told(&"it is not a regular file of less than 1 MiB"));
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(told(&error)),
    }
}

impl SharedConfig {
    /// Returns a profile.
    pub(crate) fn profile(&self, name: &str) -> Option<Profile<'_>> {
        let values = self.profiles.get(name)?;
        let services = values.get("services");
        Some(Profile {
            values,
            services: services.and_then(|name| self.services.get(name)),
        })
    }

    /// Adds the content of a file; fails with the number of an invalid line.
    fn add(&mut self, text: &str, which: SharedFile) -> Result<(), usize> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut foreign = Values::new();
        let mut section: Option<&mut Values> = None;
        // The property on the last line, and its indentation.
        let mut open: Option<(String, usize)> = None;
        for (line, number) in text.lines().zip(1_usize..) {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(heading) = trimmed.strip_prefix('[') {
                let (heading, _) = heading.split_once(']').ok_or(number)?;
                open = None;
                section = Some(match section_of(heading, which) {
                    Section::Profile(name) => self.profiles.entry(name).or_default(),
                    Section::Services(name) => self.services.entry(name).or_default(),
                    // `[sso-session x]`, and future kinds of sections.
                    Section::Foreign => &mut foreign,
                });
                continue;
            }
            let values = section.as_mut().ok_or(number)?;
            let indent = line.len() - line.trim_start().len();
            let parent = open.as_ref().filter(|(_, outer)| indent > *outer);
            if let Some((parent, _)) = parent {
                let value = values.entry(parent.clone()).or_default();
                if !value.is_empty() {
                    // A value continues; no value used here has more than one line.
                    value.push('\n');
                    value.push_str(trimmed);
                    continue;
                }
                let (name, value) = property(trimmed).ok_or(number)?;
                let nested = format!("{parent}.{name}");
                values.insert(nested, value);
                continue;
            }
            let (name, value) = property(trimmed).ok_or(number)?;
            values.insert(name.clone(), value);
            open = Some((name, indent));
        }
        Ok(())
    }
}

impl<'a> Profile<'a> {
    /// Returns a value of the profile, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let value = self.values.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Returns the profile's endpoint for a service, or for all services.
    pub(crate) fn endpoint(&self, service: &str) -> Option<&'a str> {
        let ignored = self.get("ignore_configured_endpoint_urls");
        if ignored.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let of_service = format!("{service}.endpoint_url");
        let of_service = self.services.and_then(|services| services.get(&of_service));
        let of_service = of_service.map(String::as_str);
        of_service
            .filter(|value| !value.is_empty())
            .or_else(|| self.get("endpoint_url"))
    }
}

/// The kind of a section.
enum Section {
    Profile(String),
    Services(String),
    Foreign,
}

fn section_of(heading: &str, which: SharedFile) -> Section {
    let heading = heading.trim();
    let (kind, name) = match heading.split_once(char::is_whitespace) {
        Some((kind, name)) => (kind, name.trim().trim_matches(['"', '\''])),
        None => ("", heading),
    };
    match (which, kind) {
        (SharedFile::Credentials, _) => Section::Profile(heading.into()),
        (SharedFile::Config, "") if name == DEFAULT_PROFILE => Section::Profile(name.into()),
        (SharedFile::Config, "profile") => Section::Profile(name.into()),
        (SharedFile::Config, "services") => Section::Services(name.into()),
        (SharedFile::Config, _) => Section::Foreign,
    }
}

/// Splits `name = value  # remark`.
fn property(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let remark = [" #", " ;", "\t#", "\t;"];
    let ends = remark.iter().filter_map(|mark| value.find(mark));
    let value = match ends.min() {
        Some(end) => value.get(..end).unwrap_or(value),
        None => value,
    };
    (!name.is_empty()).then(|| (name, value.trim().into()))
}

/// The time before the shared files are read again. It is short, for rotated keys: the old ones
/// work for longer than that.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);
/// The time that the keys still serve while the files are unreadable, because they may be in the
/// middle of a write.
const UNREADABLE_GRACE: Duration = Duration::from_secs(10);
/// The keys of a profile in the shared files. They are read repeatedly, so that rotated keys need
/// no new mount.
#[derive(Debug, Clone)]
pub(crate) struct SharedKeys {
    pub(crate) files: SharedFiles,
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
impl CredentialSource<Arc<AwsCredential>> for SharedKeys {
    async fn fetch(&self) -> Result<FetchedCredential<Arc<AwsCredential>>, CredentialError> {
        let keys = self.clone();
        // The home directory may be on a server that hangs.
        let read = tokio::task::spawn_blocking(move || keys.read()).await;
        let stopped = |_| CredentialError::new(Kind::Unreachable, ": reading them was interrupted");
        Ok(FetchedCredential {
            credential: Arc::new(read.map_err(stopped).flatten()?),
            fresh: REREAD_INTERVAL,
            good: UNREADABLE_GRACE,
        })
    }

    fn source_name(&self) -> String {
        format!("the folder of {}", self.files)
    }
}

/// Takes the keys out of a profile. The error names the missing ones, and never shows a value.
pub(crate) fn keys_of(profile: &Profile<'_>) -> Result<AwsCredential, String> {
    let key = |name: &str| match profile.get(name) {
        Some(value) if !fit(value) => Err(format!(
            "has a {name} with a blank, a line break or another character that is invalid in a key"
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{bytes, config};
    use crate::store::http::opening::env_of;

    fn shared(config: &str, credentials: &str) -> Result<SharedConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        for (name, text) in [("config", config), ("credentials", credentials)] {
            std::fs::write(folder.path().join(".aws").join(name), text).unwrap();
        }
        SharedFiles::find(&env_of(&[("HOME", folder.path().to_str().unwrap())])).read()
    }

    fn get(shared: &SharedConfig, profile: &str, name: &str) -> Option<String> {
        shared.profile(profile)?.get(name).map(String::from)
    }

    #[test]
    fn both_files_are_one_and_that_of_the_credentials_counts() {
        let shared = shared(
            "\u{feff}; of the tools\r\n[default]\r\nregion = eu-west-1 # Ireland\r\n\
             [profile a b]\nRegion=eu-west-2\naws_access_key_id = old\n\
             [profile \"quoted\"]\nregion = eu-west-3\n[sso-session s]\nsso_region = x\n\
             [eu]\nregion = not-a-profile\n",
            "[default]\n  aws_access_key_id = id\n  aws_secret_access_key = a/b+c=#;d==\n\
             [a b]\naws_access_key_id = new\n",
        );
        let shared = shared.unwrap();
        let is = |profile: &str, name: &str, value: Option<&str>| {
            assert_eq!(
                get(&shared, profile, name).as_deref(),
                value,
                "{profile} {name}"
            );
        };
        is("default", "region", Some("eu-west-1"));
        is("default", "aws_access_key_id", Some("id"));
        is("default", "aws_secret_access_key", Some("a/b+c=#;d=="));
        is("a b", "region", Some("eu-west-2"));
        is("a b", "aws_access_key_id", Some("new"));
        is("quoted", "region", Some("eu-west-3"));
        is("eu", "region", None);
        is("s", "sso_region", None);
    }

    #[test]
    fn an_endpoint_is_that_of_the_service_or_of_all_unless_the_profile_says_to_ignore_it() {
        let text = "[default]\nendpoint_url = http://all\n[profile p]\nservices = local\n\
                    s3 =\n  endpoint_url = http://not-this\n  max_queue_size = 1\n\
                    endpoint_url = http://all\n\
                    [services local]\ns3 =\n  endpoint_url = http://s3\nsts =\n  endpoint_url =\n\
                    [profile q]\nendpoint_url = http://all\nignore_configured_endpoint_urls = TRUE\n";
        let shared = shared(text, "").unwrap();
        let endpoint = |profile: &str, service: &str| {
            let profile = shared.profile(profile).unwrap();
            profile.endpoint(service).map(String::from)
        };
        assert_eq!(endpoint("default", "s3").as_deref(), Some("http://all"));
        assert_eq!(endpoint("p", "s3").as_deref(), Some("http://s3"));
        assert_eq!(endpoint("p", "sts").as_deref(), Some("http://all"));
        assert_eq!(endpoint("q", "s3"), None);
    }

    #[test]
    fn a_line_that_says_nothing_is_named_by_its_number_and_not_shown() {
        for (text, line) in [
            ("[default]\naws_access_key_id\n", 2),
            ("aws_access_key_id = s3cret\n", 1),
            ("\n[default\n", 2),
            ("[default]\n= s3cret\n", 2),
            ("[default]\ns3 =\n  s3cret\n", 3),
        ] {
            let why = shared("", text).err().unwrap();
            assert!(why.contains(&format!("line {line} of /")), "{why}");
            assert!(
                why.contains(".aws/credentials") && !why.contains("s3cret"),
                "{why}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing_and_one_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let files = SharedFiles::find(&env_of(&[("HOME", home)]));
        assert!(files.read().unwrap().profile(DEFAULT_PROFILE).is_none());
        let pairs = [("HOME", home), ("AWS_CONFIG_FILE", "~/")];
        let why = SharedFiles::find(&env_of(&pairs)).read().err().unwrap();
        assert!(
            why.contains(home) && why.contains("not a regular file"),
            "{why}"
        );
        assert!(SharedFiles::find(&env_of(&[])).read().is_ok());
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_text_panics(text in bytes(vec![
            b"[default]\nregion = x\n[profile p]\ns3 =\n  a = b\nrole_arn = r # x\n".to_vec(),
        ])) {
            let text = String::from_utf8_lossy(&text);
            for which in [SharedFile::Config, SharedFile::Credentials] {
                let _ = SharedConfig::default().add(&text, which);
            }
        }
    }
}
