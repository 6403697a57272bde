//! A service account of Google that exists in tests alone: its key file, and the tokens that its
//! key signs.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

use chrono::Utc;
use serde_json::{Value, json};

use super::secrets;

/// The account's name.
pub const ACCOUNT: &str = "tester@project.iam.gserviceaccount.com";

/// Returns the path of the test account's key file. Each process makes a new key.
pub fn key_file() -> &'static str {
    static FILE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key.json");
        std::fs::write(&path, new_key()).expect("a key file");
        let path = path.to_str().expect("utf-8").to_owned();
        (folder, path)
    });
    path
}

/// Makes the content of a key file, with a new key.
pub fn new_key() -> String {
    let args = [
        "genpkey",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ];
    let key = openssl(&args).stdout;
    let key = String::from_utf8_lossy(&key);
    for line in key.lines().filter(|line| !line.starts_with("-----")) {
        secrets::note(line);
    }
    json!({
        "type": "service_account",
        "client_email": ACCOUNT,
        "private_key_id": "the-key",
        "private_key": key,
    })
    .to_string()
}

fn openssl(args: &[&str]) -> Output {
    let ran = Command::new("openssl").args(args).output();
    ran.expect("openssl: run scripts/test, which installs it")
}

/// Returns whether a header has a token that the test account signed with its key, and that is
/// valid now.
pub fn is_ours(authorization: &str) -> bool {
    let token = authorization.strip_prefix("Bearer ").unwrap_or("");
    secrets::note(token);
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, signature] = parts[..] else {
        return false;
    };
    let json = |part| serde_json::from_slice(&unbase64(part)).unwrap_or_default();
    let (kind, about): (Value, Value) = (json(head), json(claims));
    let (from, to) = (about["iat"].as_i64(), about["exp"].as_i64());
    let now = Utc::now().timestamp();
    (&kind["alg"], &kind["kid"]) == (&json!("RS256"), &json!("the-key"))
        && (&about["iss"], &about["sub"]) == (&json!(ACCOUNT), &json!(ACCOUNT))
        && about["scope"]
            .as_str()
            .is_some_and(|scope| scope.contains("cloud-platform"))
        && from.is_some_and(|from| from <= now + 5)
        && to.is_some_and(|to| to > now && to <= now + 3605)
        && is_signed(&format!("{head}.{claims}"), &unbase64(signature))
}

/// Returns whether the test account's key made a signature. The results are cached.
fn is_signed(text: &str, signature: &[u8]) -> bool {
    static KNOWN: Mutex<BTreeSet<(String, Vec<u8>)>> = Mutex::new(BTreeSet::new());
    let both = (text.to_owned(), signature.to_vec());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.contains(&both) {
        return true;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.to_str().expect("utf-8").to_owned()
    };
    let key = std::fs::read(key_file()).expect("a key file");
    let key: Value = serde_json::from_slice(&key).expect("json");
    let key = file(
        "key",
        key["private_key"].as_str().expect("a key").as_bytes(),
    );
    let verified = openssl(&[
        "dgst",
        "-sha256",
        "-prverify",
        &key,
        "-signature",
        &file("signature", signature),
        &file("text", text.as_bytes()),
    ]);
    verified.status.success() && known.insert(both)
}

fn unbase64(text: &str) -> Vec<u8> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        (bits, held) = ((bits << 6) | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
