//! Functions on strings, collections, numbers and encodings, by what they evaluate to.

use super::{check, refuse};

#[test]
fn string_functions_do_as_in_cty() {
    check(&[
        ("upper(\"aé\")", "\"AÉ\""),
        ("lower(\"AÉ\")", "\"aé\""),
        ("title(\"hello wide world\")", "\"Hello Wide World\""),
        ("strrev(\"abc\")", "\"cba\""),
        ("chomp(\"a\\r\\n\\n\")", "\"a\""),
        ("trimspace(\"  a \\n\")", "\"a\""),
        ("trim(\"?!a!?\", \"!?\")", "\"a\""),
        ("trimprefix(\"aab\", \"a\")", "\"ab\""),
        ("trimsuffix(\"abb\", \"b\")", "\"ab\""),
        (
            "[startswith(\"ab\", \"a\"), endswith(\"ab\", \"a\")]",
            "[true,false]",
        ),
        ("split(\",\", \"a,b,\")", "[\"a\",\"b\",\"\"]"),
        ("split(\"\", \"ab\")", "[\"a\",\"b\"]"),
        ("join(\"-\", [\"a\", 1], [true])", "\"a-1-true\""),
        ("replace(\"a/b/c\", \"/\", \"-\")", "\"a-b-c\""),
        ("replace(\"a.b\", \"/[.]/\", \"-\")", "\"a.b\""),
        ("replace(\"ab\", \"\", \"-\")", "\"-a-b-\""),
        ("substr(\"hello\", 1, 3)", "\"ell\""),
        ("substr(\"hello\", -3, -1)", "\"llo\""),
        ("substr(\"héllo\", 1, 99)", "\"éllo\""),
        ("indent(2, \"a\\nb\\nc\")", "\"a\\n  b\\n  c\""),
        ("getenv(\"SET\")", "\"SECRET\""),
        ("getenv(\"UNSET\")", "\"\""),
        ("tostring(1.50)", "\"1.5\""),
        ("tostring(null)", "null"),
        ("print([1])", "[1]"),
    ]);
    refuse(&[
        ("upper()", "upper: it takes 1 arguments, here are 0"),
        (
            "upper([])",
            "upper: argument 1 must be a string, it is a list",
        ),
        ("upper(null)", "it is null"),
        ("tostring([])", "cannot convert a list to string"),
        ("indent(-1, \"a\")", "must not be negative"),
        ("join(\",\", [[]])", "must be a list of strings"),
    ]);
}

#[test]
fn format_knows_ctys_verbs_flags_and_errors() {
    check(&[
        (
            "format(\"%s %d %v %q %t %%\", \"a\", 5, true, \"x\\\"y\", \"true\")",
            r#""a 5 true \"x\\\"y\" true %""#,
        ),
        (
            "format(\"%5.2f|%-6s|%06d|%+d|% d\", 3.14159, \"ab\", -42, 7, 7)",
            "\" 3.14|ab    |-00042|+7| 7\"",
        ),
        (
            "format(\"%x %X %#x %o %b\", 255, 255, 255, 8, 5)",
            "\"ff FF 0xff 10 101\"",
        ),
        (
            "format(\"%e %E %g %g %g\", 1234.5, 0.00012, 0.5, 1e21, 0.00001)",
            "\"1.234500e+03 1.200000E-04 0.5 1e+21 1e-05\"",
        ),
        (
            "format(\"%.3g %g %v %v\", 1234.5, 100000, 1000000, [1, \"a\"])",
            r#""1.23e+03 100000 1e+06 [1,\"a\"]""#,
        ),
        ("format(\"%[2]s%[1]s%s\", \"a\", \"b\")", "\"bab\""),
        (
            "format(\"%v %#v %v\", null, \"a\", { b = 1 })",
            r#""null \"a\" {\"b\":1}""#,
        ),
        ("format(\"%.2s|%3s\", \"éàü\", \"é\")", "\"éà|  é\""),
        ("format(\"%s\", 5)", "\"5\""),
        (
            "formatlist(\"%s-%s\", [\"a\", \"b\"], \"c\")",
            "[\"a-c\",\"b-c\"]",
        ),
        ("formatlist(\"%s\", [])", "[]"),
    ]);
    refuse(&[
        (
            "format(\"%s\")",
            "not enough arguments for verb 's': it wants argument 1",
        ),
        (
            "format(\"%s\", 1, 2)",
            "too many arguments; only 1 used by format string",
        ),
        (
            "format(\"%d\", 1.5)",
            "%d wants a whole number, argument 1 is a number",
        ),
        (
            "format(\"%d\", \"a\")",
            "%d wants a number, argument 1 is a string",
        ),
        (
            "format(\"%s\", null)",
            "%s wants a string, argument 1 is null",
        ),
        ("format(\"%z\", 1)", "unsupported format verb 'z'"),
        ("format(\"%\")", "the format ends within a verb"),
        ("format(\"%[0]s\", 1)", "an argument's number is from 1"),
        ("format(\"%99999999999999999999s\", 1)", "at most 1000"),
        ("formatlist(\"%s%s\", [1], [1, 2])", "different lengths"),
    ]);
}

