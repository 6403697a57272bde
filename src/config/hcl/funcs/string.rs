//! Functions on strings. The engine of regular expressions is linear in the text, and the limits
//! here keep its factor small.

use std::collections::BTreeMap;

use regex::{Captures, Regex, RegexBuilder};

use super::super::value::Value;
use super::call::{Answer, Call, Definition, FunctionError};

/// The longest text to search, in bytes. A search for all matches may cost its square.
const MAX_SEARCHED: usize = 16 * 1024;

/// The largest compiled pattern, in bytes: some thousand states.
const MAX_COMPILED: usize = 256 * 1024;

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "upper" => (1..=1, |call| {
            one(call, |text| text.chars().map(upper).collect())
        }),
        "lower" => (1..=1, |call| {
            one(call, |text| text.chars().map(lower).collect())
        }),
        "title" => (1..=1, |call| one(call, title)),
        "strrev" => (1..=1, |call| one(call, |text| text.chars().rev().collect())),
        "chomp" => (1..=1, |call| {
            one(call, |text| text.trim_end_matches(['\r', '\n']).into())
        }),
        "trimspace" => (1..=1, |call| one(call, |text| text.trim().into())),
        "trim" => (2..=2, |call| {
            two(call, |text, set| {
                text.trim_matches(|c| set.contains(c)).into()
            })
        }),
        "trimprefix" => (2..=2, |call| {
            two(call, |text, start| {
                text.strip_prefix(start).unwrap_or(text).into()
            })
        }),
        "trimsuffix" => (2..=2, |call| {
            two(call, |text, end| {
                text.strip_suffix(end).unwrap_or(text).into()
            })
        }),
        "startswith" => (2..=2, |call| {
            test(call, |text, start| text.starts_with(start))
        }),
        "endswith" => (2..=2, |call| test(call, |text, end| text.ends_with(end))),
        "split" => (2..=2, split),
        "join" => (2..=usize::MAX, join),
        "replace" => (3..=3, replace),
        "substr" => (3..=3, substr),
        "indent" => (2..=2, indent),
        "getenv" => (1..=1, getenv),
        "tostring" => (1..=1, tostring),
        "regex" => (2..=2, |call| {
            let (pattern, text) = (compiled(call, 0)?, searched(call, 1)?);
            match pattern.captures(&text) {
                Some(captures) => Ok(captured(&pattern, &captures)),
                None => Err("pattern did not match any part of the given string".into()),
            }
        }),
        "regexall" => (2..=2, |call| {
            let (pattern, text) = (compiled(call, 0)?, searched(call, 1)?);
            let all = pattern.captures_iter(&text);
            Ok(Value::List(
                all.map(|captures| captured(&pattern, &captures)).collect(),
            ))
        }),
        "regexreplace" => (3..=3, regexreplace),
        "regexpescape" => (1..=1, |call| Ok(regex::escape(&call.text(0)?).into())),
        // Atlas prints the value. A mount's output may be a log, and the value a secret, so here
        // `print` only returns it.
        "print" => (1..=1, |call| Ok(call.any(0)?.clone())),
        _ => return None,
    })
}

fn one(call: &Call<'_>, change: impl Fn(&str) -> String) -> Answer {
    Ok(change(&call.text(0)?).into())
}

fn two(call: &Call<'_>, change: impl Fn(&str, &str) -> String) -> Answer {
    let (text, other) = (call.text(0)?, call.text(1)?);
    // Trimming a set of characters costs the product of both lengths.
    call.charge(text.len().saturating_mul(1 + other.len() / 64))?;
    Ok(change(&text, &other).into())
}

fn test(call: &Call<'_>, holds: impl Fn(&str, &str) -> bool) -> Answer {
    Ok(holds(&call.text(0)?, &call.text(1)?).into())
}

/// Maps one character to one, as Go does: "ß" stays, because its capital form has two characters.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next(), c) {
        (Some(one), None, _) => one,
        // Greek letters with an iota below; their one-character form is the title case.
        (_, _, '\u{1f80}'..='\u{1faf}') => offset(c, u32::from(c) % 16 / 8, 8),
        (_, _, '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}') => offset(c, 0, 9),
        _ => c,
    }
}

/// Adds to a character, if it is in the lower half of its block.
fn offset(c: char, half: u32, distance: u32) -> char {
    match half {
        0 => char::from_u32(u32::from(c) + distance).unwrap_or(c),
        _ => c,
    }
}

