//! The structure of the source: no files that import each other in a circle, no import of a higher
//! floor, and no file that is too long to read in one go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod modules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use modules::{Imports, Modules, Sources};

/// The floors, from the top. The files of a floor import only lower floors. Two floors in one row
/// do not import each other. Files outside the floors, such as `dir.rs`, are the lowest.
const FLOORS: [&[&str]; 7] = [
    &["main"],
    &["cli"],
    &["fuse"],
    &["fs"],
    &["config", "registry"],
    &["store"],
    &["model"],
];

/// The most lines of a file without a reason for more.
const MAX_LINES: usize = 430;
/// The start of the reason, in one of the first lines of the file.
const REASON: &str = "// Over 430 lines: ";
const REASON_WITHIN_LINES: usize = 20;

/// Reads the Rust files below a folder of the project.
fn sources(folder: &str) -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut sources = Sources::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                let text = std::fs::read_to_string(&path).unwrap();
                sources.insert(name.to_owned(), text);
            }
        }
    }
    sources
}

/// Returns whether a file is a module with another file's module inside.
fn is_parent(parent: &str, child: &str) -> bool {
    let stem = parent.trim_end_matches(".rs");
    let folder = stem
        .strip_suffix("mod")
        .unwrap_or(stem)
        .trim_end_matches('/');
    let rest = child.strip_prefix(folder);
    parent != child && rest.is_some_and(|rest| rest.starts_with('/'))
}

/// Finds circles of imports, the shortest first. No two circles share an import.
///
/// A module may use definitions of its parent module while the parent imports it: that is not a
/// circle.
fn circles(imports: &Imports) -> Vec<String> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in imports.keys().filter(|(from, to)| !is_parent(to, from)) {
        graph.entry(from).or_default().insert(to);
    }
    let mut circles = BTreeSet::new();
    for (from, imported) in &graph {
        for to in imported {
            if let Some(mut circle) = shortest_path(&graph, to, from) {
                let first = (0..circle.len()).min_by_key(|at| circle[*at]).unwrap();
                circle.rotate_left(first);
                circles.insert((circle.len(), circle));
            }
        }
    }
    let mut shown = BTreeSet::new();
    let mut found = Vec::new();
    for (_, circle) in circles {
        let next = circle.iter().cycle().skip(1);
        let pairs: Vec<(&str, &str)> = circle.iter().copied().zip(next.copied()).collect();
        if pairs.iter().all(|pair| !shown.contains(pair)) {
            found.push(describe(&pairs, imports));
            shown.extend(pairs);
        }
    }
    found
}

fn describe(circle: &[(&str, &str)], imports: &Imports) -> String {
    let import = |(from, to): &(&str, &str)| {
        let names = &imports[&((*from).to_owned(), (*to).to_owned())];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("\n    {from} imports {to}: {}", names.join(", "))
    };
    let lines: String = circle.iter().map(import).collect();
    format!("a circle of {} files:{lines}", circle.len())
}

fn shortest_path<'a>(
    graph: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    from: &'a str,
    to: &'a str,
) -> Option<Vec<&'a str>> {
    let mut came_from = BTreeMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut path = vec![to];
            while path[path.len() - 1] != from {
                path.push(came_from[path[path.len() - 1]]);
            }
            path.reverse();
            return Some(path);
        }
        for next in graph.get(file).into_iter().flatten() {
            came_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                file
            });
        }
    }
    None
}

/// Returns the row and the name of a file's floor.
fn floor(file: &str) -> (usize, &str) {
    let name = file.split('/').next().unwrap().trim_end_matches(".rs");
    let row = FLOORS.iter().position(|row| row.contains(&name));
    (row.unwrap_or(FLOORS.len()), name)
}

/// Finds the imports of higher floors, and those of another floor in the same row.
fn imports_of_higher_floors(imports: &Imports) -> Vec<String> {
    let is_wrong = |from: &str, to: &str| {
        let ((row, name), (other_row, other)) = (floor(from), floor(to));
        let is_sideways = row == other_row && row < FLOORS.len() && name != other;
        other_row < row || is_sideways
    };
    let wrong = imports.iter().filter(|((from, to), _)| is_wrong(from, to));
    wrong
        .map(|((from, to), names)| format!("{from} imports {to}: {names:?}"))
        .collect()
}

/// Finds the files that are too long without a reason.
fn too_long(sources: &Sources) -> Vec<String> {
    let is_too_long = |text: &str| {
        let mut first = text.lines().take(REASON_WITHIN_LINES);
        text.lines().count() > MAX_LINES && !first.any(|line| line.starts_with(REASON))
    };
    let files = sources.iter().filter(|(_, text)| is_too_long(text));
    files
        .map(|(file, text)| format!("{file} has {} lines", text.lines().count()))
        .collect()
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = Modules::read(&sources("src")).imports(false);
    assert!(imports.len() > 500, "{} imports", imports.len());
    assert_none(&circles(&imports));
}

#[test]
fn no_file_imports_a_higher_floor() {
    let sources = sources("src");
    for name in FLOORS.concat() {
        assert!(sources.keys().any(|file| floor(file).1 == name), "{name}");
    }
    assert_none(&imports_of_higher_floors(
        &Modules::read(&sources).imports(true),
    ));
}

#[test]
fn every_long_file_gives_a_reason() {
    let wrong = ["src", "tests"].map(|folder| {
        let sources = sources(folder);
        assert!(sources.len() > 50, "{folder}: {} files", sources.len());
        let files = too_long(&sources).into_iter();
        files.map(move |file| format!("{folder}/{file}"))
    });
    assert_none(&wrong.into_iter().flatten().collect::<Vec<_>>());
}

