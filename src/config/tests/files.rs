//! The file itself: its URL, its syntax, and bytes that are not a configuration.

use crate::config::fuzz::Mutator;

use super::*;

#[test]
fn the_files_own_url_is_refused_in_atlass_words() {
    for (url, message) in [
        (
            "atlas.hcl",
            "missing scheme for config file. Did you mean file://atlas.hcl?",
        ),
        ("s3://b/atlas.hcl", "unsupported config file driver \"s3\""),
        ("file://", "names no file"),
        (
            "file://no/such.hcl",
            "config file \"no/such.hcl\" was not found: ",
        ),
        ("file:///", "is not a regular file"),
        ("file:///dev/zero", "is not a regular file"),
    ] {
        let error = load(&source(url.into(), None), &environment).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.place(), None);
    }
    let error = load(&ConfigSource::default(), &environment)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("config file \"atlas.hcl\" was not found"),
        "{error}"
    );
}

#[test]
fn a_malformed_var_is_refused_in_atlass_words_and_its_value_is_not_shown() {
    for (var, shown) in [("x", "x"), ("", ""), ("=SECRET", "=…"), ("a=b,c", "a=…")] {
        let error = eval_with("", None, &[var], &environment).unwrap_err();
        let expected = format!("variables must be format as key=value, got: {shown:?}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_syntax_error_has_its_exact_place() {
    for (text, place) in [
        (
            "env \"x\" {\n  url = \n}\n",
            "atlas.hcl:2:9: not valid HCL: ",
        ),
        ("é = 1 2", "atlas.hcl:1:7: not valid HCL: "),
    ] {
        let message = refusal(text);
        assert!(message.starts_with(place), "{message}");
    }
    let bytes = b"a = 1\nb = \xff".to_vec();
    let error = ConfigFile::parse("f".into(), PathBuf::new(), bytes)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "f:2:5: not valid HCL: invalid UTF-8: save the file as UTF-8"
    );
}

#[test]
fn a_byte_order_mark_and_crlf_are_fine() {
    let text = "\u{feff}".to_string() + &repo("name = \"a\"").replace('\n', "\r\n");
    assert_eq!(shown(&eval(&text).unwrap()), ["a atlas:// "]);
}

#[test]
fn a_file_is_read_as_hashicorps_parser_reads_it() {
    for text in [
        repo("name = \"a\"") + "x = <<SQL\nCREATE\nSQL SECURITY INVOKER\nSQL\n",
        repo("name = [\n  for x in [\"a\"] # c\n  : x\n  ][0]"),
        repo("name = \"a\"") + "x = 1 # the end\r",
    ] {
        assert_eq!(shown(&eval(&text).unwrap()), ["a atlas:// "], "{text}");
    }
    let text = repo("name = \"a\"") + "x = [\n1,\n2]\ny = <<SQL\nSQL x\n";
    let message = refusal(&text);
    assert!(message.contains("this heredoc has no end"), "{message}");
    assert!(refusal("x = y.0.1\n").starts_with("atlas.hcl:1:7: not valid HCL: "));
}

#[test]
fn the_last_of_an_objects_equal_keys_counts() {
    let text =
        "locals {\n x = {\n  é = \"b\", name = \"b\"\n  name = \"c\" # c\n  name : \"a\",\n }\n}\n";
    let text = text.to_string() + &repo("name = local.x.name");
    assert_eq!(shown(&eval(&text).unwrap()), ["a atlas:// "]);
    // Blanks replace an overridden item, so later positions stay the same.
    let message = refusal("x = { é = <<E\nx\nE\n é = 1, é = 2 }\ny = { z = 1, z = 2 ]\n");
    assert!(message.starts_with("atlas.hcl:5:20: "), "{message}");
}

#[test]
fn hcl_beyond_the_parser_is_refused_with_advice() {
    for (text, expected) in [
        (
            format!("x = [\n1]\ny = {}1{}\n", "(".repeat(65), ")".repeat(65)),
            "3:70: HCL that atlasfs can't read: more than 64 levels are nested here: move an inner \
             part to a local",
        ),
        (
            format!("x = 1\n\ny = 1{}\n", " + 1".repeat(129)),
            "3:519: HCL that atlasfs can't read: more than 128 operators are chained here: move a \
             part of the expression to a local",
        ),
        (
            "x = {\n (1) = 1\n ( 1 ) = 2\n}\n".into(),
            "3:2: HCL that atlasfs can't read: this object already has the key, in another \
             spelling: remove one of them",
        ),
    ] {
        assert_eq!(refusal(&text), format!("atlas.hcl:{expected}"));
    }
    let text = format!("x = {}1{}\n", "(".repeat(64), ")".repeat(64));
    let text = text + &format!("y = 1{}\n", " + 1".repeat(128)) + &repo("name = \"a\"");
    assert_eq!(shown(&eval(&text).unwrap()), ["a atlas:// "]);
}

#[test]
fn utf_16_is_refused_by_name() {
    let bytes = b"\xff\xfea\0=\0b\0".to_vec();
    let parsed = ConfigFile::parse("f".into(), PathBuf::new(), bytes);
    let message = parsed.err().unwrap().to_string();
    assert_eq!(message, "f:1:1: the file is UTF-16; save it as UTF-8");
}

#[test]
fn a_large_file_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("atlas.hcl");
    std::fs::write(&path, vec![b'\n'; 128 * 1024 + 1]).unwrap();
    let url = format!("file://{}", path.display());
    let message = load(&source(url, None), &environment)
        .unwrap_err()
        .to_string();
    assert!(message.contains("is larger than 131072 bytes"), "{message}");
}

#[test]
fn no_bytes_panic_and_every_load_ends_quickly() {
    let mut seeds: Vec<Vec<u8>> = ["backups", "sources", "tenants", "cloud"]
        .iter()
        .map(|name| std::fs::read(fixture(name).trim_start_matches("file://")).unwrap())
        .collect();
    seeds.push(
        repo(
            "name = try(format(\"%5.2f-%s\", 1 + 2 * 3, join(\"-\", [for k, v in {a = 1} : \
             \"${k}${v}\" if v != 2])), \"x\")\nbackup = concat(local.b, [for i in range(3): \
             \"s3://b${i}\"], setproduct([1,2],[3])[*][0], \
             [jsonencode({a=[1]})])\nurl = <<-EOT\n  %{ for x in [1,2] ~}\n  a${x}\n  %{ endfor \
             ~}\n  EOT",
        )
        .into_bytes(),
    );
    let mut random = Mutator::new(42);
    let mut slowest = std::time::Duration::ZERO;
    for round in 0..6_000 {
        let bytes = random.mutate(&seeds[round % seeds.len()]);
        let env = ["prod", "local", "eu", "dev", "x", "slug"][random.below(6)];
        let started = std::time::Instant::now();
        let file = ConfigFile::parse("f".into(), PathBuf::from("/nonexistent"), bytes);
        if let Ok(file) = file {
            let vars = hcl::parse_vars(&["bucket=b".into()]).unwrap();
            let inputs = Inputs {
                env: Some(env),
                vars,
                getenv: &environment,
            };
            if let Err(error) = evaluate(&file, &inputs) {
                let message = error.to_string();
                assert!(!message.contains("SECRET"), "{message}");
                assert!(!message.contains('\n'), "{message:?}");
            }
        }
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest.as_secs() < 10, "{slowest:?}");
}
