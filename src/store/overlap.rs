//! The actual location of a store, however its URL is written: it tells overlapping stores, and names
//! the store in the state directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use url::Url;

use super::cloud::{azure_service_name, gcs_service_name, s3_service_name};
use super::http::opening::service_name;
use super::{Location, OciLocation};

/// The longest wait for a disk: the same as on opening.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// The relation between the actual locations of two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Both are the same location.
    Same,
    /// It lies within the other: its objects appear in the other's listing.
    Within,
    /// The other lies within it.
    Around,
}

/// An actual location: a service, and the path of the folder or prefix there.
#[derive(Debug, PartialEq, Eq)]
struct ActualLocation {
    service: String,
    path: Vec<String>,
}

impl Location {
    /// Tells whether two locations overlap, however their URLs are written: credentials, region,
    /// addressing style and similar options don't make two stores different. `env` looks up
    /// environment variables, which may name an endpoint. It sends nothing; it reads from a disk
    /// for at most two seconds.
    pub fn overlap(
        &self,
        other: &Location,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Overlap> {
        let (one, two) = (self.place(env)?, other.place(env)?);
        if one.service != two.service {
            return None;
        }
        let (one, two) = (one.path, two.path);
        match (one.starts_with(&two), two.starts_with(&one)) {
            (true, true) => Some(Overlap::Same),
            (true, false) => Some(Overlap::Within),
            (false, true) => Some(Overlap::Around),
            (false, false) => None,
        }
    }

    /// Names the location for the state directory, without secrets: `file:/srv/registry`,
    /// `<service>:<bucket>/<prefix>`. The environment and profiles count, the spelling of the URL
    /// doesn't. It sends nothing; it reads from a disk for at most two seconds.
    pub fn actual_name(&self, env: &dyn Fn(&str) -> Option<String>) -> String {
        if let Location::File(at) = self {
            // Device numbers change with a restart of the machine, and paths don't.
            let dir = on_disk(&at.dir, |dir| std::fs::canonicalize(dir).ok()).flatten();
            return format!("file:{}", dir.unwrap_or_else(|| at.dir.clone()).display());
        }
        match self.place(env) {
            Some(place) => format!("{}:{}", place.service, place.path.join("/")),
            None => self.to_string(),
        }
    }

    fn place(&self, env: &dyn Fn(&str) -> Option<String>) -> Option<ActualLocation> {
        let place = |service: String, store: &str, prefix: &str| {
            let prefix = prefix.split('/').filter(|segment| !segment.is_empty());
            let path = std::iter::once(store).chain(prefix);
            Some(ActualLocation {
                service,
                path: path.map(String::from).collect(),
            })
        };
        match self {
            Location::File(at) => Some(of_folder(at.dir.clone())),
            Location::S3(at) => place(s3_service_name(at, env), &at.bucket, &at.prefix),
            Location::Gs(at) => place(gcs_service_name(at, env), &at.bucket, &at.prefix),
            Location::Azure(at) => place(azure_service_name(at, env), &at.container, &at.prefix),
            // A repository has no folders: a repository with a longer name is a different one.
            Location::Oci(at) => place(registry(at), &at.repository, ""),
            Location::AtlasCloud => None,
        }
    }
}

fn registry(at: &OciLocation) -> String {
    let host = at.host.to_ascii_lowercase();
    let parsed = Url::parse(&format!("https://{host}"));
    let host = parsed.map_or(host, |url| service_name(&url));
    match &*host {
        // The names of one registry.
        "docker.io" | "index.docker.io" => "registry-1.docker.io".into(),
        _ => host,
    }
}

/// Returns the location of a folder. Device and inode numbers identify existing folders, so links
/// and mounts lead to the same location.
fn of_folder(dir: PathBuf) -> ActualLocation {
    ActualLocation {
        service: "file".into(),
        path: on_disk(&dir, resolved).unwrap_or_else(|| names(&dir)),
    }
}

/// Asks the disk about a folder. Doesn't wait for a hung disk: the thread is left behind.
fn on_disk<T: Send + 'static>(
    dir: &Path,
    ask: impl FnOnce(&Path) -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let asked = dir.to_owned();
    std::thread::spawn(move || {
        let _ = sender.send(ask(&asked));
    });
    receiver.recv_timeout(DISK_TIMEOUT).ok()
}

/// Returns the path to a folder from the root, as device and inode numbers. Folders that don't
/// exist yet keep their names.
fn resolved(dir: &Path) -> Vec<String> {
    let mut there = dir;
    let mut missing = Vec::new();
    let real = loop {
        match std::fs::canonicalize(there) {
            Ok(real) => break real,
            Err(_) => match (there.parent(), there.file_name()) {
                (Some(parent), Some(name)) => {
                    missing.push(name.to_string_lossy().into_owned());
                    there = parent;
                }
                _ => return names(dir),
            },
        }
    };
    let numbers = real.ancestors().map(|folder| {
        let about = std::fs::metadata(folder).ok()?;
        Some(format!("{}:{}", about.dev(), about.ino()))
    });
    let Some(mut path) = numbers.collect::<Option<Vec<_>>>() else {
        return names(dir);
    };
    path.reverse();
    path.extend(missing.into_iter().rev());
    path
}

