//! `formatdate` and `timeadd`.

use chrono::{DateTime, Datelike, FixedOffset, SecondsFormat, TimeDelta, Timelike};

use super::call::{Answer, Call, Definition, FunctionError};

pub(super) fn find(name: &str) -> Option<Definition> {
    Some(match name {
        "formatdate" => (2..=2, formatdate),
        "timeadd" => (2..=2, timeadd),
        _ => return None,
    })
}

fn time(call: &Call<'_>, index: usize) -> Result<DateTime<FixedOffset>, FunctionError> {
    DateTime::parse_from_rfc3339(&call.text(index)?)
        .map_err(|_| format!("argument {} is not an RFC 3339 time", index + 1).into())
}

fn formatdate(call: &Call<'_>) -> Answer {
    let (spec, time) = (call.text(0)?, time(call, 1)?);
    let mut out = String::new();
    let mut rest = spec.as_str();
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            rest = quoted(rest, &mut out)?;
        } else {
            let run = rest.chars().take_while(|c| *c == first).count() * first.len_utf8();
            let (token, after) = rest.split_at_checked(run).unwrap_or((rest, ""));
            out.push_str(&piece(token, first, &time)?);
            rest = after;
        }
        call.bounded(out.len())?;
    }
    Ok(out.into())
}

/// Takes a quoted text; `''` in it is a quote.
fn quoted<'t>(text: &'t str, out: &mut String) -> Result<&'t str, FunctionError> {
    let mut rest = text.strip_prefix('\'').unwrap_or(text);
    loop {
        let (inside, after) = rest.split_once('\'').ok_or("a ' has no closing '")?;
        out.push_str(inside);
        match after.strip_prefix('\'') {
            Some(after) => {
                out.push('\'');
                rest = after;
            }
            None => return Ok(after),
        }
    }
}

fn piece(token: &str, first: char, time: &DateTime<FixedOffset>) -> Result<String, FunctionError> {
    // Format letters are cty's; any other character stays as it is.
    let hour12 = time.hour12().1;
    Ok(match token {
        "YYYY" => format!("{:04}", time.year()),
        "YY" => format!("{:02}", time.year().rem_euclid(100)),
        "MMMM" => month(time).into(),
        "MMM" => month(time).chars().take(3).collect(),
        "MM" => format!("{:02}", time.month()),
        "M" => time.month().to_string(),
        "DD" => format!("{:02}", time.day()),
        "D" => time.day().to_string(),
        "EEEE" => weekday(time).into(),
        "EEE" => weekday(time).chars().take(3).collect(),
        "hh" => format!("{:02}", time.hour()),
        "h" => time.hour().to_string(),
        "HH" => format!("{hour12:02}"),
        "H" => hour12.to_string(),
        "AA" => if time.hour12().0 { "PM" } else { "AM" }.into(),
        "aa" => if time.hour12().0 { "pm" } else { "am" }.into(),
        "mm" => format!("{:02}", time.minute()),
        "m" => time.minute().to_string(),
        "ss" => format!("{:02}", time.second()),
        "s" => time.second().to_string(),
        "ZZZZZ" => offset(time, ":"),
        "ZZZZ" => offset(time, ""),
        "ZZZ" if time.offset().local_minus_utc() == 0 => "UTC".into(),
        "ZZZ" => offset(time, ""),
        "Z" if time.offset().local_minus_utc() == 0 => "Z".into(),
        "Z" => offset(time, ":"),
        other if first.is_ascii_alphabetic() => {
            return Err(format!("unknown format letters {other:?}: quote text with '").into());
        }
        other => other.into(),
    })
}

fn month(time: &DateTime<FixedOffset>) -> &'static str {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let index = usize::try_from(time.month0()).unwrap_or_default();
    NAMES.get(index).copied().unwrap_or_default()
}

fn weekday(time: &DateTime<FixedOffset>) -> &'static str {
    use chrono::Weekday;
    match time.weekday() {
        Weekday::Mon => "Monday",
        Weekday::Tue => "Tuesday",
        Weekday::Wed => "Wednesday",
        Weekday::Thu => "Thursday",
        Weekday::Fri => "Friday",
        Weekday::Sat => "Saturday",
        Weekday::Sun => "Sunday",
    }
}

fn offset(time: &DateTime<FixedOffset>, colon: &str) -> String {
    let minutes = time.offset().local_minus_utc() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.abs();
    format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
}

fn timeadd(call: &Call<'_>) -> Answer {
    let (time, duration) = (time(call, 0)?, call.text(1)?);
    let delta = go_duration(&duration)
        .ok_or("argument 2 is not a duration: write for example 1h30m or -24h")?;
    let sum = time
        .checked_add_signed(delta)
        .ok_or("the time is out of range")?;
    Ok(sum.to_rfc3339_opts(SecondsFormat::Secs, true).into())
}

/// Parses a duration in Go's form: `1h30m`, `-1.5s`.
fn go_duration(text: &str) -> Option<TimeDelta> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(TimeDelta::zero());
    }
    let mut nanoseconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit_length = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_length)?;
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        nanoseconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    // Go's durations are 64-bit counts of nanoseconds.
    #[allow(clippy::cast_precision_loss)]
    if nanoseconds >= i64::MAX as f64 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)]
    Some(TimeDelta::nanoseconds((sign * nanoseconds) as i64))
}
