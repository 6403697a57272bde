//! `repo` blocks, and the block of Atlas Cloud.

use super::*;
use crate::store::Location;

#[test]
fn a_repo_block_names_a_repository_its_registry_and_its_backups_in_order() {
    let config = load(&source(fixture("backups"), Some("prod")), &environment).unwrap();
    let expected = [
        "shop atlas:// s3://acme-backups/registry?region=eu-central-1 gs://acme-backups-2/registry",
        "shop-migrations s3://acme-registry/atlas?region=eu-central-1&use_path_style=true \
         file:///srv/backup/atlas",
    ];
    assert_eq!(shown(&config), expected);
    let config = load(&source(fixture("backups"), Some("ci")), &environment).unwrap();
    assert_eq!(shown(&config), expected[..1]);
    assert_eq!(config.envs.len(), 1);
    assert_eq!(config.envs[0].name, "ci");
}

#[test]
fn a_wrong_repo_block_is_refused_with_its_place() {
    for (body, reason) in [
        (
            "",
            "atlas.hcl:3:5: schema.repo of env \"x\": it has no name",
        ),
        (
            "name = \"\"",
            "atlas.hcl:4:8: schema.repo of env \"x\": invalid name \"\": it is empty",
        ),
        (
            "name = \"a/b\"",
            "atlas.hcl:4:8: schema.repo of env \"x\": invalid name \"a/b\"",
        ),
        ("name = 1", "name must be a string, it is a number"),
        ("name = null", "name must be a string, it is null"),
        (
            "name = \"a\"\nbackups = []",
            "atlas.hcl:5:1: schema.repo of env \"x\": unknown attribute \"backups\" (did you mean \"backup\"?)",
        ),
        ("name = \"a\"\nbackup {\n}", "unknown block \"backup\""),
        (
            "name = \"a\"\nbackup = \"s3://b\"",
            "backup must be a list of strings, it is a string",
        ),
        ("name = \"a\"\nname = \"b\"", "atlas.hcl:5:"),
        (
            "name = \"a\"\nbackup = [1]",
            "atlas.hcl:5:11: schema.repo of env \"x\": backup[0] must be a string",
        ),
        (
            "name = \"a\"\nbackup = [\n\"s3://b\",\ngetenv(\"UNSET\")]",
            "atlas.hcl:7:1: schema.repo of env \"x\": backup[1] is empty",
        ),
        (
            "name = \"a\"\nurl = \"\"",
            "url is empty: give it a value, or remove it to use Atlas Cloud",
        ),
        (
            "name = \"a\"\nurl = true",
            "url must be a string, it is a bool",
        ),
        (
            "name = \"a\"\nurl = \"s4://b\"",
            "atlas.hcl:5:7: url of schema.repo of env \"x\": target \"s4://b\" can't be used: unknown scheme",
        ),
        (
            "name = \"a\"\nbackup = [\"gs://b\", \"s3://b?sig=SECRET\"]",
            "atlas.hcl:5:21: backup of schema.repo of env \"x\": target \"s3://b?sig=…\"",
        ),
        (
            "name = \"a\"\nurl = \"s3://b/p\"\nbackup = [\"s3://b/p/\"]",
            "target \"s3://b/p/\" can't be used: this backup is the registry itself",
        ),
        (
            "name = \"a\"\nbackup = [\"gs://b/p\", \"gs://b?prefix=p\"]",
            "target \"gs://b?prefix=p\" can't be used: this backup is listed twice",
        ),
        ("name = getenv(\"REGISTRY\")", "invalid name"),
    ] {
        let message = refusal(&repo(body));
        assert!(message.contains(reason), "{body:?}: {message}");
    }
}

#[test]
fn a_null_backup_or_url_is_as_good_as_none() {
    let config = eval(&repo("name = \"a\"\nurl = null\nbackup = null")).unwrap();
    assert_eq!(shown(&config), ["a atlas:// "]);
}

#[test]
fn a_migration_directory_may_have_other_targets_than_its_schema() {
    let blocks = |migration: &str| {
        format!(
            "env \"x\" {{\n schema {{\n  repo {{\n   name = \"a\"\n   backup = \
             [\"gs://b\"]\n  }}\n }}\n migration {{\n  repo {{\n{migration}\n  }}\n }}\n}}"
        )
    };
    for (migration, expected) in [
        ("backup = [\"gs://b\"]", None),
        ("", Some("a atlas:// ")),
        ("backup = [\"gs://c\"]", Some("a atlas:// gs://c")),
        (
            "backup = [\"gs://b\"]\nurl = \"s3://r\"",
            Some("a s3://r gs://b"),
        ),
    ] {
        let config = eval(&blocks(&format!("name = \"a\"\n{migration}"))).unwrap();
        assert_eq!(shown(&config), ["a atlas:// gs://b"]);
        assert_eq!(config.envs[0].repos.len(), 2);
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(shown_repos(&config.migrations), expected, "{migration}");
    }
    let alone = "env \"x\" {\n migration {\n  repo {\n   name = \"a\"\n  }\n }\n}";
    let config = eval(alone).unwrap();
    assert_eq!(shown(&config), ["a atlas:// "]);
    assert!(config.migrations.is_empty());
    let both_envs = "env \"x\" {\n for_each = [1, 2]\n migration {\n  repo {\n   name = \"a\"\n   url = \
                     \"s3://m\"\n  }\n }\n schema {\n  repo {\n   name = \"a\"\n   url = \"s3://s\"\n  }\n }\n}";
    let config = eval(both_envs).unwrap();
    assert_eq!(shown(&config), ["a s3://s "]);
    assert_eq!(shown_repos(&config.migrations), ["a s3://m "]);
}

