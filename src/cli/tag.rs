//! `atlasfs tag`: gives a version a name, or moves the name to it.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::args::TagArgs;
use super::exit::Exit;
use super::process::Process;
use super::repository::{Repository, read};
use super::status::silent;
use super::{complain, print, table};
use crate::fs::is_tag;
use crate::fuse;
use crate::model::{LATEST, Version, nanos, when_from_text};

/// The longest wait for the push, which the mount ends earlier, by its own deadline.
const PUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// Makes or moves a tag, and prints where it leads.
pub(super) fn tag(args: &TagArgs) -> Exit {
    match set(args) {
        Ok(done) => {
            print(&done);
            Exit::Success
        }
        Err(why) => {
            complain(&why);
            Exit::Failure
        }
    }
}

fn set(args: &TagArgs) -> Result<String, String> {
    let tag = args.tag.as_str();
    check(tag)?;
    let repository = Repository::find(&args.dir)?;
    let version = repository.version(args.version.as_deref().unwrap_or(LATEST))?;
    let was = repository.tag(tag)?;
    if was.as_ref() == Some(&version) {
        return Ok(format!("{tag} names {version} already"));
    }
    let begun = nanos(SystemTime::now());
    let (tags, name, to) = (repository.tags_dir(), tag.to_owned(), version.clone());
    let pushed = fuse::within(PUSH_TIMEOUT, move || link(&tags, &name, &to));
    let mount = repository.mount();
    match pushed {
        Some(Ok(())) => Ok(match was {
            Some(was) => format!("{tag} names {version}, and no longer {was}"),
            None => format!("{tag} names {version}"),
        }),
        Some(Err(error)) => {
            let artifact = format!("{}/tags/{tag}", repository.name());
            let events = read(&mount.join(".atlasfs/events"), std::fs::read_to_string);
            let told = reason(&events.unwrap_or_default(), &artifact, begun);
            Err(refusal(&artifact, &version, &error, told.as_deref(), mount))
        }
        None => Err(silent(mount, Process::behind(mount).as_ref())),
    }
}

/// Refuses names that the mount would not take for a tag's.
fn check(tag: &str) -> Result<(), String> {
    if tag == LATEST {
        return Err(format!(
            "the tag {LATEST} always names the newest version, and can't be moved: choose another"
        ));
    }
    match is_tag(tag.as_ref()) {
        true => Ok(()),
        false => Err(format!(
            "{tag:?} can't be a tag: take letters, digits, '-', '_' and '.', the first a letter or \
             digit, and no name of a temporary file"
        )),
    }
}

/// Does what `ln -sfn` does: makes a link, or renames a new one onto an existing one.
fn link(tags: &Path, tag: &str, version: &Version) -> io::Result<()> {
    let to = format!("../versions/{version}");
    let tag = tags.join(tag);
    match symlink(&to, &tag) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    // A name that the mount takes for a temporary file's.
    let new = tags.join(format!(".atlasfs-tag-{}", std::process::id()));
    symlink(&to, &new)?;
    let moved = std::fs::rename(&new, &tag);
    if moved.is_err() {
        // A link that stays would only be gone with the mount.
        let _ = std::fs::remove_file(&new);
    }
    moved
}

/// Finds the reason for a failed push in the events of a mount: the newest about the artifact.
fn reason(events: &str, artifact: &str, begun: u64) -> Option<String> {
    let newest = events.lines().rev().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        let time = when_from_text(table::text(&event, "time"))?;
        let is_it = table::text(&event, "artifact") == artifact && time >= begun;
        (is_it && table::text(&event, "level") != "info").then_some(event)
    })?;
    let message = newest.get("message").and_then(Value::as_str)?;
    Some(message.to_owned())
}

/// Explains the failure of a push, with the next step.
fn refusal(
    artifact: &str,
    version: &Version,
    error: &io::Error,
    told: Option<&str>,
    mount: &Path,
) -> String {
    let next = match error.raw_os_error() {
        Some(libc::EROFS) => "mount without --read-only".to_owned(),
        Some(libc::ESTALE) => {
            "another mount has moved the tag: look, and run this again".to_owned()
        }
        Some(libc::ENOENT) => "the version is gone from the registry".to_owned(),
        _ => format!("atlasfs status {} shows the targets", mount.display()),
    };
    let why = told.map_or_else(|| error.to_string(), |told| format!("{told} ({error})"));
    format!("cannot make {artifact} name {version}: {why}; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_mount_takes_for_others_are_no_tags() {
        for tag in ["prod", "v1.2_x", "2024"] {
            check(tag).unwrap();
        }
        for tag in [
            "latest", "", "-x", "a b", "a/b", "..", ".x", "x.tmp", "x~", "CuAbC123", "\x1b[2J",
        ] {
            let why = check(tag).unwrap_err();
            assert!(!why.contains('\x1b'), "{why:?}");
        }
    }

    #[test]
    fn the_reason_is_the_newest_one_about_this_tag() {
        let event = |time: u32, level: &str, artifact: &str, message: &str| {
            let time = format!("2024-09-10T17:37:{time}.000000001Z");
            serde_json::json!({"time": time, "level": level, "artifact": artifact, "message": message})
        };
        let events = [
            event(40, "warn", "app/tags/prod", "long ago"),
            event(45, "warn", "app/tags/prod", "first"),
            event(46, "error", "app/tags/prod", "no target has it"),
            event(47, "error", "app/tags/other", "another"),
            event(48, "info", "app/tags/prod", "well"),
        ];
        let events = events.map(|event| event.to_string() + "\n").concat();
        let begun = when_from_text("2024-09-10T17:37:44Z").unwrap();
        let told = reason(&events, "app/tags/prod", begun);
        assert_eq!(told.as_deref(), Some("no target has it"));
        assert_eq!(reason(&events, "app/tags/none", begun), None);
        assert_eq!(reason("junk\n", "app/tags/prod", begun), None);
    }

    #[test]
    fn a_link_is_made_and_moved_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let versions = ["20240910173744-0a1b2c3d", "20240911080000-ffffffff"];
        for version in versions {
            link(dir.path(), "prod", &Version::parse(version).unwrap()).unwrap();
            let to = std::fs::read_link(dir.path().join("prod")).unwrap();
            assert_eq!(to.to_str().unwrap(), format!("../versions/{version}"));
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_failure_says_what_failed_why_and_what_to_do() {
        let version = Version::parse("20240910173744-0a1b2c3d").unwrap();
        let error = io::Error::from_raw_os_error(libc::EIO);
        let mount = Path::new("/mnt/registry");
        let line = refusal("app/tags/prod", &version, &error, Some("no answer"), mount);
        assert_eq!(
            line,
            "cannot make app/tags/prod name 20240910173744-0a1b2c3d: no answer (Input/output error \
             (os error 5)); atlasfs status /mnt/registry shows the targets"
        );
        let error = io::Error::from_raw_os_error(libc::EROFS);
        let line = refusal("app/tags/prod", &version, &error, None, mount);
        assert!(line.ends_with("; mount without --read-only"), "{line}");
    }
}
