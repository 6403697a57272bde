//! Functions on sets.

use std::collections::BTreeSet;

use super::super::types::Type;
use super::super::value::Value;
use super::{Call, Function, FunctionError};

type Answer = Result<Value, FunctionError>;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "toset" => toset,
        "setunion" => |call| fold(call, |a, b| a.union(b).cloned().collect()),
        "setintersection" => |call| fold(call, |a, b| a.intersection(b).cloned().collect()),
        "setsubtract" => |call| {
            call.takes(2..=2)?;
            fold(call, |a, b| a.difference(b).cloned().collect())
        },
        "setproduct" => setproduct,
        _ => return None,
    })
}

fn toset(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        _ => Ok(Value::Set(call.unified(0)?.into_iter().collect())),
    }
}

fn fold(
    call: &Call<'_>,
    combine: impl Fn(&BTreeSet<Value>, &BTreeSet<Value>) -> BTreeSet<Value>,
) -> Answer {
    call.takes(1..=usize::MAX)?;
    let sets = (0..call.args.len()).map(|index| call.list(index).map(Value::List));
    let sets = sets.collect::<Result<Vec<_>, _>>()?;
    call.charge(sets.iter().map(|set| set.measure().0).sum())?;
    let mut sets = common_sets(sets).ok_or("the elements of its sets have no common type")?;
    let mut out = sets.next().unwrap_or_default();
    for set in sets {
        out = combine(&out, &set);
        // The result so far is copied once for each argument.
        call.charge(out.len())?;
    }
    Ok(Value::Set(out))
}

/// Makes sets of lists, with one type for the elements of all of them.
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

/// Every combination of one element of each argument; a list if an argument is one.
fn setproduct(call: &Call<'_>) -> Answer {
    call.takes(2..=usize::MAX)?;
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
