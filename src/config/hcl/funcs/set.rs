//! Functions on sets.

use std::collections::BTreeSet;

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
        _ => Ok(Value::Set(call.set(0)?)),
    }
}

fn fold(
    call: &Call<'_>,
    combine: impl Fn(&BTreeSet<Value>, &BTreeSet<Value>) -> BTreeSet<Value>,
) -> Answer {
    call.takes(1..=usize::MAX)?;
    let mut out = call.set(0)?;
    for index in 1..call.args.len() {
        out = combine(&out, &call.set(index)?);
        // What is carried along is gone over once for each argument.
        call.charge(out.len())?;
    }
    Ok(Value::Set(out))
}

/// Every combination of one element of each argument; a list if an argument is one.
fn setproduct(call: &Call<'_>) -> Answer {
    call.takes(2..=usize::MAX)?;
    let ordered = call.args.iter().any(|arg| matches!(arg, Value::List(_)));
    let mut out: Vec<Vec<Value>> = vec![Vec::new()];
    for index in 0..call.args.len() {
        let list = call.list(index)?;
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
