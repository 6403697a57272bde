//! A status as a human-readable table.

use std::fmt::Write;

use serde_json::Value;

/// Returns a list in a status; an empty one if it is missing.
pub(super) fn list<'a>(status: &'a Value, key: &str) -> &'a [Value] {
    status
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn is_set(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool) == Some(true)
}

/// Returns the table. It shows a missing value as a hyphen, and leaves out unknown keys.
pub(super) fn table(status: &Value) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = head(&mut out, status);
    let _ = targets(&mut out, list(status, "targets"));
    let _ = pending(&mut out, list(status, "pending"));
    let unpushed_list = list(status, "unpushed");
    let _ = unpushed(&mut out, unpushed_list);
    let _ = errors(&mut out, list(status, "errors"), unpushed_list);
    for lost in list(status, "lost").iter().filter_map(Value::as_str) {
        let _ = writeln!(
            out,
            "lost: the registry has lost {lost}; the backups serve it, and `atlasfs sync DIR` gives it back"
        );
    }
    let _ = journal(&mut out, status.get("journal").unwrap_or(&Value::Null));
    out
}

/// Writes the files of the journal that are damaged or could not be read.
fn journal(out: &mut String, journal: &Value) -> std::fmt::Result {
    for damaged in list(journal, "damaged") {
        let path = text(damaged, "path");
        writeln!(
            out,
            "damaged: {path} is not pushed: inspect it, then remove it"
        )?;
    }
    for unread in list(journal, "unread") {
        let (file, reason) = (text(unread, "file"), text(unread, "reason"));
        writeln!(
            out,
            "can't read {file} of the journal; the mount keeps trying: {reason}"
        )?;
    }
    Ok(())
}

/// Writes the errors of last pushes without an unpushed file, which would show the error.
fn errors(out: &mut String, errors: &[Value], unpushed: &[Value]) -> std::fmt::Result {
    let is_shown = |error: &Value| {
        let mut unpushed = unpushed.iter();
        unpushed.any(|kept| kept.get("reason") == error.get("reason"))
    };
    for error in errors.iter().filter(|error| !is_shown(error)) {
        writeln!(out, "failed: {}", text(error, "reason"))?;
    }
    Ok(())
}

fn head(out: &mut String, status: &Value) -> std::fmt::Result {
    let health = match status.get("healthy").and_then(Value::as_bool) {
        Some(true) => "healthy",
        Some(false) => "degraded",
        None => "state unknown",
    };
    writeln!(
        out,
        "{}: {health}, up {}, durability {}{}",
        text(status, "mount"),
        uptime(number(status, "uptime_seconds")),
        text(status, "durability"),
        if is_set(status, "read_only") {
            ", read-only"
        } else {
            ""
        },
    )?;
    if let Some(reason) = status.get("read_only_reason").and_then(Value::as_str) {
        writeln!(out, "read-only: {reason}")?;
    }
    writeln!(
        out,
        "atlasfs {}, process {}, {} repositories, {} hidden names",
        text(status, "version"),
        number(status, "pid"),
        number(status, "repos"),
        number(status, "hidden_names"),
    )?;
    for (name, key) in [("cache", "cache"), ("cache on disk", "disk_cache")] {
        let Some(cache) = status.get(key) else {
            continue;
        };
        writeln!(
            out,
            "{name}: {} entries, {} of {}, {} hits, {} misses",
            number(cache, "entries"),
            bytes(number(cache, "bytes")),
            bytes(number(cache, "capacity")),
            number(cache, "hits"),
            number(cache, "misses"),
        )?;
    }
    Ok(())
}

fn targets(out: &mut String, targets: &[Value]) -> std::fmt::Result {
    let mut rows = vec![
        [
            "TARGET",
            "URL",
            "STATE",
            "SINCE",
            "PULLS",
            "PUSHES",
            "FAILURES",
            "LAST FAILURE",
        ]
        .map(str::to_owned),
    ];
    rows.extend(targets.iter().map(|target| {
        let failure = match target.get("last_failure") {
            Some(failure @ Value::Object(_)) => format!(
                "{} {}: {}",
                text(failure, "time"),
                text(failure, "kind"),
                text(failure, "reason")
            ),
            _ => "-".to_owned(),
        };
        [
            text(target, "role").to_owned(),
            text(target, "url").to_owned(),
            state(target),
            text(target, "since").to_owned(),
            number(target, "pulls").to_string(),
            number(target, "pushes").to_string(),
            number(target, "failures").to_string(),
            failure,
        ]
    }));
    columns(out, &rows)
}

fn state(target: &Value) -> String {
    let state = text(target, "state");
    match text(target, "breaker") {
        "open" => format!("{state} (skipped)"),
        _ => state.to_owned(),
    }
}

fn pending(out: &mut String, pending: &[Value]) -> std::fmt::Result {
    if pending.is_empty() {
        return writeln!(out, "\nnothing is pending");
    }
    let mut rows = vec![["PENDING", "SINCE", "MISSING IN"].map(str::to_owned)];
    rows.extend(pending.iter().map(|entry| {
        let missing: Vec<_> = list(entry, "targets")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .chain(list(entry, "elsewhere").iter().map(elsewhere))
            .collect();
        [
            text(entry, "artifact").to_owned(),
            text(entry, "stamp").to_owned(),
            missing.join(", "),
        ]
    }));
    columns(out, &rows)
}

