//! Functions on patterns, URLs, times and files, with their values.

use super::{check, refuse, run};

#[test]
fn regular_expressions_give_strings_lists_or_objects() {
    check(&[
        ("regex(\"[a-z]+\", \"12ab34\")", "\"ab\""),
        ("regex(\"([a-z])([0-9])?\", \"ab\")", "[\"a\",null]"),
        (
            "regex(\"(?P<k>[a-z]+)=(?P<v>.*)\", \"a=1\")",
            "{\"k\":\"a\",\"v\":\"1\"}",
        ),
        ("regexall(\"[0-9]+\", \"1 22\")", "[\"1\",\"22\"]"),
        ("regexall(\"x\", \"\")", "[]"),
        (
            "regexreplace(\"a-b\", \"([a-z])-([a-z])\", \"$2-$${1}\")",
            "\"b-a\"",
        ),
        ("regexpescape(\"a.b\")", "\"a\\\\.b\""),
    ]);
    refuse(&[
        (
            "regex(\"x\", \"SECRET\")",
            "pattern did not match any part of the given string",
        ),
        ("regex(\"(\", \"\")", "not a valid regular expression"),
        (
            "regex(\"((a{1000}){1000}){1000}\", \"\")",
            "the pattern is too large",
        ),
    ]);
}

#[test]
fn url_functions_split_and_join_as_go_does() {
    check(&[
        ("urlescape(\"a b&c/é\")", "\"a+b%26c%2F%C3%A9\""),
        (
            "urlqueryset(\"s3://b/p?z=1&a=x%20y\", \"region\", \"eu west\") == \"s3://b/p?a=x+y&region=eu+west&z=1\"",
            "true",
        ),
        (
            "urlqueryset(\"mysql://u:p@h:3306/d#f\", \"k\", \"v\")",
            "\"mysql://u:p@h:3306/d?k=v#f\"",
        ),
        (
            "urlsetpath(\"s3://b/old?x=1\", \"new/p q\")",
            "\"s3://b/new/p%20q?x=1\"",
        ),
        (
            "urluserinfo(\"oci://h/r\", \"me\", \"t@k/n\")",
            "\"oci://me:t%40k%2Fn@h/r\"",
        ),
        (
            "urluserinfo(\"oci://old:x@h/r\", \"me\")",
            "\"oci://me@h/r\"",
        ),
        (
            "urluserinfo(\"oci://h/r\", \"me\", null)",
            "\"oci://me@h/r\"",
        ),
    ]);
    refuse(&[("urlescape([])", "must be a string")]);
}

#[test]
fn time_functions_format_and_add() {
    check(&[
        (
            "formatdate(\"DD MMM YYYY hh:mm ZZZ\", \"2018-01-02T23:12:01Z\")",
            "\"02 Jan 2018 23:12 UTC\"",
        ),
        (
            "formatdate(\"EEEE, DD-MMM-YY H:mmaa 'it''s' ZZZZZ\", \"2018-01-02T23:12:01-08:00\")",
            "\"Tuesday, 02-Jan-18 11:12pm it's -08:00\"",
        ),
        (
            "timeadd(\"2017-11-22T00:00:00Z\", \"1h30m\")",
            "\"2017-11-22T01:30:00Z\"",
        ),
        (
            "timeadd(\"2017-11-22T00:00:00Z\", \"-24h\")",
            "\"2017-11-21T00:00:00Z\"",
        ),
    ]);
    refuse(&[
        (
            "formatdate(\"Q\", \"2018-01-02T23:12:01Z\")",
            "unknown format letters \"Q\"",
        ),
        (
            "formatdate(\"'x\", \"2018-01-02T23:12:01Z\")",
            "a ' has no closing '",
        ),
        ("formatdate(\"D\", \"yesterday\")", "not an RFC 3339 time"),
        (
            "timeadd(\"2017-11-22T00:00:00Z\", \"1d\")",
            "not a duration",
        ),
        (
            "timeadd(\"2017-11-22T00:00:00Z\", \"9999999999h\")",
            "not a duration",
        ),
    ]);
}

#[test]
fn file_functions_are_relative_to_the_configurations_folder() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    std::fs::create_dir_all(dir.path().join("s/t")).unwrap();
    for name in ["a.sql", "b.sql", "c.txt", "s/d.sql", "s/t/e.sql"] {
        std::fs::write(dir.path().join(name), format!("in {name}")).unwrap();
    }
    let run = |expression: &str| {
        let text = format!("result {{\n is = {expression}\n}}\n");
        run(&text, root, &[]).map(|json| json.replace(root, "R"))
    };
    for (expression, expected) in [
        ("file(\"a.sql\")", "\"in a.sql\""),
        ("file(\"./s/../c.txt\")", "\"in c.txt\""),
        ("glob(\"*.sql\")", "[\"R/a.sql\",\"R/b.sql\"]"),
        (
            "fileset(\"**/*.sql\")",
            "[\"R/a.sql\",\"R/b.sql\",\"R/s/d.sql\",\"R/s/t/e.sql\"]",
        ),
        (
            "fileset(\"{[ab].sql,?.txt}\")",
            "[\"R/a.sql\",\"R/b.sql\",\"R/c.txt\"]",
        ),
        ("glob(\"[!a].sql\")", "[\"R/b.sql\"]"),
        ("glob(\"nothing*\")", "[]"),
    ] {
        assert_eq!(run(expression).as_deref(), Ok(expected), "{expression}");
    }
    for (expression, reason) in [
        ("file(\"none\")", "can't be read: No such file"),
        ("file(\".\")", "is not a regular file"),
        ("file(\"/dev/zero\")", "is not a regular file"),
        ("file(\"a\\u0000b\")", "NUL"),
    ] {
        let message = run(expression).unwrap_err();
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn every_function_that_atlas_has_is_known() {
    let names = "file fileset glob getenv abs alltrue can ceil chomp chunklist coalescelist compact \
                 concat contains csvdecode distinct element empty endswith flatten floor format \
                 formatdate formatlist indent index join jsondecode jsonencode yamldecode \
                 yamlencode yamlmerge keys length log lower max merge min parseint pow print range \
                 regex regexall regexpescape regexreplace replace reverse setintersection \
                 setproduct setsubtract setunion signum slice sort split startswith strrev substr \
                 timeadd title tobool tolist tonumber toset tostring trim trimprefix trimspace \
                 trimsuffix try upper urlescape urluserinfo urlqueryset urlsetpath values zipmap \
                 sql";
    let own = ["try", "can"];
    let unknown: Vec<&str> = names
        .split_whitespace()
        .filter(|name| !own.contains(name))
        .filter(|name| {
            super::super::funcs::find(name).is_none() && !super::super::funcs::is_left_out(name)
        })
        .collect();
    assert_eq!(unknown, [""; 0]);
}
