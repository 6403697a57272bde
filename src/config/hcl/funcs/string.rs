//! Functions on strings.

use super::super::value::Value;
use super::{Call, Function, FunctionError};

type Answer = Result<Value, FunctionError>;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "upper" => |call| one(call, |text| text.to_uppercase()),
        "lower" => |call| one(call, |text| text.to_lowercase()),
        "title" => |call| one(call, title),
        "strrev" => |call| one(call, |text| text.chars().rev().collect()),
        "chomp" => |call| one(call, |text| text.trim_end_matches(['\r', '\n']).into()),
        "trimspace" => |call| one(call, |text| text.trim().into()),
        "trim" => |call| {
            two(call, |text, set| {
                text.trim_matches(|c| set.contains(c)).into()
            })
        },
        "trimprefix" => |call| {
            two(call, |text, start| {
                text.strip_prefix(start).unwrap_or(text).into()
            })
        },
        "trimsuffix" => |call| {
            two(call, |text, end| {
                text.strip_suffix(end).unwrap_or(text).into()
            })
        },
        "startswith" => |call| test(call, |text, start| text.starts_with(start)),
        "endswith" => |call| test(call, |text, end| text.ends_with(end)),
        "split" => split,
        "join" => join,
        "replace" => replace,
        "substr" => substr,
        "indent" => indent,
        "getenv" => getenv,
        "tostring" => tostring,
        // Atlas prints the value. A mount's output may be a log, and the value a secret, so here
        // it is only passed on.
        "print" => |call| {
            call.takes(1..=1)?;
            Ok(call.any(0)?.clone())
        },
        _ => return None,
    })
}

fn one(call: &Call<'_>, change: impl Fn(&str) -> String) -> Answer {
    call.takes(1..=1)?;
    Ok(change(&call.text(0)?).into())
}

fn two(call: &Call<'_>, change: impl Fn(&str, &str) -> String) -> Answer {
    call.takes(2..=2)?;
    let (text, other) = (call.text(0)?, call.text(1)?);
    // Trimming a set of characters is a product of both lengths.
    call.charge(text.len().saturating_mul(1 + other.len() / 64))?;
    Ok(change(&text, &other).into())
}

fn test(call: &Call<'_>, holds: impl Fn(&str, &str) -> bool) -> Answer {
    call.takes(2..=2)?;
    Ok(holds(&call.text(0)?, &call.text(1)?).into())
}

fn title(text: &str) -> String {
    let mut inside_word = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside_word {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside_word = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

fn split(call: &Call<'_>) -> Answer {
    call.takes(2..=2)?;
    let (separator, text) = (call.text(0)?, call.text(1)?);
    let parts: Vec<Value> = match separator.as_str() {
        "" => text.chars().map(|c| Value::String(c.into())).collect(),
        separator => text.split(separator).map(Value::from).collect(),
    };
    call.few(parts.len())?;
    Ok(Value::List(parts))
}

fn join(call: &Call<'_>) -> Answer {
    call.takes(2..=usize::MAX)?;
    let separator = call.text(0)?;
    let mut parts = Vec::new();
    for index in 1..call.args.len() {
        parts.extend(call.texts(index)?);
    }
    let length: usize = parts.iter().map(|part| part.len() + separator.len()).sum();
    call.bounded(length)?;
    Ok(parts.join(&separator).into())
}

/// `replace(text, substring, replacement)`. The substring is plain, as in cty and so in Atlas;
/// Terraform's `/regex/` form is `regexreplace` here.
fn replace(call: &Call<'_>) -> Answer {
    call.takes(3..=3)?;
    let (text, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let count = text.matches(&from).count();
    call.bounded(text.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(text.replace(&from, &to).into())
}

/// `substr(text, offset, length)` in characters: an offset below zero counts from the end, a
/// length below zero goes to the end.
fn substr(call: &Call<'_>) -> Answer {
    call.takes(3..=3)?;
    let (text, offset, length) = (call.text(0)?, call.int(1)?, call.int(2)?);
    let start = match usize::try_from(offset) {
        Ok(start) => start,
        Err(_) => {
            let back = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            text.chars().count().saturating_sub(back)
        }
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(text
        .chars()
        .skip(start)
        .take(length)
        .collect::<String>()
        .into())
}

/// `indent(spaces, text)`: every line but the first.
fn indent(call: &Call<'_>) -> Answer {
    call.takes(2..=2)?;
    let (spaces, text) = (call.int(0)?, call.text(1)?);
    let spaces = usize::try_from(spaces).map_err(|_| "argument 1 must not be negative")?;
    let lines = text.matches('\n').count();
    call.bounded(text.len().saturating_add(lines.saturating_mul(spaces)))?;
    if lines == 0 {
        return Ok(text.into());
    }
    Ok(text
        .replace('\n', &format!("\n{}", " ".repeat(spaces)))
        .into())
}

/// An unset variable gives an empty string, as in Atlas.
fn getenv(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    let value = (call.scope.inputs.getenv)(&call.text(0)?).unwrap_or_default();
    call.bounded(value.len())?;
    Ok(value.into())
}

fn tostring(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        other => other
            .to_text()
            .map(Value::String)
            .ok_or_else(|| format!("cannot convert {} to string", other.kind()).into()),
    }
}
