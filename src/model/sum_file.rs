//! `atlas.sum`, the checksums of a migration directory: parsed, computed and compared by Atlas's
//! own rules.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// The name of the file.
pub const SUM_FILE: &str = "atlas.sum";

/// The mark of a hash.
const HASH: &str = "h1:";

/// The line of the first file: line 1 has the hash of all lines.
const FIRST_LINE: usize = 2;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumFile {
    lines: Vec<SumLine>,
}

/// A migration file's line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SumLine {
    name: String,
    hash: String,
}

/// The content is no `atlas.sum`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSum {
    /// It is not text.
    #[error("it is not text")]
    NotText,
    /// A line is not a file with its hash.
    #[error("line {0} is not \"<file> h1:<hash>\"")]
    Line(usize),
    /// The first line does not belong to the others.
    #[error("line 1 is not the hash of the other lines")]
    Total,
}

/// The first difference between an `atlas.sum` and its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumDifference {
    line: usize,
    file: String,
    change: Change,
}

/// The change of a file, in Atlas's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Edited,
    Removed,
}

impl SumFile {
    /// Computes the content for some files, which come in the byte-wise order of their names.
    pub fn compute<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        // One hash runs through all files, so each line depends on those before it.
        let mut running = Sha256::new();
        let mut lines = Vec::new();
        for (name, content) in files {
            running.update(name);
            if !is_ignored(content) {
                running.update(content);
                lines.push(SumLine {
                    name: name.to_owned(),
                    hash: BASE64_STANDARD.encode(running.clone().finalize()),
                });
            }
        }
        Self { lines }
    }

    /// Parses a content as Atlas does: line ends may be CRLF.
    ///
    /// # Errors
    ///
    /// [`InvalidSum`] names the first wrong line.
    pub fn parse(content: &[u8]) -> Result<Self, InvalidSum> {
        let text = std::str::from_utf8(content).map_err(|_| InvalidSum::NotText)?;
        let mut rest = text.lines();
        let total = rest.next().unwrap_or_default();
        let lines = rest.zip(FIRST_LINE..).map(|(line, number)| {
            let (name, hash) = line.split_once(HASH).ok_or(InvalidSum::Line(number))?;
            Ok(SumLine {
                name: name.trim().to_owned(),
                hash: hash.to_owned(),
            })
        });
        let lines = lines.collect::<Result<_, _>>()?;
        let parsed = Self { lines };
        match total.strip_prefix(HASH).unwrap_or(total) == parsed.total() {
            true => Ok(parsed),
            false => Err(InvalidSum::Total),
        }
    }

    /// Finds the first difference from what the directory really holds.
    pub fn difference(&self, actual: &Self) -> Option<SumDifference> {
        let mut pairs = self.lines.iter().zip(&actual.lines);
        let same = pairs.position(|(ours, theirs)| ours != theirs);
        let place = same.unwrap_or(self.lines.len().min(actual.lines.len()));
        let (ours, theirs) = (self.lines.get(place), actual.lines.get(place));
        let (file, change) = match (ours, theirs) {
            (None, None) => return None,
            (None, Some(theirs)) => (theirs, Change::Added),
            (Some(ours), theirs) => {
                let mut others = actual.lines.iter();
                match (others.position(|other| other.name == ours.name), theirs) {
                    (Some(at), _) if at == place => (ours, Change::Edited),
                    (Some(_), Some(theirs)) => (theirs, Change::Added),
                    // A name that is listed twice.
                    (Some(_), None) | (None, _) => (ours, Change::Removed),
                }
            }
        };
        Some(SumDifference {
            line: place + FIRST_LINE,
            file: file.name.clone(),
            change,
        })
    }

    /// Returns the names of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| &*line.name)
    }

    /// Returns the hash of all lines.
    fn total(&self) -> String {
        let mut hasher = Sha256::new();
        for SumLine { name, hash } in &self.lines {
            hasher.update(name);
            hasher.update(hash);
        }
        BASE64_STANDARD.encode(hasher.finalize())
    }
}

impl fmt::Display for SumFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HASH}{}", self.total())?;
        let mut lines = self.lines.iter();
        lines.try_for_each(|SumLine { name, hash }| writeln!(out, "{name} {HASH}{hash}"))
    }
}

impl fmt::Display for SumDifference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Added => "added",
            Change::Edited => "edited",
            Change::Removed => "removed",
        };
        write!(out, "L{}: {} was {change}", self.line, self.file)
    }
}

/// Tells whether a file excludes itself: its first line has the directive `atlas:sum ignore`, after
/// printable characters only. Of several directives in that line, the last counts.
fn is_ignored(content: &[u8]) -> bool {
    let line = content.split(|&byte| byte == b'\n').next();
    let line = line.unwrap_or_default();
    let is_printable = |byte: &&u8| matches!(byte, b' '..=b'~');
    let printable = line.iter().take_while(is_printable).count();
    let directive = |at: usize| {
        let rest = line.get(at..)?.strip_prefix(b"atlas:")?;
        let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        let (word, rest) = rest.split_at_checked(rest.iter().take_while(is_word).count())?;
        (!word.is_empty()).then_some((word, rest))
    };
    let Some((word, rest)) = (0..printable).rev().find_map(directive) else {
        return false;
    };
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    word == b"sum" && spaces > 0 && rest.get(spaces..) == Some(b"ignore")
}

#[cfg(test)]
#[path = "sum_file_tests.rs"]
mod tests;
