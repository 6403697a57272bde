//! A repository of a mounted registry: its versions and tags, as the mount shows them.

use std::ffi::OsStr;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::Process;
use super::status::{mounted, silent};
use crate::config::did_you_mean;
use crate::fs::is_tag;
use crate::fuse::{self, Occupant};
use crate::model::{LATEST, RepoName, Version};

/// The longest wait for a look-up of the directory that the user names.
const FIND_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest wait for a read. The mount answers earlier, by its own deadlines.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How many reads wait for the mount at once: most of each one's time is a store's answer.
const READS_AT_ONCE: usize = 16;

/// How many names an error lists.
const NAMES_LISTED: usize = 3;

/// A repository's directory in a mount.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    mount: PathBuf,
    name: String,
    dir: PathBuf,
}

impl Repository {
    /// Finds the repository that a directory is.
    ///
    /// # Errors
    ///
    /// One line that says what the directory is instead, and which one to use.
    pub(super) fn find(dir: &Path) -> Result<Self, String> {
        let shown = dir.display();
        let (mount, path) = place(dir)?.ok_or_else(|| {
            format!(
                "{shown} is not below a mount of atlasfs: mount the registry, and name a repository \
                 in it, as in /mnt/registry/app"
            )
        })?;
        let process = Process::behind(&mount);
        if process.as_ref().is_some_and(Process::is_stopped) {
            return Err(silent(&mount, process.as_ref()));
        }
        let mount = mounted(&mount)?;
        let root = mount.display().to_string();
        let mut names = path.iter().map(OsStr::to_string_lossy);
        let name = match (names.next(), names.next()) {
            (Some(name), None) => name.into_owned(),
            (Some(name), Some(_)) => {
                return Err(format!(
                    "{shown} is not a repository's directory: use {root}/{name}"
                ));
            }
            (None, _) => {
                return Err(format!(
                    "{shown} is the mount: name one of its repositories, as in {root}/app"
                ));
            }
        };
        if RepoName::parse(&name).is_err() {
            return Err(format!(
                "{shown} is not a repository: ls {root} shows them all"
            ));
        }
        let dir = mount.join(&name);
        let found = Self { mount, name, dir };
        match read(&found.dir, |path| path.metadata()) {
            Ok(_) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let near = did_you_mean(&found.name, &read(&found.mount, list).unwrap_or_default());
                Err(format!(
                    "{shown} does not exist{near}: ls {root} shows all repositories"
                ))
            }
            Err(error) => Err(found.complaint("the directory", &error)),
        }
    }

    /// Returns the repository's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the mount point.
    pub(super) fn mount(&self) -> &Path {
        &self.mount
    }

    /// Returns the directory of the tags.
    pub(super) fn tags_dir(&self) -> PathBuf {
        self.dir.join("tags")
    }

    /// Returns all versions, newest first.
    pub(super) fn versions(&self) -> Result<Vec<Version>, String> {
        let names = read(&self.dir.join("versions"), list);
        let names = names.map_err(|error| self.complaint("its versions", &error))?;
        let versions = names.iter().filter_map(|name| Version::parse(name).ok());
        let mut versions: Vec<_> = versions.collect();
        versions.sort_unstable_by(|one, other| other.cmp(one));
        Ok(versions)
    }

    /// Reads something in the directory of a version.
    pub(super) fn read_version<T: Send + 'static>(
        &self,
        version: &Version,
        what: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let path = self.dir.join("versions").join(version.as_str());
        read(&path, what).map_err(|error| self.complaint(version.as_str(), &error))
    }

    /// Returns every tag and the version that it names, `latest` first.
    pub(super) fn tags(&self) -> Result<Vec<(String, Version)>, String> {
        let tags = at_once(&self.tag_names()?, |name| {
            let version = self.tag(name)?;
            Ok(version.map(|version| (name.clone(), version)))
        });
        // A tag may have been deleted since the listing.
        let tags = tags.into_iter().filter_map(Result::transpose);
        let mut tags = tags.collect::<Result<Vec<_>, String>>()?;
        tags.sort_unstable_by_key(|(name, _)| (name != LATEST, name.clone()));
        Ok(tags)
    }

    /// Returns the version that a tag names, or `None` if there is no such tag.
    pub(super) fn tag(&self, name: &str) -> Result<Option<Version>, String> {
        if !names_a_tag(name) {
            return Ok(None);
        }
        match read(&self.tags_dir().join(name), std::fs::read_link) {
            Ok(link) => {
                let version = link.file_name().and_then(OsStr::to_str);
                Ok(version.and_then(|version| Version::parse(version).ok()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.complaint(&format!("the tag {name}"), &error)),
        }
    }

    /// Returns the version that a user names: by a tag, by its name, or by the name's beginning.
    pub(super) fn version(&self, name: &str) -> Result<Version, String> {
        if let Some(version) = self.tag(name)? {
            return Ok(version);
        }
        let versions = self.versions()?;
        if versions.is_empty() {
            return Err(self.has_no_version());
        }
        let near = || did_you_mean(name, &self.tag_names().unwrap_or_default());
        chosen(versions, name, near).map_err(|why| {
            let dir = self.dir.display();
            format!("{} {why}; atlasfs history {dir} shows them", self.name)
        })
    }

    /// Explains that the repository has no version, and how to make the first one.
    pub(super) fn has_no_version(&self) -> String {
        let (name, dir) = (&self.name, self.dir.display());
        format!("{name} has no version yet: each push of a schema makes one: cp schema.hcl {dir}/")
    }

    fn tag_names(&self) -> Result<Vec<String>, String> {
        let names = read(&self.tags_dir(), list);
        let mut names = names.map_err(|error| self.complaint("its tags", &error))?;
        names.retain(|name| names_a_tag(name));
        Ok(names)
    }

    /// Says that something could not be read.
    fn complaint(&self, what: &str, error: &io::Error) -> String {
        let (name, mount) = (&self.name, self.mount.display());
        match error.kind() {
            io::ErrorKind::TimedOut => silent(&self.mount, Process::behind(&self.mount).as_ref()),
            _ => format!("cannot read {what} of {name}: {error}; atlasfs status {mount} shows why"),
        }
    }
}

/// Reads something of a mount, which may hang: the error is then `TimedOut`, which no mount answers.
pub(super) fn read<T: Send + 'static>(
    path: &Path,
    what: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    fuse::within(READ_TIMEOUT, move || what(path))
        .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

fn names_a_tag(name: &str) -> bool {
    name == LATEST || is_tag(OsStr::new(name))
}

/// Returns the mount point above a directory, and the rest of the path.
fn place(dir: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let shown = dir.display();
    let path = std::path::absolute(dir);
    let path = path.map_err(|error| format!("cannot access {shown}: {error}"))?;
    // The words of the path come first: a request to a mount that hangs would wait.
    let is_plain = !path.iter().any(|name| name == "..");
    let by_words = mount_above(&path).filter(|_| is_plain);
    if by_words.is_some() {
        return Ok(by_words);
    }
    let asked = path.clone();
    let found = fuse::within(FIND_TIMEOUT, move || asked.canonicalize());
    let found = found.ok_or_else(|| format!("cannot access {shown}: it does not answer"))?;
    match found {
        Ok(path) => Ok(mount_above(&path)),
        Err(error) => Err(format!(
            "cannot access {shown}: {error}: is the registry mounted?"
        )),
    }
}

/// Returns the mount point of atlasfs above a path, and the rest of the path.
fn mount_above(path: &Path) -> Option<(PathBuf, PathBuf)> {
    for dir in path.ancestors() {
        match fuse::occupant(dir) {
            Ok(Occupant::Nothing) => {}
            Ok(Occupant::Atlasfs(_) | Occupant::DeadAtlasfs(_)) => {
                let rest = path.strip_prefix(dir).ok()?;
                return Some((dir.to_owned(), rest.to_owned()));
            }
            Ok(Occupant::Stranger(_)) | Err(_) => return None,
        }
    }
    None
}

/// Lists the names in a directory; leaves out those that are no text.
fn list(path: PathBuf) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in path.read_dir()? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// Does the same for each of many things, some at once. The results are in the same order.
pub(super) fn at_once<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work = &work;
    let some_at_once = |some| {
        std::thread::scope(|scope| {
            let begin = |thing| scope.spawn(move || work(thing));
            let begun: Vec<_> = <[T]>::iter(some).map(begin).collect();
            let ended = begun.into_iter().map(|one| one.join());
            let results = ended.map(|end| end.unwrap_or_else(|panic| resume_unwind(panic)));
            results.collect::<Vec<_>>()
        })
    };
    things
        .chunks(READS_AT_ONCE)
        .flat_map(some_at_once)
        .collect()
}

