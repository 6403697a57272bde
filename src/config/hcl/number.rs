//! Numbers of `atlas.hcl`: binary floats of arbitrary precision that round half to even, as in
//! HashiCorp's cty library; always finite.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::{BigInt, BigUint, Sign};

use super::decimal::{Decimal, Digits};

/// The precision of a number from the file or a string, in bits; cty's own.
const PRECISION: u64 = 512;

/// The precision of a count or an index, in bits; cty's own.
const COUNT_PRECISION: u64 = 64;

/// The limit of a number's binary exponent: about 1,200 decimal digits. It limits the cost of one
/// operation.
const MAX_EXPONENT: i64 = 4096;

/// The longest text to read as a number, in bytes: more digits exceed the limits anyway.
const MAX_TEXT: usize = 2048;

/// A finite number: the mantissa times two to the power of the exponent.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    /// Odd, or zero.
    mantissa: BigInt,
    exponent: i64,
    /// The least precision, in bits, of results computed with this number.
    precision: u64,
}

impl Number {
    /// Rounds to the precision; `None` if the number exceeds the limits.
    fn rounded(mantissa: BigInt, exponent: i64, precision: u64) -> Option<Self> {
        let (sign, magnitude) = mantissa.into_parts();
        let excess = magnitude.bits().saturating_sub(precision);
        let magnitude = halved(&magnitude, excess);
        let Some(zeros) = magnitude.trailing_zeros() else {
            return Some(Self {
                mantissa: BigInt::ZERO,
                exponent: 0,
                precision,
            });
        };
        let shift = i64::try_from(excess.checked_add(zeros)?).ok()?;
        let exponent = exponent.checked_add(shift)?;
        let magnitude = magnitude >> zeros;
        let top = exponent.checked_add(i64::try_from(magnitude.bits()).ok()?)?;
        (-MAX_EXPONENT..=MAX_EXPONENT).contains(&top).then(|| Self {
            mantissa: BigInt::from_biguint(sign, magnitude),
            exponent,
            precision,
        })
    }

