//! `format` and `formatlist`.

use std::iter::Peekable;
use std::str::Chars;

use num_bigint::BigInt;

use super::super::decimal::Digits;
use super::super::number::Number;
use super::super::value::Value;
use super::call::{Answer, Call, Definition, FunctionError};
use super::encoding::{json, quoted};

/// The largest width and precision: far beyond any readable text.
const MAX_WIDTH: usize = 1000;

/// The work to charge for one verb.
const FORMAT_UNITS: usize = 64;

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "format" => (1..=usize::MAX, |call| {
            let args: Vec<&Value> = call.args.iter().skip(1).collect();
            Ok(format(call, &call.text(0)?, &args)?.into())
        }),
        "formatlist" => (1..=usize::MAX, formatlist),
        _ => return None,
    })
}

/// Formats once for each element; arguments other than lists stay the same.
fn formatlist(call: &Call<'_>) -> Answer {
    let spec = call.text(0)?;
    let args: Vec<Result<Vec<&Value>, &Value>> = call
        .args
        .iter()
        .skip(1)
        .map(|arg| arg.elements().ok_or(arg))
        .collect();
    let mut lengths = args.iter().flatten().map(Vec::len);
    let rows = lengths.next().unwrap_or(1);
    if lengths.any(|length| length != rows) {
        return Err("its lists have different lengths".into());
    }
    call.few(rows)?;
    let mut out = Vec::new();
    for row in 0..rows {
        let row: Vec<&Value> = args
            .iter()
            .filter_map(|arg| match arg {
                Ok(items) => items.get(row).copied(),
                Err(one) => Some(one),
            })
            .collect();
        out.push(Value::String(format(call, &spec, &row)?));
    }
    Ok(Value::List(out))
}

/// One verb: `%[2]-08.3f`.
#[derive(Default)]
struct Verb {
    index: Option<usize>,
    plus: bool,
    minus: bool,
    space: bool,
    sharp: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

fn format(call: &Call<'_>, spec: &str, args: &[&Value]) -> Result<String, FunctionError> {
    let mut out = String::new();
    let mut chars = spec.chars().peekable();
    let mut next = 0;
    let mut highest = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let verb = Verb::parse(&mut chars)?;
        let letter = chars.next().ok_or("the format ends within a verb")?;
        let index = verb.index.unwrap_or(next);
        next = index + 1;
        highest = highest.max(next);
        let arg = args.get(index).ok_or_else(|| {
            format!(
                "not enough arguments for verb {letter:?}: it needs argument {}",
                index + 1
            )
        })?;
        // Digits cost more than the text that they make.
        call.charge(FORMAT_UNITS)?;
        out.push_str(&verb.apply(letter, arg, index)?);
        call.bounded(out.len())?;
    }
    if highest < args.len() {
        return Err(format!("too many arguments; only {highest} used by format string").into());
    }
    Ok(out)
}

