//! HashiCorp's grammar, rule by rule. Each expected verdict is that of HashiCorp's own parser.

use super::*;

impl Listener for () {}

pub(super) fn check(text: &[u8]) -> Result<(), Syntax> {
    recognise(text, &mut ())
}

#[track_caller]
fn legal(texts: &[&str]) {
    for text in texts {
        assert_eq!(check(text.as_bytes()), Ok(()), "{text:?}");
    }
}

#[track_caller]
fn illegal(texts: &[&str]) {
    for text in texts {
        assert!(check(text.as_bytes()).is_err(), "{text:?}");
    }
}

/// The expressions as values of an attribute.
fn attributes(expressions: &[&str]) -> Vec<String> {
    let attribute = |expression: &&str| format!("a = {expression}\n");
    expressions.iter().map(attribute).collect()
}

#[track_caller]
fn legal_values(expressions: &[&str]) {
    for text in attributes(expressions) {
        legal(&[&text]);
    }
}

#[track_caller]
fn illegal_values(expressions: &[&str]) {
    for text in attributes(expressions) {
        illegal(&[&text]);
    }
}

#[test]
fn a_body_has_attributes_and_blocks_on_lines_of_their_own() {
    legal(&[
        "",
        "\n\n",
        "# only\n/* comments */ // here",
        "a = 1",
        "a = 1\r\nb = 2\r\n",
        "a {}",
        "a {\n}\n",
        "a { b = 1 }",
        "a { # c\n}",
        "a { /* c */ b = 1 }",
        "a \"x\" y \"z\" {\n}",
        "a\"x\"{}",
        "a \"\" {}",
        "a \"$${x}\" {}",
        "a {\n b = {\n c = 1 }\n}\n",
        "a {\n  b = 1\n}  // c",
        "a = 1 /* c\n */\nb = 2 # c\r",
        "for = 1\nif = 2\nnull = 3\n",
        "true \"x\" {}",
        "b \"x\" {}\nb \"x\" {}\n",
        "a {\n b = 1\n}\na {\n b = 1\n}\n",
        "f\u{fc}r = 1\n_x-- = 2\n",
    ]);
    illegal(&[
        "a",
        "a =",
        "a = \n1",
        "a = 1 b = 2",
        "a = 1; b = 2",
        "a = 1, b = 2",
        "a = 1\r",
        "a {}\r",
        "a = 1\nb",
        "a : 1",
        "a.b = 1",
        "\"a\" = 1",
        "1 = 1",
        "-a = 1",
        "a \"x\" = 1",
        "a\n{\n}",
        "a \"x\"\n{\n}",
        "a {} b {}",
        "a { b = 1\n}",
        "a {\nb = 1 }",
        "a {\n b {} }",
        "a { b {} }",
        "a { b = 1, c = 2 }",
        "a { b = <<E\nE\n}",
        "a {\n",
        "}",
        "a \"${x}\" {}",
        "a \"\\x\" {}",
        "a \"x {}",
        "/* open",
        "a = 1\n\u{b}",
        " \u{feff}a = 1",
    ]);
}

#[test]
fn a_body_sets_each_attribute_once() {
    legal(&["a = { b = 1, b = 2 }\n", "a = 1\nb {\n a = 2\n}\n"]);
    illegal(&["a = 1\na = 2\n", "b {\n a = 1\n c = 1\n a = 2\n}\n"]);
}

#[test]
fn numbers_are_what_hashicorps_scanner_and_cty_make_of_them() {
    legal_values(&["0", "01", "1.5", "1e5", "1E+5", "1.e5", "1.5e-3", "1e400"]);
    legal_values(&["123456789012345678901234567890.5", "-1", "1e999999999"]);
    illegal_values(&[
        "1.",
        ".5",
        "1e",
        "0x1",
        "1.5.2",
        "1..2",
        "1e5.5",
        "1e9999999999",
    ]);
}

#[test]
fn strings_end_on_their_line_and_know_their_escapes() {
    legal_values(&[
        r#""""#,
        r#""\n\r\t\"\\""#,
        r#""\u00e9\U0001F600""#,
        r#""$ $$ $$$ % %% a$""#,
        r#""$${ %%{ $$${ $${~ %$${""#,
        r#""$\"""#,
        "\"\u{1f600}\0\u{7f}\"",
    ]);
    illegal_values(&[
        "\"a\nb\"",
        "\"a",
        "'a'",
        "`a`",
        r#""\x""#,
        r#""\$""#,
        r#""\u12""#,
        r#""\ud800""#,
        r#""\U00110000""#,
        r#""\U+0000041""#,
        r#""$%{""#,
        r#""a" "b""#,
    ]);
}