/// Names a store that is no target of the mount: `atlasfs forget` takes either name.
fn elsewhere(store: &Value) -> String {
    let id = text(store, "id");
    match text(store, "location") {
        "-" => format!("store {id}, which this mount does not have"),
        location => format!("{location} (store {id}), which this mount does not have"),
    }
}

fn unpushed(out: &mut String, unpushed: &[Value]) -> std::fmt::Result {
    if unpushed.is_empty() {
        return writeln!(out, "nothing is unpushed");
    }
    let mut rows = vec![["UNPUSHED", "ARTIFACT", "TIME", "SIZE", "REASON"].map(str::to_owned)];
    rows.extend(unpushed.iter().map(|entry| {
        [
            text(entry, "path").to_owned(),
            text(entry, "artifact").to_owned(),
            text(entry, "time").to_owned(),
            bytes(number(entry, "size")),
            text(entry, "reason").to_owned(),
        ]
    }));
    columns(out, &rows)
}

/// Writes rows with each column as wide as its widest cell, after an empty line.
pub(super) fn columns<const N: usize>(out: &mut String, rows: &[[String; N]]) -> std::fmt::Result {
    writeln!(out)?;
    for line in aligned(rows) {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Returns rows as lines, with each column as wide as its widest cell.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, widest)| format!("{cell}{:1$}", "", widest.saturating_sub(width(cell))))
            .collect();
        cells.join("  ")
    };
    rows.iter().map(line).collect()
}

/// Returns the columns that a text needs on a terminal. East Asian letters and the like need two.
pub(super) fn width(text: &str) -> usize {
    let columns = |letter| match letter {
        '\u{1100}'..='\u{115f}' | '\u{2e80}'.. => 2,
        _ => 1,
    };
    text.chars().map(columns).sum()
}

fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Writes a size in its unit.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_shown_with_all_that_matters() {
        let status = json!({
            "version": "0.1.0", "mount": "/mnt/registry", "pid": 12, "uptime_seconds": 3700,
            "durability": "any", "read_only": true, "read_only_reason": "no key", "healthy": false, "later_key": [1],
            "targets": [
                {"role": "registry", "url": "s3://b/p", "state": "outage", "since": "T1",
                 "breaker": "open",
                 "last_failure": {"time": "T2", "kind": "timeout", "reason": "no answer"},
                 "pulls": 1, "pushes": 2, "failures": 3},
                {"role": "backup", "url": "file:///b", "state": "ok", "since": null,
                 "breaker": "closed",
                 "last_failure": null},
            ],
            "pending": [{"artifact": "app/schema", "stamp": "T3", "targets": ["s3://b/p"],
                "elsewhere": [{"id": "ab12", "location": "file:/b"}, {"id": "cd", "location": null}]}],
            "unpushed": [{"path": ".atlasfs/unpushed/x", "artifact": "app/schema", "size": 2048,
                          "reason": "conflict"}],
            "journal": {"damaged": [{"path": ".atlasfs/unpushed/damaged/7"}],
                        "unread": [{"file": "/s/8", "reason": "no luck"}]},
            "cache": {"entries": 4, "bytes": 10, "capacity": 67_108_864},
            "disk_cache": {"entries": 5, "bytes": 20_480, "capacity": 1_073_741_824},
        });
        let table = table(&status);
        for part in [
            "/mnt/registry: degraded, up 1 h 1 min, durability any, read-only\nread-only: no key\n",
            "process 12",
            "cache: 4 entries, 10 B of 64.0 MiB",
            "cache on disk: 5 entries, 20.0 KiB of 1024.0 MiB",
            "registry  s3://b/p   outage (skipped)  T1     1      2       3         T2 timeout: no answer",
            "backup    file:///b  ok                -",
            "app/schema  T3     s3://b/p",
            ".atlasfs/unpushed/x  app/schema  -     2.0 KiB  conflict",
            "damaged: .atlasfs/unpushed/damaged/7 is not pushed",
            "can't read /s/8 of the journal; the mount keeps trying: no luck",
        ] {
            assert!(table.contains(part), "{part}\nis not in\n{table}");
        }
    }

    #[test]
    fn a_status_with_nothing_in_it_is_shown_all_the_same() {
        for status in [json!({}), json!(null), json!({"targets": 1, "cache": "x"})] {
            let table = table(&status);
            assert!(table.contains("nothing is pending"));
            assert!(!table.contains("read-only"), "{table}");
        }
    }

    #[test]
    fn columns_are_aligned_as_a_terminal_shows_them() {
        let rows = [["a", "b"], ["作者", "…"], ["four", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["a     b", "作者  …", "four   "]);
    }

    #[test]
    fn times_are_as_coarse_as_they_are_long() {
        assert_eq!(uptime(59), "59 s");
        assert_eq!(uptime(61), "1 min");
        assert_eq!(uptime(90_000), "1 d 1 h");
    }
}
