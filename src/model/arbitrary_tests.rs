//! Names, stamps and documents on arbitrary input.

use proptest::prelude::*;

use super::*;
use crate::arbitrary::{bytes, config, text};

const DOCUMENTS: [&str; 4] = [
    "schema \"public\" {\n  comment = \"a ${1 + 2} b\"\n}\ntable \"t\" {\n  schema = schema.public\n  column \"id\" {\n    null = false\n    type = int\n  }\n}\n",
    "plan \"p1\" {\n  from = \"a=\"\n  to = \"b=\"\n  migration = <<-SQL\n    ALTER TABLE `t` ADD COLUMN `c` int;\n  SQL\n}\n",
    "CREATE TABLE t (c int); -- a comment\n/* and\nanother */;\n",
    "a = [for k, v in {b = 1} : \"%{ if v > 0 }x%{ else }${k}%{ endif }\" if !false]\nb = f(1, [2]...)[*].c.0 ? -1 : (2)\n",
];

fn documents() -> Vec<Vec<u8>> {
    DOCUMENTS
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect()
}

fn plan_name() -> PlanName {
    PlanName::parse("p1").unwrap()
}

/// The beginnings and ends of nested values.
const NESTS: [(&str, &str); 14] = [
    ("[", "]"),
    ("(", ")"),
    ("{a=", "}"),
    ("{(a)=", "}"),
    ("f(", ")"),
    ("f([", "]...)"),
    ("\"${", "}\""),
    ("\"%{if x}", "%{endif}\""),
    ("!", ""),
    ("-", ""),
    ("x ? 1 : ", ""),
    ("x + ", ""),
    ("[for x in ", " : x]"),
    ("{for x in ", " : x => x}"),
];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_document_makes_a_check_panic(content in bytes(documents())) {
        for suffix in [None, Some(Format::Hcl), Some(Format::Sql)] {
            for current in [None, Some(Format::Hcl), Some(Format::Sql)] {
                if let Ok(format) = check_schema(&content, suffix, current) {
                    prop_assert!(suffix.is_none_or(|suffix| suffix == format));
                    prop_assert!(!content.iter().all(u8::is_ascii_whitespace));
                    let by_accident = suffix.is_none() && current == Some(Format::Hcl);
                    prop_assert!(!by_accident || format == Format::Hcl);
                }
            }
        }
        if check_plan(&content, &plan_name()).is_ok() {
            prop_assert_eq!(check_schema(&content, Some(Format::Hcl), None), Ok(Format::Hcl));
        }
    }

    /// The parser tries one rule after the other. If it tried a rule again at each level after a
    /// late failure, this would never end.
    #[test]
    fn no_nesting_takes_for_ever(
        nests in proptest::collection::vec(proptest::sample::select(NESTS.as_slice()), 0..100),
        is_ended in any::<bool>(),
    ) {
        let mut text = String::from("a = ");
        nests.iter().for_each(|(begin, _)| text.push_str(begin));
        text.push('1');
        if is_ended {
            nests.iter().rev().for_each(|(_, end)| text.push_str(end));
        }
        text.push('\n');
        let _ = check_schema(text.as_bytes(), Some(Format::Hcl), None);
    }

    #[test]
    fn a_name_is_what_a_path_can_carry(name in text(&["app", "20240910173744", "a-b_c.d", "x.plan.hcl", "é"])) {
        if let Ok(repo) = RepoName::parse(&name) {
            prop_assert_eq!(repo.as_str(), &name);
            prop_assert!(name.len() <= MAX_NAME_BYTES && name.is_ascii());
            prop_assert!(!name.contains('/') && !name.starts_with('.') && !name.contains('\0'));
        }
        if PlanName::parse(&name).is_ok() {
            prop_assert!(RepoName::parse(&name).is_ok() && !name.ends_with(PLAN_SUFFIX));
            let item = Item::from_key(&format!("plans/{name}"));
            prop_assert_eq!(item.map(|item| item.to_string()), Some(format!("plans/{name}")));
        }
        if let Some(item) = Item::from_key(&name) {
            prop_assert_eq!(item.to_string(), name);
        }
    }

    #[test]
    fn a_time_is_read_as_it_was_written_and_nothing_else_panics(
        when in any::<u64>(),
        garbage in text(&["2024-09-10T17:37:44.000000001Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:60+23:59"]),
    ) {
        prop_assert_eq!(when_from_text(&when_to_text(when)), Some(when));
        let _ = when_from_text(&garbage);
    }

    #[test]
    fn an_author_is_one_line_of_visible_text(kept in text(&["alice@build-7", "Zo%C3%AB%20%3Cz@x%3E"])) {
        for author in [Author::from_metadata(&kept), kept.parse().ok()].into_iter().flatten() {
            let shown = author.to_string();
            prop_assert!((1..=MAX_AUTHOR_BYTES).contains(&shown.len()));
            prop_assert!(!shown.contains(|letter: char| letter.is_control()));
            prop_assert_eq!(Author::from_metadata(&author.to_metadata()), Some(author));
        }
    }

    #[test]
    fn a_hash_is_64_digits(garbage in text(&[&"a1".repeat(32), &"é".repeat(32)])) {
        if let Ok(hash) = garbage.parse::<Sha256>() {
            prop_assert_eq!(hash.to_string(), garbage.to_ascii_lowercase());
        }
    }
}

/// Texts that a parser might read again and again. Quadratic time would mean hours.
#[test]
fn long_repetition_takes_time_in_proportion() {
    const LENGTH: usize = 100_000;
    for piece in [
        "a",
        " ",
        "\n",
        "\"",
        "#",
        "/*",
        "--",
        "/",
        "${",
        "$",
        "%{",
        "\\",
        "a=1\n",
        "a {}\n",
        "<<A\n",
        "a = <<-A\n",
        "1,",
        "[],",
        "a.",
        "a[0]",
        "-",
        "\u{e9}",
        "\0",
        ";",
        "a \"b\" ",
    ] {
        for begin in [
            "",
            "a = ",
            "a = \"",
            "a = [",
            "a = <<X\n",
            "plan \"p1\" {\n",
        ] {
            let text = format!("{begin}{}", piece.repeat(LENGTH / piece.len()));
            let _ = check_schema(text.as_bytes(), None, None);
            let _ = check_plan(text.as_bytes(), &plan_name());
        }
    }
}
