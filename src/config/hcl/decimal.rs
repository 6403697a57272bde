//! The decimal digits of binary numbers.

use num_bigint::BigUint;

/// The number of digits to show.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Digits {
    /// The fewest digits that distinguish the number from all others of its precision.
    Shortest,
    /// This many from the first one on.
    Significant(usize),
    /// This many after the decimal point.
    Places(usize),
}

/// A number without a sign: `0.DIGITS` times ten to the power of the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// Without zeros at the end; empty for zero.
    digits: String,
    point: i64,
}

impl Decimal {
    /// Makes the digits of `mantissa × 2^exponent`. The mantissa has at most `precision` bits.
    pub(crate) fn new(mantissa: &BigUint, exponent: i64, precision: u64, digits: Digits) -> Self {
        // In halves of the number's last bit, so that those halves are whole numbers too.
        let spare = precision.saturating_sub(mantissa.bits());
        let down = spare.saturating_add(1);
        let exponent = exponent.saturating_sub_unsigned(down);
        let scale = u32::try_from(exponent.saturating_neg()).unwrap_or(0);
        let half = match u64::try_from(exponent) {
            Ok(up) => BigUint::from(1_u8) << up,
            Err(_) => BigUint::from(5_u8).pow(scale),
        };
        // In units of 10^-scale.
        let units = (mantissa << down) * &half;
        let all = units.to_string();
        let length = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let point = length - i64::from(scale);
        let keep = match digits {
            Digits::Significant(count) => i64::try_from(count).unwrap_or(i64::MAX),
            Digits::Places(count) => point.saturating_add_unsigned(count as u64),
            Digits::Shortest => shortest(&units, &half, spare > 0, length),
        };
        let cut = length.saturating_sub(keep);
        let (digits, point) = match u32::try_from(cut) {
            Err(_) => (all, point),
            Ok(cut) => {
                let kept = rounded(&units, cut).to_string();
                let carried = i64::try_from(kept.len()).unwrap_or(i64::MAX) - keep.max(0);
                (kept, point + carried)
            }
        };
        match digits.trim_end_matches('0') {
            "" => Self {
                digits: String::new(),
                point: 0,
            },
            digits => Self {
                digits: digits.into(),
                point,
            },
        }
    }

    /// Writes without an exponent, with at least this many digits after the point.
    pub(crate) fn plain(&self, places: usize) -> String {
        let point = usize::try_from(self.point).unwrap_or(0);
        let leading = usize::try_from(self.point.saturating_neg()).unwrap_or(0);
        let (whole, fraction) = match self.digits.split_at_checked(point) {
            Some(("", fraction)) => ("0".to_string(), fraction),
            Some((whole, fraction)) => (whole.to_string(), fraction),
            None => (format!("{:0<point$}", self.digits), ""),
        };
        let fraction = match fraction {
            "" => String::new(),
            fraction => format!("{}{fraction}", "0".repeat(leading)),
        };
        match fraction.len().max(places) {
            0 => whole,
            places => format!("{whole}.{fraction:0<places$}"),
        }
    }

    /// Writes with an exponent, as C's `%e`, with at least this many digits after the point.
    pub(crate) fn scientific(&self, places: usize) -> String {
        let exponent = self.exponent();
        let first = self.digits.get(..1).unwrap_or("0");
        let rest = self.digits.get(1..).unwrap_or_default();
        let point = if rest.len().max(places) > 0 { "." } else { "" };
        let sign = if exponent < 0 { '-' } else { '+' };
        format!(
            "{first}{point}{rest:0<places$}e{sign}{:02}",
            exponent.unsigned_abs()
        )
    }

    /// Returns the exponent of the form that has one digit before the point.
    pub(crate) fn exponent(&self) -> i64 {
        match self.digits.as_str() {
            "" => 0,
            _ => self.point - 1,
        }
    }

    /// Returns the number of digits.
    pub(crate) fn len(&self) -> usize {
        self.digits.len()
    }
}

/// Returns the number of digits that bring a value within half of its last bit. A value with an
/// even mantissa also owns the ends of that range, because they round to it.
fn shortest(units: &BigUint, half: &BigUint, even: bool, length: i64) -> i64 {
    let close = |keep: i64| {
        let cut = u32::try_from(length - keep).unwrap_or(0);
        let near = rounded(units, cut) * BigUint::from(10_u8).pow(cut);
        let distance = if near > *units {
            near - units
        } else {
            units - near
        };
        distance < *half || (even && distance == *half)
    };
    let (mut below, mut enough) = (0, length);
    while enough - below > 1 {
        let middle = below + (enough - below) / 2;
        match close(middle) {
            true => enough = middle,
            false => below = middle,
        }
    }
    enough
}

/// Removes this many decimal digits, and rounds half to even.
fn rounded(value: &BigUint, cut: u32) -> BigUint {
    let unit = BigUint::from(10_u8).pow(cut);
    let kept = value / &unit;
    let rest = (value % &unit) * 2_u8;
    match rest > unit || (rest == unit && kept.bit(0)) {
        true => kept + 1_u8,
        false => kept,
    }
}
