//! Operators, templates, `for`, splats, `try` and names, with their values.

use super::{check, refuse};

#[test]
fn operators_have_hcls_precedence_and_conversions() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("7 / 2", "3.5"),
        ("-7 % 3", "-1"),
        ("\"5\" + 1", "6"),
        ("1 == 1.0", "true"),
        ("1 == \"1\"", "false"),
        ("!false && (1 < 2 || 1 / 0 > 1)", "true"),
        ("2 >= 2", "true"),
        ("\"a\" != \"b\"", "true"),
        ("[1, 2] == [1, 2]", "true"),
        ("true ? 1 : 1 / 0", "1"),
        ("0.1 + 0.2", "0.3"),
        ("19.99 * 3", "59.97"),
        ("9223372036854775807 + 1", "9223372036854775808"),
        (
            "123456789012345678901234567890 * 10",
            "1234567890123456789012345678900",
        ),
        ("0.1 + 0.2 == 0.3", "true"),
        ("1 / 3 * 3 == 1", "true"),
        ("\"true\" ? \"a\" : \"b\"", "\"a\""),
        ("-(3)", "-3"),
    ]);
    refuse(&[
        ("1 / 0", "f:2:7: division by zero"),
        ("1 % 0", "division by zero"),
        (
            "\"a\" + 1",
            "an operand of + must be a number, it is a string",
        ),
        ("[] ? 1 : 2", "a condition must be a bool, it is a list"),
        ("!\"x\"", "the operand of ! must be a bool"),
        ("null + 1", "it is null"),
    ]);
}

#[test]
fn the_branches_of_a_conditional_have_a_common_type() {
    check(&[
        ("true ? 1 : \"a\"", "\"1\""),
        ("false ? 1 : true ? true : \"a\"", "\"true\""),
        ("[true ? null : 1, false ? null : 1]", "[null,1]"),
        ("true ? [1, 2] : [\"a\"]", "[\"1\",\"2\"]"),
        ("true ? [1, \"a\"] : []", "[\"1\",\"a\"]"),
        ("true ? [1] : toset([\"b\"])", "[\"1\"]"),
        ("true ? { a = 1 } : { b = \"x\" }", "{\"a\":\"1\"}"),
        (
            "true ? { a = 1, b = null } : { a = \"x\" }",
            "{\"a\":\"1\",\"b\":null}",
        ),
        (
            "true ? { a = { b = 1 } } : { a = { b = \"1\", c = 2 } }",
            "{\"a\":{\"b\":\"1\"}}",
        ),
        // A branch that fails has the type of its operator, if any.
        ("true ? 1 : nope", "1"),
        ("true ? 1 : \"${nope}x\"", "\"1\""),
        ("true ? \"a\" : data.sql.x.value", "\"a\""),
    ]);
    let reason = "both results of a conditional must have a common type";
    refuse(&[
        ("true ? 1 : false", "f:2:14: both results"),
        ("true ? 1 : [2]", reason),
        ("true ? [] : {}", reason),
        ("true ? { a = 1, b = [1] } : { a = 1 }", reason),
        ("true ? { a = 1, b = 2 } : { a = \"x\", b = true }", reason),
    ]);
}

#[test]
fn templates_interpolate_branch_loop_and_strip() {
    check(&[
        ("\"a${1 + 1}b${true}\"", "\"a2btrue\""),
        ("\"${[1]}\"", "[1]"),
        ("\"$${x} %%{y}\"", "\"${x} %{y}\""),
        ("\"%{ if true }yes%{ else }no%{ endif }\"", "\"yes\""),
        ("\"%{ for x in [1, 2] }${x},%{ endfor }\"", "\"1,2,\""),
        ("\"a ${~ \"b\" ~} c\"", "\"abc\""),
        ("<<EOT\n  a\n  ${1}\nEOT\n", "\"  a\\n  1\\n\""),
        ("<<-EOT\n    a\n      b\n  EOT\n", "\"a\\n  b\\n\""),
        (
            "<<-EOT\n  %{ for k, v in { a = 1 } ~}\n  ${k}=${v}\n  %{ endfor ~}\n  EOT\n",
            "\"a=1\\n\"",
        ),
        ("\"\\u00e9\\n\\t\\\\\"", "\"é\\n\\t\\\\\""),
    ]);
    refuse(&[
        (
            "\"a${[]}\"",
            "a value within a string must be a string, it is a list",
        ),
        ("\"a${null}\"", "it is null"),
    ]);
}

