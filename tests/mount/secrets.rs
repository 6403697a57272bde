//! No message, log, event, status, attribute or list of processes shows a secret.

use std::process::Command;

use super::home::Home;
use super::program::{bash, run};
use super::store::{Store, schema};
use super::support::proxy::{Fault, Proxy};
use super::support::secrets::{TOKEN, VARIABLE, shows_none};
use super::support::server::{Kind, Server};

#[test]
fn no_secret_shows_anywhere_whatever_a_store_answers() {
    let home = Home::new();
    let server = Server::shared(Kind::S3s);
    let proxy = Proxy::start(server.addr());
    let stores = [
        Store::on(server, proxy.endpoint()),
        Store::folder(&home, "backup"),
    ];
    let [registry, backup] = stores.each_ref().map(Store::url);
    home.file(
        "atlas.hcl",
        format!(
            "variable \"secret\" {{\n  type = string\n}}\natlas {{\n  cloud {{\n    token = \
             getenv(\"TOKEN\")\n  }}\n}}\nenv \"prod\" {{\n  url = \"postgres://u:${{var.secret}}@h/d\"\n  schema {{\n    repo {{\n      name = \"app\"\n      url = \"{registry}\"\n      backup = [\"{backup}\"]\n    }}\n  }}\n}}\n"
        ),
    );
    let variable = format!("secret={VARIABLE}");
    let args = [
        "--config",
        "file://atlas.hcl",
        "--env",
        "prod",
        "--var",
        &variable,
    ];
    let mut command = home.mounting(
        "mnt",
        args.iter().chain(&["--log-level", "trace", "--ttl", "0s"]),
    );
    let (mounted, ran) = home.mount_by("mnt", command.env("TOKEN", TOKEN));
    shows_none("the mount's stderr", ran.stderr.as_bytes());
    mounted.cp("app/schema", schema("a")).ok();
    for fault in [
        Fault::Status(403, Some("SignatureDoesNotMatch")),
        Fault::Body(
            403,
            "<Error><Code>SignatureDoesNotMatch</Code><Message>AKIDTESTTESTTEST is wrong\
             </Message><StringToSign>AWS4-HMAC-SHA256</StringToSign></Error>",
        ),
        Fault::Status(500, None),
        Fault::Refuse,
        Fault::Redirect("http://127.0.0.1:9/?X-Amz-Signature=abc".into()),
    ] {
        proxy.set(fault);
        mounted.cat("app/schema");
        mounted.cp("app/schema", schema("b"));
        let shown = run(Command::new("getfattr")
            .args(["-d", "-m", "-"])
            .arg(mounted.path("app/schema")));
        shows_none("the attributes", &shown.stdout);
        let mut again = home.mounting("other", args);
        let ran = run(again.env("TOKEN", TOKEN));
        shows_none("the mount's stderr", ran.stderr.as_bytes());
        if ran.code == Some(0) {
            super::mounted::Mounted::at(home.clone(), &home.path("other")).unmount();
        }
    }
    proxy.set(Fault::Pass);
    for name in ["status", "events", "metrics"] {
        shows_none(name, &mounted.read(&format!(".atlasfs/{name}")));
    }
    for args in [&["status"][..], &["status", "--json"]] {
        let shown = run(home.atlasfs(args).arg(mounted.dir()));
        shows_none("status", &shown.stdout);
    }
    for name in ["cmdline", "comm"] {
        let text = std::fs::read(format!("/proc/{}/{name}", mounted.pid())).unwrap();
        shows_none(name, &text);
    }
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap();
    shows_none("the mounts", &mounts);
    mounted.unmount();
    let log = std::fs::read(home.log_of("mnt")).unwrap();
    assert!(log.len() > 1_000, "a log with something in it");
    shows_none("the log", &log);
    let kept = run(&mut bash(
        r#"cd "$1"; find . -type f -exec cat {} +"#,
        [home.path("state")],
    ))
    .ok();
    shows_none("the state directory", &kept.stdout);
}