#[test]
fn collection_functions_do_as_in_cty() {
    check(&[
        (
            "[length([1, 2]), length({ a = 1 }), length(toset([1, 1]))]",
            "[2,1,1]",
        ),
        ("[empty([]), empty([1])]", "[true,false]"),
        (
            "[alltrue([true, true]), alltrue([true, \"true\"]), alltrue([])]",
            "[true,false,true]",
        ),
        ("chunklist([1, 2, 3], 2)", "[[1,2],[3]]"),
        ("chunklist([1, 2, 3], 0)", "[[1,2,3]]"),
        ("coalescelist([], [1], [2])", "[1]"),
        ("compact([\"a\", \"\", null, \"b\"])", "[\"a\",\"b\"]"),
        ("concat([1], [], [2, 3])", "[1,2,3]"),
        (
            "[contains([1, 2], 2), contains(toset([\"a\"]), \"b\")]",
            "[true,false]",
        ),
        ("distinct([2, 1, 2])", "[2,1]"),
        ("[element([1, 2, 3], 4), element([1, 2, 3], -1)]", "[2,3]"),
        ("flatten([[1, [2]], [], toset([3])])", "[1,2,3]"),
        (
            "[index([\"a\", \"b\"], 1), index({ k = 5 }, \"k\")]",
            "[\"b\",5]",
        ),
        ("keys({ b = 1, a = 2 })", "[\"a\",\"b\"]"),
        ("values({ b = 1, a = 2 })", "[2,1]"),
        (
            "merge({ a = 1, b = 1 }, null, { b = 2 })",
            "{\"a\":1,\"b\":2}",
        ),
        ("reverse([1, 2])", "[2,1]"),
        ("slice([1, 2, 3], 1, 3)", "[2,3]"),
        ("sort([\"b\", \"a\"])", "[\"a\",\"b\"]"),
        ("tolist(toset([\"b\", \"a\", \"b\"]))", "[\"a\",\"b\"]"),
        ("zipmap([\"a\", \"b\"], [1, 2])", "{\"a\":1,\"b\":2}"),
        ("setunion([1], [2, 1])", "[1,2]"),
        ("setintersection([1, 2], [2, 3])", "[2]"),
        ("setsubtract([1, 2], [2])", "[1]"),
        (
            "setproduct([\"a\", \"b\"], [1, 2])",
            "[[\"a\",1],[\"a\",2],[\"b\",1],[\"b\",2]]",
        ),
        ("setproduct([\"a\"], [])", "[]"),
    ]);
    refuse(&[
        (
            "length(\"abc\")",
            "must be a list, set, map or object, it is a string",
        ),
        (
            "coalescelist([], [])",
            "no argument is a list with an element",
        ),
        (
            "element([], 0)",
            "cannot use element function with an empty list",
        ),
        (
            "slice([1], 0, 2)",
            "0 to 2 is not within the list, which has 1 elements",
        ),
        ("slice([1], 1, 0)", "is not within the list"),
        (
            "zipmap([\"a\"], [])",
            "number of keys (1) does not match number of values (0)",
        ),
        ("keys([1])", "must be an object, it is a list"),
        ("index([1], 5)", "there is no element 5"),
        ("setproduct([1])", "it takes at least 2 arguments"),
    ]);
}

