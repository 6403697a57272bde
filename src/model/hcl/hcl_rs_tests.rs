//! Arbitrary bytes: hcl-rs compared with the recogniser.

use ::hcl as hcl_rs;
use proptest::prelude::*;

use super::tests::check;
use super::*;
use crate::arbitrary::{bytes, config};

/// The values that hcl-rs finds in a text.
fn values(text: &str) -> hcl_rs::Body {
    use hcl_rs::eval::{Context, Evaluate};
    let body = hcl_rs::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    body.evaluate(&Context::new()).unwrap()
}

#[test]
fn hcl_rs_reads_text_that_was_rewritten_for_it() {
    for (text, same) in [
        ("a = <<-SQL\n SQL x\n y\n SQL\n", "a = \"SQL x\\ny\\n\"\n"),
        (
            "a = <<E\nE x\n${ <<F\nF y\nF\n}\nE\n",
            "a = \"E x\\nF y\\n\\n\"\n",
        ),
        ("a = [\n for x in [1] # c\n : x\n]\n", "a = [1]\n"),
        ("a = 1 # c\r", "a = 1\n"),
        ("a = { b = 1, b = 2 }\n", "a = { b = 2 }\n"),
        (
            "a = {\n b = <<E\nx\nE\n c = { b = 1\n b = 4 }\n b /* d */ = 2 # e\n b : 3,\n}\n",
            "a = { c = { b = 4 }, b = 3 }\n",
        ),
        ("a = { \"b\" = 1, \"b\" = 2, }\n", "a = { b = 2 }\n"),
        ("a = { (1 + 1) = 1, (1 + 1) = 2 }\n", "a = { 2 = 2 }\n"),
    ] {
        let plain = plain(text.as_bytes()).unwrap();
        assert_eq!(plain.len(), text.len());
        assert_eq!(values(&plain), values(same), "{plain}");
    }
    let text = b"a = 1 # \xff\nb = [ # c\n1]\n";
    assert_eq!(plain(text).unwrap(), "a = 1    \nb = [     1]\n");
}

const DOCUMENTS: [&str; 4] = [
    "a = [for k, v in {b = 1} : \"%{ if v > 0 }x%{ else }${k}%{ endif }\" if !false]\n",
    "b \"l\" {\n  c = f(1, [2]...)[*].c.0 ? -1 : (2) # d\n}\n",
    "m = <<-E\n  a ${ {b = \"c\"}.b } $${ %%{\n  E\n",
    "x = { a = 1, \"b\" : [1.5e3,], (c) = <<F\nF\n}\n",
];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_get_a_verdict_with_a_place_in_the_text(
        content in bytes(DOCUMENTS.iter().map(|text| text.as_bytes().to_vec()).collect())
    ) {
        if let Err(syntax) = check(&content) {
            let lines = content.iter().filter(|&&byte| byte == b'\n').count() + 1;
            prop_assert!((1..=lines).contains(&syntax.line) && syntax.column > 0);
            prop_assert!(!syntax.message.contains('\n'));
        }
        prop_assert_eq!(plain(&content).is_err(), check(&content).is_err() || {
            // HashiCorp's scanner accepts overlong forms.
            plain(&content).is_err_and(|syntax| syntax.message.contains("UTF-8"))
        });
    }

    /// hcl-rs is stricter in many cases, and laxer in two: two indexes in a row, and a repeated
    /// attribute.
    #[test]
    fn text_that_hcl_rs_formats_is_legal(
        number in any::<i32>(),
        text in "[a-z ${}%\"\\\\\n]{0,20}",
        name in "[a-z_][a-z0-9_-]{0,5}",
    ) {
        // hcl-rs does not escape a sequence that begins after the other sign.
        prop_assume!(!text.contains("%${") && !text.contains("$%{"));
        let body = hcl_rs::Body::builder()
            .add_attribute((name.as_str(), text.as_str()))
            .add_block(hcl_rs::Block::builder(name.as_str()).add_label(text.as_str())
                .add_attribute(("list", vec![i64::from(number)])).build())
            .build();
        let written = hcl_rs::to_string(&body).unwrap();
        prop_assert_eq!(check(written.as_bytes()), Ok(()), "{}", written);
    }
}
