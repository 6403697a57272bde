//! The index file: the knowledge of one mount, for the mount that comes after it.
//!
//! Each line holds one fact with its checksum; a later line about the same thing replaces an
//! earlier one:
//!
//! ```text
//! <checksum> {"registry":"<id>","repos":["app"]}
//! <checksum> {"registry":"<id>","repo":"app","listed":"2024-09-10T17:37:44.000000001Z"}
//! <checksum> {"registry":"<id>","repo":"app","artifact":"schema","current":{…},"floor":{…}}
//! ```
//!
//! Every line names the registry that its fact is from, so that a mount with another configuration
//! doesn't take one registry's facts for another's. Lines are appended; now and then the file is
//! written anew, beside itself and renamed, so it is never incomplete.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::entry::{Facts, Shown};
use super::journal::{line, read_line};
use crate::dir::open_regular;
use crate::model::{
    ArtifactId, Author, Base, Item, PlanStatus, RepoName, Section, Stamp, nanos, when_from_text,
    when_to_text,
};
use crate::store::Token;

/// The most that is read of a file. 256 MiB: half a million artifacts.
const MAX_FILE_SIZE: u64 = 256 << 20;

/// How much may be appended before the file is written anew: 1 MiB, or twice the size of the file
/// when it was last written anew if that is more.
const SLACK: u64 = 1 << 20;

/// How much is written at once. 64 KiB: some hundred lines.
const BUFFER: usize = 64 << 10;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The id of the registry that the fact is from.
    pub registry: String,
    /// The fact.
    pub fact: Fact,
}

/// The fact in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The repositories that were found on the registry.
    Repos(BTreeSet<RepoName>),
    /// When a section was last listed, in nanoseconds since the epoch.
    Listed(Section, u64),
    /// The facts about an artifact.
    Artifact(ArtifactId, Box<Facts>),
}

/// The contents of a file.
#[derive(Debug, Default)]
pub struct Recalled {
    /// Its lines, in order.
    pub notes: Vec<Note>,
    /// The path where it was set aside, if it was damaged.
    pub damaged: Option<PathBuf>,
}

/// The file of one mount.
#[derive(Debug)]
pub struct IndexFile {
    path: PathBuf,
    /// The file, open for appending; `None` until it is written anew.
    file: Option<File>,
    /// Its length when it was last written anew, and its length now.
    written: u64,
    length: u64,
}

impl IndexFile {
    /// Names the file. It is not read or written yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            written: 0,
            length: 0,
        }
    }

    /// Reads the file of an earlier mount. A torn last line is normal after a crash; from a file
    /// that is damaged otherwise, the intact lines are used, and the file is set aside.
    ///
    /// # Errors
    ///
    /// The I/O error if the file exists and can't be read.
    pub fn recall(&self) -> io::Result<Recalled> {
        let file = match open_regular(OpenOptions::new().read(true), &self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Recalled::default());
            }
            file => file?,
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)? as u64;
        let (notes, whole) = parse(&bytes);
        if whole && read <= MAX_FILE_SIZE {
            return Ok(Recalled {
                notes,
                damaged: None,
            });
        }
        // If the rename fails, the file is overwritten later.
        let aside = self.path.with_extension("damaged");
        let moved = fs::rename(&self.path, &aside);
        Ok(Recalled {
            notes,
            damaged: Some(moved.map_or_else(|_| self.path.clone(), |()| aside)),
        })
    }

    /// Returns whether the file must be written anew: it has not been yet, a write has failed, or
    /// too much of it is out of date.
    pub fn is_due(&self) -> bool {
        self.file.is_none() || self.length - self.written > SLACK.max(2 * self.written)
    }

    /// Appends lines.
    ///
    /// # Errors
    ///
    /// The I/O error. Afterwards the file must be written anew.
    pub fn append(&mut self, notes: impl IntoIterator<Item = Note>) -> io::Result<()> {
        let appended = match &self.file {
            Some(file) => write_lines(file, notes, u64::MAX),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match &appended {
            Ok(length) => self.length += length,
            Err(_) => self.file = None,
        }
        appended.map(drop)
    }

    /// Writes the file anew, with as many of these lines as it may hold.
    ///
    /// # Errors
    ///
    /// The I/O error. The old file is still there then.
    pub fn rewrite(&mut self, notes: impl IntoIterator<Item = Note>) -> io::Result<()> {
        self.file = None;
        let beside = self.path.with_extension("tmp");
        let _ = fs::remove_file(&beside);
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        let written = options.open(&beside).and_then(|file| {
            let length = write_lines(&file, notes, MAX_FILE_SIZE / 4)?;
            // Rewrites are rare, so this costs little; without it a crash of the machine could
            // leave nothing.
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            Ok((file, length))
        });
        match written {
            Ok((file, length)) => {
                self.file = Some(file);
                self.written = length;
                self.length = length;
                Ok(())
            }
            Err(error) => {
                // On a full disk, a partial file must not take room from others.
                let _ = fs::remove_file(&beside);
                Err(error)
            }
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes as many lines as fit into `room`, one after the other: all of them together may need more
/// memory than the mount should take. Returns their length.
fn write_lines(file: &File, notes: impl IntoIterator<Item = Note>, room: u64) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(BUFFER, file);
    let mut length = 0;
    for note in notes {
        let line = to_line(&note);
        if length + line.len() as u64 > room {
            break;
        }
        out.write_all(line.as_bytes())?;
        length += line.len() as u64;
    }
    out.flush()?;
    Ok(length)
}

/// Reads all intact lines; returns whether all of them are intact, except for a torn end.
fn parse(mut bytes: &[u8]) -> (Vec<Note>, bool) {
    let mut notes = Vec::new();
    let mut whole = true;
    while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        match read_line(bytes).and_then(|(value, _)| from_value(&value)) {
            Some(note) => notes.push(note),
            None => whole = false,
        }
        bytes = bytes.get(end + 1..).unwrap_or_default();
    }
    (notes, whole)
}

fn to_line(note: &Note) -> String {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.into(), value);
    put("registry", json!(note.registry));
    match &note.fact {
        Fact::Repos(repos) => {
            let repos: Vec<&str> = repos.iter().map(RepoName::as_str).collect();
            put("repos", json!(repos));
        }
        Fact::Listed(section, when) => {
            put("repo", json!(section.to_string()));
            put("listed", json!(when_to_text(*when)));
        }
        Fact::Artifact(id, facts) => {
            put("repo", json!(id.repo.as_str()));
            put("artifact", json!(id.item.to_string()));
            if let Some(high_water) = &facts.high_water {
                put("floor", from_stamp(high_water));
            }
            match &facts.current {
                Some(Shown::Stamped(stamp)) if Some(*stamp) == facts.high_water => {
                    put("current", json!("floor"));
                }
                Some(Shown::Stamped(stamp)) => {
                    put("current", from_stamp(stamp));
                }
                Some(Shown::Unread { size, time }) => {
                    let time = when_to_text(nanos(*time));
                    put("current", json!({ "size": size, "shown": time }));
                }
                None => {}
            }
            if let Some(Token(token)) = &facts.token {
                put("token", json!(token));
            }
            if facts.gone {
                put("gone", json!(true));
            }
        }
    }
    line(&Value::Object(object))
}

