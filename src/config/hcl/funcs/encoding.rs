//! JSON, YAML and CSV.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::super::number::Number;
use super::super::value::Value;
use super::call::{Answer, Call, Definition, FunctionError};

/// The longest YAML to read, in bytes: the parser's time is quadratic in open brackets.
const MAX_YAML: usize = 64 * 1024;

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "jsonencode" => (1..=1, |call| {
            let json = json(call.any(0)?);
            call.bounded(json.len())?;
            Ok(json.into())
        }),
        "jsondecode" => (1..=1, |call| {
            let parsed = serde_json::from_str(&call.text(0)?).map_err(|error| {
                format!(
                    "not valid JSON at line {}, column {}",
                    error.line(),
                    error.column()
                )
            })?;
            from_json(parsed)
        }),
        "yamlencode" => (1..=1, |call| {
            let mut out = String::new();
            yaml(call, call.any(0)?, 0, &mut out)?;
            out.push('\n');
            Ok(out.trim_start_matches('\n').to_string().into())
        }),
        "yamldecode" => (1..=1, |call| from_yaml_text(call, &call.text(0)?)),
        "yamlmerge" => (0..=usize::MAX, yamlmerge),
        "csvdecode" => (1..=1, csvdecode),
        _ => return None,
    })
}

/// Writes JSON as Go's encoder does, which escapes HTML markup.
pub(crate) fn json(value: &Value) -> String {
    match value {
        Value::Null | Value::Unknown(_) => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::List(items) => format!("[{}]", comma(items.iter().map(json))),
        Value::Set(items) => format!("[{}]", comma(items.iter().map(json))),
        Value::Object(items) => {
            let pairs = items
                .iter()
                .map(|(key, item)| format!("{}:{}", quoted(key), json(item)));
            format!("{{{}}}", comma(pairs))
        }
    }
}

fn comma(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                // Writing to a string can't fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn from_json(value: serde_json::Value) -> Answer {
    Ok(match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Number(number) => Number::parse(&number.to_string())
            .map(Value::Number)
            .ok_or("a number is too large")?,
        serde_json::Value::Array(items) => {
            Value::List(items.into_iter().map(from_json).collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(items) => Value::Object(
            items
                .into_iter()
                .map(|(key, item)| Ok((key, from_json(item)?)))
                .collect::<Result<_, FunctionError>>()?,
        ),
    })
}

/// Reads one YAML document.
fn from_yaml_text(call: &Call<'_>, text: &str) -> Answer {
    if text.len() > MAX_YAML {
        return Err(FunctionError::Refused(format!(
            "the YAML is longer than {MAX_YAML} bytes"
        )));
    }
    // Aliases may expand the text as far as the parser allows, to a hundred times its size.
    let aliases = if text.contains('*') { 100 } else { 1 };
    call.charge(text.len().saturating_mul(aliases))?;
    let parsed = serde_yaml_ng::from_str(text).map_err(|error| match error.location() {
        Some(at) => format!(
            "not valid YAML at line {}, column {}",
            at.line(),
            at.column()
        ),
        None => "not valid YAML".into(),
    })?;
    from_yaml(parsed)
}

fn from_yaml(value: serde_yaml_ng::Value) -> Answer {
    use serde_yaml_ng::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => Number::parse(&number.to_string())
            .map(Value::Number)
            .ok_or("a number is not finite, or too large")?,
        Yaml::Sequence(items) => {
            Value::List(items.into_iter().map(from_yaml).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(items) => {
            let mut out = BTreeMap::new();
            for (key, item) in items {
                let key = from_yaml(key)?.to_text().ok_or("a key is not a string")?;
                out.insert(key, from_yaml(item)?);
            }
            Value::Object(out)
        }
        Yaml::Tagged(_) => return Err("tags (!name) are not supported".into()),
    })
}

/// Writes YAML as cty does: every string and key quoted, nested collections indented by two.
fn yaml(
    call: &Call<'_>,
    value: &Value,
    depth: usize,
    out: &mut String,
) -> Result<(), FunctionError> {
    call.bounded(out.len())?;
    let indent = |out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth * 2));
    };
    match value {
        Value::Object(items) if items.is_empty() => out.push_str("{}"),
        Value::Object(items) => {
            for (index, (key, item)) in items.iter().enumerate() {
                // The first key of an object in a list is on the list's line.
                if index > 0 || !out.ends_with("- ") {
                    indent(out);
                }
                out.push_str(&quoted(key));
                out.push(':');
                yaml_item(call, item, depth, out)?;
            }
        }
        Value::List(_) | Value::Set(_) => {
            let items = value.elements().unwrap_or_default();
            if items.is_empty() {
                out.push_str("[]");
            }
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 || !out.ends_with("- ") {
                    indent(out);
                }
                out.push_str("- ");
                yaml(call, item, depth + 1, out)?;
            }
        }
        scalar => out.push_str(&json(scalar)),
    }
    Ok(())
}

