//! Roles: users and roles of moto with their policies, and a stub of the Security Token Service
//! with adjustable answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{TimeDelta, Utc};

use super::http;
use super::secrets;
use super::serve::{Answering, Request};
use super::server::{ACCESS_KEY, SECRET_KEY, Server};

/// The keys of a user of moto.
#[derive(Debug)]
pub struct User {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: String,
}

/// Returns a policy that allows some actions on everything.
pub fn allow(actions: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": [{actions}], "Resource": "*"}}]}}"#
    )
}

/// Sends a request to moto's IAM; moto must not check credentials yet.
fn iam(server: &Server, pairs: &[(&str, &str)]) -> String {
    let form = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", http::encode(value).replace('/', "%2F")));
    let form = form.collect::<Vec<_>>().join("&");
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        (
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDTESTTESTTEST/20240910/us-east-1/iam/aws4_request, \
             SignedHeaders=host, Signature=0",
        ),
    ];
    let reply = http::request(server.addr(), "POST", "/", &headers, form.as_bytes());
    let reply = reply.expect("a reply");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, 200, "{text}");
    text
}

/// Makes a user with a policy.
pub fn user(server: &Server, name: &str, policy: &str) -> User {
    let of = |action| {
        [
            ("Action", action),
            ("Version", "2010-05-08"),
            ("UserName", name),
        ]
    };
    iam(server, &of("CreateUser"));
    let policy = [("PolicyName", "p"), ("PolicyDocument", policy)];
    iam(server, &[&of("PutUserPolicy")[..], &policy].concat());
    let made = iam(server, &of("CreateAccessKey"));
    let part = |name: &str| {
        let (_, rest) = made.split_once(&format!("<{name}>")).expect("a part");
        let (value, _) = rest.split_once('<').expect("its end");
        value.to_owned()
    };
    let user = User {
        id: part("AccessKeyId"),
        secret: part("SecretAccessKey"),
    };
    secrets::note(&user.secret);
    user
}

/// Makes a role that every user with the right to assume roles can assume; returns its ARN.
pub fn role(server: &Server, name: &str, policy: &str) -> String {
    let of = |action| {
        [
            ("Action", action),
            ("Version", "2010-05-08"),
            ("RoleName", name),
        ]
    };
    let trust = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}"#;
    let trust = [("AssumeRolePolicyDocument", trust)];
    iam(server, &[&of("CreateRole")[..], &trust].concat());
    let policy = [("PolicyName", "p"), ("PolicyDocument", policy)];
    iam(server, &[&of("PutRolePolicy")[..], &policy].concat());
    format!("arn:aws:iam::123456789012:role/{name}")
}

/// The answer of the stub.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// The keys of the S3 servers, for so many seconds; a negative number gives expired keys.
    Keys(i64),
    /// The keys, with this session token.
    Session(&'static str),
    /// A refusal with this status and code.
    Refuses(u16, &'static str),
    /// Another body, with status 200.
    Garbage(&'static str),
    /// The keys, after a pause.
    Slowly(Duration),
}

/// A stub of STS that gives out the keys of the S3 servers.
#[derive(Debug)]
pub struct Sts {
    server: Answering,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Sts {
    /// Starts the stub.
    pub fn start() -> Self {
        let says = Arc::new(Mutex::new(Says::Keys(3600)));
        let asked: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
        let (saying, asking) = (Arc::clone(&says), Arc::clone(&asked));
        let server = Answering::start(move |request: &Request| {
            let signed = request.headers.contains_key("authorization");
            let form = String::from_utf8_lossy(&request.body).into_owned();
            asking.lock().unwrap().push((form, signed));
            let says = *saying.lock().unwrap();
            let (status, body) = match says {
                Says::Keys(seconds) => (200, keys("the-token", seconds)),
                Says::Session(token) => (200, keys(token, 3600)),
                Says::Slowly(pause) => {
                    std::thread::sleep(pause);
                    (200, keys("the-token", 3600))
                }
                Says::Refuses(status, code) => {
                    let body = format!(
                        "<ErrorResponse><Error><Code>{code}</Code><Message>not you, \
                         {ACCESS_KEY}</Message></Error></ErrorResponse>"
                    );
                    (status, body)
                }
                Says::Garbage(body) => (200, body.into()),
            };
            (status, Vec::new(), body.into_bytes())
        });
        Self {
            server,
            says,
            asked,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Returns its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.addr())
    }

    /// Changes the answer.
    pub fn set(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// Returns the received forms, and whether each was signed; and forgets them.
    pub fn asked(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn keys(token: &str, seconds: i64) -> String {
    let ends = Utc::now() + TimeDelta::seconds(seconds);
    let ends = ends.format("%Y-%m-%dT%H:%M:%SZ");
    format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId>\
         <SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken>{token}</SessionToken>\
         <Expiration>{ends}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}
