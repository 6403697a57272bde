//! Regular expressions. The engine is linear in the text; the bounds here keep its factor small.

use std::collections::BTreeMap;

use regex::{Captures, Regex, RegexBuilder};

use super::super::value::Value;
use super::{Call, Function, FunctionError};

type Answer = Result<Value, FunctionError>;

/// The longest text that is searched, in bytes. Going over all matches may cost its square.
const MAX_SEARCHED: usize = 16 * 1024;

/// The largest compiled pattern, in bytes: some thousand states.
const MAX_COMPILED: usize = 256 * 1024;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "regex" => |call| {
            call.takes(2..=2)?;
            let (pattern, text) = (compiled(call, 0)?, searched(call, 1)?);
            match pattern.captures(&text) {
                Some(captures) => Ok(captured(&pattern, &captures)),
                None => Err("pattern did not match any part of the given string".into()),
            }
        },
        "regexall" => |call| {
            call.takes(2..=2)?;
            let (pattern, text) = (compiled(call, 0)?, searched(call, 1)?);
            let all = pattern.captures_iter(&text);
            Ok(Value::List(
                all.map(|captures| captured(&pattern, &captures)).collect(),
            ))
        },
        "regexreplace" => regexreplace,
        "regexpescape" => |call| {
            call.takes(1..=1)?;
            Ok(regex::escape(&call.text(0)?).into())
        },
        _ => return None,
    })
}

fn compiled(call: &Call<'_>, index: usize) -> Result<Regex, FunctionError> {
    let pattern = call.text(index)?;
    // So that a thousand patterns at most are compiled.
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
    // The square is what going over all matches may cost.
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
    call.takes(3..=3)?;
    let (text, pattern, replacement) = (searched(call, 0)?, compiled(call, 1)?, call.text(2)?);
    let mut out = String::new();
    let mut end = 0;
    for captures in pattern.captures_iter(&text) {
        let Some(whole) = captures.get(0) else { break };
        out.push_str(text.get(end..whole.start()).unwrap_or_default());
        // Each reference may stand for as much as the whole match.
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
