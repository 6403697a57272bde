//! Checks `atlas.sum` against known answers, and against an implementation of the tests' own.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use regex::bytes::Regex;
use sha2::{Digest, Sha256};

use super::*;

type Dir = BTreeMap<String, Vec<u8>>;

fn compute(dir: &Dir) -> SumFile {
    SumFile::compute(dir.iter().map(|(name, content)| (&**name, &**content)))
}

fn difference(sum: &str, dir: &Dir) -> Option<String> {
    let sum = SumFile::parse(sum.as_bytes()).unwrap();
    let difference = sum.difference(&compute(dir));
    difference.map(|difference| difference.to_string())
}

/// Hashes everything up to each file anew, and finds the directive with Atlas's own pattern.
fn independent(dir: &Dir) -> String {
    let directive = Regex::new(r"(?-u)^([ -~]*)atlas:(\w+)(?: +(.+))*").unwrap();
    let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(Sha256::digest(bytes));
    let (mut before, mut lines) = (Vec::new(), Vec::new());
    for (name, content) in dir {
        before.extend_from_slice(name.as_bytes());
        let found = directive.captures(content);
        let is_ignored = found.is_some_and(|found| {
            let group = |at| found.get(at).map_or(&b""[..], |it| it.as_bytes());
            (group(2), group(3)) == (b"sum", b"ignore")
        });
        if !is_ignored {
            before.extend_from_slice(content);
            lines.push((name, base64(&before)));
        }
    }
    let all: String = lines
        .iter()
        .map(|(name, hash)| format!("{name}{hash}"))
        .collect();
    let mut text = format!("h1:{}\n", base64(all.as_bytes()));
    for (name, hash) in lines {
        text += &format!("{name} h1:{hash}\n");
    }
    text
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}

/// Makes a directory of files with even numbers, so that there is room for one between each two.
fn generate(random: &mut Random) -> Dir {
    let count = 1 + random.below(12);
    let file = |number: usize| {
        let name = match random.below(4) {
            0 => format!("V{:02}__x.sql", 2 * number),
            1 => format!("{:02}_x.up.sql", 2 * number),
            _ => format!("202410180000{:02}.sql", 2 * number),
        };
        let lines = random.below(4);
        let content = (0..lines).map(|line| format!("SELECT {number}, {line};\n"));
        (name, content.collect::<String>().into_bytes())
    };
    (1..=count).map(file).collect()
}

#[test]
fn the_sum_of_a_directory_is_atlas_own() {
    let dir = Dir::from([
        (
            "20240101000000.sql".into(),
            b"CREATE TABLE a (id int);\n".to_vec(),
        ),
        ("20240102000000_more.sql".into(), b"".to_vec()),
        (
            "20240103000000.sql".into(),
            b"-- atlas:sum ignore\n\nSELECT 1;\n".to_vec(),
        ),
        ("V2__b.sql".into(), b"DROP TABLE a;\r\n".to_vec()),
    ]);
    let expected = "h1:+jyYD3XzVIzA9vGr/ST8c2cl3d0gCe0Pfi5RY211OjI=\n\
                    20240101000000.sql h1:pWlBK3jAiEoJg/lkwR1s21MYjdtvEVgkaEy+ugGXpYo=\n\
                    20240102000000_more.sql h1:HNl1cGJueqC5Zm+vvB8zci753GWczYMj2G62Ell4WUk=\n\
                    V2__b.sql h1:j3X+4Y89ldcK9Ok0B1k4NNth6HBZi0WYrwkH9V7rsNU=\n";
    assert_eq!(compute(&dir).to_string(), expected);
    assert_eq!(independent(&dir), expected);
    assert_eq!(difference(expected, &dir), None);
    let crlf = expected.replace('\n', "\r\n");
    assert_eq!(
        difference(&crlf, &dir),
        None,
        "line ends of atlas.sum itself"
    );
    let empty = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    assert_eq!(difference(empty, &Dir::new()), None);
}

