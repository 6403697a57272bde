//! Functions on numbers and bools.

use num_bigint::BigInt;

use super::super::number::Number;
use super::super::value::Value;
use super::call::{Answer, Call, Definition};

/// cty's own limit of `range`.
const MAX_RANGE: usize = 1024;

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "abs" => (1..=1, |call| one(call, |number| Some(number.abs()))),
        "ceil" => (1..=1, |call| one(call, Number::ceil)),
        "floor" => (1..=1, |call| one(call, Number::floor)),
        "log" => (2..=2, log),
        "max" => (1..=usize::MAX, |call| {
            extreme(call, |best, next| next > best)
        }),
        "min" => (1..=usize::MAX, |call| {
            extreme(call, |best, next| next < best)
        }),
        "parseint" => (2..=2, parseint),
        "pow" => (2..=2, pow),
        "range" => (1..=3, range),
        "signum" => (1..=1, signum),
        "tobool" => (1..=1, tobool),
        "tonumber" => (1..=1, tonumber),
        _ => return None,
    })
}

fn finite(value: f64) -> Answer {
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| "the result is not a finite number".into())
}

fn one(call: &Call<'_>, change: impl Fn(&Number) -> Option<Number>) -> Answer {
    let changed = change(&call.number(0)?);
    changed
        .map(Value::Number)
        .ok_or_else(|| "the number is too large".into())
}

fn log(call: &Call<'_>) -> Answer {
    finite(call.number(0)?.to_f64().ln() / call.number(1)?.to_f64().ln())
}

fn pow(call: &Call<'_>) -> Answer {
    finite(call.number(0)?.to_f64().powf(call.number(1)?.to_f64()))
}

fn extreme(call: &Call<'_>, better: impl Fn(&Number, &Number) -> bool) -> Answer {
    let mut best = call.number(0)?;
    for index in 1..call.args.len() {
        let next = call.number(index)?;
        if better(&best, &next) {
            best = next;
        }
    }
    Ok(Value::Number(best))
}

/// The largest base of `parseint`: digits, small letters, capitals.
const MAX_BASE: i64 = 62;

/// The longest text that `parseint` reads, in bytes: more digits exceed a number's limits.
const MAX_DIGITS: usize = 4097;

fn parseint(call: &Call<'_>) -> Answer {
    let Value::String(text) = call.any(0)? else {
        return Err(call.mismatch(0, "a string"));
    };
    let base = call.int(1)?;
    if !(2..=MAX_BASE).contains(&base) {
        return Err(format!("argument 2 must be a whole number from 2 to {MAX_BASE}").into());
    }
    call.charge(text.len())?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let value = (1..=MAX_DIGITS).contains(&digits.len()).then(|| {
        digits.chars().try_fold(BigInt::ZERO, |value, c| {
            let digit = digit(c, base).filter(|digit| *digit < base)?;
            Some(value * base + digit)
        })
    });
    let value = value.flatten().and_then(Number::from_whole);
    let value = value.ok_or_else(|| format!("argument 1 is not an integer in base {base}"))?;
    Ok(Value::Number(match text.starts_with('-') {
        true => value.negate(),
        false => value,
    }))
}

/// Returns a digit's value. Letters of both cases are the same up to base 36.
fn digit(c: char, base: i64) -> Option<i64> {
    let from = |first: char, value: i64| value + i64::from(u32::from(c) - u32::from(first));
    match c {
        '0'..='9' => Some(from('0', 0)),
        'a'..='z' => Some(from('a', 10)),
        'A'..='Z' if base <= 36 => Some(from('A', 10)),
        'A'..='Z' => Some(from('A', 36)),
        _ => None,
    }
}

/// `range(limit)`, `range(start, limit)`, `range(start, limit, step)`.
fn range(call: &Call<'_>) -> Answer {
    let (mut at, limit) = match call.args.len() {
        1 => (Number::zero(), call.number(0)?),
        _ => (call.number(0)?, call.number(1)?),
    };
    let zero = Number::zero();
    let step = match call.args.len() {
        3 => call.number(2)?,
        _ if at > limit => Number::of(1).negate(),
        _ => Number::of(1),
    };
    if step == zero {
        return Err("the step must not be zero".into());
    }
    if (step > zero && at > limit) || (step < zero && at < limit) {
        return Err("the step leads away from the end".into());
    }
    let mut out = Vec::new();
    while (step > zero && at < limit) || (step < zero && at > limit) {
        if out.len() == MAX_RANGE {
            return Err(format!("more than {MAX_RANGE} values were generated").into());
        }
        let next = at.add(&step).ok_or("the number is too large")?;
        out.push(Value::Number(std::mem::replace(&mut at, next)));
    }
    Ok(Value::List(out))
}

fn signum(call: &Call<'_>) -> Answer {
    let sign = BigInt::from(call.int(0)?.signum());
    let sign = Number::from_whole(sign).unwrap_or_else(Number::zero);
    Ok(Value::Number(sign))
}

fn tobool(call: &Call<'_>) -> Answer {
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        other => other.to_bool().map(Value::Bool).ok_or_else(|| {
            let kind = other.kind();
            format!("cannot convert {kind} to bool; only \"true\" or \"false\" are allowed").into()
        }),
    }
}

fn tonumber(call: &Call<'_>) -> Answer {
    match call.any(0)? {
        Value::Null => Ok(Value::Null),
        other => other.to_number().map(Value::Number).ok_or_else(|| {
            let kind = other.kind();
            format!("cannot convert {kind} to number; it must be a decimal number").into()
        }),
    }
}
