//! A service account of Google's that exists in tests alone: its key file, and the tokens that are
//! made with it.

use std::process::Command;
use std::sync::OnceLock;

use chrono::Utc;
use serde_json::{Value, json};

use super::secrets;

/// The account's name.
pub const ACCOUNT: &str = "tester@project.iam.gserviceaccount.com";

/// Returns the path of a key file of the test account. The key is made anew for every process.
pub fn key_file() -> &'static str {
    static FILE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let args = [
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ];
        let made = Command::new("openssl").args(args).output();
        let key = made.expect("openssl: run scripts/test, which installs it");
        for line in String::from_utf8_lossy(&key.stdout).lines() {
            if !line.starts_with("-----") {
                secrets::note(line);
            }
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key.json");
        let content = json!({
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key_id": "the-key",
            "private_key": String::from_utf8_lossy(&key.stdout),
        });
        std::fs::write(&path, content.to_string()).expect("a key file");
        let path = path.to_str().expect("utf-8").to_owned();
        (folder, path)
    });
    path
}

/// Tells whether a header carries a token that the test account has made for now.
pub fn is_ours(authorization: &str) -> bool {
    let token = authorization.strip_prefix("Bearer ").unwrap_or("");
    secrets::note(token);
    let parts: Vec<&str> = token.split('.').collect();
    let [_, claims, signature] = parts[..] else {
        return false;
    };
    let claims: Value = serde_json::from_slice(&unbase64(claims)).unwrap_or_default();
    let (from, to) = (claims["iat"].as_i64(), claims["exp"].as_i64());
    let now = Utc::now().timestamp();
    // 2,048 bits.
    unbase64(signature).len() == 256
        && claims["iss"] == ACCOUNT
        && from.is_some_and(|from| from <= now + 5)
        && to.is_some_and(|to| to > now)
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
