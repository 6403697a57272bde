//! Functions on strings, collections, numbers and encodings, with their values.

use super::{check, refuse};

#[test]
fn string_functions_do_as_in_cty() {
    check(&[
        ("upper(\"aé\")", "\"AÉ\""),
        ("lower(\"AÉ\")", "\"aé\""),
        ("upper(\"aéßﬀᾀᾈᾳŉ\")", "\"AÉßﬀᾈᾈᾼŉ\""),
        ("lower(\"İΣΑΣ\")", "\"iσασ\""),
        ("title(\"hello wide world\")", "\"Hello Wide World\""),
        (
            "title(\"hello-wide o'neil foo_bar 2nd a.b ß ǆ é HELLO\")",
            "\"Hello-Wide O'Neil Foo_bar 2nd A.B ß ǅ É HELLO\"",
        ),
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
        ("upper()", "upper: it takes 1 arguments, not 0"),
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
            "format(\"%#08x|%#b|%+08d|%8.3d|%x|%-8d|\", 255, 5, 3, 42, -255, 7)",
            "\"0x0000ff|0b101|+0000003|     042|-ff|7       |\"",
        ),
        (
            "format(\"%08.3e|%-14e|%+g|%.10g|%.0f|%.2f|%.0e\", 1234.5, 1.5, 1, 0.1, 2.5, 2.675, 2.5)",
            "\"1.234e+03|1.500000e+00  |+1|0.1|2|2.67|2e+00\"",
        ),
        (
            "format(\"%g %e %f %.3g %.3g %G\", 0, 0, 0, 100, 100000, 1e21)",
            "\"0 0.000000e+00 0.000000 100 1e+05 1E+21\"",
        ),
        (
            "format(\"%d %v %s\", 12345678901234567890123, 0.1 + 0.2, 1e21)",
            "\"12345678901234567890123 0.3 1000000000000000000000\"",
        ),
        ("format(\"%.0s\", \"abc\")", "\"abc\""),
        (
            "formatlist(\"%s-%s\", [\"a\", \"b\"], \"c\")",
            "[\"a-c\",\"b-c\"]",
        ),
        ("formatlist(\"%s\", [])", "[]"),
    ]);
    refuse(&[
        (
            "format(\"%s\")",
            "not enough arguments for verb 's': it needs argument 1",
        ),
        (
            "format(\"%s\", 1, 2)",
            "too many arguments; only 1 used by format string",
        ),
        (
            "format(\"%d\", 1.5)",
            "%d needs a whole number, but argument 1 is a number",
        ),
        (
            "format(\"%d\", \"a\")",
            "%d needs a number, but argument 1 is a string",
        ),
        (
            "format(\"%s\", null)",
            "%s needs a string, but argument 1 is null",
        ),
        ("format(\"%z\", 1)", "unsupported format verb 'z'"),
        ("format(\"%\")", "the format ends within a verb"),
        ("format(\"%[0]s\", 1)", "argument numbers start at 1"),
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
        ("distinct([1, \"1\", null, true])", "[\"1\",null,\"true\"]"),
        ("distinct([[1], [\"1\"], [2]])", "[[\"1\"],[\"2\"]]"),
        ("toset([1, \"1\"])", "[\"1\"]"),
        ("toset([{ a = 1 }, { a = \"1\" }])", "[{\"a\":\"1\"}]"),
        ("toset([1, null])", "[1,null]"),
        ("tolist([1, null, \"a\"])", "[\"1\",null,\"a\"]"),
        (
            "chunklist([1, \"a\", true], 2)",
            "[[\"1\",\"a\"],[\"true\"]]",
        ),
        ("concat([1], [\"a\"])", "[1,\"a\"]"),
        ("contains([1], \"1\")", "false"),
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
        ("setunion([\"a\"], [1], [true])", "[\"1\",\"a\",\"true\"]"),
        ("setsubtract([1, 2], [\"2\"])", "[\"1\"]"),
        (
            "setproduct([1, \"a\"], [true])",
            "[[\"1\",true],[\"a\",true]]",
        ),
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
        ("toset([1, true])", "have no common type"),
        ("tolist([1, [1]])", "have no common type"),
        ("distinct([1, true])", "have no common type"),
        ("setunion([1], [true])", "have no common type"),
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
            "[parseint(\"ffffffffffffffffffffff\", 16), parseint(\"-zZ\", 62), parseint(\"+5\", 10)]",
            "[309485009821345068724781055,-2231,5]",
        ),
        (
            "[pow(2, 100), pow(10, -1), floor(1e30 + 0.5), ceil(-1.2)]",
            "[1267650600228229400000000000000,0.1,1000000000000000000000000000000,-1]",
        ),
        (
            "[10 / 4, length([1]) / length([1, 2, 3])]",
            "[2.5,0.33333333333333333334]",
        ),
        (
            "[tonumber(\"1.50\"), tobool(\"true\"), tobool(null)]",
            "[1.5,true,null]",
        ),
    ]);
    refuse(&[
        ("range(1025)", "more than 1024 values were generated"),
        ("range(0, 1, 0)", "the step must not be zero"),
        ("range(0, 1, -1)", "the step leads away from the end"),
        ("range(1e300, 2e300, 1)", "more than 1024 values"),
        (
            "parseint(5, 10)",
            "argument 1 must be a string, it is a number",
        ),
        ("parseint(\"1_000\", 10)", "not an integer in base 10"),
        ("log(0, 10)", "not a finite number"),
        ("pow(10, 1000)", "not a finite number"),
        ("parseint(\"12\", 99)", "from 2 to 62"),
        ("parseint(\"SECRET\", 10)", "not an integer in base 10"),
        ("tonumber(\"SECRET\")", "cannot convert a string to number"),
        ("tobool(\"SECRET\")", "cannot convert a string to bool"),
    ]);
}

#[test]
fn yamlmerge_merges_mappings_and_appends_sequences() {
    check(&[
        (
            "yamlmerge(\"map:\\n  zzz: true\\n  foo:\\n    - bar\", \"map:\\n  bar:\\n    - baz\\n  foo:\\n    - bar\", null)",
            r#""map:\n    bar:\n        - baz\n    foo:\n        - bar\n        - bar\n    zzz: true\n""#,
        ),
        (
            "yamlmerge(\"a: 1\\nb: {}\", \"a: '1'\\nl: [{x: 1, y: [2]}, []]\")",
            r#""a: '1'\nb: {}\nl:\n    - x: 1\n      y:\n        - 2\n    - []\n""#,
        ),
        ("yamlmerge(\"a:   1\")", "\"a:   1\""),
        ("[yamlmerge(), yamlmerge(null)]", "[null,null]"),
        (
            "yamldecode(yamlmerge(\"name: base\\nx: \\\"l1\\\\nl2\\\"\", \"name: app\"))",
            r#"{"name":"app","x":"l1\nl2"}"#,
        ),
    ]);
    refuse(&[
        (
            "yamlmerge(\"a: 1\", \"a: [SECRET]\")",
            "key a is defined in both src and dst, but has a different type",
        ),
        (
            "yamlmerge(\"a: 1\", \"[1]\")",
            "document 2 must be a mapping",
        ),
        ("yamlmerge(\"a: 1\", \"b: [\")", "not valid YAML"),
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
            "yamldecode(\"[0.1, 18446744073709551615]\")",
            "[0.1,18446744073709551615]",
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
