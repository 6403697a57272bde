//! `atlasfs diff`: the lines that differ between two versions.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use super::args::DiffArgs;
use super::complain;
use super::exit::Exit;
use super::repository::Repository;

/// The longest search for the shortest difference. After it the result is right, but longer.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the difference of two versions; the exit codes are those of diff(1).
pub(super) fn diff(args: &DiffArgs) -> Exit {
    let texts = Repository::find(&args.dir).and_then(|repository| {
        let text = |name: &str| text(&repository, name);
        Ok((text(&args.from)?, text(&args.to)?))
    });
    match texts {
        Ok((from, to)) => {
            let look = Look::of_stdout();
            // `print` would add a newline, and the reader may have closed the pipe.
            let _ = std::io::stdout().write_all(&unified(&from, &to, look));
            match from.content == to.content {
                true => Exit::Success,
                false => Exit::Failure,
            }
        }
        Err(why) => {
            complain(&why);
            Exit::Usage
        }
    }
}

/// The schema of a version.
#[derive(Debug)]
struct Text {
    name: String,
    content: Vec<u8>,
}

fn text(repository: &Repository, name: &str) -> Result<Text, String> {
    let version = repository.version(name)?;
    let (content, suffix) = repository.read_version(&version, |path| {
        let suffix = match path.join("schema.sql").try_exists()? {
            true => "sql",
            false => "hcl",
        };
        Ok((std::fs::read(path.join("schema"))?, suffix))
    })?;
    let name = format!("{}/versions/{version}/schema.{suffix}", repository.name());
    Ok(Text { name, content })
}

/// How the reader of the output sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The bytes as they are: a program reads them.
    Raw,
    /// A terminal: no control character of a content may reach it.
    Terminal { is_coloured: bool },
}

impl Look {
    fn of_stdout() -> Self {
        let is_empty = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match std::io::stdout().is_terminal() {
            true => Self::Terminal {
                is_coloured: is_empty("NO_COLOR") && !is_dumb,
            },
            false => Self::Raw,
        }
    }

    /// Writes a line in a colour, without the end of the line.
    fn write(self, out: &mut Vec<u8>, colour: &str, sign: &str, line: &[u8]) {
        match self {
            Self::Raw => {
                out.extend_from_slice(sign.as_bytes());
                out.extend_from_slice(line);
            }
            Self::Terminal { is_coloured } => {
                let line = visible(&String::from_utf8_lossy(line));
                let line = match is_coloured && !colour.is_empty() {
                    true => format!("\x1b[{colour}m{sign}{line}\x1b[m"),
                    false => format!("{sign}{line}"),
                };
                out.extend_from_slice(line.as_bytes());
            }
        }
        out.push(b'\n');
    }
}

/// Writes control characters, and others that a terminal does not show, as escapes.
fn visible(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    for letter in line.chars() {
        match letter {
            '\t' | '\\' | '\'' | '"' => shown.push(letter),
            letter => shown.extend(letter.escape_debug()),
        }
    }
    shown
}

/// Returns the difference in the unified format; nothing if there is none.
fn unified(from: &Text, to: &Text, look: Look) -> Vec<u8> {
    // `diff_lines` would also end a line at a CR without an LF.
    let lines = |text| <[u8]>::split_inclusive(text, |byte| *byte == b'\n').collect::<Vec<_>>();
    let diff = TextDiff::configure()
        .timeout(SEARCH_TIMEOUT)
        .diff_slices(&lines(&from.content), &lines(&to.content));
    let mut out = Vec::new();
    for hunk in diff.unified_diff().iter_hunks() {
        if out.is_empty() {
            look.write(&mut out, "1", "--- ", from.name.as_bytes());
            look.write(&mut out, "1", "+++ ", to.name.as_bytes());
        }
        look.write(&mut out, "36", "", hunk.header().to_string().as_bytes());
        for change in hunk.iter_changes() {
            let (colour, sign) = match change.tag() {
                ChangeTag::Delete => ("31", "-"),
                ChangeTag::Insert => ("32", "+"),
                ChangeTag::Equal => ("", " "),
            };
            let line = change.value();
            let whole = line.strip_suffix(b"\n");
            look.write(&mut out, colour, sign, whole.unwrap_or(line));
            if whole.is_none() {
                look.write(&mut out, "", "\\ ", b"No newline at end of file");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look::Terminal { is_coloured: false };

    fn of(from: &[u8], to: &[u8], look: Look) -> String {
        let text = |name: &str, content: &[u8]| Text {
            name: name.to_owned(),
            content: content.to_vec(),
        };
        let out = unified(&text("a", from), &text("b", to), look);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_difference_is_shown_as_diff_u_shows_it() {
        for (from, to) in [
            ("one\ntwo\nthree\n", "one\n2\nthree\n"),
            ("one\ntwo", "one\ntwo\n"),
            ("one\n", "one\ntwo"),
            ("", "one\n"),
            ("x\r\ny\n", "x\ny\n"),
            ("x\ry\nz\r", "x\rz\nz\r"),
            ("x\r", "x\r\n"),
            (
                &"line\n".repeat(40),
                &format!("first\n{}", "line\n".repeat(41)),
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in [("a", from), ("b", to)] {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            let mut patch = std::process::Command::new("diff");
            patch.args(["-u", "--label", "a", "--label", "b", "a", "b"]);
            let patch = patch.current_dir(dir.path()).output().unwrap();
            assert_eq!(
                of(from.as_bytes(), to.as_bytes(), Look::Raw).as_bytes(),
                patch.stdout
            );
        }
        assert_eq!(of(b"same\n", b"same\n", Look::Raw), "");
    }

    #[test]
    fn a_terminal_gets_colours_and_no_control_characters() {
        let from = b"\x1b[2Jone\n\ttwo \"x\"\\\n";
        let to = "\u{202e}one\r\n\ttwo \"x\"\\\n".as_bytes();
        let coloured = of(from, to, Look::Terminal { is_coloured: true });
        assert!(
            coloured.contains("\x1b[31m-\\u{1b}[2Jone\x1b[m\n"),
            "{coloured:?}"
        );
        let plain = of(from, to, PLAIN);
        let lines: Vec<_> = plain.lines().collect();
        let expected = [
            "--- a",
            "+++ b",
            "@@ -1,2 +1,2 @@",
            "-\\u{1b}[2Jone",
            "+\\u{202e}one\\r",
            " \ttwo \"x\"\\",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_program_gets_the_bytes_as_they_are() {
        let text = |content: &[u8]| Text {
            name: "a".to_owned(),
            content: content.to_vec(),
        };
        let out = unified(&text(b"\xff\x1b\n"), &text(b"x\n"), Look::Raw);
        assert!(out.windows(4).any(|part| part == b"-\xff\x1b\n"), "{out:?}");
    }
}