#[test]
fn a_heredoc_ends_at_its_marker_alone() {
    legal_values(&[
        "<<E\nE\n",
        "<<-E\n  x\n  E\n",
        "<<E\nE x\nE_\nxE\n \t E \t \nb = 1",
        "<<-SQL\n CREATE PROCEDURE p()\n SQL SECURITY INVOKER\n SQL\n",
        "<<E\r\nx\r\nE\r\nb = 1",
        "<<E\n${a}E\n${a}\n$E\nE\n",
        "<<E\nx$\n%\n$${ %%{\nE\n",
        "<<\u{c9}\nx\n\u{c9}\n",
        "<<-E\n  \u{a0}E\u{a0}\n",
        "<<E\n${ <<F\nE\nF\n}\nE\n",
        "<<E\n${ <<E\nx\nE\n}\nE\n",
        "<<E\n\\ \\x \"quoted\" '\nE\n",
        "[<<E\nE\n, <<E\nE\n]",
        "<<END-of_IT\nx\nEND-of_IT\n",
    ]);
    illegal_values(&[
        "<<E \nx\nE\n",
        "<< E\nx\nE\n",
        "<<1\nx\n1\n",
        "<<E\nx",
        "<<E\nx\rb\nE\n",
        "<<E\nE x\n",
        "<<E\n%{ if x }\nE\n",
        "<<E x\nE\n",
    ]);
    // The marker must be followed by a line of its own.
    illegal(&["a = <<E\nx\nE", "a = <<E\nx\n E\t"]);
}

#[test]
fn templates_hold_expressions_and_balanced_directives() {
    legal_values(&[
        r#""${x}""#,
        r#""${~ x ~}""#,
        r#""${ {a = 1}.a }""#,
        r#""${ "${ "a" }" }""#,
        "\"${\n x +\n 1 }\"",
        "\"${ x /* c */ }\"",
        r#""%{if a}b%{else}c%{endif}""#,
        r#""%{~ for k, v in a ~}${k}%{ endfor }""#,
        r#""%{ if a }%{ else }%{ for x in y }${x}%{ endfor }%{ endif }""#,
    ]);
    illegal_values(&[
        r#""${}""#,
        r#""${x""#,
        r#""${x y}""#,
        r#""${x:y}""#,
        r#""%{}""#,
        r#""%{ foo }""#,
        r#""%{ if }%{ endif }""#,
        r#""%{ if a }""#,
        r#""%{ endif }""#,
        r#""%{ else }""#,
        r#""%{ if a }%{ else }%{ else }%{ endif }""#,
        r#""%{ for x in y }%{ else }%{ endfor }""#,
        r#""%{ for x in y }%{ endif }""#,
        r#""%{ if a }%{ for x in y }%{ endif }%{ endfor }""#,
        r#""%{ if a }%{ endif x }""#,
    ]);
}

#[test]
fn operators_take_operands_on_the_same_line_or_in_brackets() {
    legal_values(&[
        "-!-x",
        "!a && b || c == d != e",
        "1 + 2 * 3 / 4 % 5 - 6",
        "a < b",
        "a <= b ? c : d",
        "a ? b ? c : d : e ? f : g",
        "(x ?\n y\n : z)",
        "(1 +\n 2)",
        "(x\r\n)",
        "a-b",
        "a - b",
    ]);
    illegal_values(&[
        "",
        "()",
        "+1",
        "1 +",
        "1 +\n 2",
        "a b",
        "a = b",
        "a => b",
        "a ? b",
        "a ? : b",
        "x ? y\n : z",
        "a & b",
        "a | b",
        "~a",
        "a ** b",
        "(a",
        "a)",
        "\u{a0} 1",
    ]);
}

#[test]
fn traversals_splats_and_indexes() {
    legal_values(&[
        "a.b.c",
        "a . b",
        "a.0.b",
        "a.1e5",
        "a[0][\"b\"].c",
        "a[\n0\n]",
        "a[*][*].b",
        "a[ * ]",
        "(a[\n*\n])",
        "a.*.b.0",
        "a.*.b[0].*",
        "a[*].*",
        "{}.a",
        "\"x\".a",
        "f(x).a",
    ]);
    illegal_values(&[
        "a.", "a..b", "a.\nb", "a.0.1", "a.*.0.1", "a.*.b.*", "a.\"b\"", "a[]", "a[0, 1]",
        "a[*\n]", "a[*]]", "a.[0]",
    ]);
}