#[test]
fn for_expressions_and_splats_go_over_collections() {
    check(&[
        ("[for x in [1, 2, 3] : x * 2 if x != 2]", "[2,6]"),
        ("[for i, x in [\"a\"] : \"${i}${x}\"]", "[\"0a\"]"),
        (
            "[for k, v in { b = 2, a = 1 } : \"${k}${v}\"]",
            "[\"a1\",\"b2\"]",
        ),
        (
            "{ for x in [\"a\", \"b\"] : x => upper(x) }",
            "{\"a\":\"A\",\"b\":\"B\"}",
        ),
        (
            "{ for x in [1, 2, 3] : x > 1 ? \"big\" : \"small\" => x... }",
            "{\"big\":[2,3],\"small\":[1]}",
        ),
        ("[{ a = 1 }, { a = 2 }][*].a", "[1,2]"),
        ("[{ a = [1, 2] }].*.a[0]", "[1,2]"),
        ("[{ a = [1, 2] }][*].a[0]", "[1]"),
        ("null[*]", "[]"),
        ("{ a = 1 }[*].a", "[1]"),
        ("{ a = { \"b c\" = [5] } }.a[\"b c\"].0", "5"),
        ("{ (\"x${1}\") = 1, y : 2 }", "{\"x1\":1,\"y\":2}"),
        ("max([1, 5, 3]...)", "5"),
        (
            "{ a = 1, b = { a = 2 }, a = 3 }",
            "{\"a\":3,\"b\":{\"a\":2}}",
        ),
        ("{ \"a${1}\" = 1, \"a${1}\" = 2 }", "{\"a1\":2}"),
        ("{ null = 1, true = 2 }", "{\"null\":1,\"true\":2}"),
    ]);
    refuse(&[
        (
            "{ (null) = 1 }",
            "an object's key must be a string, it is null",
        ),
        ("{ for x in [1, 2] : \"a\" => x }", "have the same key"),
        (
            "[for x in \"a\" : x]",
            "for needs a list, set, map or object, this is a string",
        ),
        ("[1][1]", "there is no element 1: the list has 1"),
        ("[1][-1]", "there is no element -1"),
        ("[1][0.5]", "must be a whole number"),
        ("{}.a", "this object has no such attribute \"a\""),
        ("1.5.a", "only lists and objects have elements"),
        ("max(1...)", "must be a list or set, it is a number"),
    ]);
}

#[test]
fn try_and_can_catch_what_atlas_would_and_nothing_else() {
    check(&[
        ("try(local.missing, {}.a, \"c\", nope())", "\"c\""),
        ("try(nope(), 1)", "1"),
        ("[can(1), can({}.a)]", "[true,false]"),
    ]);
    refuse(&[
        ("try()", "try takes at least one argument"),
        ("try({}.a, {}.b)", "has no such attribute \"b\""),
        ("can()", "can takes one argument"),
        (
            "try(data.sql.x.value, 1)",
            "atlasfs does not evaluate data.sql.x",
        ),
        ("can(sql(\"x\"))", "not supported here: sql"),
        ("try(format(\"%9999d\", 1), 1)", "at most 1000"),
    ]);
}

#[test]
fn an_unknown_function_or_name_is_an_error_with_its_place() {
    refuse(&[
        (
            "upper(\nnope(1))",
            "f:3:1: there is no function named \"nope\"",
        ),
        (
            "a::b(1)",
            "functions with a namespace (::) are not supported",
        ),
        (
            "[1,\n  env.x]",
            "f:3:3: there is no variable named \"env\": known are atlas, var, local, data",
        ),
        ("nope", "there is no variable named \"nope\""),
        ("local.nope", "there is no local \"nope\""),
        ("var.nope", "there is no variable \"nope\""),
        (
            "local",
            "local alone is not supported here: write local.NAME",
        ),
        (
            "var[upper(\"a\")]",
            "a computed name after var is not supported here",
        ),
    ]);
    check(&[("atlas.env", "\"prod\""), ("atlas", "{\"env\":\"prod\"}")]);
}