#[test]
fn number_functions_do_as_in_cty() {
    check(&[
        (
            "[abs(-1), ceil(1.2), floor(-1.2), signum(-5)]",
            "[1,2,-2,-1]",
        ),
        ("[max(1, 3, 2), min(\"2\", 1)]", "[3,1]"),
        (
            "[log(8, 2), pow(2, 10), parseint(\"ff\", 16), parseint(\"-z\", 36)]",
            "[3,1024,255,-35]",
        ),
        ("range(3)", "[0,1,2]"),
        ("range(1, 4)", "[1,2,3]"),
        ("range(3, 1)", "[3,2]"),
        ("range(0, 1, 0.5)", "[0,0.5]"),
        ("range(0)", "[]"),
        (
            "[tonumber(\"1.50\"), tobool(\"true\"), tobool(null)]",
            "[1.5,true,null]",
        ),
    ]);
    refuse(&[
        ("range(1025)", "more than 1024 values were generated"),
        ("range(0, 1, 0)", "the step must not be zero"),
        ("range(0, 1, -1)", "the step goes away from the end"),
        ("range(1e300, 2e300, 1)", "more than 1024 values"),
        ("log(0, 10)", "not a finite number"),
        ("pow(10, 1000)", "not a finite number"),
        ("parseint(\"12\", 99)", "from 2 to 36"),
        ("parseint(\"SECRET\", 10)", "no integer of base 10"),
        ("tonumber(\"SECRET\")", "cannot convert a string to number"),
        ("tobool(\"SECRET\")", "cannot convert a string to bool"),
    ]);
}

#[test]
fn encodings_read_back_what_they_write() {
    check(&[
        (
            "jsonencode({ b = [1, null, \"<&>\"], a = \"é\\n\" })",
            r#""{\"a\":\"é\\n\",\"b\":[1,null,\"\\u003c\\u0026\\u003e\"]}""#,
        ),
        (
            "jsondecode(\"{\\\"a\\\":[1,2.5,true,null]}\")",
            "{\"a\":[1,2.5,true,null]}",
        ),
        (
            "yamldecode(\"a: 1\\nb: [x, 2.5, ~]\\n1: true\")",
            "{\"1\":true,\"a\":1,\"b\":[\"x\",2.5,null]}",
        ),
        (
            "yamlencode({ a = [1, { c = \"x\", d = [] }], b = { e = true } })",
            r#""\"a\":\n- 1\n- \"c\": \"x\"\n  \"d\": []\n\"b\":\n  \"e\": true\n""#,
        ),
        (
            "yamlencode([[1, 2], \"a\"])",
            r#""- - 1\n  - 2\n- \"a\"\n""#,
        ),
        ("yamlencode(\"a\")", r#""\"a\"\n""#),
        (
            "yamldecode(yamlencode({ a = [[1, [2]], { b = {} }], c = { d = [{ e = 1, f = 2 }] } })) == { a = [[1, [2]], { b = {} }], c = { d = [{ e = 1, f = 2 }] } }",
            "true",
        ),
        (
            "csvdecode(\"a,b\\n1,\\\"x,y\\\"\\n2,\")",
            r#"[{"a":"1","b":"x,y"},{"a":"2","b":""}]"#,
        ),
    ]);
    refuse(&[
        (
            "jsondecode(\"{SECRET\")",
            "not valid JSON at line 1, column 2",
        ),
        ("yamldecode(\"a: [SECRET\")", "not valid YAML at line"),
        (
            "yamldecode(\"!t SECRET\")",
            "tags (!name) are not supported",
        ),
        ("csvdecode(\"a,a\\n1,2\")", "duplicate column name"),
        ("csvdecode(\"a,b\\n1\")", "not valid CSV at line 2"),
    ]);
}
