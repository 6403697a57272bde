//! Inputs that try to exhaust memory, time or the stack.

use std::time::Instant;

use super::run;
use crate::config::fuzz::Mutator;

#[test]
fn no_input_uses_unbounded_memory_or_time() {
    let started = Instant::now();
    let doubling = |first: &str, step: &str| {
        let chain: String = (1..60)
            .map(|n| {
                format!(
                    " v{n} = {}\n",
                    step.replace('@', &format!("local.v{}", n - 1))
                )
            })
            .collect();
        format!("result {{\n is = local.v59\n}}\nlocals {{\n v0 = {first}\n{chain}}}\n")
    };
    let big = "join(\"\", [for a in range(1000) : \"aaaaaaaaaa\"])";
    for text in [
        doubling("\"a\"", "\"${@}${@}\""),
        doubling("[1]", "concat(@, @)"),
        doubling("[1]", "[@, @]"),
        doubling("\"a\"", "replace(@, \"a\", \"aa\")"),
        doubling("\"a\"", "format(\"%s%s\", @, @)"),
        doubling("\"\\n\"", "indent(1000, \"${@}${@}\")"),
        doubling("[1, 2]", "setproduct(@, @)"),
        doubling("\"<\"", "jsonencode(@)"),
        doubling("\"a\"", "regexreplace(@, \".*\", \"$0$0\")"),
        doubling("\"a\"", "join(@, [@, @])"),
        doubling("\"a'\"", "urlescape(\"${@}${@}\")"),
    ] {
        let message = match run(&text, "/", &[]) {
            Ok(json) => panic!("{text}: {} bytes", json.len()),
            Err(message) => message,
        };
        assert!(
            [
                "too much work",
                "beyond 1 MiB",
                "elements",
                "is longer than",
                "levels deep"
            ]
            .iter()
            .any(|bound| message.contains(bound)),
            "{message}"
        );
    }
    for expression in [
        "[for a in range(1000) : [for b in range(1000) : [for c in range(1000) : 1]]]".to_string(),
        format!("[for a in range(1000) : {big}]"),
        format!("[for a in range(1000) : upper({big})]"),
        format!("setproduct({0}, {0}, {0}, {0})", "range(1000)"),
        "indent(1000000000000, \"a\\nb\")".into(),
        format!("yamldecode(replace(join(\"\", [for i in range(10) : {big}]), \"a\", \"[\"))"),
        "[for a in range(1000) : [for b in range(9) : sort([for c in range(1000) : tostring(c)])]]"
            .into(),
        format!("regexall(\".*[^A-Z]|[A-Z]\", upper(join(\"\", [for i in range(10) : {big}])))"),
    ] {
        let text = format!("result {{\n is = {expression}\n}}\n");
        let message = match run(&text, "/", &[]) {
            Ok(json) => panic!("{text}: {} bytes", json.len()),
            Err(message) => message,
        };
        assert!(
            [
                "too much work",
                "beyond 1 MiB",
                "elements",
                "is longer than"
            ]
            .iter()
            .any(|bound| message.contains(bound)),
            "{expression}: {message}"
        );
    }
    // Ten seconds on an idle machine; without the limits it would take hours.
    assert!(started.elapsed().as_secs() < 600, "{:?}", started.elapsed());
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    for (open, close) in [
        ("[", "]"),
        ("(", ")"),
        ("{a=", "}"),
        ("upper(", ")"),
        ("\"${", "}\""),
        ("!", ""),
        ("-", ""),
        ("true ? 1 : ", ""),
        ("1 + ", ""),
        ("[for x in ", " : x]"),
        ("\"%{ if true }", "%{ endif }\""),
    ] {
        for depth in [5, 30, 60, 64, 100, 130, 20_000] {
            let text = format!(
                "result {{\n is = {}1{}\n}}\n",
                open.repeat(depth),
                close.repeat(depth)
            );
            let _ = run(&text, "/", &[]);
        }
    }
    let text = format!("result {{\n is = local{}\n}}\n", ".*".repeat(50_000));
    assert!(run(&text, "/", &[]).is_err());
    let text = format!("result {{\n is = [1]{}\n}}\n", "[*]".repeat(50_000));
    assert!(
        run(&text, "/", &[])
            .unwrap_err()
            .contains("at most 64 steps")
    );
}

/// One expression for each family of functions and each form of syntax, to be damaged.
const SEEDS: [&str; 24] = [
    "format(\"%5.2f|%-6s|%06d|%[1]v\", 3.14, \"ab\", -42)",
    "formatlist(\"%s-%q\", [\"a\", \"b\"], \"c\")",
    "substr(\"héllo\", -3, 2)",
    "indent(2, replace(\"a\\nb\", \"a\", \"bb\"))",
    "join(\",\", split(\"-\", \"a-b\"), sort([\"b\"]))",
    "trim(title(strrev(\" ab \")), \" \")",
    "slice(range(1, 9, 2), 1, 3)",
    "setproduct([1, 2], toset([3]), [4])",
    "chunklist(flatten([[1], [2, [3]]]), 2)",
    "element(reverse([1, 2, 3]), -5)",
    "merge({ a = 1 }, zipmap([\"b\"], [2]))",
    "parseint(\"-7f\", 16) + pow(2, 0.5) % log(8, 2)",
    "jsondecode(jsonencode({ a = [1, 2.5e3, null] }))",
    "yamldecode(\"a: &x [1, 2]\\nb: *x\")",
    "yamlencode({ a = [[1], { b = \"c\" }] })",
    "csvdecode(\"a,b\\n1,2\")",
    "regexall(\"(?P<k>[a-z]+)=([0-9]*)\", \"a=1 b=2\")",
    "regexreplace(\"aXbX\", \"([a-z])X\", \"$1-\")",
    "urlqueryset(urlsetpath(urluserinfo(\"s3://b/p?x=1\", \"u\", \"p\"), \"q\"), \"k\", \"v\")",
    "formatdate(\"DD MMM YYYY hh:mm 'x' ZZZ\", timeadd(\"2018-01-02T23:12:01Z\", \"-1h2.5s\"))",
    "[for k, v in { a = 1, b = 2 } : \"${k}${v}\" if v != 2 && !false]",
    "{ for x in [1, 2, 1] : x > 1 ? \"b\" : \"s\" => x... }",
    "try([{ a = [1, 2] }][*].a[0], can({}.x), atlas.env)",
    "<<-EOT\n  %{ for x in [1, 2] ~}\n  a${x}%{ if x == 1 }y%{ else }n%{ endif }\n  %{ endfor ~}\n  EOT\n",
];

#[test]
fn no_spoilt_expression_panics_or_takes_long() {
    let mut random = Mutator::new(99);
    let mut slowest = std::time::Duration::ZERO;
    for round in 0..24_000 {
        let bytes = random.mutate(SEEDS[round % SEEDS.len()].as_bytes());
        let text = format!("result {{\n is = {}\n}}\n", String::from_utf8_lossy(&bytes));
        let started = Instant::now();
        if let Err(message) = run(&text, "/nonexistent", &[]) {
            assert!(!message.contains('\n'), "{message:?}");
        }
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest.as_secs() < 10, "{slowest:?}");
}
