//! Least privilege: the documented policies suffice, and if one permission is missing, the mount
//! and `check` name it.

use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, run};
use super::store::{LISTED, Store, flags, plan, schema};
use super::support::azurite;
use super::support::behind::keys;
use super::support::proxy::{Fault, Proxy};
use super::support::sas;
use super::support::serve::{Answering, Reply};
use super::support::server::{Kind, Server};
use super::support::sts::{self, User};

/// The policies on the documentation page about stores.
const READER: &str = include_str!("../fixtures/policies/s3-reader.json");
const WRITER: &str = include_str!("../fixtures/policies/s3-writer.json");

const ON_S3: [&str; 4] = [
    "s3:ListBucket",
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
];
/// The permissions of a SAS, and their names in messages.
const ON_AZURE: [(&str, &str); 4] = [
    ("l", "sp=l)"),
    ("r", "sp=r)"),
    ("cw", "sp=cw)"),
    ("d", "sp=d)"),
];

#[test]
fn the_documentation_shows_the_policies_that_are_tested() {
    let page = include_str!("../../src/docs/stores.md");
    for policy in [READER, WRITER] {
        assert!(page.contains(policy.trim_end()), "{policy}");
    }
    for permissions in ["`sp=rl`", "`sp=rcwdl`"] {
        assert!(page.contains(permissions), "{permissions}");
    }
}

/// A store with one artifact, whose owner grants permissions, and a folder as its backup.
struct Site {
    home: Home,
    server: Arc<Server>,
    stores: [Store; 2],
}

impl Site {
    fn on(server: Arc<Server>) -> Self {
        let home = Home::new();
        let store = Store::on(Arc::clone(&server), server.endpoint());
        store.put("app/schema", schema("there"));
        let backup = Store::folder(&home, "backup");
        Self {
            home,
            server,
            stores: [store, backup],
        }
    }

    fn bucket(&self) -> &str {
        match &self.stores[0] {
            Store::Bucket { bucket, .. } => bucket,
            Store::Folder(_) => panic!("a bucket"),
        }
    }

    /// Makes an AWS user with a policy.
    fn user(&self, name: &str, policy: &Value) -> User {
        let policy = policy
            .to_string()
            .replace("acme-registry/atlas", &format!("{}/pre/fix", self.bucket()))
            .replace("acme-registry", self.bucket());
        sts::user(&self.server, name, &policy)
    }

    /// Reads an object around the permissions.
    fn held(&self, key: &str) -> Option<Vec<u8>> {
        match self.server.kind() {
            Kind::Moto => {
                self.server.waive_credentials();
                let held = self.stores[0].get(key);
                self.server.demand_credentials();
                held
            }
            _ => self.stores[0].get(key),
        }
    }

    fn mount(&self, who: &Who, more: &[&str]) -> (Mounted, Ran) {
        let flags = flags(&self.stores);
        let all = flags.iter().map(String::as_str).chain(more.iter().copied());
        let mut command = self.home.mounting("mnt", all);
        who.enter(&mut command);
        self.home.mount_by("mnt", &mut command)
    }

    /// Checks the store alone.
    fn check(&self, who: &Who, more: &[&str]) -> Ran {
        let mut command = self.home.atlasfs(["check"]);
        command.args(more).args(flags(&self.stores[..1]));
        who.enter(&mut command);
        run(&mut command)
    }

