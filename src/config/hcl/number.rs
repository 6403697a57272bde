//! Numbers of `atlas.hcl`: integers as long as they fit, floats beyond; always finite.

use std::cmp::Ordering;
use std::fmt;

/// A finite number. A float that is a whole number within `i64` is always held as an integer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    /// Makes a number of a float; `None` if it is infinite or not a number.
    pub(crate) fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // 2^63; below it a whole float is exactly an i64.
        const LIMIT: f64 = 9_223_372_036_854_775_808.0;
        if value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value) {
            #[allow(clippy::cast_possible_truncation)]
            return Some(Number::Int(value as i64));
        }
        Some(Number::Float(value))
    }

    fn from_i128(value: i128) -> Option<Self> {
        match i64::try_from(value) {
            Ok(value) => Some(Number::Int(value)),
            #[allow(clippy::cast_precision_loss)]
            Err(_) => Self::from_f64(value as f64),
        }
    }

    pub(crate) fn from_hcl(number: &hcl::Number) -> Option<Self> {
        match number.as_i64() {
            Some(value) => Some(Number::Int(value)),
            None => number.as_f64().and_then(Self::from_f64),
        }
    }

    /// Makes a number of a length or an index.
    pub(crate) fn of(count: usize) -> Self {
        Number::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Parses the decimal form that a string converts from.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(value) = text.parse() {
            return Some(Number::Int(value));
        }
        let decimal = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
        let starts = text.trim_start_matches(['+', '-']);
        if !text.bytes().all(decimal) || !starts.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().and_then(Self::from_f64)
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }

    /// Returns the number as an integer, if it is one.
    pub(crate) fn to_i64(self) -> Option<i64> {
        match self {
            Number::Int(value) => Some(value),
            Number::Float(_) => None,
        }
    }

    pub(crate) fn add(self, other: Self) -> Option<Self> {
        self.combine(other, |a, b| a.checked_add(b), |a, b| a + b)
    }

    pub(crate) fn subtract(self, other: Self) -> Option<Self> {
        self.combine(other, |a, b| a.checked_sub(b), |a, b| a - b)
    }

    pub(crate) fn multiply(self, other: Self) -> Option<Self> {
        self.combine(other, |a, b| a.checked_mul(b), |a, b| a * b)
    }

    /// Divides; `None` for a division by zero.
    pub(crate) fn divide(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) if b != 0 && i128::from(a) % i128::from(b) == 0 => {
                Self::from_i128(i128::from(a) / i128::from(b))
            }
            _ => Self::from_f64(self.to_f64() / other.to_f64()),
        }
    }

    /// Returns the remainder, whose sign is the dividend's; `None` for a division by zero.
    pub(crate) fn remainder(self, other: Self) -> Option<Self> {
        self.combine(other, |a, b| a.checked_rem(b), |a, b| a % b)
    }

    pub(crate) fn negate(self) -> Option<Self> {
        Number::Int(0).subtract(self)
    }

    fn combine(
        self,
        other: Self,
        int: impl Fn(i128, i128) -> Option<i128>,
        float: impl Fn(f64, f64) -> f64,
    ) -> Option<Self> {
        match (self, other) {
            // Two i64 never overflow an i128 in one operation.
            (Number::Int(a), Number::Int(b)) => {
                int(i128::from(a), i128::from(b)).and_then(Self::from_i128)
            }
            _ => Self::from_f64(float(self.to_f64(), other.to_f64())),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Int(value) => fmt::Display::fmt(value, out),
            // The shortest form that reads back, and never an exponent: HCL's own string form has
            // more digits, but no exponent either.
            Number::Float(value) => fmt::Display::fmt(value, out),
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(b),
            _ => self.to_f64().total_cmp(&other.to_f64()).then_with(|| {
                matches!(self, Number::Float(_)).cmp(&matches!(other, Number::Float(_)))
            }),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_stay_exact_and_overflow_into_floats() {
        let max = Number::Int(i64::MAX);
        assert_eq!(max.to_string(), "9223372036854775807");
        assert_eq!(
            max.add(Number::Int(1)).unwrap().to_string(),
            "9223372036854776000"
        );
        assert_eq!(
            Number::Int(i64::MIN).negate().unwrap().to_string(),
            "9223372036854776000"
        );
        assert_eq!(
            Number::Int(i64::MIN)
                .divide(Number::Int(-1))
                .unwrap()
                .to_string(),
            "9223372036854776000"
        );
        assert_eq!(
            Number::Int(i64::MIN).remainder(Number::Int(-1)),
            Some(Number::Int(0))
        );
        assert_eq!(
            Number::Int(7).divide(Number::Int(2)).unwrap().to_string(),
            "3.5"
        );
    }

    #[test]
    fn nothing_infinite_is_a_number() {
        assert_eq!(Number::Int(1).divide(Number::Int(0)), None);
        assert_eq!(Number::Int(1).remainder(Number::Int(0)), None);
        assert_eq!(Number::Float(1e308).multiply(Number::Int(100)), None);
        for text in [
            "inf", "NaN", "1e999", "", "-", "+", ".5", "0x10", "1_0", " 1", "--1",
        ] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_string_form_has_no_exponent() {
        for (text, shown) in [
            ("1e21", "1000000000000000000000"),
            ("0.10", "0.1"),
            ("-3.0", "-3"),
            ("+4", "4"),
            ("1e-7", "0.0000001"),
        ] {
            assert_eq!(Number::parse(text).unwrap().to_string(), shown);
        }
    }
}