/// Returns the version with a name, or the only one whose name begins so. `versions`: newest first.
/// `near`: a hint for a name that is unknown.
fn chosen(
    versions: Vec<Version>,
    name: &str,
    near: impl FnOnce() -> String,
) -> Result<Version, String> {
    let begins = |version: &Version| !name.is_empty() && version.as_str().starts_with(name);
    let (found, others): (Vec<_>, Vec<_>) = versions.into_iter().partition(begins);
    let newest = |versions: &[Version]| {
        let names = versions.iter().take(NAMES_LISTED).map(Version::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!(
            "has no tag or version {name:?}{}; its newest are {}",
            near(),
            newest(&others)
        )),
        many => Err(format!(
            "has {} versions that begin with {name:?}, the newest {}",
            many.len(),
            newest(many)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions() -> Vec<Version> {
        [
            "20240910173746-0a1b2c3d",
            "20240910173745-ffffffff",
            "20240910173745-0a1b2c3d",
            "20231231235959-0a1b2c3d",
        ]
        .map(|name| Version::parse(name).unwrap())
        .to_vec()
    }

    fn choose(name: &str) -> Result<Version, String> {
        chosen(versions(), name, || " (near)".to_owned())
    }

    #[test]
    fn a_version_is_named_by_a_beginning_that_no_other_has() {
        for (name, expected) in [
            ("20240910173745-ffffffff", "20240910173745-ffffffff"),
            ("20240910173745-f", "20240910173745-ffffffff"),
            ("2023", "20231231235959-0a1b2c3d"),
        ] {
            assert_eq!(choose(name).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_name_of_no_or_several_versions_lists_the_newest() {
        let ambiguous = choose("20240910173745").unwrap_err();
        assert_eq!(
            ambiguous,
            "has 2 versions that begin with \"20240910173745\", the newest \
             20240910173745-ffffffff, 20240910173745-0a1b2c3d"
        );
        for name in ["", "2025", "../schema", "x\x1b[2J"] {
            let absent = choose(name).unwrap_err();
            let newest =
                "20240910173746-0a1b2c3d, 20240910173745-ffffffff, 20240910173745-0a1b2c3d";
            assert_eq!(
                absent,
                format!("has no tag or version {name:?} (near); its newest are {newest}")
            );
            assert!(!absent.contains('\x1b'));
        }
    }

    #[test]
    fn a_directory_outside_of_a_mount_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let error = Repository::find(dir.path()).unwrap_err();
        assert!(error.contains("not below a mount of atlasfs"), "{error}");
        let error = Repository::find(Path::new("/none/such")).unwrap_err();
        assert!(error.contains("No such file or directory"), "{error}");
    }

    #[test]
    fn many_things_are_done_in_their_order() {
        let things: Vec<usize> = (0..50).collect();
        assert_eq!(at_once(&things, |thing| thing * 2)[49], 98);
        assert_eq!(at_once(&things, |thing| *thing), things);
    }
}
