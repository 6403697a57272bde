//! Arbitrary input for `atlas.hcl` and URLs.

use proptest::prelude::*;

use super::*;
use crate::arbitrary::{config, text};

const FILES: [&str; 4] = [
    "variable \"v\" {\n  type = string\n  default = \"app\"\n}\nlocals {\n  b = [\"file:///b/1\", \"s3://bucket/p?region=us-east-1\"]\n}\nenv \"x\" {\n  schema {\n    repo {\n      name = var.v\n      url = \"file:///registry\"\n      backup = [for b in local.b : \"${b}\"]\n    }\n  }\n}\n",
    "env {\n  name = atlas.env\n  for_each = toset([\"a\", \"b\"])\n  migration {\n    repo {\n      name = \"app-${each.value}\"\n      backup = [\"gs://bucket/${each.key}\"]\n    }\n  }\n}\n",
    "atlas {\n  cloud {\n    org = \"acme\"\n    token = getenv(\"ACME_ATLAS_TOKEN\")\n  }\n}\nenv \"x\" {\n  schema {\n    repo {\n      name = try(local.none, yamldecode(\"a: &x [1]\\nb: *x\").a[0], \"c\")\n    }\n  }\n}\n",
    "env \"x\" {\n  schema {\n    src = data.external.none\n    repo {\n      name = join(\"-\", split(\",\", \"a,b\"))\n      url = \"s3://bucket/p?endpoint=http://127.0.0.1:9&use_path_style=true\"\n    }\n  }\n}\n",
];

const URLS: [&str; 8] = [
    "file:///srv/registry?create_dir=true",
    "s3://bucket/prefix?region=us-east-1&endpoint=http://127.0.0.1:9000&use_path_style=true",
    "gs://bucket/prefix?anonymous=true",
    "azblob://container/prefix?storage_account=acme",
    "azureblob://container?domain=blob.core.windows.net&protocol=https",
    "oci://me:SECRET@ghcr.io/acme/registry",
    "atlas://app?tag=latest",
    "file://relative/%2e%2e/x%00",
];

/// The beginnings and ends of nested values.
const NESTS: [(&str, &str); 8] = [
    ("[", "]"),
    ("(", ")"),
    ("{a=", "}"),
    ("upper(", ")"),
    ("\"${", "}\""),
    ("!", ""),
    ("true ? 1 : ", ""),
    ("[for x in ", " : x]"),
];

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_file_panics_or_tells_a_secret(content in text(&FILES)) {
        for env in [None, Some("x")] {
            if let Err(error) = eval_with(&content, env, &[], &environment) {
                let message = error.to_string();
                prop_assert!(!message.contains('\n'), "{:?}", message);
                prop_assert!(content.contains("SECRET") || !message.contains("SECRET"), "{}", message);
            }
        }
    }

    #[test]
    fn no_value_of_a_variable_panics(var in text(&["v=app", "v=\"a,b\"", "\"v=a\"\"b\"", "w"])) {
        let _ = eval_with(FILES[0], Some("x"), &[&var], &environment);
    }

    #[test]
    fn no_nesting_takes_for_ever(
        nests in proptest::collection::vec(proptest::sample::select(NESTS.as_slice()), 0..90),
        is_ended in any::<bool>(),
    ) {
        let mut value = String::new();
        nests.iter().for_each(|(begin, _)| value.push_str(begin));
        value.push('1');
        if is_ended {
            nests.iter().rev().for_each(|(_, end)| value.push_str(end));
        }
        let _ = eval(&repo(&format!("      name = {value}\n")));
    }

    #[test]
    fn no_url_panics_or_tells_a_secret(url in text(&URLS)) {
        let shown = match parse_target(&url) {
            Ok(location) => location.to_string(),
            Err(error) => error.to_string(),
        };
        prop_assert!(!shown.contains('\n'), "{:?}", shown);
        // With other damage the text is no longer a secret, but part of a host's name, for example.
        prop_assert!(!url.starts_with("oci://me:SECRET@") || !shown.contains("SECRET"), "{}", shown);
        let _ = parse_flag(&url);
    }
}
