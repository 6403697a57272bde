//! Locals, variables and positions.

use std::path::PathBuf;

use super::super::ConfigFile;
use super::run;

#[test]
fn locals_of_several_blocks_are_one_graph_in_any_order() {
    let text = "result {\n is = local.c\n}\nlocals {\n c = \"${local.b}c\"\n bad = nope()\n}\n\
                locals {\n b = \"${local.a}b\"\n a = local[\"z\"]\n z = \"z\"\n}\n";
    assert_eq!(run(text, "/", &[]).as_deref(), Ok("\"zbc\""));
    let text = "result {\n is = true ? 1 : local.bad\n}\nlocals {\n bad = nope()\n}\n";
    assert_eq!(run(text, "/", &[]).as_deref(), Ok("1"));
    let text = "result {\n is = try(local.bad, 1)\n}\nlocals {\n bad = nope()\n}\n";
    assert!(run(text, "/", &[]).is_err(), "atlas refuses the file");
    let text = "result {\n is = [local.bad]\n}\nlocals {\n bad = nope()\n}\n";
    assert!(
        run(text, "/", &[])
            .unwrap_err()
            .starts_with("f:5:8: there is no function")
    );
}

#[test]
fn a_cycle_among_locals_is_reported_even_if_nothing_needs_it() {
    for (locals, name) in [
        ("a = local.a", "a"),
        ("a = local.b\n b = \"${local.c}\"\n c = [local.a]", "a"),
        ("x = 1\n b = try(local.c, 1)\n c = local.b", "b"),
    ] {
        let text = format!("result {{\n is = 1\n}}\nlocals {{\n {locals}\n}}\n");
        let message = run(&text, "/", &[]).unwrap_err();
        assert!(
            message.contains(&format!("cyclic reference to \"local.{name}\"")),
            "{message}"
        );
    }
    let text = "result {\n is = local.d\n}\nlocals {\n a = 1\n b = local.a\n c = local.a\n d = [local.b, local.c]\n}\n";
    assert_eq!(run(text, "/", &[]).as_deref(), Ok("[1,1]"));
}

#[test]
fn a_chain_of_locals_as_long_as_the_file_needs_no_deep_stack() {
    let chain: String = (1..5000)
        .map(|n| format!(" v{n} = local.v{}\n", n - 1))
        .collect();
    let text = format!("result {{\n is = local.v4999\n}}\nlocals {{\n v0 = 7\n{chain}}}\n");
    assert_eq!(run(&text, "/", &[]).as_deref(), Ok("7"));
    let nested: String = (1..5000)
        .map(|n| format!(" v{n} = [local.v{}]\n", n - 1))
        .collect();
    let text = format!("result {{\n is = local.v4999\n}}\nlocals {{\n v0 = 7\n{nested}}}\n");
    assert!(
        run(&text, "/", &[])
            .unwrap_err()
            .contains("more than 64 levels deep")
    );
}

#[test]
fn a_variable_is_its_var_argument_or_its_default_converted_to_its_type() {
    let run_var = |block: &str, vars: &[&str]| {
        let text = format!("result {{\n is = var.v\n}}\nvariable \"v\" {{\n{block}\n}}\n");
        run(&text, "/", vars)
    };
    for (block, vars, expected) in [
        ("type = string\ndefault = 5", &[][..], "\"5\""),
        ("type = string", &["v=a=b"], "\"a=b\""),
        ("type = string\ndefault = \"x\"", &["v=y"], "\"y\""),
        ("type = string\ndefault = \"x\"", &["V=y", "w=z"], "\"x\""),
        ("type = string", &["\"v=a,b\""], "\"a,b\""),
        ("type = string\ndefault = null", &[], "null"),
        ("type = string\ndefault = getenv(\"UNSET\")", &[], "\"\""),
        (
            "type = string\ndefault = \"${atlas.env}-x\"",
            &[],
            "\"prod-x\"",
        ),
        ("type = number", &["v=5"], "5"),
        ("type = int", &["v=5"], "5"),
        ("type = bool\ndescription = \"d\"", &["v=true"], "true"),
        ("type = list(string)", &["v=a"], "[\"a\"]"),
        ("type = list(number)", &["v=1", "v=2"], "[1,2]"),
        ("type = list(string)\ndefault = \"one\"", &[], "[\"one\"]"),
        ("type = set(string)", &["v=b,v=a,v=b"], "[\"a\",\"b\"]"),
        (
            "type = map(number)\ndefault = { a = \"1\" }",
            &[],
            "{\"a\":1}",
        ),
        (
            "type = tuple([string, number])\ndefault = [1, \"2\"]",
            &[],
            "[\"1\",2]",
        ),
        (
            "type = object({ a = string, b = list(bool) })\ndefault = { a = 1, b = [\"true\"], c = 1 }",
            &[],
            "{\"a\":\"1\",\"b\":[true]}",
        ),
    ] {
        assert_eq!(run_var(block, vars).as_deref(), Ok(expected), "{block}");
    }
    for (block, vars, reason) in [
        (
            "type = string",
            &[][..],
            "f:4:1: missing value for required variable \"v\"",
        ),
        ("default = 1", &[], "variable \"v\" has no type"),
        (
            "type = strin\ndefault = 1",
            &[],
            "f:5:8: invalid type for variable \"v\". Valid types are: string, number, bool, list, map, or set",
        ),
        ("type = list\ndefault = 1", &[], "invalid type"),
        (
            "type = number",
            &["v=SECRET"],
            "variable \"v\": number required",
        ),
        (
            "type = string",
            &["v=a", "v=b"],
            "variable \"v\": string required",
        ),
        (
            "type = tuple([string])\ndefault = []",
            &[],
            "tuple of 1 elements required",
        ),
        (
            "type = object({ a = string })\ndefault = {}",
            &[],
            "attribute \"a\" is required",
        ),
        (
            "type = string\ndefault = local.x",
            &[],
            "f:6:11: there is no variable named \"local\": the default of a variable sees atlas.env only",
        ),
        (
            "type = string\ndefault = var.v",
            &[],
            "there is no variable named \"var\"",
        ),
    ] {
        let message = run_var(block, vars).unwrap_err();
        assert!(message.contains(reason), "{block}: {message}");
        assert!(!message.contains("SECRET"), "{message}");
    }
}

#[test]
fn a_variable_block_has_one_label() {
    for block in ["variable {}", "variable \"a\" \"b\" {}"] {
        let message = run(&format!("result {{\n is = 1\n}}\n{block}\n"), "/", &[]).unwrap_err();
        assert!(
            message.contains("a variable block has one label"),
            "{message}"
        );
    }
}

#[test]
fn a_files_places_count_characters_and_lines_from_one() {
    let file = ConfigFile::parse("f".into(), PathBuf::new(), "é = 1\nx = 2\n".into()).unwrap();
    assert_eq!(file.place(0).to_string(), "f:1:1");
    assert_eq!(file.place(2).to_string(), "f:1:2");
    assert_eq!(file.place(7).to_string(), "f:2:1");
    assert_eq!(file.place(usize::MAX).to_string(), "f:3:1");
}
