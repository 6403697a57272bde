//! Every secret of the tests, and the search for them.
//!
//! This is the only list: a test with a new fixed secret adds it here, and a test that makes one at
//! run time notes it. `scripts/test` searches the whole output of the suite for them, see `output`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::output;
use super::server::{ACCESS_KEY, SECRET_KEY};
use super::{azurite, registry};

/// The value of a variable of atlas.hcl.
pub const VARIABLE: &str = "hunter2-of-a-variable";
/// The token of Atlas Cloud in the environment.
pub const TOKEN: &str = "aci_bearer_token_of_atlas";
/// The prefixes of all other secrets in tests.
pub const MADE_UP: [&str; 2] = ["s3cret", "hunter2"];

/// Texts that only secrets follow: a header, a signature, a private key.
const MARKS: [&str; 8] = [
    "AWS4-HMAC-SHA256",
    "X-Amz-Signature",
    "x-amz-security-token",
    "SharedKey devstoreaccount1:",
    "Bearer ey",
    "Basic dGVzdGVy",
    "PRIVATE KEY-----",
    "&sig=",
];

/// The file of noted secrets in the output folder.
pub const NOTED: &str = "secrets";

/// Returns every fixed secret.
pub fn fixed() -> Vec<String> {
    let basic = STANDARD.encode(format!("{}:{}", registry::USER, registry::PASSWORD));
    let fixed = [
        SECRET_KEY,
        ACCESS_KEY,
        azurite::KEY,
        VARIABLE,
        TOKEN,
        &basic,
    ];
    let all = fixed.iter().chain(&MADE_UP);
    all.map(ToString::to_string).collect()
}

/// Records a secret that was made while the tests ran.
pub fn note(secret: &str) {
    let Some(folder) = output::folder() else {
        return;
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join(NOTED));
    let line = format!("{secret}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the list of secrets");
}

/// Returns the recorded secrets of a folder.
pub fn noted(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(NOTED)).unwrap_or_default();
    let mut noted: Vec<String> = text.lines().map(str::to_owned).collect();
    noted.sort();
    noted.dedup();
    noted.retain(|secret| !secret.is_empty());
    noted
}

/// A search for secrets, in every form that could leak.
#[derive(Debug)]
pub struct Search(AhoCorasick);

impl Search {
    /// Makes the search for secrets, and for texts that always stand before one.
    pub fn for_all(secrets: &[String]) -> Self {
        let mut forms: Vec<String> = MARKS.map(str::to_owned).into();
        for secret in secrets {
            forms.push(secret.clone());
            forms.push(encoded(secret, |byte| {
                byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte)
            }));
            forms.push(encoded(secret, |byte| byte.is_ascii_alphanumeric()));
            forms.push(STANDARD.encode(secret).trim_end_matches('=').to_owned());
        }
        forms.sort();
        forms.dedup();
        Self(AhoCorasick::new(forms).expect("a search"))
    }

    /// Returns the first secret in some bytes, with its line.
    pub fn find(&self, bytes: &[u8]) -> Option<(String, String)> {
        let found = self.0.find(bytes)?;
        let before = bytes[..found.start()]
            .iter()
            .rposition(|byte| *byte == b'\n');
        let begin = before.map_or(0, |line| line + 1);
        let rest = &bytes[found.start()..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.map_or(bytes.len(), |line| found.start() + line);
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        Some((text(&bytes[found.range()]), text(&bytes[begin..end])))
    }
}

fn encoded(secret: &str, stays: impl Fn(u8) -> bool) -> String {
    let bytes = secret.bytes();
    let each = bytes.map(|byte| match stays(byte) {
        true => (byte as char).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
}

/// Asserts that a text holds no secret.
#[track_caller]
pub fn shows_none(what: &str, text: &[u8]) {
    if let Some((secret, line)) = Search::for_all(&fixed()).find(text) {
        panic!("{secret} is in {what}: {line}");
    }
}
