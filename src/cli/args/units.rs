//! Durations and sizes in human form. No library in the dependency tree accepts `1.5s` and refuses
//! `1 day`.

use std::time::Duration;

/// Reads `250ms`, `1s`, `1.5s`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let complaint = || format!("`{text}` is not a duration: write 250ms, 1s, 2m or 1h");
    let (number, unit) = split(text);
    let per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if number == "0" => 0.0,
        _ => return Err(complaint()),
    };
    let count: f64 = number.parse().map_err(|_| complaint())?;
    Duration::try_from_secs_f64(count * per_unit).map_err(|_| complaint())
}

/// Reads a duration other than 0, because with a zero limit every request would fail.
pub fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("`{text}` is too short: every request would fail")),
        some => Ok(some),
    }
}

/// Reads `1048576`, `64M`, `16MiB`, `1.5G`. All units are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let complaint = || format!("`{text}` is not a size: write 1048576, 512K, 16MiB or 1G");
    let (number, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(complaint()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| complaint())?;
    let unit = 1_u64 << shift;
    let mut bytes = whole.checked_mul(unit).ok_or_else(complaint)?;
    if !fraction.is_empty() {
        let part: f64 = format!("0.{fraction}").parse().map_err(|_| complaint())?;
        // Below one unit, so it fits.
        bytes = bytes
            .checked_add((part * unit as f64) as u64)
            .ok_or_else(complaint)?;
    }
    Ok(bytes)
}

/// Splits a number from its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("1s", 1000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
            (" 3 s", 3000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_duration_is_refused_with_examples() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1 day",
            "1e9s",
            "1..5s",
            "99999999999999999999h",
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains("250ms"), "{text}: {error}");
        }
        assert!(timeout("0s").is_err());
        assert_eq!(timeout("1s"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64M", 64 << 20),
            ("16MiB", 16 << 20),
            ("16mb", 16 << 20),
            ("512 K", 512 << 10),
            ("1.5G", 3 << 29),
            ("1T", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_size_is_refused_with_examples() {
        for text in [
            "",
            "M",
            "-1",
            "1X",
            "1.2.3M",
            "99999999999999T",
            "18446744073709551616",
        ] {
            let error = size(text).unwrap_err();
            assert!(error.contains("16MiB"), "{text}: {error}");
        }
    }
}