    /// Asserts that a client with read permissions can read, and that the message for writes names
    /// the missing permission.
    fn reads_and_no_more(&self, who: &Who, missing: &str) {
        let state = schema("there");
        self.check(who, &[]).ok();
        let told = self.check(who, &["--write"]);
        assert_eq!(told.code, Some(1), "{told}");
        names(&told.text(), missing, &who.all);

        let (mounted, ran) = self.mount(who, &["--read-only"]);
        assert_eq!(ran.stderr, "", "a reader is warned of nothing");
        assert_eq!(mounted.ls("app"), LISTED);
        assert_eq!(mounted.read("app/schema"), state.as_bytes());
        let size = run(Command::new("stat")
            .args(["-c", "%s"])
            .arg(mounted.path("app/schema")));
        assert_eq!(size.ok().text().trim(), state.len().to_string());
        let refused = mounted.cp("app/schema", schema("mine"));
        refused.fails(1, "Read-only file system");
        mounted.unmount();

        let (mounted, ran) = self.mount(who, &["--durability", "registry"]);
        assert_eq!(mounted.read("app/schema"), state.as_bytes());
        names(&ran.stderr, missing, &who.all);
        let refused = mounted.cp("app/schema", schema("mine"));
        refused.fails(1, "Permission denied");
        let error = mounted.xattr("app/schema", "error").unwrap();
        names(&error, missing, &who.all);
        let failure = mounted.status()["targets"][0]["last_failure"].clone();
        names(failure["reason"].as_str().unwrap(), missing, &who.all);
        assert_eq!(self.held("app/schema").unwrap(), state.as_bytes());
        let kept = mounted.path(".atlasfs/unpushed/app");
        run(Command::new("find")
            .arg(kept)
            .args(["-type", "f", "-delete"]))
        .ok();
        mounted.unmount();
    }

    /// Asserts that a client with write permissions can do everything that a mount does.
    fn writes(&self, who: &Who) {
        self.check(who, &["--write"]).ok();
        let (mounted, ran) = self.mount(who, &["--allow-delete", "--durability", "all"]);
        assert_eq!(ran.stderr, "", "a writer is warned of nothing");
        for content in [schema("one"), schema("two")] {
            mounted.cp("app/schema.hcl", &content).ok();
            assert_eq!(self.held("app/schema").unwrap(), content.as_bytes());
        }
        mounted.cp("app/plans/p1", plan("p1", "a")).ok();
        run(Command::new("rm").arg(mounted.path("app/plans/p1"))).ok();
        assert_eq!(self.held("app/plans/p1"), None);
        // The artifact is lost there, and the repair restores it.
        if self.server.kind() == Kind::Moto {
            self.server.waive_credentials();
        }
        self.stores[0].delete("app/schema");
        if self.server.kind() == Kind::Moto {
            self.server.demand_credentials();
        }
        let repaired = run(self.home.atlasfs(["sync"]).arg(mounted.dir()));
        assert_eq!(repaired.code, Some(0), "{repaired}");
        assert_eq!(self.held("app/schema").unwrap(), schema("two").as_bytes());
        assert_eq!(mounted.read("app/schema"), schema("two").as_bytes());
        let status = mounted.status();
        assert_eq!(status["healthy"], true, "{status:#}");
        mounted.unmount();
    }

    /// Asserts that every report names the permission that a writer lacks.
    fn is_named_everywhere(&self, who: &Who, missing: &str, what: Lacks) {
        let told = self.check(who, &["--write"]);
        assert_eq!(told.code, Some(1), "{told}");
        names(&told.text(), missing, &who.all);
        let (mounted, ran) = self.mount(who, &["--allow-delete", "--durability", "registry"]);
        names(&ran.stderr, missing, &who.all);
        let failed = |mounted: &Mounted, kind: &str| {
            let events = mounted.events(kind);
            names(&format!("{}", events.last().unwrap()), missing, &who.all);
        };
        match what {
            Lacks::List => {
                mounted.cat("app/schema").fails(1, "Permission denied");
            }
            Lacks::Read => {
                mounted.cat("app/schema").fails(1, "Permission denied");
                failed(&mounted, "denied");
            }
            Lacks::Write => {
                mounted
                    .cp("app/plans/p1", plan("p1", "a"))
                    .fails(1, "Permission denied");
                names(
                    &mounted.xattr("app/plans/p1", "error").unwrap(),
                    missing,
                    &who.all,
                );
                failed(&mounted, "push-failed");
            }
            Lacks::Delete => {
                let refused = run(Command::new("rm").arg(mounted.path("app/schema")));
                refused.fails(1, "Permission denied");
                failed(&mounted, "delete-failed");
                assert!(self.held("app/schema").is_some());
            }
        }
        let failure = mounted.status()["targets"][0]["last_failure"].clone();
        names(failure["reason"].as_str().unwrap(), missing, &who.all);
        mounted.unmount();
    }
}

