//! Common mistakes with a target: `check` and the mount name the mistake and the remedy in one
//! line.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use chrono::{TimeDelta, Utc};

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, run};
use super::store::schema;
use super::support::proxy::{Fault, Proxy};
use super::support::serve::Answering;
use super::support::server::{Kind, Server};

/// Runs `check`, and returns its output.
fn check(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = home.atlasfs(["check", "--timeout", "20s"]);
    run(command.args(args).envs(variables.iter().copied()))
}

/// Asserts that both `check` and the mount print a text in one line, and no secret.
#[track_caller]
fn both_say(args: &[&str], variables: &[(&str, &str)], part: &str) {
    let home = Home::new();
    let ran = check(&home, args, variables);
    // 2 is the code of errors in the command line itself.
    assert!(matches!(ran.code, Some(1 | 2)), "{args:?}: {ran}");
    is_one_line(&ran, part);
    let mut command = home.mounting("mnt", ["--metadata-timeout", "20s"]);
    let ran = mount(&home, command.args(args).envs(variables.iter().copied()));
    is_one_line(&ran, part);
}

/// Mounts if possible, and unmounts.
fn mount(home: &Home, command: &mut Command) -> Ran {
    let ran = run(command);
    if ran.code == Some(0) {
        drop(Mounted::at(home.clone(), &home.path("mnt")));
    }
    ran
}

#[track_caller]
fn is_one_line(ran: &Ran, part: &str) {
    let said = ran.text() + &ran.stderr;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(part)).collect();
    assert_eq!(lines.len(), 1, "{part:?} in: {ran}");
    assert!(!said.contains("s3cret"), "{ran}");
}

fn bucket_at(endpoint: &str) -> String {
    format!("s3://bucket/pre?use_path_style=true&endpoint={endpoint}")
}

