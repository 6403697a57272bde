//! `check` reports the faults of a target and their remedies before a mount.

use serde_json::Value;

use super::home::Home;
use super::program::{Ran, run};
use super::store::{Store, flags, schema};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind, Server};

#[track_caller]
fn check(home: &Home, stores: &[Store], more: &[&str]) -> Ran {
    run(home.atlasfs(["check"]).args(more).args(flags(stores)))
}

#[track_caller]
fn findings(ran: &Ran) -> Vec<Value> {
    let report: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
    report["targets"].as_array().unwrap().clone()
}

#[test]
fn every_target_is_tried_and_nothing_is_left_there() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let stores = vec![
        Store::on(server.clone(), server.endpoint()),
        Store::folder(&home, "backup"),
    ];
    stores[1].put("app/schema", schema("a"));
    let ran = check(&home, &stores, &[]).ok();
    let text = ran.text();
    assert!(
        text.contains("REACHABLE") && text.contains("try --write"),
        "{text}"
    );
    let told = findings(&check(&home, &stores, &["--write", "--json"]).ok());
    for (target, readable) in told.iter().zip([Value::Null, Value::Bool(true)]) {
        assert_eq!(target["reachable"], true, "{target}");
        assert_eq!(target["readable"], readable, "{target}");
        assert_eq!(target["writable"], true, "{target}");
        assert_eq!(target["conditional_writes"], true, "{target}");
        assert_eq!(target["fix"], Value::Null, "{target}");
    }
    let Store::Folder(folder) = &stores[1] else {
        panic!("a folder");
    };
    let left = run(std::process::Command::new("find")
        .arg(folder)
        .args(["-path", "*probe*", "-type", "f"]));
    assert_eq!(left.ok().text(), "");
}

#[test]
fn a_failing_target_is_reported_with_a_remedy_and_the_others_are_tried() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let proxy = Proxy::start(server.addr());
    let stores = vec![
        Store::folder(&home, "registry"),
        Store::on(server, proxy.endpoint()),
    ];
    for (fault, reachable, fix) in [
        (Fault::Refuse, false, "nothing listens at"),
        (Fault::Hang, false, "check that it runs"),
        (
            Fault::Status(403, Some("AccessDenied")),
            true,
            "needs the permission s3:ListBucket",
        ),
        (
            Fault::Status(404, Some("NoSuchBucket")),
            false,
            "create the bucket",
        ),
    ] {
        proxy.set(fault.clone());
        let ran = check(&home, &stores, &["--json", "--timeout", "1s"]);
        assert_eq!(ran.code, Some(3), "{fault:?}: {ran}");
        let told = findings(&ran);
        assert_eq!(told[0]["reachable"], true, "{fault:?}");
        assert_eq!(told[1]["reachable"], reachable, "{fault:?}: {}", told[1]);
        let said = told[1]["fix"].as_str().unwrap();
        assert!(said.contains(fix), "{fault:?}: {said}");
    }
    proxy.set_for(&["PUT"], Fault::Status(403, Some("AccessDenied")));
    let ran = check(&home, &stores, &["--json", "--write"]);
    let told = findings(&ran);
    assert_eq!(
        (&told[1]["reachable"], &told[1]["writable"]),
        (&true.into(), &false.into())
    );
    assert!(
        told[1]["fix"]
            .as_str()
            .unwrap()
            .contains("needs the permission s3:PutObject"),
        "{}",
        told[1]
    );
    let ran = run(&mut home.atlasfs(["check", "--registry", "s4://bucket"]));
    ran.fails(1, "s4");
}

#[test]
fn check_and_the_mount_report_a_registry_that_ignores_conditions() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let proxy = Proxy::start(server.addr());
    proxy.set(Fault::IgnoreConditions);
    let stores = vec![
        Store::on(server, proxy.endpoint()),
        Store::folder(&home, "backup"),
    ];
    let ran = check(&home, &stores, &["--write"]).ok();
    assert!(ran.text().contains("ignores conditional writes"), "{ran}");
    let first = home.mount("first", flags(&stores));
    assert_eq!(first.status()["targets"][0]["conditional_writes"], false);
    assert_eq!(first.events("conditions-ignored").len(), 1);
    // A writer that has seen the other's push is in conflict even so.
    let second = home.mount("second", flags(&stores));
    std::fs::create_dir(first.path("app")).unwrap();
    first.cp("app/schema", schema("a")).ok();
    let both = format!(
        "exec 3<>{}; cat <&3 > /dev/null; cp {} {}; printf '# more\\n' >&3; exec 3>&-",
        second.path("app/schema").display(),
        home.file("b", schema("b")).display(),
        first.path("app/schema").display(),
    );
    super::program::until("the second mount sees it", || {
        second.path("app/schema").exists().then_some(())
    });
    run(&mut super::program::bash::<&str>(&both, []));
    assert_eq!(first.read("app/schema"), schema("b").as_bytes());
    assert_eq!(stores[1].get("app/schema").unwrap(), schema("b").as_bytes());
}

#[test]
fn a_target_with_a_wrong_url_is_not_called_reachable() {
    let home = Home::new();
    let backup = Store::folder(&home, "backup");
    let config = format!(
        "env \"prod\" {{\n schema {{\n repo {{\n name = \"app\"\n backup = [\"{}\"]\n }}\n }}\n}}\n",
        backup.url()
    );
    let config = format!("file://{}", home.file("atlas.hcl", config).display());
    let ran = run(&mut home.atlasfs(["check", "--json", "--env", "prod", "--config", &config]));
    assert_eq!(ran.code, Some(3), "{ran}");
    let table = run(&mut home.atlasfs(["check", "--env", "prod", "--config", &config]));
    assert_eq!(table.text().matches("atlas cloud").count(), 1, "{table}");
    let told = findings(&ran);
    assert_eq!(
        (&told[0]["url"], &told[0]["reachable"]),
        (&"atlas://".into(), &Value::Null)
    );
    assert_eq!(told[1]["reachable"], true);
    for (url, variable) in [
        ("s3://bucket?region=us-east-1", ("AWS_PROFILE", "nobodys")),
        ("azblob://Bad_Name", ("AZURE_STORAGE_ACCOUNT", "acme")),
        (
            "gs://bucket",
            ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere"),
        ),
    ] {
        let mut command = home.atlasfs(["check", "--json", "--registry", url]);
        let ran = run(command.envs([variable]));
        assert_eq!(ran.code, Some(1), "{ran}");
        let told = &findings(&ran)[0];
        assert_eq!(
            (&told["reachable"], &told["readable"]),
            (&Value::Null, &Value::Null),
            "{told}"
        );
    }
}