fn from_value(value: &Value) -> Option<Note> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let registry = text("registry")?.to_owned();
    if let Some(repos) = value.get("repos") {
        let repos = repos.as_array()?.iter();
        let repos = repos.map(|repo| RepoName::parse(repo.as_str()?).ok());
        let fact = Fact::Repos(repos.collect::<Option<_>>()?);
        return Some(Note { registry, fact });
    }
    let section = Section::from_key(text("repo")?)?;
    if let Some(when) = text("listed") {
        let fact = Fact::Listed(section, when_from_text(when)?);
        return Some(Note { registry, fact });
    }
    let repo = section.repo;
    let item = Item::from_key(text("artifact")?)?;
    let high_water = value.get("floor").map(to_stamp);
    let high_water = match high_water {
        Some(None) => return None,
        high_water => high_water.flatten(),
    };
    let current = match value.get("current") {
        None => None,
        Some(Value::String(_)) => Some(Shown::Stamped(high_water?)),
        Some(current) => Some(match current.get("shown").and_then(Value::as_str) {
            Some(time) => Shown::Unread {
                size: current.get("size")?.as_u64()?,
                time: UNIX_EPOCH + Duration::from_nanos(when_from_text(time)?),
            },
            None => Shown::Stamped(to_stamp(current)?),
        }),
    };
    let facts = Facts {
        current,
        high_water,
        token: text("token").map(|token| Token(token.to_owned())),
        gone: value.get("gone").and_then(Value::as_bool) == Some(true),
    };
    let fact = Fact::Artifact(ArtifactId { repo, item }, Box::new(facts));
    Some(Note { registry, fact })
}

fn from_stamp(stamp: &Stamp) -> Value {
    json!({
        "time": when_to_text(stamp.when),
        "size": stamp.size,
        "sha256": stamp.sha256.to_string(),
        "format": stamp.format.as_str(),
        "base": stamp.base.to_text(),
        "author": stamp.author.as_ref().map(Author::as_str),
        "status": stamp.status.to_text(),
    })
}

fn to_stamp(value: &Value) -> Option<Stamp> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    Some(Stamp {
        when: when_from_text(text("time")?)?,
        sha256: text("sha256")?.parse().ok()?,
        size: value.get("size")?.as_u64()?,
        format: text("format")?.parse().ok()?,
        base: match text("base") {
            Some(base) => base.parse().ok()?,
            None => Base::Unknown,
        },
        author: text("author").and_then(|author| author.parse().ok()),
        status: PlanStatus::from_text(text("status")).ok()?,
    })
}

#[cfg(test)]
#[path = "index_file_tests.rs"]
mod tests;
