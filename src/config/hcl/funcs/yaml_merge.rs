//! `yamlmerge`: several YAML documents as one.

use std::collections::BTreeMap;

use super::super::value::Value;
use super::encoding::from_yaml_text;
use super::{Call, Function, FunctionError};

/// What nested collections are indented to multiples of, as in the library that Atlas uses.
const INDENT: usize = 4;

pub(super) fn find(name: &str) -> Option<Function> {
    (name == "yamlmerge").then_some(yamlmerge as Function)
}

/// Null documents count for nothing; a single document is returned as it is.
fn yamlmerge(call: &Call<'_>) -> Result<Value, FunctionError> {
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
            Value::Object(document) => merge(&mut merged, document)?,
            Value::Null => {}
            other => {
                let kind = other.kind();
                let message = format!("document {} must be a mapping, it is {kind}", index + 1);
                return Err(message.into());
            }
        }
    }
    let mut out = String::new();
    write(call, &Value::Object(merged), 0, &mut out)?;
    Ok((out.trim_start_matches('\n').to_string() + "\n").into())
}

/// Merges mappings, appends sequences, and replaces everything else.
fn merge(into: &mut BTreeMap<String, Value>, from: BTreeMap<String, Value>) -> Result<(), String> {
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
                    Value::Object(there) => merge(there, inner)?,
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

fn write(
    call: &Call<'_>,
    value: &Value,
    indent: usize,
    out: &mut String,
) -> Result<(), FunctionError> {
    call.bounded(out.len())?;
    // A collection within a sequence starts on the line of its dash.
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
                out.push_str(&scalar(&Value::String(key.clone()), 0)?);
                out.push(':');
                let nested = item.elements().is_some_and(|items| !items.is_empty())
                    || matches!(item, Value::Object(items) if !items.is_empty());
                if !nested {
                    out.push(' ');
                }
                write(call, item, (indent / INDENT + 1) * INDENT, out)?;
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                begin(index == 0, out);
                out.push_str("- ");
                write(call, item, indent + 2, out)?;
            }
        }
        other => out.push_str(&scalar(other, indent)?),
    }
    Ok(())
}

fn scalar(value: &Value, indent: usize) -> Result<String, FunctionError> {
    let Value::String(text) = value else {
        return Ok(value.to_text().unwrap_or_else(|| "null".into()));
    };
    let text = serde_yaml_ng::to_string(text).map_err(|_| "a string can't be written as YAML")?;
    let line = format!("\n{}", " ".repeat(indent));
    Ok(text.trim_end_matches('\n').replace('\n', &line))
}
