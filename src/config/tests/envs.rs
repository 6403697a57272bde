//! The choice of env blocks, and of the parts to evaluate.

use super::*;

#[test]
fn an_env_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let error = load(&source(fixture("backups"), Some("prd")), &environment).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("env \"prd\" not defined in config file"),
        "{message}"
    );
    assert!(message.contains("it has \"ci\", \"prod\""), "{message}");
}

#[test]
fn an_env_without_a_repo_block_mounts_nothing_and_is_no_error() {
    let config = load(&source(fixture("cloud"), Some("plain")), &environment).unwrap();
    assert_eq!(config.envs.len(), 1);
    assert!(config.repos.is_empty());
}

#[test]
fn without_an_env_no_env_block_is_evaluated() {
    for name in ["backups", "tenants", "cloud", "sources"] {
        let config = load(&source(fixture(name), None), &environment).unwrap();
        assert!(config.envs.is_empty() && config.repos.is_empty());
    }
}

#[test]
fn for_each_gives_one_env_an_element() {
    let mut source = source(fixture("tenants"), Some("eu"));
    source.vars = vec!["bucket=b".into()];
    let config = load(&source, &environment).unwrap();
    let expected = [
        "tenant-north atlas:// s3://b/tenants/eu/north",
        "tenant-south atlas:// s3://b/tenants/eu/south",
    ];
    assert_eq!(shown(&config), expected);
    assert_eq!(config.envs.len(), 2);

    source.vars = vec!["bucket=b,tenants=a".into(), "tenants=b,unknown=c".into()];
    let config = load(&source, &environment).unwrap();
    let names: Vec<_> = config.repos.iter().map(|repo| repo.name.as_str()).collect();
    assert_eq!(names, ["tenant-a", "tenant-b"]);

    source.vars = vec!["bucket=b,tenants=one".into()];
    assert_eq!(load(&source, &environment).unwrap().repos.len(), 1);
}

#[test]
fn for_each_takes_lists_sets_maps_and_objects() {
    for (collection, names) in [
        ("[\"b\", \"a\"]", ["0-b", "1-a"]),
        ("toset([\"b\", \"a\"])", ["a-a", "b-b"]),
        ("{ k2 = \"b\", k1 = \"a\" }", ["k1-a", "k2-b"]),
    ] {
        let text = format!(
            "env \"x\" {{\n for_each = {collection}\n schema {{\n repo {{\n name = \
             \"${{each.key}}-${{each.value}}\"\n }}\n }}\n}}\n"
        );
        let config = eval(&text).unwrap();
        let found: Vec<_> = config.repos.iter().map(|repo| repo.name.as_str()).collect();
        assert_eq!(found, names, "{collection}");
    }
    let each = "\n schema {\n repo {\n name = each.value\n }\n }\n}";
    let message = refusal(&format!("env \"x\" {{\n  for_each = \"a\"{each}"));
    assert!(
        message.starts_with("atlas.hcl:2:14: for_each of env \"x\": for_each needs a list"),
        "{message}"
    );
    for empty in ["[]", "toset([])", "{}"] {
        let message = refusal(&format!("env \"x\" {{\n  for_each = {empty}{each}"));
        assert!(
            message.contains(
                "env \"x\" not defined in config file \"atlas.hcl\": its for_each \
                 (atlas.hcl:2:14) has no elements"
            ),
            "{message}"
        );
    }
}

#[test]
fn a_labelled_env_wins_over_an_unlabelled_one_named_atlas_env() {
    let text = "env {\n name = atlas.env\n schema {\n repo {\n name = \"dynamic\"\n}\n}\n}\n\
                env \"x\" {\n schema {\n repo {\n name = \"labelled\"\n}\n}\n}\n";
    assert_eq!(shown(&eval(text).unwrap()), ["labelled atlas:// "]);
    let config = eval_with(text, Some("y"), &[], &environment).unwrap();
    assert_eq!(shown(&config), ["dynamic atlas:// "]);
    assert_eq!(config.envs[0].name, "y");
}

#[test]
fn an_unlabelled_env_is_chosen_by_the_value_of_its_name() {
    let chosen = |name: &str| {
        let text = format!(
            "locals {{\n p = \"x\"\n e = atlas.env\n}}\nenv {{\n name = {name}\n schema {{\n repo {{\n name = \
             \"app\"\n}}\n}}\n}}\n"
        );
        eval(&text).map(|config| config.envs.len())
    };
    for name in [
        "atlas.env",
        "(atlas.env)",
        "\"${atlas.env}\"",
        "lower(\"X\") == atlas.env ? atlas.env : \"other\"",
        "atlas.env == \"x\" ? \"x\" : \"dev\"",
        "format(\"%s\", atlas.env)",
        "local.e",
        "\"${local.e}\"",
        "join(\"\", [local.p, trimprefix(atlas.env, \"x\")])",
        "{ x = \"x\", y = \"z\" }[atlas.env]",
        "<<-EOT\n  ${chomp(atlas.env)~}\n  EOT\n",
    ] {
        assert_eq!(chosen(name).unwrap(), 1, "{name}");
    }
    for name in [
        "upper(atlas.env)",
        "\"${atlas.env}-eu\"",
        "atlas.env == \"y\" ? \"x\" : \"dev\"",
        "[atlas.env]",
    ] {
        let message = chosen(name).unwrap_err().to_string();
        assert!(
            message.contains(
                "env \"x\" not defined in config file \"atlas.hcl\": the name of its env block \
                 (atlas.hcl:5:1) changes with --env x"
            ),
            "{name}: {message}"
        );
    }
    for name in ["\"x\"", "var.x", "atlas[\"x\"]"] {
        let message = chosen(name).unwrap_err().to_string();
        assert!(
            message.contains("it has no env blocks with a label"),
            "{name}: {message}"
        );
    }
    let message = chosen("\"${atlas.env}${data.sql.x.y}\"").unwrap_err();
    let message = message.to_string();
    assert!(
        message.contains("the name of an env needs data.sql.x"),
        "{message}"
    );
    let message = refusal("env {\n url = \"a\"\n}");
    assert!(
        message.contains("all envs must have names on file \"atlas.hcl\""),
        "{message}"
    );
}