    /// Converts a float; `None` if it is infinite, not a number or beyond the limits.
    pub(crate) fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let bits = value.to_bits();
        let exponent = i64::try_from(bits >> 52 & 0x7ff).ok()?;
        let fraction = bits & ((1 << 52) - 1);
        let magnitude = match exponent {
            0 => fraction,
            _ => fraction | 1 << 52,
        };
        let sign = match value.is_sign_negative() {
            true => Sign::Minus,
            false => Sign::Plus,
        };
        let mantissa = BigInt::from_biguint(sign, magnitude.into());
        Self::rounded(mantissa, exponent.max(1) - 1075, 53)
    }

    /// Converts an integer; `None` if it exceeds the limits.
    pub(crate) fn from_whole(value: BigInt) -> Option<Self> {
        let precision = value.bits().max(COUNT_PRECISION);
        Self::rounded(value, 0, precision)
    }

    /// Converts a length or an index.
    pub(crate) fn of(count: usize) -> Self {
        Self {
            precision: COUNT_PRECISION,
            ..Self::from_whole(count.into()).unwrap_or_else(Self::zero)
        }
    }

    /// Returns zero.
    pub(crate) fn zero() -> Self {
        Self {
            mantissa: BigInt::ZERO,
            exponent: 0,
            precision: COUNT_PRECISION,
        }
    }

    /// Parses the decimal form in a file or a string.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
            None => (unsigned, 0_i64),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let magnitude = BigInt::parse_bytes(digits.as_bytes(), 10)?;
        let mantissa = match text.starts_with('-') {
            true => -magnitude,
            false => magnitude,
        };
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let power = u32::try_from(exponent.unsigned_abs()).ok()?;
        if i64::from(power) > MAX_EXPONENT {
            return None;
        }
        let power = BigInt::from(10).pow(power);
        match exponent < 0 {
            true => Self::quotient(&mantissa, &power, 0, PRECISION),
            false => Self::rounded(mantissa * power, 0, PRECISION),
        }
    }

    /// Returns the nearest float; infinity if the number exceeds a float's range.
    pub(crate) fn to_f64(&self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// Returns the number as an integer, if it is one.
    pub(crate) fn to_whole(&self) -> Option<BigInt> {
        let shift = u64::try_from(self.exponent).ok()?;
        Some(&self.mantissa << shift)
    }

    /// Returns the number as an integer of 64 bits, if it is one.
    pub(crate) fn to_i64(&self) -> Option<i64> {
        self.to_whole()?.try_into().ok()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.mantissa.sign() == Sign::Minus
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.mantissa.sign() == Sign::NoSign
    }

    pub(crate) fn add(&self, other: &Self) -> Option<Self> {
        let (left, right, exponent) = self.aligned(other);
        Self::rounded(left + right, exponent, self.precision.max(other.precision))
    }

    pub(crate) fn subtract(&self, other: &Self) -> Option<Self> {
        self.add(&other.negate())
    }

    /// Multiplies. The product keeps up to 512 bits, independent of the precision of the factors.
    pub(crate) fn multiply(&self, other: &Self) -> Option<Self> {
        let exponent = self.exponent + other.exponent;
        let product = Self::rounded(&self.mantissa * &other.mantissa, exponent, PRECISION)?;
        let precision = self.precision.max(other.precision);
        Some(Self {
            precision: precision.max(product.mantissa.bits()),
            ..product
        })
    }

    /// Divides; `None` for a division by zero.
    pub(crate) fn divide(&self, other: &Self) -> Option<Self> {
        let precision = self.precision.max(other.precision);
        let exponent = self.exponent - other.exponent;
        Self::quotient(&self.mantissa, &other.mantissa, exponent, precision)
    }

    fn quotient(left: &BigInt, right: &BigInt, exponent: i64, precision: u64) -> Option<Self> {
        if right.sign() == Sign::NoSign {
            return None;
        }
        // Two bits more than the result keeps, and one that tells whether a remainder is left.
        let shift = (precision + 2 + right.bits()).saturating_sub(left.bits());
        let left = left << shift;
        let quotient = (&left / right).magnitude() << 1;
        let rest = u8::from(&left % right != BigInt::ZERO);
        let sign = left.sign() * right.sign();
        let mantissa = BigInt::from_biguint(sign, quotient + rest);
        let exponent = exponent - i64::try_from(shift).ok()? - 1;
        Self::rounded(mantissa, exponent, precision)
    }

    /// Returns the remainder, with the sign of the dividend; `None` for a division by zero.
    pub(crate) fn remainder(&self, other: &Self) -> Option<Self> {
        let keep = |number: Self| Self::rounded(number.mantissa, number.exponent, self.precision);
        let times = keep(self.divide(other)?.truncated()?)?;
        keep(self.subtract(&keep(times.multiply(other)?)?)?)
    }

    fn truncated(&self) -> Option<Self> {
        match self.is_negative() {
            true => self.ceil(),
            false => self.floor(),
        }
    }

    /// Returns the largest integer that is not above this number.
    pub(crate) fn floor(&self) -> Option<Self> {
        match u64::try_from(-self.exponent) {
            Ok(shift) => Self::rounded(&self.mantissa >> shift, 0, self.precision),
            Err(_) => Some(self.clone()),
        }
    }

    /// Returns the smallest integer that is not below this number.
    pub(crate) fn ceil(&self) -> Option<Self> {
        self.negate().floor().map(|number| number.negate())
    }

    pub(crate) fn negate(&self) -> Self {
        Self {
            mantissa: -&self.mantissa,
            ..*self
        }
    }

    pub(crate) fn abs(&self) -> Self {
        match self.is_negative() {
            true => self.negate(),
            false => self.clone(),
        }
    }

    /// Returns the decimal digits of the number without its sign.
    pub(crate) fn decimal(&self, digits: Digits) -> Decimal {
        Decimal::new(
            self.mantissa.magnitude(),
            self.exponent,
            self.precision,
            digits,
        )
    }

    /// Returns both mantissas, scaled to one exponent.
    fn aligned(&self, other: &Self) -> (BigInt, BigInt, i64) {
        let exponent = self.exponent.min(other.exponent);
        let shift = |number: &Self| &number.mantissa << number.exponent.abs_diff(exponent);
        (shift(self), shift(other), exponent)
    }
}