impl Verb {
    fn parse(chars: &mut Peekable<Chars<'_>>) -> Result<Self, FunctionError> {
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "+- #0".contains(*c)) {
            match flag {
                '+' => verb.plus = true,
                '-' => verb.minus = true,
                ' ' => verb.space = true,
                '#' => verb.sharp = true,
                _ => verb.zero = true,
            }
        }
        verb.width = digits(chars)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(chars)?.unwrap_or(0));
        }
        if chars.next_if_eq(&'[').is_some() {
            let index = digits(chars)?.and_then(|index| index.checked_sub(1));
            verb.index = Some(index.ok_or("argument numbers start at 1")?);
            chars
                .next_if_eq(&']')
                .ok_or("an argument number ends with ]")?;
        }
        Ok(verb)
    }

    fn apply(&self, letter: char, arg: &Value, index: usize) -> Result<String, FunctionError> {
        let wants = |what: &str| {
            FunctionError::from(format!(
                "%{letter} needs {what}, but argument {} is {}",
                index + 1,
                arg.kind()
            ))
        };
        let number = || arg.to_number().ok_or_else(|| wants("a number"));
        match letter {
            'v' if self.sharp => Ok(self.pad(json(arg))),
            'v' => match arg {
                Value::String(text) => Ok(self.pad(text.clone())),
                Value::Number(value) => {
                    let sign = if value.is_negative() { "-" } else { "" };
                    let digits = general(value, None);
                    Ok(self.pad(format!("{sign}{digits}")))
                }
                other => Ok(self.pad(json(other))),
            },
            's' => {
                let text = arg.to_text().ok_or_else(|| wants("a string"))?;
                Ok(self.pad(self.cut(text)))
            }
            'q' => {
                let text = arg.to_text().ok_or_else(|| wants("a string"))?;
                Ok(self.pad(quoted(&self.cut(text))))
            }
            't' => {
                let value = arg.to_bool().ok_or_else(|| wants("a bool"))?;
                Ok(value.to_string())
            }
            'b' | 'd' | 'o' | 'x' | 'X' => {
                let whole = number()?.to_whole();
                let whole = whole.ok_or_else(|| wants("a whole number"))?;
                Ok(self.integer(letter, &whole))
            }
            'e' | 'E' | 'f' | 'g' | 'G' => Ok(self.float(letter, &number()?)),
            other => Err(format!(
                "unsupported format verb {other:?}: known are v s q t b d o x X e E f g G"
            )
            .into()),
        }
    }

    /// Cuts a string. A precision of zero cuts nothing, as in cty.
    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(precision) if precision > 0 => text.chars().take(precision).collect(),
            _ => text,
        }
    }

    fn pad(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        let fill = if self.zero && !self.minus { "0" } else { " " }.repeat(missing);
        if self.minus {
            text + &fill
        } else {
            fill + &text
        }
    }

    fn float(&self, letter: char, value: &Number) -> String {
        let digits = match letter.to_ascii_lowercase() {
            'e' => {
                let places = self.precision.unwrap_or(6);
                let digits = Digits::Significant(places + 1);
                value.decimal(digits).scientific(places)
            }
            'f' => {
                let places = self.precision.unwrap_or(6);
                value.decimal(Digits::Places(places)).plain(places)
            }
            _ => general(value, self.precision),
        };
        let digits = match letter.is_ascii_uppercase() {
            true => digits.to_uppercase(),
            false => digits,
        };
        self.signed(value.is_negative(), "", &digits)
    }

    fn integer(&self, letter: char, value: &BigInt) -> String {
        let whole = value.magnitude();
        let (prefix, digits) = match letter {
            'b' => ("0b", whole.to_str_radix(2)),
            'o' => ("0", whole.to_str_radix(8)),
            'x' => ("0x", whole.to_str_radix(16)),
            'X' => ("0X", whole.to_str_radix(16).to_uppercase()),
            _ => ("", whole.to_string()),
        };
        let prefix = if self.sharp { prefix } else { "" };
        let missing = self.precision.unwrap_or(0).saturating_sub(digits.len());
        let digits = "0".repeat(missing) + &digits;
        self.signed(value.sign() == num_bigint::Sign::Minus, prefix, &digits)
    }

    /// Joins sign, prefix and digits, and fills the width.
    fn signed(&self, negative: bool, prefix: &str, digits: &str) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let head = format!("{sign}{prefix}");
        if self.zero && !self.minus {
            let missing = self.width.saturating_sub(head.len() + digits.len());
            return format!("{head}{}{digits}", "0".repeat(missing));
        }
        self.pad(format!("{head}{digits}"))
    }
}

fn digits(chars: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, FunctionError> {
    let mut value: Option<usize> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let next = value.unwrap_or(0) * 10 + usize::try_from(digit).unwrap_or(0);
        if next > MAX_WIDTH {
            return Err(FunctionError::Refused(format!(
                "a width, precision or argument number is at most {MAX_WIDTH}"
            )));
        }
        value = Some(next);
    }
    Ok(value)
}

/// Writes as Go's `%g`: the shortest form, or this many digits. It has an exponent if that is below
/// -4 or not below the precision (6 for the shortest form).
fn general(value: &Number, precision: Option<usize>) -> String {
    let digits = match precision {
        Some(precision) => Digits::Significant(precision.max(1)),
        None => Digits::Shortest,
    };
    let decimal = value.decimal(digits);
    let limit = match precision.map(|precision| precision.max(1)) {
        None => 6,
        // Missing digits don't count, unless they are before the point.
        Some(precision) => {
            let whole = usize::try_from(decimal.exponent() + 1).unwrap_or(0);
            precision.min(decimal.len().max(whole))
        }
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    match (-4..limit).contains(&decimal.exponent()) {
        true => decimal.plain(0),
        false => decimal.scientific(0),
    }
}
