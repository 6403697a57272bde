//! `atlasfs history`: the versions of a repository, newest first.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::args::HistoryArgs;
use super::exit::Exit;
use super::repository::{Repository, at_once};
use super::table::{aligned, bytes, width};
use super::{complain, print};
use crate::model::Version;

/// The width of the table: the least that terminals have.
const COLUMNS: usize = 80;

/// Where the second column begins, below which tags go on.
const INDENT: usize = 25;

/// One version.
#[derive(Debug)]
struct Row {
    version: Version,
    tags: Vec<String>,
    /// `None` if it could not be read.
    content: Option<Content>,
}

/// The facts about the content of a version, as the mount shows them.
#[derive(Debug)]
struct Content {
    /// The time of the push, in nanoseconds: it orders the versions of one second.
    when: (i64, i64),
    size: u64,
    format: Option<&'static str>,
    author: Option<String>,
    sha256: Option<String>,
}

/// Prints the newest versions of a repository.
pub(super) fn history(args: &HistoryArgs) -> Exit {
    match show(args) {
        Ok(exit) => exit,
        Err(why) => {
            complain(&why);
            Exit::Failure
        }
    }
}

fn show(args: &HistoryArgs) -> Result<Exit, String> {
    let repository = Repository::find(&args.dir)?;
    let mut versions = repository.versions()?;
    let all = versions.len();
    if all == 0 && !args.json {
        return Err(repository.has_no_version());
    }
    let shown = match args.number {
        0 => all,
        number => number.min(all),
    };
    // Names don't order the versions of one second: read all those of the last one.
    let last = shown.checked_sub(1).and_then(|last| versions.get(last));
    let last = last.map_or(0, Version::when);
    versions.retain(|version| version.when() >= last);
    let tags = repository.tags()?;
    let contents = at_once(&versions, |version| repository.read_version(version, read));
    let mut rows = Vec::with_capacity(versions.len());
    let mut failed = None;
    for (version, content) in versions.into_iter().zip(contents) {
        let named = tags.iter().filter(|(_, tagged)| *tagged == version);
        let tags = named.map(|(tag, _)| tag.clone()).collect();
        let content = content
            .map_err(|why| failed.get_or_insert(why).clone())
            .ok();
        rows.push(Row {
            version,
            tags,
            content,
        });
    }
    sort(&mut rows);
    rows.truncate(shown);
    match args.json {
        true => print(&format!("{:#}", to_json(&rows))),
        false => print(table(&rows).trim_end()),
    }
    if shown < all {
        complain(&format!("{shown} of {all} versions shown: -n 0 shows all"));
    }
    Ok(match failed {
        None => Exit::Success,
        Some(why) => {
            complain(&why);
            Exit::Failure
        }
    })
}

/// Reads the content of a version, in its directory.
fn read(path: PathBuf) -> io::Result<Content> {
    let schema = path.join("schema");
    let of_schema = match attribute(&schema, "user.atlas.version") {
        Ok(pushed) => pushed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // Another version's schema shows beside the migrations that made this one.
    if path.file_name().and_then(OsStr::to_str) != of_schema.as_deref()
        && let Ok(content) = read_migrations(&path)
    {
        return Ok(content);
    }
    let meta = schema.metadata()?;
    let format = ["hcl", "sql"];
    let has = |format: &&str| path.join(format!("schema.{format}")).exists();
    let format = format.into_iter().find(has);
    Ok(Content {
        when: (meta.mtime(), meta.mtime_nsec()),
        size: meta.len(),
        format,
        author: attribute(&path, "user.atlas.author")?,
        sha256: attribute(&path, "user.atlas.sha256")?,
    })
}

/// Reads the migration directory of a version, in the version's directory.
fn read_migrations(path: &Path) -> io::Result<Content> {
    let dir = path.join("migrations");
    let mut size = 0;
    for file in dir.read_dir()? {
        size += file?.metadata()?.len();
    }
    let meta = dir.metadata()?;
    Ok(Content {
        when: (meta.mtime(), meta.mtime_nsec()),
        size,
        format: Some("migrations"),
        author: attribute(path, "user.atlas.author")?,
        sha256: attribute(path, "user.atlas.sha256")?,
    })
}

/// Reads an extended attribute; `None` if the file has none of this name.
fn attribute(path: &Path, name: &str) -> io::Result<Option<String>> {
    let mut value = vec![0; 256];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(String::from_utf8(value).ok())
        }
        Err(rustix::io::Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Orders rows, newest first. Names alone don't order the versions of one second.
fn sort(rows: &mut [Row]) {
    let second = |row: &Row| row.version.when();
    let when = |row: &Row| row.content.as_ref().map(|content| content.when);
    rows.sort_by_key(|row| Reverse((second(row), when(row))));
}

fn time(version: &Version) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(i64::try_from(version.when()).unwrap_or(i64::MAX))
}

fn to_json(rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let content = row.content.as_ref();
        json!({
            "version": row.version.as_str(),
            "time": time(&row.version).to_rfc3339_opts(SecondsFormat::Secs, true),
            "author": content.and_then(|content| content.author.as_deref()),
            "size": content.map(|content| content.size),
            "format": content.and_then(|content| content.format),
            "sha256": content.and_then(|content| content.sha256.as_deref()),
            "tags": row.tags,
        })
    });
    rows.collect()
}

