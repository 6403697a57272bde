//! Inputs made to use up memory, time or stack.

use std::time::Instant;

use super::run;

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
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
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
