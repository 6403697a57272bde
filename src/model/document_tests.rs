//! The refused documents, and the messages of the refusals.

use super::*;

const HCL: &[u8] = b"schema \"public\" {}\n";
const SQL: &[u8] = b"CREATE TABLE t (c int);\n";

#[test]
fn the_format_is_what_the_suffix_says() {
    assert_eq!(check_schema(HCL, Some(Format::Hcl), None), Ok(Format::Hcl));
    assert_eq!(check_schema(SQL, Some(Format::Sql), None), Ok(Format::Sql));
    assert_eq!(
        check_schema(SQL, Some(Format::Sql), Some(Format::Hcl)),
        Ok(Format::Sql)
    );
}

#[test]
fn plain_schema_is_hcl_if_it_parses_and_sql_otherwise() {
    assert_eq!(check_schema(HCL, None, None), Ok(Format::Hcl));
    assert_eq!(check_schema(SQL, None, None), Ok(Format::Sql));
    assert_eq!(check_schema(SQL, None, Some(Format::Sql)), Ok(Format::Sql));
    assert_eq!(check_schema(HCL, None, Some(Format::Sql)), Ok(Format::Hcl));
}

#[test]
fn an_hcl_state_is_never_turned_into_sql_by_accident() {
    let rejection = check_schema(b"table \"x\" {\n  col = \n}\n", None, Some(Format::Hcl));
    let message = rejection.unwrap_err().to_string();
    assert!(message.contains("line 2, column"), "{message}");
    assert!(message.contains("schema.sql"), "{message}");
}

#[test]
fn a_schema_that_should_be_hcl_must_parse() {
    let message = check_schema(SQL, Some(Format::Hcl), None)
        .unwrap_err()
        .to_string();
    assert!(message.contains("line 1, column"), "{message}");
    let message = check_schema(b"a = 1\nb = \xff", Some(Format::Hcl), None);
    assert!(
        message
            .unwrap_err()
            .to_string()
            .contains("line 2, column 5: invalid UTF-8")
    );
}

#[test]
fn a_document_that_declares_nothing_is_empty() {
    for nothing in [&b""[..], b"\n", b" \t\r\n"] {
        for suffix in [None, Some(Format::Hcl), Some(Format::Sql)] {
            assert_eq!(check_schema(nothing, suffix, None), Err(Rejection::Empty));
        }
    }
    assert_eq!(check_schema(b"# only\n", None, None), Err(Rejection::Empty));
    for comments in [&b"-- a\n"[..], b"/* b */ ;\n-- c", b"/* open", b"--"] {
        let checked = check_schema(comments, Some(Format::Sql), None);
        assert_eq!(checked, Err(Rejection::Empty));
    }
}

fn plan(text: &str) -> Result<(), String> {
    let name = PlanName::parse("p1").unwrap();
    check_plan(text.as_bytes(), &name).map_err(|rejection| rejection.to_string())
}

#[test]
fn a_plan_has_from_to_and_migration() {
    let good = "plan \"p1\" {\n from = \"a=\"\n to = \"b=\"\n migration = <<-SQL\n \
                ALTER TABLE `t` ADD COLUMN `c` int;\n SQL\n}\n";
    assert_eq!(plan(good), Ok(()));
}

