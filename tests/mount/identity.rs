//! The metadata addresses of machines. The mount asks them only if the configuration requires it,
//! and the answers open the cloud's own addresses.

use std::process::Command;

use super::home::Home;
use super::program::{Ran, Running, bash, run, start, until};
use super::support::behind::AZURE_KEYS;
use super::support::tls::Certificates;
use super::support::token;

const CLOUD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/cloud.py");

/// The hosts of a cloud's clients, on a machine that no request leaves.
const HOSTS: &str = "127.0.0.1 localhost storage.googleapis.com \
                     storage.google.example acme.blob.core.windows.net\n\
                     169.254.169.254 metadata.google.internal metadata\n";

/// A machine that looks like a cloud's to the program.
struct Machine {
    home: Home,
    holder: Running,
    certificates: Certificates,
}

impl Machine {
    fn new() -> Self {
        let (home, certificates) = (Home::new(), Certificates::new());
        home.file("hosts", HOSTS);
        home.file("log", "");
        let script = r#"
            ip link set lo up
            ip addr add 169.254.169.254/32 dev lo
            mount --bind "$1/hosts" /etc/hosts
            exec python3 "$2" "$1/log" "$3" "$4"
        "#;
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| certificates.path(name));
        let inner = bash(script, [home.dir(), CLOUD.as_ref(), &cert, &key]);
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--propagation", "private", "--"]);
        unshare.arg(inner.get_program()).args(inner.get_args());
        let machine = Self {
            holder: start(&mut unshare),
            home,
            certificates,
        };
        until("the stubs listen", || {
            let knock = "exec 3<> /dev/tcp/169.254.169.254/80 4<> /dev/tcp/127.0.0.1/443";
            let knocked = run(&mut machine.command(&["bash", "-c", knock]));
            (knocked.code == Some(0)).then_some(())
        });
        machine
    }

    fn command(&self, args: &[&str]) -> Command {
        let pid = self.holder.pid();
        let mut command = Command::new("nsenter");
        command.args([
            format!("--net=/proc/{pid}/ns/net"),
            format!("--mount=/proc/{pid}/ns/mnt"),
        ]);
        command.arg("--").args(args);
        self.home.enter(&mut command);
        command
    }

    /// Checks a store with exactly these variables; returns the requests meanwhile too.
    fn check(&self, url: &str, env: &[(&str, &str)]) -> (Ran, String) {
        self.home.file("log", "");
        let check = [
            "check",
            "--write",
            "--json",
            "--timeout",
            "3s",
            "--registry",
            url,
        ];
        let mut command = self.command(&[&[super::home::ATLASFS], &check[..]].concat());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.dir())
            .env("SSL_CERT_FILE", self.certificates.path("ca.pem"))
            .envs(env.iter().copied());
        let ran = run(&mut command);
        (ran, std::fs::read_to_string(self.home.path("log")).unwrap())
    }
}

#[test]
fn no_metadata_address_is_asked_unless_the_configuration_calls_for_it() {
    let machine = Machine::new();
    let key = ("GOOGLE_APPLICATION_CREDENTIALS", token::key_file());
    let azure = ("AZURE_STORAGE_ACCOUNT", "acme");
    let nobody = "http://127.0.0.1:9";
    let s3 = format!("s3://bucket?region=us-east-1&endpoint={nobody}");
    let aws = [
        ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
    ];
    let emulator = ("STORAGE_EMULATOR_HOST", "127.0.0.1:9");
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        (&s3, vec![]),
        (&s3, aws.into()),
        (
            "s3://bucket?region=us-east-1&anonymous=true&endpoint=http://127.0.0.1:9",
            vec![],
        ),
        ("gs://acme-backup", vec![]),
        ("gs://acme-backup", vec![key]),
        ("gs://acme-backup?anonymous=true", vec![]),
        ("gs://acme-backup", vec![emulator]),
        (
            "gs://acme-backup",
            vec![emulator, ("GCE_METADATA_HOST", "metadata.google.internal")],
        ),
        (
            "gs://acme-backup",
            vec![key, ("GCE_METADATA_HOST", "metadata.google.internal")],
        ),
        ("azblob://backup", vec![azure]),
        ("azblob://backup?storage_account=acme", vec![]),
        (
            "azblob://backup",
            vec![azure, ("AZURE_STORAGE_KEY", AZURE_KEYS[1].1)],
        ),
        (
            "azblob://backup",
            vec![azure, ("AZURE_CLIENT_ID", "the-client")],
        ),
        (
            "azblob://backup",
            vec![azure, ("AZURE_TOKEN_CREDENTIALS", "prod")],
        ),
        ("oci://127.0.0.1:9/app", vec![]),
    ];
    for (url, env) in cases {
        let (ran, asked) = machine.check(url, &env);
        assert_eq!(ran.code, Some(1), "{url} {env:?}: {ran}");
        assert!(!asked.contains("metadata "), "{url} {env:?}: {asked}");
    }
    // A counter-check: the stub records such a request.
    let (_, asked) = machine.check(
        "gs://acme-backup",
        &[("GCE_METADATA_HOST", "metadata.google.internal")],
    );
    assert!(asked.contains("metadata "), "{asked}");
}

#[test]
fn a_machines_own_identity_opens_the_stores_of_google_and_azure_at_their_own_addresses() {
    let machine = Machine::new();
    let azure = [
        ("AZURE_STORAGE_ACCOUNT", "acme"),
        ("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential"),
    ];
    let google = [("GCE_METADATA_HOST", "metadata.google.internal")];
    for (url, env, address, store) in [
        (
            "gs://acme-backup",
            &google[..],
            "metadata metadata.google.internal GET \
             /computeMetadata/v1/instance/service-accounts/default/token\n",
            "store storage.googleapis.com GET /acme%2Dbackup?",
        ),
        (
            // `access_id` names the signer of URLs, and atlasfs signs no URLs.
            "gs://acme-backup?universe_domain=google.example&access_id=me@example.com",
            &google[..],
            "metadata metadata.google.internal GET",
            "store storage.google.example GET /acme%2Dbackup?",
        ),
        (
            "azblob://backup",
            &azure[..],
            "metadata 169.254.169.254 GET /metadata/identity/oauth2/token?api-version=2019-08-01&\
             resource=https%3A%2F%2Fstorage.azure.com\n",
            "store acme.blob.core.windows.net GET /backup?",
        ),
    ] {
        let (ran, asked) = machine.check(url, env);
        let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        // The stub refuses writes, so `reachable` is the most that `check` can find.
        assert_eq!(
            report["targets"][0]["reachable"], true,
            "{report:#}\n{asked}"
        );
        assert!(asked.starts_with(address), "{asked}");
        assert_eq!(asked.matches("metadata ").count(), 1, "{asked}");
        assert!(asked.contains(store), "{asked}");
        assert!(!format!("{ran}").contains("s3cret"), "{ran}");
    }
    // A missing account has no address.
    let (ran, _) = machine.check("azblob://backup?storage_account=nobody", &azure[1..]);
    let text = ran.text();
    assert!(text.contains("failed to lookup address"), "{text}");
    assert!(
        text.contains("check the host's name and the network"),
        "{text}"
    );
}