#[test]
fn a_repo_block_can_refer_to_the_blocks_around_it() {
    let text = "store \"a\" {\n url = \"s3://file\"\n}\nenv \"x\" {\n bucket = \"gs://own\"\n store \"a\" \
                {\n url = \"s3://env\"\n }\n schema {\n repo {\n name = \"app\"\n url = \
                store.a.url\n backup = [env.x.bucket]\n }\n }\n}\n";
    assert_eq!(shown(&eval(text).unwrap()), ["app s3://env gs://own"]);
    let outside = text.replace(" store \"a\" {\n url = \"s3://env\"\n }\n", "");
    assert_eq!(shown(&eval(&outside).unwrap()), ["app s3://file gs://own"]);
    let other = text.replace("env.x.bucket", "env.y.bucket") + "env \"y\" {\n bucket = \"b\"\n}\n";
    let message = refusal(&other);
    assert!(message.contains("no such attribute \"y\""), "{message}");
}

#[test]
fn a_repo_block_needs_only_the_attribute_that_it_names() {
    let text = "locals {\n app = {\n token = data.external.t\n name = \"app\"\n urls = [\"s3://b\", \
                data.sql.u]\n }\n}\n";
    let found = |body: &str| eval(&(text.to_string() + &repo(body)));
    let config = found("name = local.app.name\nurl = local.app.urls[0]").unwrap();
    assert_eq!(shown(&config), ["app s3://b "]);
    let message = found("name = local.app.name\nbackup = local.app.urls").unwrap_err();
    assert!(
        message
            .to_string()
            .contains("schema.repo of env \"x\" needs data.sql.u"),
        "{message}"
    );
}

#[test]
fn repeated_env_blocks_of_a_name_are_all_taken() {
    let text = repo("name = \"a\"") + &repo("name = \"b\"") + &repo("name = \"a\"");
    let config = eval(&text).unwrap();
    assert_eq!(config.envs.len(), 3);
    assert_eq!(shown(&config), ["a atlas:// ", "b atlas:// "]);
}

#[test]
fn other_envs_and_what_a_mount_does_not_need_are_never_evaluated() {
    let text = "env \"y\" {\n  url = broken(\n1)\n}\nlocals {\n  bad = nope(1)\n  worse = \
                data.x.y\n}\nvariable \"unset\" {\n  type = string\n}\nlint {\n  a = \
                nope()\n}\n"
        .to_string()
        + "env \"x\" {\n  url = nope(local.bad)\n  dev = data.a.b.url\n  src = var.unset\n  schema \
           {\n    src = nope()\n    mode {\n      a = nope()\n    }\n    repo {\n      name = \
           \"app\"\n    }\n  }\n  diff {\n    a = nope()\n  }\n}\n";
    assert_eq!(shown(&eval(&text).unwrap()), ["app atlas:// "]);
}

#[test]
fn a_data_source_that_nothing_kept_needs_is_left_alone() {
    let config = load(&source(fixture("sources"), Some("local")), &environment).unwrap();
    assert_eq!(shown(&config), ["app atlas:// "]);
}

#[test]
fn a_data_source_that_a_repo_block_needs_is_refused_by_name() {
    let error = load(&source(fixture("sources"), Some("slug")), &environment).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(
            "schema.repo of env \"slug\" needs data.external_schema.app, which atlasfs does not \
             evaluate"
        ),
        "{message}"
    );
    assert_eq!(error.place().unwrap().line, 13, "{message}");
    // `try` would use another value than Atlas does.
    let message = refusal(&repo("name = try(data.external_schema.prisma.url, \"a\")"));
    assert!(
        message.contains("schema.repo of env \"x\" needs data.external_schema.prisma"),
        "{message}"
    );
}

#[test]
fn a_for_each_that_no_repo_block_refers_to_does_no_harm() {
    let text = "env \"x\" {\n for_each = toset(data.sql.tenants.values)\n url = each.value\n schema {\n \
                src = each.value\n repo {\n name = NAME\n }\n }\n}\n";
    let config = eval(&text.replace("NAME", "\"app\"")).unwrap();
    assert_eq!(shown(&config), ["app atlas:// "]);
    let message = refusal(&text.replace("NAME", "\"app-${each.value}\""));
    assert!(
        message.contains("for_each of env \"x\" needs data.sql.tenants"),
        "{message}"
    );
}