#[test]
fn a_wrong_plan_is_refused_with_the_reason() {
    let cases = [
        ("", "empty"),
        ("plan \"p1\" {", "line 1, column"),
        ("a = 1", "must be a block plan"),
        (
            "plan \"p2\" {}",
            "its label is \"p2\" and its file name is \"p1\"",
        ),
        ("plan {}", "one label, this one has 0"),
        ("plan \"p1\" \"x\" {}", "one label, this one has 2"),
        (
            "plan \"p1\" {}\nplan \"p1\" {}",
            "one plan block and nothing else",
        ),
        (
            "plan \"p1\" {\n to = \"b\"\n migration = \"c\"\n}",
            "\"from\" is missing",
        ),
        (
            "plan \"p1\" {\n from = \"b\"\n migration = \"c\"\n}",
            "\"to\" is missing",
        ),
        (
            "plan \"p1\" {\n from = \"b\"\n to = \"c\"\n}",
            "\"migration\" is missing",
        ),
        (
            "plan \"p1\" {\n from = 1\n}",
            "\"from\" must be a plain string",
        ),
        (
            "plan \"p1\" {\n from = \"\"\n}",
            "\"from\" is an empty string",
        ),
        (
            "plan \"p1\" {\n from = \"${x}\"\n}",
            "\"from\" must be a plain string",
        ),
        (
            "plan \"p1\" {\n status = \"x\"\n}",
            "unknown attribute \"status\"",
        ),
        ("plan \"p1\" {\n from {}\n}", "unknown block \"from\""),
    ];
    for (text, reason) in cases {
        let message = plan(text).unwrap_err();
        assert!(message.contains(reason), "{text:?}: {message}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped_in_every_language() {
    let marked = |text: &[u8]| [b"\xef\xbb\xbf", text].concat();
    assert_eq!(check_schema(&marked(HCL), None, None), Ok(Format::Hcl));
    assert_eq!(
        check_schema(&marked(HCL), Some(Format::Hcl), None),
        Ok(Format::Hcl)
    );
    assert_eq!(check_schema(&marked(SQL), None, None), Ok(Format::Sql));
    let text = "plan \"p1\" {\n from = \"a\"\n to = \"b\"\n migration = \"c\"\n}\n";
    assert_eq!(plan(&format!("\u{feff}{text}")), Ok(()));
    let message = check_schema(&marked(b"a ="), Some(Format::Hcl), None).unwrap_err();
    assert!(
        message.to_string().contains("line 1, column 4"),
        "{message}"
    );
}

#[test]
fn a_template_sequence_in_a_plan_is_named_with_its_place() {
    let with = |migration: &str| {
        let text = "plan \"p1\" {\n from = \"a\"\n to = \"b\"\n migration = ";
        plan(&format!("{text}{migration}\n}}\n"))
    };
    for (migration, place, hint) in [
        (
            "<<-SQL\n  SELECT '${name}';\n  SQL",
            "line 5, column 11",
            "$${",
        ),
        ("\"a${b}\"", "line 4, column 16", "$${"),
        (
            "<<-SQL\n  %{ if x }\n  %{ endif }\n  SQL",
            "line 5, column 3",
            "%%{",
        ),
        ("<<-SQL\n  ${a:b}\n  SQL", "line 5, column 3", "$${"),
        ("<<-SQL\n  '%{'\n  SQL", "line 5, column 4", "%%{"),
    ] {
        let message = with(migration).unwrap_err();
        assert!(
            message.contains(place) && message.contains(hint),
            "{message}"
        );
    }
    assert_eq!(with("<<-SQL\n  $${name} %%{ $ % $1\n  SQL"), Ok(()));
    assert_eq!(with("<<-SQL\n  SQL SECURITY INVOKER\n  SQL"), Ok(()));
}

#[test]
fn a_plans_attribute_is_one_string_and_no_expression() {
    for value in [
        "(\"a\")",
        "\"a\" == \"b\"",
        "x ? \"a\" : \"b\"",
        "[\"a\"]",
        "x",
        "\"a\".b",
    ] {
        let message = plan(&format!("plan \"p1\" {{\n from = {value}\n}}\n")).unwrap_err();
        assert!(
            message.contains("\"from\" must be a plain string"),
            "{value}: {message}"
        );
    }
    for empty in ["\"\"", "<<E\nE"] {
        let message = plan(&format!("plan \"p1\" {{\n from = {empty}\n}}\n")).unwrap_err();
        assert!(
            message.contains("\"from\" is an empty string"),
            "{empty}: {message}"
        );
    }
}

#[test]
fn a_check_needs_little_stack_and_time_in_proportion() {
    const SIZE: usize = 1 << 20;
    let check = || {
        for open in [
            "[",
            "(",
            "{a=",
            "f(",
            "\"${",
            "!",
            "-",
            "x ? 1 : ",
            "a {\n",
            "a {",
            "<<E\n${",
            "1,",
            ".c",
            "${",
            "%{if x}",
            "/*",
            "$",
            "$${",
            "a=1\n",
            "k = 1,",
            "\\n",
            "\u{e9}",
            "\0",
            "\n",
            "#\n",
            "-- \n",
            "x",
            "1",
            "1e1",
            ".",
            "E\n",
            "(a\n",
            "[for x in ",
            "/* /* ",
            "; ",
        ] {
            for begin in [
                "",
                "a = ",
                "a = [",
                "a = b",
                "a = {",
                "a = \"",
                "a = <<E\n",
                "SELECT ",
            ] {
                let text = format!("{begin}{}", open.repeat(SIZE / 16 / open.len()));
                for suffix in [None, Some(Format::Hcl)] {
                    let _ = check_schema(text.as_bytes(), suffix, None);
                }
                let _ = plan(&text);
            }
        }
        // Time in the square of this many keys or names would be hours.
        let key = |n| format!("  key{n} = {n}\n");
        let keys: String = (0..SIZE / 16).map(key).collect();
        let object = format!("locals {{\n m = {{\n{keys}}}\n}}\n");
        assert_eq!(check_schema(object.as_bytes(), None, None), Ok(Format::Hcl));
        assert_eq!(check_schema(keys.as_bytes(), None, None), Ok(Format::Hcl));
    };
    let thread = std::thread::Builder::new().stack_size(128 << 10);
    thread.spawn(check).unwrap().join().unwrap();
}