/// Returns the rows as a table of at most [`COLUMNS`] columns. Long authors are cut; tags that don't
/// fit go on below their version.
fn table(rows: &[Row]) -> String {
    let head = ["VERSION", "TIME (UTC)", "AUTHOR", "SIZE", "FORMAT"].map(str::to_owned);
    let mut cells = vec![head];
    let dash = || "-".to_owned();
    let sizes = rows.iter().map(|row| {
        let content = row.content.as_ref();
        content.map_or_else(dash, |content| bytes(content.size))
    });
    let sizes: Vec<_> = sizes.collect();
    let size = sizes.iter().map(String::len).fold("SIZE".len(), usize::max);
    // The other columns, and two blanks between each two.
    let room = COLUMNS.saturating_sub(23 + 16 + size + "FORMATTAGS".len() + 10);
    for (row, size) in rows.iter().zip(sizes) {
        let content = row.content.as_ref();
        let author = content.and_then(|content| content.author.as_deref());
        let format = content.and_then(|content| content.format);
        cells.push([
            row.version.to_string(),
            time(&row.version).format("%Y-%m-%d %H:%M").to_string(),
            cut(author.unwrap_or("-"), room),
            size,
            format.unwrap_or("-").to_owned(),
        ]);
    }
    let mut lines = aligned(&cells).into_iter();
    let mut out = lines.next().unwrap_or_default() + "  TAGS\n";
    for (line, row) in lines.zip(rows) {
        let tags = row.tags.join(" ");
        if width(&line) + 2 + width(&tags) <= COLUMNS {
            out += format!("{line}  {tags}").trim_end();
        } else {
            out += line.trim_end();
            below(&mut out, &row.tags);
        }
        out.push('\n');
    }
    out
}

/// Writes tags in lines of their own.
fn below(out: &mut String, tags: &[String]) {
    let mut used = COLUMNS;
    for tag in tags {
        let tag = cut(tag, COLUMNS - INDENT);
        if used + 1 + width(&tag) > COLUMNS {
            *out += &format!("\n{:INDENT$}{tag}", "");
            used = INDENT + width(&tag);
        } else {
            *out += &format!(" {tag}");
            used += 1 + width(&tag);
        }
    }
}

/// Cuts a text that needs more than some columns.
fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        short.push(letter);
        if width(&short) >= columns {
            short.pop();
            break;
        }
    }
    short + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: &str, author: Option<&str>, tags: &[&str]) -> Row {
        Row {
            version: Version::parse(version).unwrap(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            content: Some(Content {
                when: (0, 0),
                size: 1_229,
                format: Some("hcl"),
                author: author.map(str::to_owned),
                sha256: Some("0a1b2c3d".repeat(8)),
            }),
        }
    }

    const V1: &str = "20240910173744-0a1b2c3d";
    const V2: &str = "20240911080000-ffffffff";

    #[test]
    fn the_table_shows_each_version_with_its_tags() {
        let mut unread = row("20240101000000-00000000", None, &[]);
        unread.content = None;
        let rows = [
            row(V2, Some("ci"), &["latest", "prod"]),
            row(V1, None, &[]),
            unread,
        ];
        let expected = "\
VERSION                  TIME (UTC)        AUTHOR  SIZE     FORMAT  TAGS
20240911080000-ffffffff  2024-09-11 08:00  ci      1.2 KiB  hcl     latest prod
20240910173744-0a1b2c3d  2024-09-10 17:37  -       1.2 KiB  hcl
20240101000000-00000000  2024-01-01 00:00  -       -        -
";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn the_table_fits_80_columns_and_shows_each_tag() {
        let long = "t".repeat(255);
        let many: Vec<_> = (0..60).map(|n| format!("release-{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let wide = "作者".repeat(15);
        for author in ["a", "alice@build-7", &"x".repeat(95), &wide] {
            for tags in [&["latest"][..], &[&long], &many, &[]] {
                let mut big = row(V1, Some(author), tags);
                big.content.as_mut().unwrap().size = 16_777_215;
                let table = table(&[row(V2, Some("b"), &["prod"]), big]);
                for line in table.lines() {
                    assert!(width(line) <= 80, "{} columns: {line}", width(line));
                    assert_eq!(line, line.trim_end());
                }
                let words: Vec<_> = table.split_whitespace().collect();
                let shown = |tag: &&str| words.contains(tag) || tag.len() > 55;
                assert!(tags.iter().all(shown), "{table}");
            }
        }
    }

    #[test]
    fn json_has_whole_names_and_rfc_3339_times() {
        let author = "x".repeat(95);
        let mut unread = row(V2, None, &[]);
        unread.content = None;
        let rows = [row(V1, Some(&author), &["latest", "prod"]), unread];
        let expected = json!([
            {"version": V1, "time": "2024-09-10T17:37:44Z", "author": author, "size": 1229,
             "format": "hcl", "sha256": "0a1b2c3d".repeat(8), "tags": ["latest", "prod"]},
            {"version": V2, "time": "2024-09-11T08:00:00Z", "author": null, "size": null,
             "format": null, "sha256": null, "tags": []},
        ]);
        assert_eq!(to_json(&rows), expected);
        assert_eq!(to_json(&[]), json!([]));
    }

    #[test]
    fn versions_of_one_second_are_ordered_by_their_pushes() {
        let mut rows = ["20240910173744-ffffffff", V1, V2].map(|version| row(version, None, &[]));
        rows[0].content.as_mut().unwrap().when = (1, 5);
        rows[1].content.as_mut().unwrap().when = (1, 6);
        sort(&mut rows);
        let sorted = rows.each_ref().map(|row| row.version.as_str());
        assert_eq!(sorted, [V2, V1, "20240910173744-ffffffff"]);
    }
}