fn yaml_item(
    call: &Call<'_>,
    item: &Value,
    depth: usize,
    out: &mut String,
) -> Result<(), FunctionError> {
    match item {
        Value::Object(items) if !items.is_empty() => yaml(call, item, depth + 1, out),
        // A list is under its key, without more indentation.
        Value::List(_) | Value::Set(_)
            if item.elements().is_some_and(|items| !items.is_empty()) =>
        {
            yaml(call, item, depth, out)
        }
        other => {
            out.push(' ');
            yaml(call, other, depth, out)
        }
    }
}

/// `csvdecode(text)`: a list of objects; the first line names their attributes.
fn csvdecode(call: &Call<'_>) -> Answer {
    let text = call.text(0)?;
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let malformed = |error: csv::Error| match error.position() {
        Some(at) => format!("not valid CSV at line {}", at.line()),
        None => "not valid CSV".to_string(),
    };
    let headers = reader.headers().map_err(malformed)?.clone();
    if headers.is_empty() {
        return Err("missing header line".into());
    }
    let distinct: BTreeSet<&str> = headers.iter().collect();
    if distinct.len() != headers.len() {
        return Err("duplicate column name in the header line".into());
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        call.few(rows.len() + 1)?;
        call.charge(headers.as_slice().len() + record.as_slice().len())?;
        let pairs = headers.iter().zip(&record);
        rows.push(Value::Object(
            pairs
                .map(|(name, field)| (name.to_string(), field.into()))
                .collect(),
        ));
    }
    Ok(Value::List(rows))
}

/// The step of indentation in merged YAML, as in the library that Atlas uses.
const INDENT: usize = 4;

/// `yamlmerge`: several YAML documents as one. Null documents are ignored; a single document is
/// returned unchanged.
fn yamlmerge(call: &Call<'_>) -> Answer {
    if call.args.len() < 2 {
        return match call.args.first() {
            None | Some(Value::Null) => Ok(Value::Null),
            Some(_) => Ok(call.text(0)?.into()),
        };
    }
    let mut merged = BTreeMap::new();
    for (index, arg) in call.args.iter().enumerate() {
        if *arg == Value::Null {
            continue;
        }
        match from_yaml_text(call, &call.text(index)?)? {
            Value::Object(document) => merge_into(&mut merged, document)?,
            Value::Null => {}
            other => {
                let kind = other.kind();
                let message = format!("document {} must be a mapping, it is {kind}", index + 1);
                return Err(message.into());
            }
        }
    }
    let mut out = String::new();
    merged_yaml(call, &Value::Object(merged), 0, &mut out)?;
    Ok((out.trim_start_matches('\n').to_string() + "\n").into())
}

/// Merges mappings, appends sequences, and replaces everything else.
fn merge_into(
    into: &mut BTreeMap<String, Value>,
    from: BTreeMap<String, Value>,
) -> Result<(), String> {
    let differs = |key: &str| {
        format!(
            "failed to merge yaml: key {key} is defined in both src and dst, but has a different type"
        )
    };
    for (key, value) in from {
        match value {
            Value::Object(inner) => {
                let there = into.entry(key.clone());
                match there.or_insert_with(|| Value::Object(BTreeMap::new())) {
                    Value::Object(there) => merge_into(there, inner)?,
                    _ => return Err(differs(&key)),
                }
            }
            Value::List(items) => {
                let there = into.entry(key.clone());
                match there.or_insert_with(|| Value::List(Vec::new())) {
                    Value::List(there) => there.extend(items),
                    _ => return Err(differs(&key)),
                }
            }
            scalar => {
                into.insert(key, scalar);
            }
        }
    }
    Ok(())
}

fn merged_yaml(
    call: &Call<'_>,
    value: &Value,
    indent: usize,
    out: &mut String,
) -> Result<(), FunctionError> {
    call.bounded(out.len())?;
    // A collection in a sequence starts on the line of its dash.
    let begin = |first: bool, out: &mut String| {
        if !first || !out.ends_with("- ") {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match value {
        Value::Object(items) if items.is_empty() => out.push_str("{}"),
        Value::List(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(items) => {
            for (index, (key, item)) in items.iter().enumerate() {
                begin(index == 0, out);
                out.push_str(&merged_scalar(&Value::String(key.clone()), 0)?);
                out.push(':');
                let nested = item.elements().is_some_and(|items| !items.is_empty())
                    || matches!(item, Value::Object(items) if !items.is_empty());
                if !nested {
                    out.push(' ');
                }
                merged_yaml(call, item, (indent / INDENT + 1) * INDENT, out)?;
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                begin(index == 0, out);
                out.push_str("- ");
                merged_yaml(call, item, indent + 2, out)?;
            }
        }
        other => out.push_str(&merged_scalar(other, indent)?),
    }
    Ok(())
}

fn merged_scalar(value: &Value, indent: usize) -> Result<String, FunctionError> {
    let Value::String(text) = value else {
        return Ok(value.to_text().unwrap_or_else(|| "null".into()));
    };
    let text = serde_yaml_ng::to_string(text).map_err(|_| "a string can't be written as YAML")?;
    let line = format!("\n{}", " ".repeat(indent));
    Ok(text.trim_end_matches('\n').replace('\n', &line))
}
