//! Functions that look at files; paths are relative to the configuration's folder.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::super::budget::MAX_TEXT;
use super::super::value::Value;
use super::glob;
use super::{Call, Function, FunctionError};

type Answer = Result<Value, FunctionError>;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "file" => file,
        "fileset" => |call| matching(call, true),
        "glob" => |call| matching(call, false),
        _ => return None,
    })
}

fn file(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    let path = absolute(call)?;
    let fail = |error: std::io::Error| format!("{path:?} can't be read: {error}");
    // Before it is opened: to open a pipe can take for ever.
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

/// `fileset` (with `**` and `{a,b}`) and the older `glob`: the absolute paths of what matches.
fn matching(call: &Call<'_>, extended: bool) -> Answer {
    call.takes(1..=1)?;
    let pattern = absolute(call)?;
    let pattern = pattern.to_str().ok_or("the pattern is not UTF-8")?;
    let found = glob::find(call, pattern, extended)?;
    call.few(found.len())?;
    let names = found.iter().filter_map(|path| path.to_str());
    Ok(Value::List(names.map(Value::from).collect()))
}

/// Joins the argument to the configuration's folder and cleans it of `.` and `..`, as Go does.
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