fn made_up<const N: usize>(files: [(&str, &str); N]) -> Sources {
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    files.into()
}

/// Returns the imports of made-up files as `from > to`.
fn imports_of<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
    let imports = Modules::read(&made_up(files)).imports(false);
    let files = imports.keys();
    files.map(|(from, to)| format!("{from} > {to}")).collect()
}

#[test]
fn a_circle_is_found() {
    for (a, b, c, found) in [
        ("use crate::b::B;", "pub struct B; use super::a::A;", "", 1),
        (
            "fn a() { crate::b::b() }",
            "fn b() { super::a::a() }",
            "",
            1,
        ),
        (
            "fn a() { vec![crate::b::B] }",
            "struct B; fn b() -> a::A {} use super::a;",
            "",
            1,
        ),
        (
            "use crate::b::B;",
            "struct B; use super::c::C;",
            "struct C; use super::a::A;",
            1,
        ),
        (
            "use crate::b::B;",
            "struct B; use super::c::C;",
            "struct C;",
            0,
        ),
        (
            "use crate::b::B;",
            "struct B; #[cfg(test)] use super::a::A;",
            "",
            0,
        ),
        (
            "use crate::b::B;",
            "struct B; #[cfg(test)] mod tests { use crate::a::A; }",
            "",
            0,
        ),
        (
            "use crate::b::B;",
            "fn b() { #[cfg(test)] crate::a::a(); b(); }",
            "",
            0,
        ),
        (
            "use crate::b::B;",
            "struct B { #[cfg(test)] a: crate::a::A, b: u8 }",
            "",
            0,
        ),
        (
            "use crate::b::B;",
            "struct B; /// As [`super::a::A`]\nfn b() {}",
            "",
            0,
        ),
    ] {
        let sources = made_up([
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", a),
            ("b.rs", b),
            ("c.rs", c),
        ]);
        let circles = circles(&Modules::read(&sources).imports(false));
        assert_eq!(circles.len(), found, "{a} {b} {c}: {circles:?}");
    }
}

#[test]
fn an_import_leads_to_the_file_that_defines_the_name() {
    for (text, imported) in [
        ("use crate::m::Shown;", "m/child.rs"),
        ("use crate::m::{self}; fn f(it: m::Shown) {}", "m/child.rs"),
        (
            "fn f() { let _ = super::m::Renamed::new(1)?; }",
            "m/child.rs",
        ),
        (
            "use super::m::*; fn f() { matches!(1, Shown::Variant) }",
            "m/child.rs",
        ),
        (
            "fn f() { use crate::m as n; g::<n::Shown>(); }",
            "m/child.rs",
        ),
        ("use crate::m::Own;", "m/mod.rs"),
        ("use crate::m::MadeByMacro;", "m/mod.rs"),
        ("mod inner { fn f() { super::super::m::Own } }", "m/mod.rs"),
        ("use crate::m;", ""),
        (
            "use serde_json; use ::m::Shown; fn f() { serde_json::from_str() }",
            "",
        ),
        (
            "use crate::m; fn f(s: S) { s.m::<u8>(); T { m: 1 }; 0..m }",
            "",
        ),
    ] {
        let found = imports_of([
            ("lib.rs", "mod a; pub mod m;"),
            ("a.rs", text),
            (
                "m/mod.rs",
                "mod child; pub use child::{Shown, Shown as Renamed}; pub struct Own;",
            ),
            ("m/child.rs", "pub enum Shown { Variant }"),
        ]);
        let expected = match imported {
            "" => vec![],
            file => vec![format!("a.rs > {file}")],
        };
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_module_may_use_its_parent() {
    let parent = ("m/mod.rs", "mod child; struct M; use child::C;");
    let child = ("m/child.rs", "struct C; use super::M; mod deep;");
    let deep = ("m/child/deep.rs", "use super::{C, super::M};");
    let sources = made_up([("lib.rs", "mod m;"), parent, child, deep]);
    let imports = Modules::read(&sources).imports(false);
    assert_eq!(imports.len(), 4, "{imports:?}");
    assert_none(&circles(&imports));
}

#[test]
fn an_import_of_a_higher_floor_is_found() {
    for (from, to, is_wrong) in [
        ("registry", "fs", true),
        ("model", "store", true),
        ("config", "registry", true),
        ("registry", "config", true),
        ("dir", "model", true),
        ("fs", "model", false),
        ("cli", "fuse", false),
        ("store", "dir", false),
    ] {
        let import = format!("pub use crate::{to}::X;");
        let root = format!("mod {from}; mod {to};");
        let (from, to) = (format!("{from}.rs"), format!("{to}.rs"));
        let sources = made_up([("lib.rs", &root), (&from, &import), (&to, "pub struct X;")]);
        let wrong = imports_of_higher_floors(&Modules::read(&sources).imports(true));
        assert_eq!(!wrong.is_empty(), is_wrong, "{from} {to}: {wrong:?}");
    }
}

#[test]
fn a_long_file_without_a_reason_is_found() {
    let reason = "//! A table.\n// Over 430 lines: one row per case.\n";
    let late = "\n".repeat(REASON_WITHIN_LINES) + reason;
    for (start, lines, found) in [
        ("", 430, 0),
        ("", 431, 1),
        (reason, 429, 0),
        (&late, 429, 1),
    ] {
        let text = start.to_owned() + &"fn f() {}\n".repeat(lines);
        let sources = made_up([("a.rs", &text)]);
        assert_eq!(too_long(&sources).len(), found, "{start} {lines}");
    }
}
