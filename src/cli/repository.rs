//! A repository of a mounted registry: its versions and tags, as the mount shows them.

use std::ffi::OsStr;
use std::io;
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
        let mut names = path.iter();
        let Some(name) = names.next() else {
            return Err(format!(
                "{shown} is the mount: name one of its repositories, as in {root}/app"
            ));
        };
        let name = name.to_string_lossy().into_owned();
        if names.next().is_some() {
            return Err(format!(
                "{shown} is not a repository's directory: use {root}/{name}"
            ));
        }
        if RepoName::parse(&name).is_err() {
            return Err(format!(
                "{shown} is not a repository: ls {root} shows them all"
            ));
        }
        let found = Self { mount, name };
        match found.read(&found.path(""), |path| path.metadata()) {
            Ok(meta) if meta.is_dir() => Ok(found),
            Ok(_) => Err(format!(
                "{shown} is not a repository: ls {root} shows them all"
            )),
            Err(Trouble::Failed(error)) if error.kind() == io::ErrorKind::NotFound => {
                let known = found.read(&found.mount, list).unwrap_or_default();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let near = did_you_mean(&found.name, &known);
                Err(format!(
                    "{shown} does not exist{near}: ls {root} shows all repositories"
                ))
            }
            Err(trouble) => Err(found.complaint(&shown.to_string(), trouble)),
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

    /// Returns the path of a name in the repository.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        let dir = self.mount.join(&self.name);
        match name {
            "" => dir,
            name => dir.join(name),
        }
    }

    /// Returns all versions, newest first.
    pub(super) fn versions(&self) -> Result<Vec<Version>, String> {
        let path = self.path("versions");
        let names = self.read(&path, list);
        let names = names.map_err(|trouble| self.complaint("its versions", trouble))?;
        let mut versions: Vec<_> = names
            .iter()
            .filter_map(|name| Version::parse(name).ok())
            .collect();
        versions.sort_unstable_by(|one, other| other.cmp(one));
        Ok(versions)
    }

    /// Returns every tag and the version that it names, `latest` first.
    pub(super) fn tags(&self) -> Result<Vec<(String, Version)>, String> {
        let names = self.tag_names()?;
        let versions = at_once(&names, |name| self.tag(name));
        let mut tags = Vec::new();
        for (name, version) in names.into_iter().zip(versions) {
            // It may have been deleted since the listing.
            tags.extend(version?.map(|version| (name, version)));
        }
        tags.sort_unstable_by_key(|(name, _)| (name != LATEST, name.clone()));
        Ok(tags)
    }

    /// Returns the version that a tag names, or `None` if there is no such tag.
    pub(super) fn tag(&self, name: &str) -> Result<Option<Version>, String> {
        if name != LATEST && !is_tag(OsStr::new(name)) {
            return Ok(None);
        }
        let path = self.path("tags").join(name);
        let link = match self.read(&path, std::fs::read_link) {
            Ok(link) => link,
            Err(Trouble::Failed(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(trouble) => return Err(self.complaint(&format!("the tag {name}"), trouble)),
        };
        let version = link.file_name().and_then(OsStr::to_str);
        Ok(version.and_then(|version| Version::parse(version).ok()))
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
        let near = || {
            let known = self.tag_names().unwrap_or_default();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            did_you_mean(name, &known)
        };
        chosen(&versions, name, near).map_err(|why| {
            let (name, dir) = (&self.name, self.path(""));
            format!("{name} {why}; atlasfs history {} shows them", dir.display())
        })
    }

    /// Explains that the repository has no version, and how to make the first one.
    pub(super) fn has_no_version(&self) -> String {
        let (name, dir) = (&self.name, self.path(""));
        let dir = dir.display();
        format!("{name} has no version yet: each push of a schema makes one: cp schema.hcl {dir}/")
    }

    fn tag_names(&self) -> Result<Vec<String>, String> {
        let path = self.path("tags");
        let names = self.read(&path, list);
        let mut names = names.map_err(|trouble| self.complaint("its tags", trouble))?;
        names.retain(|name| name == LATEST || is_tag(OsStr::new(name)));
        Ok(names)
    }

    /// Reads something of the mount, which may hang.
    pub(super) fn read<T: Send + 'static>(
        &self,
        path: &Path,
        read: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Trouble> {
        let path = path.to_owned();
        let answer = fuse::within(READ_TIMEOUT, move || read(path));
        answer.ok_or(Trouble::Silent)?.map_err(Trouble::Failed)
    }

    /// Says that something could not be read.
    pub(super) fn complaint(&self, what: &str, trouble: Trouble) -> String {
        match trouble {
            Trouble::Silent => silent(&self.mount, Process::behind(&self.mount).as_ref()),
            Trouble::Failed(error) => format!(
                "cannot read {what} of {}: {error}; atlasfs status {} shows why",
                self.name,
                self.mount.display()
            ),
        }
    }
}

/// The reason why something of a mount could not be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The mount does not answer.
    Silent,
    /// The mount answers with an error.
    Failed(io::Error),
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
    let mut results = Vec::with_capacity(things.len());
    for some in things.chunks(READS_AT_ONCE) {
        std::thread::scope(|scope| {
            let begun: Vec<_> = some
                .iter()
                .map(|thing| scope.spawn(move || work(thing)))
                .collect();
            for one in begun {
                match one.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
    results
}

/// Returns the version with a name, or the only one whose name begins so. `versions`: newest first.
/// `near`: a hint for a name that is unknown.
fn chosen(
    versions: &[Version],
    name: &str,
    near: impl FnOnce() -> String,
) -> Result<Version, String> {
    let begins = |version: &&Version| !name.is_empty() && version.as_str().starts_with(name);
    let found: Vec<_> = versions.iter().filter(begins).collect();
    let names = |versions: &mut dyn Iterator<Item = &Version>| {
        let names: Vec<_> = versions
            .take(NAMES_LISTED)
            .map(Version::to_string)
            .collect();
        names.join(", ")
    };
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(format!(
            "has no tag or version {name:?}{}; its newest are {}",
            near(),
            names(&mut versions.iter())
        )),
        many => Err(format!(
            "has {} versions that begin with {name:?}, the newest {}",
            many.len(),
            names(&mut many.iter().copied())
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
        chosen(&versions(), name, || " (near)".to_owned())
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