#[test]
fn two_schemas_of_one_name_merge_if_identical_and_conflict_otherwise() {
    for holder in ["schema", "migration"] {
        let both = |second: &str| {
            format!(
                "env \"x\" {{\n {holder} {{\n  repo {{\n   name = \"a\"\n   backup = \
                 [\"gs://b\"]\n  }}\n }}\n {holder} {{\n  repo {{\n{second}\n  }}\n }}\n}}"
            )
        };
        let config = eval(&both("name = \"a\"\nbackup = [\"gs://b\"]")).unwrap();
        assert_eq!(shown(&config), ["a atlas:// gs://b"]);
        for other in [
            "",
            "backup = [\"gs://c\"]",
            "backup = [\"gs://b\"]\nurl = \"s3://r\"",
        ] {
            let message = refusal(&both(&format!("name = \"a\"\n{other}")));
            assert!(
                message.starts_with(
                    "atlas.hcl:9:3: repository \"a\" has different targets here than at atlas.hcl:3:3"
                ),
                "{message}"
            );
        }
    }
}

#[test]
fn credentials_come_from_variables_and_are_never_shown() {
    let config = eval(&repo("name = \"a\"\nurl = getenv(\"REGISTRY\")")).unwrap();
    assert!(!format!("{config:?}").contains("SECRET"));
    match &config.repos[0].registry {
        Location::Oci(location) => {
            assert_eq!(location.credentials, Some(("me".into(), "SECRET".into())));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn atlas_cloud_is_read_only_for_a_registry_there() {
    let from_fixture = source(fixture("cloud"), Some("dev"));
    let config = load_cloud(&from_fixture, &environment).unwrap();
    assert_eq!(config.org.as_deref(), Some("acme"));
    assert_eq!(config.token, Some(Secret::new("SECRET")));
    assert!(!format!("{config:?}").contains("SECRET"));

    let text =
        "atlas {\n cloud {\n token = data.runtimevar.t\n url = \"https://c.example\"\n }\n}\n"
            .to_string()
            + &repo("name = \"a\"\nbackup = [\"s3://b\"]");
    assert_eq!(shown(&eval(&text).unwrap()), ["a atlas:// s3://b"]);

    let file =
        ConfigFile::parse("atlas.hcl".into(), PathBuf::from("/nowhere"), text.into()).unwrap();
    let read = |getenv| {
        let inputs = Inputs {
            env: Some("x"),
            vars: std::collections::BTreeMap::new(),
            getenv,
        };
        hcl::cloud(&scope(&file, &inputs)?)
    };
    let message = read(&environment).unwrap_err().to_string();
    assert!(
        message.contains(
            "atlas.cloud.token: atlasfs does not evaluate data.runtimevar.t: give the token in \
             ATLAS_TOKEN"
        ),
        "{message}"
    );
    let with_token = |name: &str| (name == "ATLAS_TOKEN").then(|| "T".to_string());
    let config = read(&with_token).unwrap();
    assert_eq!(config.token, Some(Secret::new("T")));
    assert_eq!(config.url.as_deref(), Some("https://c.example"));
}

#[test]
fn targets_from_flags_are_checked_like_those_of_the_file_and_have_no_credentials() {
    let flags = |registry: &str, backups: &[&str]| {
        let parse = || {
            let registry = parse_flag(registry)?;
            let backups = backups.iter().map(|url| parse_flag(url));
            let backups = backups.collect::<Result<Vec<_>, _>>()?;
            check_backups(&registry, &backups, &|_| None)?;
            Ok((registry.to_string(), backups.len()))
        };
        parse().map_err(|error: UrlError| error.to_string())
    };
    assert_eq!(
        flags("s3://b", &["gs://c", "gs://d"]),
        Ok(("s3://b".into(), 2))
    );
    for (registry, backups, reason) in [
        (
            "oci://u:SECRET@h/r",
            &[][..],
            "never come from the command line",
        ),
        (
            "s3://b",
            &["oci://u:SECRET@h/r"],
            "never come from the command line",
        ),
        (
            "s3://b",
            &["s3://b?region=x"],
            "this backup is the registry itself",
        ),
        (
            "s3://b",
            &["gs://c", "gs://c/"],
            "this backup is listed twice",
        ),
        (
            "file:///a",
            &["file://localhost/a/"],
            "this backup is the registry itself",
        ),
        (
            "azblob://c?storage_account=a",
            &["azureblob://c?storage_account=a"],
            "the registry itself",
        ),
        ("oci://h/r", &["oci://h/r/"], "the registry itself"),
        ("s3://b", &["nope"], "has no scheme"),
    ] {
        let message = flags(registry, backups).unwrap_err();
        assert!(message.contains(reason), "{message}");
        assert!(!message.contains("SECRET"), "{message}");
    }
}
