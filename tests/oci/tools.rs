//! Other clients of OCI registries read the artifacts of atlasfs, and atlasfs reads theirs.

use std::path::Path;
use std::process::{Command, Output};

use atlasfs::model::Format;
use atlasfs::store::{Location, Target};

use super::support::behind::{location_on, open_at, put};
use super::support::contract::{LIMIT, id, soon};
use super::support::registry::{PASSWORD, USER};
use super::support::server::{Kind as Store, Server};
use super::support::tool::tool;

const SCHEMA: &str = "schema \"public\" {\n}\n";

/// Opens a repository, with the server's user or anonymously.
fn open(server: &Server, repo: &str, anonymous: bool) -> Target {
    let mut location = location_on(Store::Registry, repo, server.endpoint());
    if let (Location::Oci(location), true) = (&mut location, anonymous) {
        location.credentials = None;
    }
    open_at(&location, &[])
}

/// Runs a program in a home of its own, and asserts success.
fn run(command: &mut Command, home: &Path) -> Output {
    let ran = command.current_dir(home).env_clear().env("HOME", home);
    let ran = ran.env("NO_PROXY", "*").output().unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    ran
}

/// Runs Python with oras's client as `client`, logged in or anonymous.
fn oras(home: &Path, server: &Server, anonymous: bool, script: &str) {
    let begin = "import sys, oras.client\nclient = oras.client.OrasClient(hostname=sys.argv[1], \
                 insecure=True, auth_backend='basic' if sys.argv[2] else 'token')\n";
    let login = "client.auth.set_basic_auth(sys.argv[2], sys.argv[3])\n";
    let script = match anonymous {
        true => format!("{begin}{script}"),
        false => format!("{begin}{login}{script}"),
    };
    let user = if anonymous { "" } else { USER };
    let mut python = Command::new(tool("moto/bin/python"));
    let args = [&*script, &server.addr().to_string(), user, PASSWORD];
    run(python.arg("-c").args(args), home);
}

async fn oras_reads_and_writes(server: &Server, anonymous: bool) {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let repo = format!("acme/{}", server.bucket());
    let target = open(server, &repo, anonymous);
    let place = format!("{}/{repo}", server.addr());
    put(&target, "app/schema", SCHEMA, 1_726_000_000_123_456_789)
        .await
        .unwrap();
    let pull = format!("print(client.pull(target='{place}:app_.schema', outdir='out'))");
    oras(home, server, anonymous, &pull);
    let pulled = std::fs::read(home.join("out/schema")).unwrap();
    assert_eq!(pulled, SCHEMA.as_bytes());

    let plain = "-- by hand\ncreate table t (id int);\n";
    std::fs::write(home.join("plain.sql"), plain).unwrap();
    let push = format!("client.push(target='{place}:other_.schema', files=['plain.sql'])");
    oras(home, server, anonymous, &push);
    let got = target
        .get(&id("other/schema"), LIMIT, soon())
        .await
        .unwrap();
    assert_eq!(got.bytes, plain.as_bytes());
    assert!(!got.stamped);
    assert_eq!(got.stamp.format, Format::Sql);
    let listing = target.list(&id("other/schema").repo, soon()).await.unwrap();
    assert_eq!(listing.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn oras_and_the_mount_read_each_others_pushes_with_a_password() {
    oras_reads_and_writes(&Server::shared(Store::Registry), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oras_and_the_mount_read_each_others_pushes_without_a_password() {
    oras_reads_and_writes(&Server::open_registry(), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_artifacts_with_their_stamps() {
    let server = Server::shared(Store::Registry);
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (from, to) = (server.bucket(), server.bucket());
    let (source, copy) = (open(&server, &from, false), open(&server, &to, false));
    put(&source, "app/schema", SCHEMA, 1_726_000_000_123_456_789)
        .await
        .unwrap();
    let at = |repo: &str| format!("docker://{}/{repo}:app_.schema", server.addr());
    let credentials = format!("{USER}:{PASSWORD}");
    let skopeo = |args: &[&str]| {
        let libraries = tool("skopeo/usr/lib/x86_64-linux-gnu");
        let mut command = Command::new("env");
        let assigned = format!("LD_LIBRARY_PATH={}", libraries.display());
        command
            .arg(assigned)
            .arg(tool("skopeo/usr/bin/skopeo"))
            .arg("--insecure-policy")
            .args(args);
        run(&mut command, home)
    };
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds",
        &credentials,
        "--dest-creds",
        &credentials,
        &at(&from),
        &at(&to),
    ]);
    let key = id("app/schema");
    let original = source.get(&key, LIMIT, soon()).await.unwrap();
    assert_eq!(copy.get(&key, LIMIT, soon()).await.unwrap(), original);
    assert!(original.stamped);
    let raw = skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        "--creds",
        &credentials,
        &at(&to),
    ]);
    let json: serde_json::Value = serde_json::from_slice(&raw.stdout).unwrap();
    assert_eq!(json["annotations"]["atlas-key"], "app/schema");
}