/// Starts a server that gives the same answer to every request.
fn answering(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answering {
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let body = body.into();
    Answering::start(move |_| (status, headers.clone(), body.clone()))
}

/// Asserts the message about a store that gives the same answer to every request.
#[track_caller]
fn refuses(status: u16, headers: &[(&str, &str)], body: &str, part: &str) {
    let server = answering(status, headers, body);
    let url = bucket_at(&format!("http://{}", server.addr()));
    both_say(&["--registry", &url], &[], part);
}

#[test]
fn a_refusal_of_a_store_is_reported_with_a_remedy() {
    let date = |ahead: TimeDelta| {
        let date = Utc::now() - ahead;
        date.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    // Some seconds more: time passes until the dates are read.
    let early = date(TimeDelta::minutes(150) + TimeDelta::seconds(15));
    let late = date(-TimeDelta::minutes(1_530) - TimeDelta::seconds(45));
    let (early, late) = ([("Date", &*early)], [("Date", &*late)]);
    let skewed = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    let clock = |how| format!("(this machine's clock is {how}: correct it)");
    refuses(403, &early, skewed, &clock("2 h 30 min ahead"));
    refuses(403, &late, skewed, &clock("25 h 30 min behind"));
    refuses(403, &[], skewed, &clock("wrong"));
    let codes = "
        404 NoSuchBucket: 404 NoSuchBucket (create the bucket, or correct its name)
        400 InvalidBucketName: (invalid bucket name: use 3 to 63 lower-case
        400 ExpiredToken: (the session token has expired: get new credentials)
        403 InvalidAccessKeyId: (the store does not know this access key: correct it
        403 SignatureDoesNotMatch: (the secret key does not belong to the access key: correct it)";
    for line in codes.trim().lines() {
        let (answer, part) = line.split_once(": ").unwrap();
        let (status, code) = answer.trim().split_once(' ').unwrap();
        let body = format!("<Error><Code>{code}</Code></Error>");
        refuses(status.parse().unwrap(), &[], &body, part);
    }
    let region =
        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>";
    let part = "(the bucket is in eu-west-3: set region=eu-west-3)";
    refuses(400, &[], region, part);
    let page = [("Content-Type", "text/html; charset=utf-8")];
    let part = "(the answer is a web page, not a store's: correct the";
    refuses(200, &page, "<html>welcome</html>", part);
    refuses(404, &page, "<html>not found</html>", part);
    let plain = "Client sent an HTTP request to an HTTPS server.";
    refuses(400, &[], plain, "the server speaks https, not http");
}

#[test]
fn a_wrong_endpoint_is_reported_with_a_remedy() {
    let server = answering(200, &[], "");
    let plain = server.addr().to_string();
    for (endpoint, part) in [
        (
            "http://127.0.0.1:9".into(),
            "(nothing listens at 127.0.0.1:9: start the store, or correct",
        ),
        (
            format!("https://{plain}"),
            "does not speak https: is http meant",
        ),
        // The default scheme is https.
        (plain.clone(), "does not speak https: is http meant"),
        (
            "http://no-such-host.invalid".into(),
            "no-such-host.invalid has no address: check",
        ),
    ] {
        both_say(&["--registry", &bucket_at(&endpoint)], &[], part);
    }
    // The answer of OpenSSL's servers to a client without TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(&[0x15, 3, 1, 0, 2, 2, 70]);
        }
    });
    let url = bucket_at(&format!("http://{at}"));
    both_say(
        &["--registry", &url],
        &[],
        "does not speak http: is https meant",
    );
}

#[test]
fn a_url_that_can_never_work_is_refused_with_a_correction() {
    let urls = r#"
        s3:// | it names no bucket: write s3://bucket/prefix
        s3://bucket//pre | an empty segment (//): remove one slash
        s3://bucket/pre// | an empty segment (//): remove one slash
        s3://bucket/50% | write a percent sign as %25
        s3://bucket/%zz | write a percent sign as %25
        s3://bucket/a%2Fb | an encoded slash (%2F): write it as a slash
        s3://Bucket?region=eu-west-1 | 3 to 63 lower-case letters
        s3://me:s3cret@bucket | never from the command line
        s3://bucket?region=eu%20west | invalid region: write region=eu-west-1
        s3://bucket?region=eu west | white space
        s3://bucket?endpoint=ftp://h | must start with http:// or https://
        s3://bucket?endpoint=http://me:s3cret@h | credentials come from the provider's chain
        s3://bucket?regoin=x | (did you mean "region"?): known for s3 are region, endpoint
        s3://bucket?secret_key=s3cret | credentials come from the provider's own chain
        s3://bucket?region=a&region=b | parameter region appears twice: keep one
        s3://bucket?profile=nobody | there is no profile "nobody" in
        s3://bucket?role=admin | invalid role ARN: write arn:aws:iam::"#;
    for line in urls.trim().lines() {
        let (url, part) = line.trim().split_once(" | ").unwrap();
        both_say(&["--registry", url], &[], part);
    }
    let name = "AWS_SECRET_ACCESS_KEY";
    both_say(
        &["--registry", "s3://bucket"],
        &[(name, "s3cret\n")],
        "AWS_SECRET_ACCESS_KEY holds a",
    );
}

#[test]
fn a_slash_at_the_end_and_a_percent_sign_that_is_encoded_are_fine() {
    let (home, server) = (Home::new(), Server::shared(Kind::Moto));
    let bucket = server.bucket();
    server
        .inject(&bucket, "50%/app/schema", schema("a").as_bytes())
        .unwrap();
    for prefix in ["50%25", "50%25/"] {
        let url = format!(
            "s3://{bucket}/{prefix}?use_path_style=1&endpoint={}",
            server.endpoint()
        );
        let ran = check(&home, &["--json", "--registry", &url], &[]).ok();
        assert!(ran.text().contains("\"readable\": true"), "{url}: {ran}");
    }
}

#[test]
fn a_proxy_that_is_dead_is_named_without_its_password() {
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        let secure = name.to_lowercase().starts_with("https");
        let endpoint = if secure {
            "https://store.test"
        } else {
            "http://store.test"
        };
        let part = format!("it goes through the proxy http://127.0.0.1:9 of {name}: check that");
        let dead = [(name, "http://me:s3cret@127.0.0.1:9")];
        both_say(&["--registry", &bucket_at(endpoint)], &dead, &part);
    }
    let socks = [("ALL_PROXY", "socks5h://me:s3cret@127.0.0.1:9")];
    let part = "it goes through the proxy socks5h://127.0.0.1:9 of ALL_PROXY";
    both_say(
        &["--registry", &bucket_at("http://store.test")],
        &socks,
        part,
    );
    let wrong = [("https_proxy", "ftp://me:s3cret@h")];
    let part = "https_proxy is not a valid proxy: write http://host:port";
    both_say(
        &["--registry", &bucket_at("http://store.test")],
        &wrong,
        part,
    );
}