#[test]
fn every_damage_of_a_directory_is_named_in_atlas_words() {
    let mut random = Random(7);
    for _ in 0..200 {
        let dir = generate(&mut random);
        let sum = independent(&dir);
        assert_eq!(compute(&dir).to_string(), sum);
        assert_eq!(difference(&sum, &dir), None);
        let names: Vec<&String> = dir.keys().collect();
        let at = random.below(names.len());
        let (name, line) = (names[at], at + 2);

        let mut edited = dir.clone();
        edited.get_mut(name).unwrap().push(b' ');
        let expected = Some(format!("L{line}: {name} was edited"));
        assert_eq!(difference(&sum, &edited), expected);

        let mut removed = dir.clone();
        removed.remove(name);
        let expected = Some(format!("L{line}: {name} was removed"));
        assert_eq!(difference(&sum, &removed), expected);

        let mut added = dir.clone();
        let new = format!("{name}0.sql");
        added.insert(new.clone(), b"SELECT 0;".to_vec());
        let place = added.keys().position(|name| *name == new).unwrap();
        let expected = Some(format!("L{}: {new} was added", place + 2));
        assert_eq!(difference(&sum, &added), expected);

        let mut crlf = dir.clone();
        let content = crlf.get_mut(name).unwrap();
        let text = String::from_utf8(content.clone()).unwrap();
        *content = text.replace('\n', "\r\n").into_bytes();
        let expected = (!text.is_empty()).then(|| format!("L{line}: {name} was edited"));
        assert_eq!(difference(&sum, &crlf), expected);

        let mut ignored = dir.clone();
        let content = ignored.get_mut(name).unwrap();
        content.splice(0..0, *b"-- atlas:sum ignore\n");
        let expected = Some(format!("L{line}: {name} was removed"));
        assert_eq!(difference(&sum, &ignored), expected);
        let sum = independent(&ignored);
        assert_eq!(difference(&sum, &ignored), None);
        ignored.get_mut(name).unwrap().push(b' ');
        assert_eq!(difference(&sum, &ignored), None, "its content has no part");
    }
}

#[test]
fn the_directive_is_read_as_atlas_reads_it() {
    for first in [
        "-- atlas:sum ignore",
        "atlas:sum ignore",
        "# x atlas:sum   ignore",
        "-- atlas:sum ignore ",
        "-- atlas:sum ignore\r",
        "-- atlas:sum\tignore",
        "-- atlas:sum",
        "-- atlas:summary ignore",
        "-- atlas:sum ignore atlas:x y",
        "-- atlas:x atlas:sum ignore",
        "-- atlas: atlas:sum ignore",
        "-- atlas:sum ignore atlas:",
        "--\tatlas:sum ignore",
        "é atlas:sum ignore",
        "",
        "\n-- atlas:sum ignore",
        "-- ATLAS:SUM ignore",
        "-- atlas:sum ignored",
    ] {
        let dir = Dir::from([("1.sql".into(), format!("{first}\nx").into_bytes())]);
        assert_eq!(compute(&dir).to_string(), independent(&dir), "{first:?}");
    }
}

#[test]
fn anything_else_is_no_atlas_sum() {
    let sum = independent(&Dir::from([("1.sql".into(), b"x".to_vec())]));
    let refused = |content: &str| SumFile::parse(content.as_bytes()).unwrap_err();
    assert_eq!(refused(""), InvalidSum::Total);
    assert_eq!(refused("\n"), InvalidSum::Total);
    assert_eq!(refused("CREATE TABLE a (id int);\n"), InvalidSum::Total);
    assert_eq!(refused(&format!("{sum}\n")), InvalidSum::Line(3));
    assert_eq!(
        refused(&format!("{sum}<<<<<<< HEAD\n")),
        InvalidSum::Line(3)
    );
    assert_eq!(refused(&sum.replace("1.sql", "2.sql")), InvalidSum::Total);
    assert_eq!(SumFile::parse(b"h1:\xff"), Err(InvalidSum::NotText));
    let message = refused(&format!("{sum}x")).to_string();
    assert_eq!(message, "line 3 is not \"<file> h1:<hash>\"");
}

#[test]
fn a_name_that_is_listed_twice_is_a_difference() {
    let dir = Dir::from([("1.sql".into(), b"x".to_vec())]);
    let mut sum = compute(&dir);
    sum.lines.push(sum.lines[0].clone());
    let difference = sum.difference(&compute(&dir)).unwrap();
    assert_eq!(difference.to_string(), "L3: 1.sql was removed");
}