/// Maps one character to one, independent of its neighbours.
fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Capitalises every word, as Go's `strings.Title`: an apostrophe ends a word.
fn title(text: &str) -> String {
    let mut inside_word = false;
    text.chars()
        .map(|c| {
            let mapped = if inside_word { c } else { capital(c) };
            inside_word = match c.is_ascii() {
                true => c.is_ascii_alphanumeric() || c == '_',
                false => !c.is_whitespace(),
            };
            mapped
        })
        .collect()
}

/// Returns a character's form at the start of a word.
fn capital(c: char) -> char {
    match c {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        // Georgian capitals are for whole words only.
        'ა'..='ჿ' => c,
        other => upper(other),
    }
}

fn split(call: &Call<'_>) -> Answer {
    let (separator, text) = (call.text(0)?, call.text(1)?);
    let parts: Vec<Value> = match separator.as_str() {
        "" => text.chars().map(|c| Value::String(c.into())).collect(),
        separator => text.split(separator).map(Value::from).collect(),
    };
    call.few(parts.len())?;
    Ok(Value::List(parts))
}

fn join(call: &Call<'_>) -> Answer {
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
    let (text, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let count = text.matches(&from).count();
    call.bounded(text.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(text.replace(&from, &to).into())
}

/// `substr(text, offset, length)` in characters: an offset below zero counts from the end, a
/// length below zero goes to the end.
fn substr(call: &Call<'_>) -> Answer {
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
    let value = (call.scope.inputs.getenv)(&call.text(0)?).unwrap_or_default();
    call.bounded(value.len())?;
    Ok(value.into())
}

fn tostring(call: &Call<'_>) -> Answer {
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        other => other
            .to_text()
            .map(Value::String)
            .ok_or_else(|| format!("cannot convert {} to string", other.kind()).into()),
    }
}

fn compiled(call: &Call<'_>, index: usize) -> Result<Regex, FunctionError> {
    let pattern = call.text(index)?;
    // This charge limits a load to a thousand compiled patterns.
    call.charge(16 * 1024)?;
    RegexBuilder::new(&pattern)
        .size_limit(MAX_COMPILED)
        .nest_limit(64)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                FunctionError::Refused("the pattern is too large".into())
            }
            _ => "the pattern is not a valid regular expression".into(),
        })
}

fn searched(call: &Call<'_>, index: usize) -> Result<String, FunctionError> {
    let text = call.text(index)?;
    if text.len() > MAX_SEARCHED {
        return Err(FunctionError::Refused(format!(
            "the searched string is longer than {MAX_SEARCHED} bytes"
        )));
    }
    // A search for all matches may cost the square.
    call.charge(text.len() * (1 + text.len() / 256))?;
    Ok(text)
}

/// Returns the match: a string without groups, an object of named groups, else a list.
fn captured(pattern: &Regex, captures: &Captures<'_>) -> Value {
    let text = |found: Option<regex::Match<'_>>| match found {
        Some(found) => Value::from(found.as_str()),
        None => Value::Null,
    };
    if pattern.captures_len() == 1 {
        return text(captures.get(0));
    }
    let named: BTreeMap<String, Value> = pattern
        .capture_names()
        .flatten()
        .map(|name| (name.into(), text(captures.name(name))))
        .collect();
    match named.is_empty() {
        true => Value::List(captures.iter().skip(1).map(text).collect()),
        false => Value::Object(named),
    }
}

/// `regexreplace(text, pattern, replacement)`; `$1` and `${name}` in the replacement are groups.
fn regexreplace(call: &Call<'_>) -> Answer {
    let (text, pattern, replacement) = (searched(call, 0)?, compiled(call, 1)?, call.text(2)?);
    let mut out = String::new();
    let mut end = 0;
    for captures in pattern.captures_iter(&text) {
        let Some(whole) = captures.get(0) else { break };
        out.push_str(text.get(end..whole.start()).unwrap_or_default());
        // Each reference may expand to the whole match.
        let references = replacement.matches('$').count();
        let longest = replacement
            .len()
            .saturating_add(references.saturating_mul(whole.len()));
        call.bounded(out.len().saturating_add(longest))?;
        captures.expand(&replacement, &mut out);
        end = whole.end();
    }
    out.push_str(text.get(end..).unwrap_or_default());
    call.bounded(out.len())?;
    Ok(out.into())
}
