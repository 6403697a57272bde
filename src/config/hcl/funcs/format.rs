//! `format` and `formatlist`.

use std::iter::Peekable;
use std::str::Chars;

use super::super::number::Number;
use super::super::value::Value;
use super::encoding::{json, quoted};
use super::{Call, Function, FunctionError};

type Answer = Result<Value, FunctionError>;

/// The largest width and precision. Nothing readable needs more.
const MAX_WIDTH: usize = 1000;

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "format" => |call| {
            call.takes(1..=usize::MAX)?;
            let args: Vec<&Value> = call.args.iter().skip(1).collect();
            Ok(format(call, &call.text(0)?, &args)?.into())
        },
        "formatlist" => formatlist,
        _ => return None,
    })
}

/// Formats once for each element; arguments that are no lists stay the same.
fn formatlist(call: &Call<'_>) -> Answer {
    call.takes(1..=usize::MAX)?;
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
                "not enough arguments for verb {letter:?}: it wants argument {}",
                index + 1
            )
        })?;
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
            verb.index = Some(index.ok_or("an argument's number is from 1")?);
            chars
                .next_if_eq(&']')
                .ok_or("an argument's number ends with ]")?;
        }
        Ok(verb)
    }

    fn apply(&self, letter: char, arg: &Value, index: usize) -> Result<String, FunctionError> {
        let wants = |what: &str| {
            FunctionError::from(format!(
                "%{letter} wants {what}, argument {} is {}",
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
                    let sign = if *value < Number::Int(0) { "-" } else { "" };
                    let digits = general(value.to_f64().abs(), None, 'g');
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
            'b' | 'd' | 'o' | 'x' | 'X' => match number()? {
                whole @ Number::Int(_) => Ok(self.number(letter, whole)),
                Number::Float(_) => Err(wants("a whole number")),
            },
            'e' | 'E' | 'f' | 'g' | 'G' => Ok(self.number(letter, number()?)),
            other => Err(format!(
                "unsupported format verb {other:?}: known are v s q t b d o x X e E f g G"
            )
            .into()),
        }
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text,
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

    fn number(&self, letter: char, value: Number) -> String {
        let negative = value < Number::Int(0);
        let size = value.to_f64().abs();
        let digits = match letter {
            'b' | 'd' | 'o' | 'x' | 'X' => self.integer(letter, value.to_i64().unwrap_or(0)),
            'e' | 'E' => scientific(size, self.precision.or(Some(6)), letter),
            'f' => format!("{size:.*}", self.precision.unwrap_or(6)),
            _ => general(size, self.precision, letter),
        };
        let sign = match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        if self.zero && !self.minus {
            let missing = self.width.saturating_sub(sign.len() + digits.len());
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        self.pad(format!("{sign}{digits}"))
    }

    /// Writes an integer without its sign.
    fn integer(&self, letter: char, value: i64) -> String {
        let whole = value.unsigned_abs();
        let digits = match (letter, self.sharp) {
            ('b', _) => format!("{whole:b}"),
            ('o', false) => format!("{whole:o}"),
            ('o', true) => format!("0{whole:o}"),
            ('x', false) => format!("{whole:x}"),
            ('x', true) => format!("{whole:#x}"),
            ('X', false) => format!("{whole:X}"),
            ('X', true) => format!("0X{whole:X}"),
            _ => whole.to_string(),
        };
        let missing = self.precision.unwrap_or(0).saturating_sub(digits.len());
        "0".repeat(missing) + &digits
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

/// Writes as C's `%e`: Rust has no sign and no second digit in the exponent.
fn scientific(value: f64, precision: Option<usize>, letter: char) -> String {
    let text = match precision {
        Some(precision) => format!("{value:.precision$e}"),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    let e = if letter.is_ascii_uppercase() {
        'E'
    } else {
        'e'
    };
    format!("{mantissa}{e}{sign}{exponent:0>2}")
}

/// Writes as Go's `%g`: the shortest form, or so many digits; with an exponent if that is below
/// -4 or not below the precision (6 for the shortest form).
fn general(value: f64, precision: Option<usize>, letter: char) -> String {
    let digits = precision.map(|precision| precision.max(1));
    let text = scientific(value, digits.map(|digits| digits - 1), 'e');
    let exponent: i32 = text
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse().ok())
        .unwrap_or(0);
    let limit = digits.map_or(6, |digits| i32::try_from(digits).unwrap_or(i32::MAX));
    if exponent < -4 || exponent >= limit {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
        let e = if letter.is_ascii_uppercase() {
            'E'
        } else {
            'e'
        };
        return format!("{}{e}{exponent}", trimmed(mantissa));
    }
    match digits {
        None => format!("{value}"),
        Some(digits) => {
            let decimals = i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent;
            trimmed(&format!(
                "{value:.*}",
                usize::try_from(decimals).unwrap_or(0)
            ))
            .into()
        }
    }
}

fn trimmed(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}
