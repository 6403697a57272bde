//! Every secret that the tests use, and the search for them.
//!
//! This is the one list: who brings a new secret into a test puts it here, or notes it when it is
//! made. `scripts/test` has all that the suite has printed searched for them, see `output`.

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
/// The prefix of every other secret that a test makes up.
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

/// Where noted secrets are written, in the folder of the suite's output.
pub const NOTED: &str = "secrets";

/// Returns every secret that is known beforehand.
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

/// Takes note of a secret that was made while the tests ran.
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

/// Returns the secrets that have been noted in a folder.
pub fn noted(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(NOTED)).unwrap_or_default();
    let mut noted: Vec<String> = text.lines().map(str::to_owned).collect();
    noted.sort();
    noted.dedup();
    noted.retain(|secret| !secret.is_empty());
    noted
}

/// A search for secrets, in every form in which one may slip out.
#[derive(Debug)]
pub struct Search(AhoCorasick);

impl Search {
    /// Makes the search for secrets and for what always stands before one.
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

    /// Returns the first secret in some bytes, with the line that it stands in.
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

/// Demands that a text holds no secret.
#[track_caller]
pub fn shows_none(what: &str, text: &[u8]) {
    if let Some((secret, line)) = Search::for_all(&fixed()).find(text) {
        panic!("{secret} is in {what}: {line}");
    }
}