#[test]
fn functions_tuples_and_objects_may_end_in_a_comma() {
    legal_values(&[
        "f()",
        "f (1,)",
        "f(\n1,\n# c\n2\n)",
        "f(x...)",
        "a::b(1)",
        "a :: b :: c()",
        "[]",
        "[1,]",
        "[\n1,\n2\n]",
        "{}",
        "{\n}",
        "{ a = 1, b : 2, }",
        "{a=1\nb=2\n\n\n}",
        "{a=1,\nb=2}",
        "{ \"a\" = 1, (b) = 2, c.d = 3, 1 = 2, \"${e}\" = 4 }",
        "{ a = 1 # c\n b = 2 }",
        "{a ? b : c : 1}",
    ]);
    illegal_values(&[
        "f(,)",
        "f(1 2)",
        "f(x...,)",
        "f(x..., y)",
        "f(1",
        "f\n()",
        "a::b",
        "a::1()",
        "[,]",
        "[1 2]",
        "[1,,]",
        "[1",
        "{,}",
        "{a}",
        "{a=}",
        "{a\n=1}",
        "{a=\n1}",
        "{a=1\n,b=2}",
        "{a=1 b=2}",
        "{a=1",
        "[x...]",
    ]);
}

#[test]
fn for_expressions_may_span_lines() {
    legal_values(&[
        "[for x in y : x]",
        "[for k, v in y : k if v]",
        "[\nfor x\nin y\n:\nx\n]",
        "{for k, v in y : k => v}",
        "{for x in y : x => x... if z}",
        "{ # c\n for k, v in y : # c\n k => v\n}",
        "[for in in in : in]",
        "[for x in a ? b : c : x]",
        "[for x in [for y in z : y] : { for k in x : k => x }]",
    ]);
    illegal_values(&[
        "[for]",
        "{ for = 1 }",
        "[for x : x]",
        "[for 1 in y : 1]",
        "[for x in y]",
        "[for x, in y : x]",
        "[for a, b, c in y : a]",
        "[for x in y : x => x]",
        "[for x in y : x...]",
        "[for x in y : x if]",
        "[for x in y : x, y]",
        "[1, for x in y : x]",
        "{for x in y : x}",
        "{for x in y : x => x => x}",
        "(for x in y : x)",
    ]);
}

#[test]
fn comments_may_have_any_bytes_and_strings_only_utf_8() {
    assert_eq!(check(b"a = 1 # caf\xe9\nb = 2 /* \xff */\n"), Ok(()));
    for text in [
        &b"a = \"caf\xe9\"\n"[..],
        b"a = <<E\n\xff\nE\n",
        b"\xff = 1\n",
    ] {
        let message = check(text).unwrap_err().message;
        assert!(message.contains("UTF-8"), "{message}");
    }
}

#[test]
fn nesting_and_operators_are_not_bounded_as_hcl_rss_are() {
    for (open, close) in [
        ("[", "]"),
        ("(", ")"),
        ("{a=", "}"),
        ("f(", ")"),
        ("\"${", "}\""),
    ] {
        let text = |depth| format!("a = {}1{}\n", open.repeat(depth), close.repeat(depth));
        legal(&[&text(65), &text(4_000)]);
        let message = check(text(100_000).as_bytes()).unwrap_err().to_string();
        assert!(message.contains("10000 brackets are open"), "{message}");
    }
    legal(&[&format!("a = 1{}\n", " + 1".repeat(100_000))]);
    legal(&[&format!("a = {}1\n", "-".repeat(100_000))]);
    legal(&[&format!("a = b{}\n", ".c".repeat(100_000))]);
}

#[test]
fn an_error_says_where_and_why() {
    for (text, expected) in [
        (
            "a {\n  \u{e9} = \n}\n",
            "line 2, column 7: an expression is expected here",
        ),
        (
            "a = 1\nb = \"x\n",
            "line 2, column 7: a quoted string must end on its line",
        ),
        (
            "a {\n b {\n }\n",
            "line 1, column 3: this block has no closing }",
        ),
        (
            "a = \u{201c}b\u{201d}\n",
            "line 1, column 5: \"\u{201c}\" is no part of HCL here",
        ),
        (
            "x\u{a0}= 1\n",
            "line 1, column 2: \"\\u{a0}\" is no part of HCL here",
        ),
        (
            "a = 1\n\na = 2\n",
            "line 3, column 1: attribute \"a\" is set twice",
        ),
        ("a = <<-SQL\n SQL x\n", "no line is SQL alone"),
        (
            "a = <<E\nx\n${1 x}\nE\n",
            "line 3, column 1: ${ starts a template sequence that doesn't parse (line 3, column 5: \
             } is expected here); for ${ itself write $${",
        ),
        ("a = \"%{x}\"\n", "for %{ itself write %%{"),
    ] {
        let message = check(text.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{text:?}: {message}");
    }
}
