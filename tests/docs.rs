//! The documentation: its size, its links, the tests that it names, and the command that shows it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every reader reads the README, so it stays short.
const README_BYTES: usize = 9_216;

/// The mark of a statement without a test.
const UNPROVED: &str = "[no test]";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages, by their path from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let docs = std::fs::read_dir(root().join("src/docs")).unwrap();
    let docs = docs.map(|entry| Path::new("src/docs").join(entry.unwrap().file_name()));
    let paths = docs.chain([PathBuf::from("README.md")]);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        (path, text)
    };
    paths.map(read).collect()
}

/// The lines outside code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let text = text.replace(' ', "-");
        text.chars()
            .filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter))
            .collect()
    };
    headings.map(anchor).collect()
}

/// The targets of a page's links.
fn links(page: &str) -> Vec<&str> {
    let parts = prose(page).flat_map(|line| line.split("](").skip(1));
    parts.map(|part| part.split(')').next().unwrap()).collect()
}

/// Each list item and table row of a page, in one line.
fn statements(page: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    let mut in_item = false;
    let mut row = 0;
    for line in prose(page) {
        row = if line.starts_with('|') { row + 1 } else { 0 };
        if line.starts_with("- ") || row > 2 {
            in_item = row == 0;
            statements.push(line.to_owned());
        } else if in_item && line.starts_with("  ") {
            *statements.last_mut().unwrap() += line;
        } else {
            in_item = false;
        }
    }
    statements
}

/// The tests that a statement names: `[test: one, another]`.
fn named(statement: &str) -> Vec<&str> {
    let parts = statement.split("[test: ").skip(1);
    let lists = parts.map(|part| part.split(']').next().unwrap());
    lists
        .flat_map(|list| list.split(',').map(str::trim))
        .collect()
}

/// The tests of the project, and whether they are ignored.
fn tests() -> BTreeMap<String, bool> {
    let mut tests = BTreeMap::new();
    let mut folders = vec![root().join("src"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                tests_of(&std::fs::read_to_string(path).unwrap(), &mut tests);
            }
        }
    }
    tests
}

fn tests_of(source: &str, tests: &mut BTreeMap<String, bool>) {
    // A macro that makes tests gets their names as arguments: `name: Value;`.
    if source.contains("$(#[test]") {
        let entries = source.lines().filter(|line| line.trim().ends_with(';'));
        let entries = entries.filter_map(|line| line.trim().split_once(": "));
        tests.extend(entries.map(|(name, _)| (name.to_owned(), false)));
    }
    let (mut is_test, mut is_ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_ignored = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            if let Some((name, _)) = function
                .filter(|_| is_test)
                .and_then(|it| it.split_once('('))
            {
                tests.insert(name.to_owned(), is_ignored);
            }
            (is_test, is_ignored) = (false, false);
        }
    }
}

/// The errors in the test names of a page.
fn unproved(page: &str, tests: &BTreeMap<String, bool>) -> Vec<String> {
    let mut wrong = Vec::new();
    for statement in statements(page) {
        let names = named(&statement);
        if names.is_empty() && !statement.contains(UNPROVED) {
            wrong.push(format!("no test is named: {statement}"));
        }
        for name in names {
            match tests.get(name) {
                None => wrong.push(format!("no test is called {name:?}: {statement}")),
                Some(true) => wrong.push(format!("{name} is ignored: {statement}")),
                Some(false) => {}
            }
        }
    }
    wrong
}

#[test]
fn the_readme_stays_short() {
    let size = pages()[Path::new("README.md")].len();
    assert!(size <= README_BYTES, "{size} bytes");
}

#[test]
fn every_relative_link_resolves() {
    let pages = pages();
    let mut count = 0;
    for (path, page) in &pages {
        for link in links(page) {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let target = root().join(target);
            let target = target.canonicalize();
            let target = target.unwrap_or_else(|error| panic!("{path:?}: {link}: {error}"));
            let inside = target.strip_prefix(root().canonicalize().unwrap());
            let inside =
                inside.unwrap_or_else(|_| panic!("{path:?}: {link} leaves the repository"));
            if !anchor.is_empty() {
                let page = &pages[inside];
                assert!(anchors(page).contains(anchor), "{path:?}: {link}");
            }
        }
    }
    assert!(count > 20, "{count} links");
}

#[test]
fn every_statement_of_the_semantics_names_tests_that_exist() {
    let page = &pages()[Path::new("src/docs/semantics.md")];
    assert!(statements(page).len() > 100);
    let wrong = unproved(page, &tests());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_missing_or_ignored_test_is_found() {
    let mut tests = BTreeMap::new();
    let source = "#[test]\nfn one() {}\n#[tokio::test(x = 1)]\n// why\n#[ignore = \"x\"]\n\
                  async fn two() {}\nfn three() {}\n";
    tests_of(source, &mut tests);
    assert_eq!(tests, [("one".into(), false), ("two".into(), true)].into());
    for (page, wrong) in [
        ("- a [test: one]\n- b\n  [test: one, one]\n\nprose\n", 0),
        ("- a [no test]\n", 0),
        ("- a\n  b\n", 1),
        ("- a [test: two]\n", 1),
        ("- a [test: one, three]\n", 1),
        ("| a | b |\n| - | - |\n| a [test: one] | |\n| c | |\n", 1),
    ] {
        assert_eq!(unproved(page, &tests).len(), wrong, "{page}");
    }
}

#[test]
fn no_page_mentions_a_thing_outside_the_repository() {
    for (path, page) in pages() {
        for outside in ["DESIGN", "FIELD-NOTES", "shared/", "issue #", "issues show"] {
            assert!(!page.contains(outside), "{path:?} mentions {outside}");
        }
    }
}

#[test]
fn every_file_that_a_page_names_exists() {
    for (path, page) in pages() {
        let words = page.split(|letter: char| letter.is_whitespace() || "`(),;|#".contains(letter));
        for word in words.map(|word| word.trim_end_matches(['.', ':'])) {
            let ours = ["src/", "tests/", "scripts/"];
            if ours.iter().any(|folder| word.starts_with(folder)) {
                assert!(root().join(word).exists(), "{path:?}: {word}");
            }
        }
    }
}

#[test]
fn help_into_a_closed_stdout_ends_quietly() {
    for script in [
        r#""$0" help semantics >&-"#,
        r#""$0" help semantics | true; exit "${PIPESTATUS[0]}""#,
        r#""$0" help mount >&-"#,
    ] {
        let ran = Command::new("bash")
            .args(["-c", script, env!("CARGO_BIN_EXE_atlasfs")])
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(0), "{script}");
        assert_eq!(String::from_utf8_lossy(&ran.stderr), "", "{script}");
    }
}