fn names(dir: &Path) -> Vec<String> {
    let names = dir.components();
    names
        .map(|name| name.as_os_str().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    fn overlap(one: &str, two: &str, env: &[(&str, &str)]) -> Option<Overlap> {
        let env = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let (one, two) = (parse_target(one).unwrap(), parse_target(two).unwrap());
        let seen = one.overlap(&two, &env);
        let back = two.overlap(&one, &env);
        let mirrored = match seen {
            Some(Overlap::Within) => Some(Overlap::Around),
            Some(Overlap::Around) => Some(Overlap::Within),
            same => same,
        };
        assert_eq!(back, mirrored, "{one} {two}");
        seen
    }

    #[test]
    fn two_spellings_of_one_place_are_one() {
        for (one, two) in [
            ("s3://bucket/p", "s3://bucket/p/?region=eu-west-1"),
            ("s3://bucket/p/q", "s3://bucket?prefix=p/q&anonymous=true"),
            (
                "s3://bucket/p",
                "s3://bucket/p?use_path_style=true&profile=x",
            ),
            ("s3://bucket/p", "s3://bucket/%70"),
            (
                "s3://bucket",
                "s3://bucket?endpoint=https://s3.amazonaws.com",
            ),
            (
                "s3://bucket?region=eu-west-1",
                "s3://bucket?endpoint=s3.eu-west-1.amazonaws.com&region=eu-west-1",
            ),
            (
                "s3://bucket?region=eu-west-1&fips=true",
                "s3://bucket?region=eu-west-2&accelerate=true&dualstack=true",
            ),
            (
                "s3://bucket",
                "s3://bucket?endpoint=https://bucket.s3.eu-west-1.amazonaws.com",
            ),
            (
                "s3://b?endpoint=http://h:9000",
                "s3://b?endpoint=http://H:9000/&use_path_style=true&region=x",
            ),
            ("s3://b?endpoint=http://h", "s3://b?endpoint=https://h:443"),
            (
                "s3://b?endpoint=http://localhost:1",
                "s3://b?endpoint=http://127.0.0.1:1",
            ),
            (
                "s3://b?endpoint=http://localhost:1",
                "s3://b?endpoint=http://[::1]:1",
            ),
            (
                "gs://bucket/p",
                "gs://bucket/p/?universe_domain=googleapis.com",
            ),
            (
                "azblob://container?storage_account=a",
                "azureblob://container/?storage_account=a&domain=blob.core.windows.net",
            ),
            ("oci://h/r", "oci://u:t@H:443/r"),
            ("oci://docker.io/a/b", "oci://index.docker.io/a/b"),
        ] {
            assert_eq!(overlap(one, two, &[]), Some(Overlap::Same), "{one} {two}");
        }
    }

    #[test]
    fn other_places_are_others() {
        for (one, two) in [
            ("s3://bucket/p", "s3://bucket/pp"),
            ("s3://bucket/p", "s3://other/p"),
            ("s3://bucket", "gs://bucket"),
            ("s3://b", "s3://b?endpoint=http://h"),
            ("s3://b?endpoint=http://h:1", "s3://b?endpoint=http://h:2"),
            (
                "s3://bucket?region=cn-north-1",
                "s3://bucket?region=eu-west-1",
            ),
            (
                "s3://bucket?region=us-gov-west-1",
                "s3://bucket?region=us-west-1",
            ),
            ("gs://bucket", "gs://bucket?universe_domain=u.example"),
            (
                "azblob://container?storage_account=a",
                "azblob://container?storage_account=b",
            ),
            ("oci://h/r", "oci://h/r/backup"),
            ("file:///nonexistent/a", "file:///nonexistent/ab"),
        ] {
            assert_eq!(overlap(one, two, &[]), None, "{one} {two}");
        }
    }

    #[test]
    fn one_place_in_another_is_told() {
        for (outer, inner) in [
            (
                "s3://bucket/atlas",
                "s3://bucket/atlas/backup?region=eu-west-1",
            ),
            ("s3://bucket", "s3://bucket/a/b/c"),
            ("gs://bucket", "gs://bucket?prefix=p"),
            (
                "azblob://container?storage_account=a",
                "azblob://container/p?storage_account=a",
            ),
            ("file:///nonexistent/a", "file:///nonexistent/a/b"),
        ] {
            assert_eq!(overlap(outer, inner, &[]), Some(Overlap::Around), "{outer}");
        }
    }

    #[test]
    fn what_the_environment_names_counts_for_whoever_names_nothing() {
        let env = [
            ("AWS_ENDPOINT_URL", "http://h:9"),
            ("AZURE_STORAGE_ACCOUNT", "a"),
        ];
        let same = Some(Overlap::Same);
        assert_eq!(overlap("s3://b", "s3://b?endpoint=http://h:9", &env), same);
        let named = "azblob://container?storage_account=a";
        assert_eq!(overlap("azblob://container", named, &env), same);
        let emulated = [("STORAGE_EMULATOR_HOST", "h:9")];
        let other = "gs://bucket?universe_domain=u.example";
        assert_eq!(overlap("gs://bucket", other, &emulated), same);
    }

    #[test]
    fn a_folder_is_one_whatever_leads_to_it() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let url = |path: &str| format!("file://{}/{path}", home.display());
        std::fs::create_dir_all(home.join("real/inner")).unwrap();
        std::os::unix::fs::symlink(home.join("real"), home.join("link")).unwrap();
        std::os::unix::fs::symlink("link/inner/..", home.join("again")).unwrap();
        for (one, two, expected) in [
            ("real", "real/", Some(Overlap::Same)),
            ("real", "link", Some(Overlap::Same)),
            ("link", "again", Some(Overlap::Same)),
            ("real/new", "again/new?create_dir=true", Some(Overlap::Same)),
            ("again/inner", "real", Some(Overlap::Within)),
            ("link/new/deep", "real", Some(Overlap::Within)),
            ("link", "", Some(Overlap::Within)),
            ("real/a", "link/b", None),
        ] {
            assert_eq!(overlap(&url(one), &url(two), &[]), expected, "{one} {two}");
        }
    }
}
