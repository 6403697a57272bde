//! Functions on lists, sets and objects.

use std::collections::{BTreeMap, BTreeSet};

use super::super::number::Number;
use super::super::traverse::step_into;
use super::super::types::Type;
use super::super::value::Value;
use super::call::{Answer, Call, Definition, FunctionError};

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "length" => (1..=1, |call| Ok(Value::Number(Number::of(length(call)?)))),
        "empty" => (1..=1, |call| Ok((length(call)? == 0).into())),
        "alltrue" => (1..=1, alltrue),
        "chunklist" => (2..=2, chunklist),
        "coalescelist" => (1..=usize::MAX, coalescelist),
        "compact" => (1..=1, compact),
        "concat" => (1..=usize::MAX, concat),
        "contains" => (2..=2, contains),
        "distinct" => (1..=1, distinct),
        "element" => (2..=2, element),
        "flatten" => (1..=1, flatten),
        "index" => (2..=2, index),
        "keys" => (1..=1, keys),
        "merge" => (0..=usize::MAX, merge),
        "reverse" => (1..=1, reverse),
        "slice" => (3..=3, slice),
        "sort" => (1..=1, sort),
        "tolist" => (1..=1, tolist),
        "values" => (1..=1, values),
        "zipmap" => (2..=2, zipmap),
        "toset" => (1..=1, toset),
        "setunion" => (1..=usize::MAX, |call| {
            fold(call, |a, b| a.union(b).cloned().collect())
        }),
        "setintersection" => (1..=usize::MAX, |call| {
            fold(call, |a, b| a.intersection(b).cloned().collect())
        }),
        "setsubtract" => (2..=2, |call| {
            fold(call, |a, b| a.difference(b).cloned().collect())
        }),
        "setproduct" => (2..=usize::MAX, setproduct),
        _ => return None,
    })
}

fn length(call: &Call<'_>) -> Result<usize, FunctionError> {
    match call.any(0)? {
        Value::List(items) => Ok(items.len()),
        Value::Set(items) => Ok(items.len()),
        Value::Object(items) => Ok(items.len()),
        _ => Err(call.mismatch(0, "a list, set, map or object")),
    }
}

fn alltrue(call: &Call<'_>) -> Answer {
    let all = match call.any(0)? {
        Value::Object(items) => items.values().all(|item| *item == Value::Bool(true)),
        _ => call.list(0)?.iter().all(|item| *item == Value::Bool(true)),
    };
    Ok(all.into())
}

fn chunklist(call: &Call<'_>) -> Answer {
    let (list, size) = (call.unified(0)?, call.int(1)?);
    let size = usize::try_from(size).map_err(|_| "argument 2 must not be negative")?;
    // With size zero, one chunk holds the whole list, as in cty.
    let size = if size == 0 { list.len().max(1) } else { size };
    Ok(Value::List(
        list.chunks(size)
            .map(|chunk| Value::List(chunk.to_vec()))
            .collect(),
    ))
}

fn coalescelist(call: &Call<'_>) -> Answer {
    for (index, arg) in call.args.iter().enumerate() {
        if *arg != Value::Null && !call.list(index)?.is_empty() {
            return Ok(arg.clone());
        }
    }
    Err("no argument is a list with an element".into())
}

fn compact(call: &Call<'_>) -> Answer {
    let mut out = Vec::new();
    for item in call.list(0)? {
        match (&item, item.to_text()) {
            (Value::Null, _) => {}
            (_, Some(text)) if text.is_empty() => {}
            (_, Some(text)) => out.push(Value::String(text)),
            (_, None) => return Err("argument 1 must be a list of strings".into()),
        }
    }
    Ok(Value::List(out))
}

fn concat(call: &Call<'_>) -> Answer {
    let mut out = Vec::new();
    for index in 0..call.args.len() {
        out.extend(call.list(index)?);
    }
    Ok(Value::List(out))
}

fn contains(call: &Call<'_>) -> Answer {
    let wanted = call.any(1)?;
    Ok(call.list(0)?.contains(wanted).into())
}

fn distinct(call: &Call<'_>) -> Answer {
    let mut seen = BTreeSet::new();
    let mut list = call.unified(0)?;
    list.retain(|item| seen.insert(item.clone()));
    Ok(Value::List(list))
}

/// `element(list, index)` wraps around; an index below zero counts from the end.
fn element(call: &Call<'_>) -> Answer {
    let (list, index) = (call.list(0)?, call.int(1)?);
    let count = i64::try_from(list.len()).unwrap_or(i64::MAX);
    if count == 0 {
        return Err("cannot use element function with an empty list".into());
    }
    let index = usize::try_from(index.rem_euclid(count)).unwrap_or(0);
    list.into_iter()
        .nth(index)
        .ok_or_else(|| "there is no such element".into())
}

