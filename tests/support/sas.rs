//! A shared access signature for a container of azurite, with any permissions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::azurite::{ACCOUNT, KEY};
use super::http;
use super::secrets;

/// The version of the service that defines this signature.
const VERSION: &str = "2018-11-09";
/// Far in the future.
const EXPIRY: &str = "2999-01-01T00:00:00Z";

/// Makes the query of a SAS: `sv=…&sr=c&sp=rl&se=…&sig=…`.
pub fn of_container(container: &str, permissions: &str) -> String {
    let resource = format!("/blob/{ACCOUNT}/{container}");
    // The empty lines are start, policy, address, protocol, snapshot and five response headers.
    let signed = format!("{permissions}\n\n{EXPIRY}\n{resource}\n\n\n\n{VERSION}\nc\n\n\n\n\n\n");
    let key = STANDARD.decode(KEY).expect("azurite's key");
    let signature = STANDARD.encode(hmac(&key, signed.as_bytes()));
    secrets::note(&signature);
    let encoded = |text: &str| http::encode(text).replace('/', "%2F");
    format!(
        "sv={VERSION}&sr=c&sp={permissions}&se={}&sig={}",
        encoded(EXPIRY),
        encoded(&signature)
    )
}

/// Returns an HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    assert!(key.len() <= 64, "as long as a block at most");
    let padded = |with: u8| -> Vec<u8> {
        let zeros = std::iter::repeat(&0);
        key.iter()
            .chain(zeros)
            .take(64)
            .map(|byte| byte ^ with)
            .collect()
    };
    let inner = Sha256::digest([&padded(0x36), text].concat());
    Sha256::digest([&padded(0x5c)[..], &inner].concat()).to_vec()
}
