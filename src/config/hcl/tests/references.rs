//! References to blocks, and to the siblings of unknown values.

use super::run;

const BLOCKS: &str = "store \"main\" {\n url = \"file:///a\"\n key = getenv(\"SET\")\n tier {\n  size = 2\n }\n}\n\
                      store \"old\" {\n name = \"other\"\n}\n\
                      peer \"s3\" \"eu\" {\n url = \"s3://eu\"\n}\n\
                      flags {\n on = [true]\n}\n\
                      env \"prod\" {\n bucket = \"file:///b\"\n schema {\n  src = \"x\"\n }\n}\n\
                      env \"dev\" {\n bucket = \"file:///c\"\n}\n";

fn with_blocks(expression: &str) -> Result<String, String> {
    let text = format!("result {{\n is = {expression}\n}}\n{BLOCKS}");
    run(&text, "/nowhere", &[])
}

#[test]
fn constants_of_any_block_can_be_referred_to() {
    for (expression, value) in [
        ("store.main.url", "\"file:///a\""),
        ("store[\"main\"][\"url\"]", "\"file:///a\""),
        ("store.main.name", "\"main\""),
        ("store.old.name", "\"other\""),
        ("store.main.tier[\"0\"].size", "2"),
        ("store.main.tier.0.size", "2"),
        ("peer.s3.eu.url", "\"s3://eu\""),
        ("flags[\"0\"].on[0]", "true"),
        ("env.prod.bucket", "\"file:///b\""),
        ("env.prod.schema[\"0\"].src", "\"x\""),
        (
            "[for name, one in store : one.name]",
            "[\"main\",\"other\"]",
        ),
        ("keys(peer)", "[\"s3\"]"),
        ("try(store.main.key, \"c\")", "\"c\""),
    ] {
        assert_eq!(
            with_blocks(expression).as_deref(),
            Ok(value),
            "{expression}"
        );
    }
}

#[test]
fn references_to_other_blocks_say_what_is_wrong() {
    for (expression, reason) in [
        (
            "store.main.key",
            "f:6:2: a reference to a block's attribute works for constants only",
        ),
        ("store.none.url", "no such attribute \"none\""),
        ("env.dev.bucket", "no such attribute \"dev\""),
        ("shop.main", "there is no variable named \"shop\""),
    ] {
        let message = with_blocks(expression).unwrap_err();
        assert!(message.contains(reason), "{expression}: {message}");
    }
}

#[test]
fn siblings_of_a_data_source_are_evaluated() {
    let locals = "locals {\n app = {\n  token = data.external.token\n  name = \"app\"\n  more = [data.sql.x.y, 5]\n }\n \
                  apps = [local.app, { name = \"b\", token = \"t\" }]\n}\n";
    let value = |expression: &str| {
        let text = format!("result {{\n is = {expression}\n}}\n{locals}");
        run(&text, "/nowhere", &[])
    };
    for (expression, expected) in [
        ("local.app.name", "\"app\""),
        ("local.app.more[1]", "5"),
        ("local.apps[*].name", "[\"app\",\"b\"]"),
        ("(local.apps[*].token)[1]", "\"t\""),
        ("[for one in local.apps : one.name]", "[\"app\",\"b\"]"),
        ("merge(local.app, { token = \"t\" }).token", "\"t\""),
        (
            "[length(local.app.more), keys(local.app)[0]]",
            "[2,\"more\"]",
        ),
        (
            "(true ? local.app : { token = 1, name = 2, more = [3, 4] }).name",
            "\"app\"",
        ),
        (
            "{ for one in local.apps : one.name => one.token }.b",
            "\"t\"",
        ),
    ] {
        assert_eq!(value(expression).as_deref(), Ok(expected), "{expression}");
    }
    for expression in [
        "local.app.token",
        "local.app.token.deeper",
        "upper(local.app.token)",
        "jsonencode(local.app)",
        "local.app == local.app",
        "local.app.more[0]",
        "toset(local.app.more)",
        "element(local.app.more, 0)",
        "try(local.app.token, 1)",
        "\"${local.app.token}\"",
        "[for one in local.app.more : one + 1][0]",
    ] {
        let message = value(expression).unwrap_err();
        assert!(
            message.contains("atlasfs does not evaluate"),
            "{expression}: {message}"
        );
    }
}