fn flatten(call: &Call<'_>) -> Answer {
    fn into(items: Vec<Value>, out: &mut Vec<Value>) {
        for item in items {
            match item {
                Value::List(inner) => into(inner, out),
                Value::Set(inner) => into(inner.into_iter().collect(), out),
                other => out.push(other),
            }
        }
    }
    let mut out = Vec::new();
    into(call.list(0)?, &mut out);
    Ok(Value::List(out))
}

/// `index(collection, key)` is `collection[key]`, as in cty; it doesn't search as Terraform's
/// function does.
fn index(call: &Call<'_>) -> Answer {
    Ok(step_into(call.any(0)?, call.any(1)?)?.clone())
}

fn keys(call: &Call<'_>) -> Answer {
    let keys = call.object(0)?.keys();
    Ok(Value::List(keys.map(|key| key.as_str().into()).collect()))
}

fn values(call: &Call<'_>) -> Answer {
    Ok(Value::List(call.object(0)?.values().cloned().collect()))
}

fn merge(call: &Call<'_>) -> Answer {
    let mut out = BTreeMap::new();
    for (index, arg) in call.args.iter().enumerate() {
        if *arg != Value::Null {
            out.extend(call.object(index)?.clone());
        }
    }
    Ok(Value::Object(out))
}

fn reverse(call: &Call<'_>) -> Answer {
    let mut list = call.list(0)?;
    list.reverse();
    Ok(Value::List(list))
}

fn slice(call: &Call<'_>) -> Answer {
    let (list, start, end) = (call.list(0)?, call.int(1)?, call.int(2)?);
    let at = |index| usize::try_from(index).ok();
    let part = at(start)
        .zip(at(end))
        .and_then(|(start, end)| list.get(start..end));
    match part {
        Some(part) => Ok(Value::List(part.to_vec())),
        None => Err(format!(
            "{start} to {end} is not within the list, which has {} elements",
            list.len()
        )
        .into()),
    }
}

fn sort(call: &Call<'_>) -> Answer {
    let mut texts = call.texts(0)?;
    texts.sort();
    Ok(Value::List(texts.into_iter().map(Value::String).collect()))
}

fn tolist(call: &Call<'_>) -> Answer {
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        _ => Ok(Value::List(call.unified(0)?)),
    }
}

fn zipmap(call: &Call<'_>) -> Answer {
    let (keys, values) = (call.texts(0)?, call.list(1)?);
    if keys.len() != values.len() {
        return Err(format!(
            "number of keys ({}) does not match number of values ({})",
            keys.len(),
            values.len()
        )
        .into());
    }
    Ok(Value::Object(keys.into_iter().zip(values).collect()))
}

fn toset(call: &Call<'_>) -> Answer {
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        _ => Ok(Value::Set(call.unified(0)?.into_iter().collect())),
    }
}

fn fold(
    call: &Call<'_>,
    combine: impl Fn(&BTreeSet<Value>, &BTreeSet<Value>) -> BTreeSet<Value>,
) -> Answer {
    let sets = (0..call.args.len()).map(|index| call.list(index).map(Value::List));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    call.charge(sets.iter().map(|set| set.measure().0).sum())?;
    let mut sets = common_sets(sets).ok_or("the elements of its sets have no common type")?;
    let mut out = sets.next().unwrap_or_default();
    for set in sets {
        out = combine(&out, &set);
        // Each argument copies the result so far once.
        call.charge(out.len())?;
    }
    Ok(Value::Set(out))
}

/// Makes sets from lists, with one element type for all of them.
fn common_sets(lists: Vec<Value>) -> Option<impl Iterator<Item = BTreeSet<Value>>> {
    let elements = lists.iter().filter_map(Value::elements).flatten();
    let kind = Type::Set(Box::new(Type::common(elements.map(Type::of).collect())?));
    let sets = lists.into_iter().map(|list| kind.convert(list));
    let sets = sets.collect::<Result<Vec<_>, _>>().ok()?.into_iter();
    Some(sets.filter_map(|set| match set {
        Value::Set(items) => Some(items),
        _ => None,
    }))
}

/// Returns every combination of one element of each argument; a list if an argument is one.
fn setproduct(call: &Call<'_>) -> Answer {
    let ordered = call.args.iter().any(|arg| matches!(arg, Value::List(_)));
    let mut out: Vec<Vec<Value>> = vec![Vec::new()];
    for index in 0..call.args.len() {
        let list = call.unified(index)?;
        call.few(out.len().saturating_mul(list.len()))?;
        let mut next = Vec::new();
        for row in &out {
            for item in &list {
                let mut longer = row.clone();
                longer.push(item.clone());
                call.charge(longer.iter().map(|item| item.measure().0).sum())?;
                next.push(longer);
            }
        }
        out = next;
    }
    let rows = out.into_iter().map(Value::List);
    Ok(match ordered {
        true => Value::List(rows.collect()),
        false => Value::Set(rows.collect()),
    })
}
