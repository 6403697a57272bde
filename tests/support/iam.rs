//! Users of moto with policies of their own: what AWS calls IAM.

use super::http;
use super::secrets;
use super::server::Server;

/// Whose requests moto takes for an administrator's while it checks nothing.
const ADMINISTRATOR: &str = "AWS4-HMAC-SHA256 Credential=AKIDTESTTESTTEST/20240910/us-east-1/iam/\
                             aws4_request, SignedHeaders=host, Signature=0";

/// A user's keys.
#[derive(Debug, Clone)]
pub struct User {
    /// The access key.
    pub key: String,
    /// The secret key.
    pub secret: String,
}

impl User {
    /// Makes a user who may do what a policy says. moto must not check credentials yet.
    pub fn with_policy(server: &Server, name: &str, policy: &str) -> Self {
        ask(server, "CreateUser", name, &[]);
        let document = [("PolicyName", "only"), ("PolicyDocument", policy)];
        ask(server, "PutUserPolicy", name, &document);
        let answer = ask(server, "CreateAccessKey", name, &[]);
        let user = Self {
            key: between(&answer, "AccessKeyId"),
            secret: between(&answer, "SecretAccessKey"),
        };
        secrets::note(&user.secret);
        user
    }

    /// Returns the variables that hold the keys.
    pub fn variables(&self) -> [(&'static str, &str); 2] {
        [
            ("AWS_ACCESS_KEY_ID", &self.key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
        ]
    }
}

fn ask(server: &Server, action: &str, user: &str, more: &[(&str, &str)]) -> String {
    let named = [
        ("Action", action),
        ("UserName", user),
        ("Version", "2010-05-08"),
    ];
    let pairs = named.iter().chain(more);
    let pairs = pairs.map(|(name, value)| format!("{name}={}", http::encode(value)));
    let body = pairs.collect::<Vec<_>>().join("&");
    let headers = [
        ("Authorization", ADMINISTRATOR),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = http::request(server.addr(), "POST", "/", &headers, body.as_bytes());
    let answer = answer.expect("a reply");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 200, "{action}: {text}");
    text
}

fn between(document: &str, name: &str) -> String {
    let begin = document.split(&format!("<{name}>")).nth(1);
    let value = begin.and_then(|rest| rest.split("</").next());
    value
        .unwrap_or_else(|| panic!("no {name} in {document}"))
        .to_owned()
}