/// Divides by a power of two, and rounds half to even.
fn halved(value: &BigUint, bits: u64) -> BigUint {
    let Some(below) = bits.checked_sub(1) else {
        return value.clone();
    };
    let quotient = value >> bits;
    let beyond_half = value.trailing_zeros().is_some_and(|zeros| zeros < below);
    match value.bit(below) && (beyond_half || quotient.bit(0)) {
        true => quotient + 1_u8,
        false => quotient,
    }
}

impl fmt::Display for Number {
    /// The shortest form that reads back, and never an exponent.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negative() {
            out.write_str("-")?;
        }
        out.write_str(&self.decimal(Digits::Shortest).plain(0))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right, _) = self.aligned(other);
        left.cmp(&right)
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

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn arithmetic_keeps_512_bits_as_cty_does() {
        let third = format!("0.{}5", "3".repeat(154));
        for (result, shown) in [
            (number("0.1").add(&number("0.2")), "0.3"),
            (number("1").divide(&number("3")), third.as_str()),
            (
                number("9223372036854775807").add(&number("1")),
                "9223372036854775808",
            ),
            (number("19.99").multiply(&number("3")), "59.97"),
            (number("7.5").remainder(&number("2")), "1.5"),
            (number("-7").remainder(&number("3")), "-1"),
            (
                Number::of(1).divide(&Number::of(3)),
                "0.33333333333333333334",
            ),
            (
                Number::from_f64(0.1).unwrap().add(&number("0")),
                "0.1000000000000000055511151231257827021181583404541015625",
            ),
            (number("-1.2").floor(), "-2"),
            (number("-1.2").ceil(), "-1"),
            (
                number("1e30").add(&number("0.5")).unwrap().floor(),
                "1000000000000000000000000000000",
            ),
        ] {
            assert_eq!(result.unwrap().to_string(), shown);
        }
        let third = number("1").divide(&number("3")).unwrap();
        assert_eq!(third.multiply(&number("3")), Some(number("1")));
    }

    #[test]
    fn nothing_infinite_or_out_of_bounds_is_a_number() {
        assert_eq!(number("1").divide(&number("0")), None);
        assert_eq!(number("1").remainder(&number("0")), None);
        assert_eq!(number("1e1000").multiply(&number("1e1000")), None);
        assert_eq!(Number::from_f64(f64::INFINITY), None);
        for text in [
            "inf", "NaN", "1e9999", "1e-9999", "", "-", "+", ".", "0x10", "1_0", " 1", "--1", "1e",
            "1e+", "+-1",
        ] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_string_form_is_the_shortest_and_has_no_exponent() {
        for (text, shown) in [
            ("1e21", "1000000000000000000000"),
            ("0.10", "0.1"),
            ("-3.0", "-3"),
            ("+4", "4"),
            ("1e-7", "0.0000001"),
            (".5", "0.5"),
            ("5.", "5"),
            ("123456789.123456789", "123456789.123456789"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("0", "0"),
        ] {
            assert_eq!(number(text).to_string(), shown);
        }
        assert_eq!(
            Number::from_f64(2f64.powi(100)).unwrap().to_string(),
            "1267650600228229400000000000000"
        );
    }

    #[test]
    fn a_number_of_a_float_is_that_float() {
        for value in [0.0, 1.0, -2.5, 0.1, 1e300, 1e-300, f64::MIN_POSITIVE / 8.0] {
            assert_eq!(Number::from_f64(value).unwrap().to_f64(), value);
        }
    }
}
