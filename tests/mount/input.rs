//! Mistakes with Google Cloud Storage: `check` and the mount name the mistake and the remedy in one
//! line.

use std::process::Command;

use serde_json::Value;

use super::home::Home;
use super::mounted::Mounted;
use super::program::run;
use super::support::server::{Kind, Server};
use super::support::service::{How, Service};
use super::support::token;

/// A URL, variables that are set or (without a value) unset, and the expected texts.
pub struct Case {
    pub url: String,
    pub env: Vec<(&'static str, Option<String>)>,
    pub says: Vec<String>,
}

/// Makes a case; the value `-` stands for an unset variable.
pub fn case(url: impl Into<String>, env: &[(&'static str, &str)], says: &[&str]) -> Case {
    let set = |(name, value): &(&'static str, &str)| {
        (*name, Some((*value).to_owned()).filter(|v| v != "-"))
    };
    Case {
        url: url.into(),
        env: env.iter().map(set).collect(),
        says: says.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// Sets a command's variables.
pub fn within(case: &Case, mut command: Command) -> Command {
    for (name, value) in &case.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Asserts that both `check` and the mount report a mistake in one line with all expected texts,
/// and show no secret.
#[track_caller]
pub fn is_told(home: &Home, case: &Case, secrets: &[&str]) {
    let says_all = |text: &str| {
        let mut lines = text.lines();
        lines.any(|line| case.says.iter().all(|part| line.contains(part)))
    };
    let shows_none = |text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret), "{}: {secret} in {text}", case.url);
        }
    };
    let args = ["--registry", &*case.url, "--timeout", "5s"];
    let ran = run(&mut within(
        case,
        home.atlasfs(["check"].iter().chain(&args)),
    ));
    let text = format!("{}{}", ran.text(), ran.stderr);
    assert_eq!(ran.code, Some(1), "{}: {ran}", case.url);
    assert!(
        says_all(&text),
        "{}: no {:?} in one line of {ran}",
        case.url,
        case.says
    );
    shows_none(&text);
    let ran = run(&mut within(case, home.mounting("mnt", &args[..2])));
    if ran.code == Some(0) {
        Mounted::at(home.clone(), &home.path("mnt")).unmount();
    }
    // Only `check` adds a remedy to a store's answer; the mount quotes the answer.
    let first = &case.says[..1];
    assert!(
        ran.stderr
            .lines()
            .any(|line| first.iter().all(|part| line.contains(part))),
        "{}: no {first:?} in {ran}",
        case.url
    );
    shows_none(&ran.stderr);
}

/// Asserts that reads and writes of a store work.
#[track_caller]
pub fn works(home: &Home, case: &Case) {
    let args = ["check", "--write", "--json", "--registry", &*case.url];
    let ran = run(&mut within(case, home.atlasfs(args))).ok();
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(report["targets"][0]["writable"], true, "{report:#}");
    assert_eq!(
        report["targets"][0]["conditional_writes"], true,
        "{report:#}"
    );
}

/// Returns the host and port of a server.
pub fn host(server: &Server) -> String {
    server.addr().to_string()
}

#[test]
fn a_mistake_about_google_is_reported_without_a_request() {
    let home = Home::new();
    const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    let nowhere = ("STORAGE_EMULATOR_HOST", "127.0.0.1:9");
    let key = std::fs::read_to_string(token::key_file()).unwrap();
    let cut = key.replacen("-----END", "-----EN", 1);
    let middle = key.find("PRIVATE KEY-----\\n").unwrap() + 60;
    let short = format!("{}{}", &key[..middle], &key[middle + 300..]);
    let path = |name: &str, content: &str| {
        let path = home.file(name, content);
        path.to_str().unwrap().to_owned()
    };
    let long = "a".repeat(64);
    let mut cases: Vec<Case> = ["Acme", "ab", "-ab", "ab-", "a..b", &long]
        .iter()
        .map(|name| {
            let says = ["invalid bucket name", "3 to 63 lower-case letters"];
            case(format!("gs://{name}"), &[nowhere], &says)
        })
        .collect();
    for name in ["goog-backup", "192.168.5.4"] {
        let says = ["Google allows no address, and no name that begins with goog"];
        cases.push(case(format!("gs://{name}"), &[nowhere], &says));
    }
    let url = "gs://acme-backup";
    for (content, says) in [
        ("s3cret", "is not json"),
        ("{}", "has no type"),
        (
            "{\"type\": \"external_account\"}",
            "unsupported type external_account",
        ),
        (
            "{\"type\": \"authorized_user\", \"client_id\": \"c\"}",
            "has no client_secret",
        ),
        (
            &*cut,
            "private_key of the credentials file can't be read: download the key again",
        ),
        (
            &*short,
            "private_key of the credentials file can't be read: download the key again",
        ),
        (
            "{\"type\": \"authorized_user\", \"client_id\": \"c\", \"client_secret\": \"s3cret\", \
             \"refresh_token\": \"s3cret\", \"token_uri\": \"http://accounts.example/s3cret\"}",
            "its token_uri must be https",
        ),
        (
            "{\"type\": \"authorized_user\", \"client_id\": \"c\", \"client_secret\": \"s3cret\", \
             \"refresh_token\": \"s3cret\", \"universe_domain\": \"apis.example\"}",
            "set universe_domain to match",
        ),
    ] {
        let number = cases.len();
        let file = path(&format!("key-{number}.json"), content);
        cases.push(case(url, &[(FILE, &file)], &[says]));
    }
    for (file, says) in [
        ("/nonexistent/key.json", "No such file"),
        ("/etc", "it is not a file"),
        ("/dev/zero", "it is not a file"),
    ] {
        cases.push(case(url, &[(FILE, file)], &[FILE, file, says]));
    }
    for host in [
        "ftp://h",
        "http://h/path",
        "h/path",
        "http://me:s3cret@h",
        "two words",
        "http://",
    ] {
        let says = ["STORAGE_EMULATOR_HOST must be host:port"];
        cases.push(case(url, &[("STORAGE_EMULATOR_HOST", host)], &says));
    }
    cases.extend([
        case(
            url,
            &[("GCE_METADATA_HOST", "-")],
            &[
                "no credentials: set GOOGLE_APPLICATION_CREDENTIALS",
                "gcloud auth",
            ],
        ),
        case(
            url,
            &[("GCE_METADATA_HOST", "http://metadata.google.internal/")],
            &["GCE_METADATA_HOST must be a host name"],
        ),
        case(
            "gs://acme-backup/50%/x",
            &[nowhere],
            &["path is not percent-encoded"],
        ),
        case(
            "gs://acme-backup/a//b",
            &[nowhere],
            &["empty segment (//): remove one slash"],
        ),
        case(
            "gs://acme-backup?anonymus=true",
            &[nowhere],
            &["unknown parameter \"anonymus\" (did you mean \"anonymous\"?)"],
        ),
        case(url, &[nowhere], &["connection refused", "nothing listens"]),
    ]);
    for case in &cases {
        is_told(&home, case, &["s3cret", "BEGIN PRIVATE KEY"]);
    }
}

#[test]
fn a_refusal_of_google_is_reported_with_a_remedy() {
    let home = Home::new();
    let server = Server::shared(Kind::Gcs);
    let bucket = server.bucket();
    const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    let service = Service::start();
    let login = serde_json::json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "s3cret",
        "refresh_token": "s3cret", "token_uri": service.url("/token"),
    });
    let login = home.file("login.json", login.to_string());
    let stranger = home.file("stranger.json", token::new_key());
    let [login, stranger] = [&login, &stranger].map(|path| path.to_str().unwrap());
    let (own, here) = ((FILE, token::key_file()), host(&server));
    let here = ("STORAGE_EMULATOR_HOST", &*here);
    let url = format!("gs://{bucket}");
    service.set(How::Say(
        400,
        "{\"error\": \"invalid_grant\", \"error_description\": \"Bad\"}",
    ));
    for case in [
        case(
            "gs://no-such-bucket",
            &[own, here],
            &["404 NoSuchBucket", "create the bucket"],
        ),
        case(
            &url,
            &[(FILE, stranger), here],
            &["401 AuthenticationRequired", "permission for listing"],
        ),
        case(
            &url,
            &[(FILE, login), here],
            &["400 invalid_grant: Bad (log in again: gcloud auth application-default login)"],
        ),
        case(
            &url,
            &[
                own,
                ("STORAGE_EMULATOR_HOST", &format!("https://{}", here.1)),
            ],
            &["is http meant, or another port?"],
        ),
    ] {
        is_told(&home, &case, &["s3cret", "BEGIN PRIVATE KEY"]);
    }
    for prefix in ["", "/", "/pre/", "/50%25/x%20y/"] {
        works(&home, &case(format!("{url}{prefix}"), &[own, here], &[]));
    }
}
