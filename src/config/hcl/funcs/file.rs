//! Functions that read files and folders. Paths are relative to the configuration's folder.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::super::error::MAX_TEXT;
use super::super::value::Value;
use super::call::{Answer, Call, Definition, FunctionError};

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "file" => (1..=1, file),
        "fileset" => (1..=1, |call| matching(call, true)),
        "glob" => (1..=1, |call| matching(call, false)),
        _ => return None,
    })
}

fn file(call: &Call<'_>) -> Answer {
    let path = absolute(call)?;
    let fail = |error: std::io::Error| format!("{path:?} can't be read: {error}");
    // Check before the open, because opening a pipe can block for ever.
    if !std::fs::metadata(&path).map_err(fail)?.is_file() {
        return Err(format!("{path:?} is not a regular file").into());
    }
    let limit = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(fail)?;
    call.bounded(bytes.len())?;
    String::from_utf8(bytes)
        .map(Value::String)
        .map_err(|_| format!("{path:?} is not UTF-8").into())
}

/// `fileset` (with `**` and `{a,b}`) and the older `glob`: the absolute paths that match.
fn matching(call: &Call<'_>, extended: bool) -> Answer {
    let pattern = absolute(call)?;
    let pattern = pattern.to_str().ok_or("the pattern is not UTF-8")?;
    let found = glob(call, pattern, extended)?;
    call.few(found.len())?;
    let names = found.iter().filter_map(|path| path.to_str());
    Ok(Value::List(names.map(Value::from).collect()))
}

/// Joins the argument to the configuration's folder and resolves `.` and `..`, as Go does.
fn absolute(call: &Call<'_>) -> Result<PathBuf, FunctionError> {
    let text = call.text(0)?;
    if text.contains('\0') {
        return Err("the path has a NUL character".into());
    }
    let joined = call.scope.file.dir.join(Path::new(&text));
    let mut clean = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean)
}

/// The most folder entries that one pattern may visit.
const MAX_VISITED: usize = 10_000;

/// The greatest depth of `**`.
const MAX_DEPTH: usize = 32;

/// The most patterns that `{…}` may expand to.
const MAX_ALTERNATIVES: usize = 64;

/// A search for the paths that match a pattern. Patterns have `*`, `?`, `[a-z]`, and for `fileset`
/// also `**` and `{a,b}`.
struct GlobSearch<'c> {
    call: &'c Call<'c>,
    visited: usize,
    found: Vec<PathBuf>,
}

/// Finds the paths that match an absolute pattern, sorted.
fn glob(call: &Call<'_>, pattern: &str, extended: bool) -> Result<Vec<PathBuf>, FunctionError> {
    let patterns = match extended {
        true => alternatives(pattern)?,
        false => vec![pattern.to_string()],
    };
    let mut search = GlobSearch {
        call,
        visited: 0,
        found: Vec::new(),
    };
    for pattern in &patterns {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        search.walk(Path::new("/"), &parts, extended, 0)?;
    }
    search.found.sort();
    search.found.dedup();
    Ok(search.found)
}

impl GlobSearch<'_> {
    fn walk(
        &mut self,
        dir: &Path,
        parts: &[&str],
        extended: bool,
        depth: usize,
    ) -> Result<(), FunctionError> {
        let Some((part, rest)) = parts.split_first() else {
            if dir.exists() {
                self.found.push(dir.into());
            }
            return Ok(());
        };
        if depth > MAX_DEPTH {
            return Ok(());
        }
        if *part == "**" && extended {
            self.walk(dir, rest, extended, depth)?;
            for entry in self.entries(dir)? {
                // A link could lead back up.
                if entry.is_dir() && !entry.is_symlink() {
                    self.walk(&entry, parts, extended, depth + 1)?;
                } else if rest.is_empty() {
                    self.found.push(entry);
                }
            }
            return Ok(());
        }
        if !part.contains(['*', '?', '[', '\\']) {
            return self.walk(&dir.join(part), rest, extended, depth + 1);
        }
        let pattern: Vec<char> = part.chars().collect();
        for entry in self.entries(dir)? {
            let name = entry.file_name().and_then(|name| name.to_str());
            let Some(name) = name else { continue };
            self.call.charge(pattern.len().saturating_mul(name.len()))?;
            if matches(&pattern, &name.chars().collect::<Vec<_>>())
                && (rest.is_empty() || entry.is_dir())
            {
                self.walk(&entry, rest, extended, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Lists a folder; an unreadable folder matches no path, as in Go.
    fn entries(&mut self, dir: &Path) -> Result<Vec<PathBuf>, FunctionError> {
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Ok(Vec::new());
        };
        let mut paths = Vec::new();
        for entry in entries.flatten() {
            self.visited += 1;
            // A disk access costs more than a step of evaluation.
            self.call.charge(64)?;
            if self.visited > MAX_VISITED {
                return Err(FunctionError::Refused(format!(
                    "the pattern visits more than {MAX_VISITED} files"
                )));
            }
            paths.push(entry.path());
        }
        paths.sort();
        Ok(paths)
    }
}

/// Matches one name. It backtracks only to the last `*`, so its time is the product of both
/// lengths.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        let rest = pattern.get(at..).unwrap_or_default();
        if rest.first() == Some(&'*') {
            star = Some((at + 1, from));
            at += 1;
        } else if let Some(length) = name.get(from).and_then(|c| one(rest, *c)) {
            at += length;
            from += 1;
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            at = after;
            from = taken + 1;
        } else {
            return false;
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|c| *c == '*')
}

/// Returns the length of the pattern's part that matches one character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', class @ ..] => {
            let close = class.iter().skip(1).position(|c| *c == ']')? + 1;
            let inside = class.get(..close)?;
            let (negated, inside) = match inside {
                ['^' | '!', inside @ ..] => (true, inside),
                inside => (false, inside),
            };
            (in_class(inside, c) != negated).then_some(close + 2)
        }
        [plain, ..] => (*plain == c).then_some(1),
        [] => None,
    }
}

fn in_class(mut class: &[char], c: char) -> bool {
    loop {
        class = match class {
            [low, '-', high, rest @ ..] => {
                if (*low..=*high).contains(&c) {
                    return true;
                }
                rest
            }
            [one, rest @ ..] => {
                if *one == c {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

/// Expands `{a,b}`, the leftmost first.
fn alternatives(pattern: &str) -> Result<Vec<String>, FunctionError> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_string()];
    while let Some(pattern) = open.pop() {
        if done.len() + open.len() > MAX_ALTERNATIVES {
            return Err(FunctionError::Refused(format!(
                "the pattern expands to more than {MAX_ALTERNATIVES} patterns"
            )));
        }
        let split = pattern
            .split_once('{')
            .and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
        match split {
            Some((before, (inside, after))) => {
                for word in inside.split(',').take(MAX_ALTERNATIVES + 1) {
                    open.push(format!("{before}{word}{after}"));
                }
            }
            None => done.push(pattern),
        }
    }
    Ok(done)
}
