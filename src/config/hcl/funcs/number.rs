//! Functions on numbers and bools.

use super::super::number::Number;
use super::super::value::Value;
use super::{Call, Function, FunctionError};

type Answer = Result<Value, FunctionError>;

/// cty's own bound on `range`.
const MAX_RANGE: usize = 1024;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "abs" => abs,
        "ceil" => |call| rounded(call, f64::ceil),
        "floor" => |call| rounded(call, f64::floor),
        "log" => log,
        "max" => |call| extreme(call, |best, next| next > best),
        "min" => |call| extreme(call, |best, next| next < best),
        "parseint" => parseint,
        "pow" => pow,
        "range" => range,
        "signum" => signum,
        "tobool" => tobool,
        "tonumber" => tonumber,
        _ => return None,
    })
}

fn finite(value: f64) -> Answer {
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| "the result is not a finite number".into())
}

fn abs(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    let number = call.number(0)?;
    let negative = number < Number::Int(0);
    let result = if negative {
        number.negate()
    } else {
        Some(number)
    };
    result
        .map(Value::Number)
        .ok_or_else(|| "the number is too large".into())
}

fn rounded(call: &Call<'_>, round: impl Fn(f64) -> f64) -> Answer {
    call.takes(1..=1)?;
    match call.number(0)? {
        whole @ Number::Int(_) => Ok(Value::Number(whole)),
        Number::Float(value) => finite(round(value)),
    }
}

fn log(call: &Call<'_>) -> Answer {
    call.takes(2..=2)?;
    finite(call.number(0)?.to_f64().ln() / call.number(1)?.to_f64().ln())
}

fn pow(call: &Call<'_>) -> Answer {
    call.takes(2..=2)?;
    finite(call.number(0)?.to_f64().powf(call.number(1)?.to_f64()))
}

fn extreme(call: &Call<'_>, better: impl Fn(Number, Number) -> bool) -> Answer {
    call.takes(1..=usize::MAX)?;
    let mut best = call.number(0)?;
    for index in 1..call.args.len() {
        let next = call.number(index)?;
        if better(best, next) {
            best = next;
        }
    }
    Ok(Value::Number(best))
}

fn parseint(call: &Call<'_>) -> Answer {
    call.takes(2..=2)?;
    let (text, base) = (call.text(0)?, call.int(1)?);
    let base = u32::try_from(base)
        .ok()
        .filter(|base| (2..=36).contains(base))
        .ok_or("argument 2 must be a whole number from 2 to 36")?;
    i64::from_str_radix(&text, base)
        .map(|value| Value::Number(Number::Int(value)))
        .map_err(|_| format!("argument 1 is no integer of base {base} within 64 bits").into())
}

/// `range(limit)`, `range(start, limit)`, `range(start, limit, step)`.
fn range(call: &Call<'_>) -> Answer {
    call.takes(1..=3)?;
    let (mut at, limit) = match call.args.len() {
        1 => (Number::Int(0), call.number(0)?),
        _ => (call.number(0)?, call.number(1)?),
    };
    let zero = Number::Int(0);
    let step = match call.args.len() {
        3 => call.number(2)?,
        _ if at > limit => Number::Int(-1),
        _ => Number::Int(1),
    };
    if step == zero {
        return Err("the step must not be zero".into());
    }
    if (step > zero && at > limit) || (step < zero && at < limit) {
        return Err("the step goes away from the end".into());
    }
    let mut out = Vec::new();
    while (step > zero && at < limit) || (step < zero && at > limit) {
        if out.len() == MAX_RANGE {
            return Err(format!("more than {MAX_RANGE} values were generated").into());
        }
        out.push(Value::Number(at));
        at = at.add(step).ok_or("the number is too large")?;
    }
    Ok(Value::List(out))
}

fn signum(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    let sign = call.int(0)?.signum();
    Ok(Value::Number(Number::Int(sign)))
}

fn tobool(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        other => other.to_bool().map(Value::Bool).ok_or_else(|| {
            let kind = other.kind();
            format!("cannot convert {kind} to bool; only \"true\" or \"false\" are allowed").into()
        }),
    }
}

fn tonumber(call: &Call<'_>) -> Answer {
    call.takes(1..=1)?;
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        other => other.to_number().map(Value::Number).ok_or_else(|| {
            let kind = other.kind();
            format!("cannot convert {kind} to number; it must be a decimal number").into()
        }),
    }
}