/// The permission that a writer lacks.
#[derive(Debug, Clone, Copy)]
enum Lacks {
    List,
    Read,
    Write,
    Delete,
}

const LACKS: [Lacks; 4] = [Lacks::List, Lacks::Read, Lacks::Write, Lacks::Delete];

/// A client's credentials, and all permissions of its kind of store.
struct Who {
    variables: Vec<(&'static str, String)>,
    all: Vec<&'static str>,
}

impl Who {
    fn of_aws(user: &User) -> Self {
        Self {
            variables: vec![
                ("AWS_ACCESS_KEY_ID", user.id.clone()),
                ("AWS_SECRET_ACCESS_KEY", user.secret.clone()),
            ],
            all: ON_S3.into(),
        }
    }

    fn of_azure(sas: String) -> Self {
        Self {
            variables: vec![
                ("AZURE_STORAGE_ACCOUNT", azurite::ACCOUNT.to_owned()),
                ("AZURE_STORAGE_SAS_TOKEN", sas),
            ],
            all: ON_AZURE.map(|(_, named)| named).into(),
        }
    }

    fn enter(&self, command: &mut Command) {
        command.env_remove("AZURE_STORAGE_KEY");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

/// Asserts that one line of a text names the missing permission completely, and that the text names
/// no other permission.
#[track_caller]
fn names(text: &str, missing: &str, all: &[&str]) {
    let line = text.lines().find(|line| line.contains(missing));
    let line = line.unwrap_or_else(|| panic!("no {missing} in: {text}"));
    assert!(line.contains("needs the permission"), "{line}");
    for other in all.iter().filter(|other| **other != missing) {
        assert!(!text.contains(other), "{other} is not missing: {text}");
    }
}

fn parsed(policy: &str) -> Value {
    serde_json::from_str(policy).unwrap()
}

/// Removes one action from a policy.
fn without(policy: &str, action: &str) -> Value {
    let mut policy = parsed(policy);
    for statement in policy["Statement"].as_array_mut().unwrap() {
        let allowed = match statement["Action"].take() {
            Value::Array(actions) => actions,
            one => vec![one],
        };
        let mut left: Vec<Value> = allowed.into_iter().filter(|it| it != action).collect();
        if left.is_empty() {
            // A statement without any action is invalid.
            left.push("s3:GetBucketLocation".into());
        }
        statement["Action"] = left.into();
    }
    policy
}

#[test]
fn the_documented_policies_suffice_to_read_and_to_write_on_s3() {
    let site = Site::on(Arc::new(Server::start(Kind::Moto)));
    let [reader, writer] = [("reader", READER), ("writer", WRITER)]
        .map(|(name, policy)| Who::of_aws(&site.user(name, &parsed(policy))));
    site.server.demand_credentials();
    site.reads_and_no_more(&reader, "s3:PutObject");
    site.writes(&writer);
}

#[test]
fn the_one_permission_that_is_missing_on_s3_is_named_everywhere() {
    let site = Site::on(Arc::new(Server::start(Kind::Moto)));
    let users = ON_S3.map(|action| {
        let name = action.replace(':', "-");
        Who::of_aws(&site.user(&name, &without(WRITER, action)))
    });
    site.server.demand_credentials();
    for ((who, missing), what) in users.iter().zip(ON_S3).zip(LACKS) {
        site.is_named_everywhere(who, missing, what);
    }
}

#[test]
fn the_documented_signatures_suffice_to_read_and_to_write_on_azure() {
    let site = Site::on(Server::shared(Kind::Azurite));
    let who = |permissions| Who::of_azure(sas::of_container(site.bucket(), permissions));
    site.reads_and_no_more(&who("rl"), "sp=cw)");
    site.writes(&who("rcwdl"));
}

#[test]
fn the_one_permission_that_is_missing_on_azure_is_named_everywhere() {
    let site = Site::on(Server::shared(Kind::Azurite));
    for ((letters, missing), what) in ON_AZURE.into_iter().zip(LACKS) {
        let left: String = "rcwdl".chars().filter(|c| !letters.contains(*c)).collect();
        let who = Who::of_azure(sas::of_container(site.bucket(), &left));
        site.is_named_everywhere(&who, missing, what);
    }
}

/// Google's answer to a client without write permission; the account is the stub's.
const NOT_ALLOWED: &str = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>Access denied.\
     </Message><Details>tester@project.iam.gserviceaccount.com does not have \
     storage.objects.create access to the Google Cloud Storage object. Permission \
     'storage.objects.create' denied on resource (or it may not exist).</Details></Error>";

#[test]
fn a_permission_that_google_says_is_missing_is_named() {
    let home = Home::new();
    let server = Server::shared(Kind::Gcs);
    let proxy = Proxy::start(server.addr());
    let store = Store::on(server, proxy.endpoint());
    proxy.set_for(&["PUT"], Fault::Body(403, NOT_ALLOWED));
    let mut command = home.mounting("mnt", flags(std::slice::from_ref(&store)));
    command
        .envs(keys(Kind::Gcs))
        .env("STORAGE_EMULATOR_HOST", proxy.endpoint());
    let (mounted, ran) = home.mount_by("mnt", &mut command);
    std::fs::create_dir(mounted.path("app")).unwrap();
    let refused = mounted.cp("app/schema", schema("a"));
    refused.fails(1, "Permission denied");
    let error = mounted.xattr("app/schema", "error").unwrap();
    for text in [ran.stderr, error] {
        assert!(
            text.contains(
                "tester@project.iam.gserviceaccount.com does not have storage.objects.create access"
            ) && text.contains("needs the permission storage.objects.create"),
            "{text}"
        );
    }
}

/// An OCI registry whose token service grants only pull, whatever a client requests.
fn pull_only(request: &super::support::serve::Request) -> Reply {
    if request.path == "token" {
        let body = br#"{"token": "s3cret-to-pull", "expires_in": 300}"#;
        return (200, Vec::new(), body.to_vec());
    }
    let host = &request.headers["host"];
    let demand = |scope: &str| {
        let demand = format!(
            "Bearer realm=\"http://{host}/token\",service=\"x\",scope=\"repository:acme/atlas:{scope}\""
        );
        let body =
            br#"{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}"#;
        (
            401,
            vec![("WWW-Authenticate".into(), demand)],
            body.to_vec(),
        )
    };
    let is_known = request
        .headers
        .get("authorization")
        .is_some_and(|header| header == "Bearer s3cret-to-pull");
    match (is_known, &*request.method) {
        (false, _) => demand("pull"),
        (true, "GET" | "HEAD") if request.path.ends_with("tags/list") => (
            200,
            Vec::new(),
            br#"{"name": "acme/atlas", "tags": null}"#.to_vec(),
        ),
        (true, "GET" | "HEAD") => (404, Vec::new(), Vec::new()),
        (true, _) => demand("pull,push"),
    }
}

#[test]
fn a_token_that_can_only_pull_is_reported_as_such() {
    let home = Home::new();
    let service = Answering::start(pull_only);
    let url = format!("oci://{}/acme/atlas", service.addr());
    let mounted = home.mount("mnt", ["--registry", &url]);
    std::fs::create_dir(mounted.path("app")).unwrap();
    let refused = mounted.cp("app/schema", schema("a"));
    refused.fails(1, "Permission denied");
    let error = mounted.xattr("app/schema", "error").unwrap();
    assert!(error.contains("needs the permission push"), "{error}");
}