#[test]
fn a_working_proxy_is_used_and_its_own_refusal_is_reported() {
    let (home, server) = (Home::new(), Server::shared(Kind::Moto));
    let proxy = Proxy::start(server.addr());
    let through = format!(
        "http://me:s3cret@{}",
        proxy.endpoint().trim_start_matches("http://")
    );
    let bucket = server.bucket();
    let url = |endpoint: &str| format!("s3://{bucket}/pre?use_path_style=true&endpoint={endpoint}");
    let elsewhere = url("http://store.test:9000");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        proxy.forget();
        let ran = check(
            &home,
            &["--write", "--registry", &elsewhere],
            &[(name, &through)],
        )
        .ok();
        assert!(!ran.text().contains("s3cret"), "{ran}");
        let seen = proxy.requests();
        let whole = |path: &str| path.starts_with("http://store.test:9000/");
        assert!(
            seen.len() > 3 && seen.iter().all(|request| whole(&request.path)),
            "{seen:?}"
        );
        let user = "proxy-authorization: Basic bWU6czNjcmV0\n";
        assert!(
            seen.iter().all(|request| request.headers.contains(user)),
            "{seen:?}"
        );
    }
    // Requests to this machine and to excepted hosts don't use the proxy.
    proxy.forget();
    let here = url(&server.endpoint());
    check(&home, &["--registry", &here], &[("HTTP_PROXY", &through)]).ok();
    let except = [("HTTP_PROXY", &*through), ("no_proxy", ".test")];
    let ran = check(&home, &["--registry", &elsewhere], &except);
    is_one_line(&ran, "store.test:9000 has no address");
    assert!(proxy.requests().is_empty(), "{:?}", proxy.requests());

    let variables = [("HTTP_PROXY", &*through)];
    for (fault, part) in [
        (
            Fault::Status(407, None),
            "requires a user and a password: write HTTP_PROXY=http://user:password",
        ),
        (
            Fault::Status(503, None),
            "not from a store: check the proxy, or add the host to NO_PROXY",
        ),
    ] {
        proxy.set(fault);
        both_say(&["--registry", &elsewhere], &variables, part);
    }
    // For https, the client asks the proxy for a tunnel.
    let refusing = answering(403, &[], "");
    let through = format!("http://me:s3cret@{}", refusing.addr());
    let variables = [("HTTPS_PROXY", &*through)];
    let part = format!(
        "it goes through the proxy http://{} of HTTPS_PROXY",
        refusing.addr()
    );
    both_say(
        &["--registry", &url("https://store.test")],
        &variables,
        &part,
    );
}

#[test]
fn a_backup_in_the_place_of_another_target_is_refused_with_both_names() {
    let home = Home::new();
    let folder = home.folder("store");
    std::os::unix::fs::symlink(&folder, home.path("link")).unwrap();
    let url = |name: &str| format!("file://{}", home.path(name).display());
    let (store, link, inner) = (url("store"), url("link"), url("link/inner"));
    let elsewhere = url("elsewhere");
    let s3 = "s3://bucket/atlas?region=us-east-1";
    for (registry, backups, named, part) in [
        (&*store, &[&*link][..], &*store, "is the registry itself"),
        (&store, &[&inner], &store, "lies inside the registry"),
        (&inner, &[&store], &inner, "contains"),
        (&elsewhere, &[&store, &link], &store, "is listed twice"),
        (
            s3,
            &["s3://bucket/atlas/?use_path_style=true&endpoint=s3.eu-west-1.amazonaws.com"],
            s3,
            "is the registry itself",
        ),
        (
            s3,
            &["s3://bucket/atlas/backup"],
            s3,
            "lies inside the registry",
        ),
        (
            &store,
            &[s3, "s3://bucket?region=eu-west-1"],
            s3,
            "contains",
        ),
        (
            "gs://bucket",
            &["gs://bucket/?universe_domain=googleapis.com"],
            "gs://bucket",
            "is the registry itself",
        ),
        (
            "azblob://container?storage_account=a",
            &["azureblob://container/?storage_account=a"],
            "azblob://container?storage_account=a",
            "is the registry itself",
        ),
        (
            "oci://h/r",
            &["oci://H:443/r/"],
            "oci://h/r",
            "is the registry itself",
        ),
    ] {
        let mut args = vec!["--registry", registry];
        args.extend(backups.iter().flat_map(|backup| ["--backup", *backup]));
        both_say(&args, &[], part);
        let last = backups.last().unwrap();
        let ran = check(&home, &args, &[]);
        let said = ran.stderr.lines().find(|line| line.contains(part)).unwrap();
        assert!(said.contains(last) && said.contains(named), "{said}");
    }
    // The same in a configuration file, and with additional flags.
    let config = format!(
        "env \"prod\" {{\n schema {{\n repo {{\n name = \"app\"\n url = \"{store}\"\n backup = \
         [\"{link}/\"]\n }}\n }}\n}}\n"
    );
    let file = format!("file://{}", home.file("atlas.hcl", &config).display());
    both_say(&["--config", &file, "--env", "prod"], &[], "atlas.hcl:6:");
    let config = config.replace(&format!("\"{link}/\""), &format!("\"{elsewhere}\""));
    let file = format!("file://{}", home.file("atlas.hcl", config).display());
    let args = ["--config", &file, "--env", "prod", "--backup", &inner];
    both_say(&args, &[], "repository app: target");
}
