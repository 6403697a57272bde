//! Conditional writes: the mount detects a registry that ignores them as soon as it answers, and
//! the registry stays usable.

use std::process::Command;

use super::home::Home;
use super::program::{bash, run, until};
use super::store::{Store, all_hold, flags, none_holds, plan, schema};
use super::support::proxy::{Fault, Proxy};
use super::support::server::{Kind, Server};

#[test]
fn a_store_that_ignores_conditions_is_reported_and_serves_as_registry_and_as_backup() {
    let home = Home::new();
    let stores = [
        Store::bucket(Kind::Rclone),
        Store::bucket(Kind::Rclone),
        Store::folder(&home, "backup"),
    ];
    let checked = run(home.atlasfs(["check", "--write"]).args(flags(&stores)));
    assert_eq!(checked.code, Some(0), "{checked}");
    let told = checked.text();
    assert_eq!(
        told.matches("it ignores conditional writes").count(),
        1,
        "{told}"
    );

    let first = home.mount(
        "first",
        [&flags(&stores)[..], &["--allow-delete".into()]].concat(),
    );
    assert_eq!(first.status()["targets"][0]["conditional_writes"], false);
    assert_eq!(first.events("conditions-ignored").len(), 1);
    std::fs::create_dir(first.path("app")).unwrap();
    for content in [schema("a"), schema("b")] {
        first.cp("app/schema", &content).ok();
        all_hold(&stores, "app/schema", content.as_bytes());
        assert_eq!(first.read("app/schema"), content.as_bytes());
    }
    first.cp("app/plans/p1", plan("p1", "a")).ok();
    run(Command::new("rm").arg(first.path("app/plans/p1"))).ok();
    none_holds(&stores, "app/plans/p1");
    // The repair restores the artifacts that a backup has lost.
    stores[1].delete("app/schema");
    run(home.atlasfs(["sync"]).arg(first.dir())).ok();
    all_hold(&stores, "app/schema", schema("b").as_bytes());

    // A writer that has seen an older version is in conflict.
    let second = home.mount("second", flags(&stores));
    until("the second mount sees it", || {
        second.path("app/schema").exists().then_some(())
    });
    let script = r#"exec 3<>"$1"; cat <&3 > /dev/null; cp "$2" "$3"; echo '# more' >&3; exec 3>&-"#;
    let newest = home.file("newest", schema("c"));
    let args = [second.path("app/schema"), newest, first.path("app/schema")];
    run(&mut bash(script, args));
    assert!(!second.events("conflict").is_empty());
    all_hold(&stores, "app/schema", schema("c").as_bytes());
    second.unmount();
    first.unmount();

    let registry_only = home.mount("again", flags(&stores[..1]));
    assert_eq!(registry_only.read("app/schema"), schema("c").as_bytes());
}

#[test]
fn a_registry_that_is_out_when_mounting_is_tried_for_conditions_as_soon_as_it_answers() {
    for (then, honours) in [(Fault::Pass, true), (Fault::IgnoreConditions, false)] {
        let home = Home::new();
        let server = Server::shared(Kind::Moto);
        let proxy = Proxy::start(server.addr());
        let stores = [
            Store::on(server, proxy.endpoint()),
            Store::folder(&home, "backup"),
        ];
        proxy.set(Fault::Refuse);
        let mounted = home.mount("mnt", flags(&stores));
        let known = || mounted.status()["targets"][0]["conditional_writes"].clone();
        assert!(known().is_null(), "nobody has tried it");
        std::fs::create_dir(mounted.path("app")).unwrap();
        mounted.cp("app/schema", schema("a")).ok();
        proxy.set(then);
        let found = until("it is tried", || Some(known()).filter(|it| !it.is_null()));
        assert_eq!(found, honours);
        assert_eq!(
            mounted.events("conditions-ignored").len(),
            usize::from(!honours)
        );
        until("it has got what it missed", || {
            (stores[0].get("app/schema")? == schema("a").as_bytes()).then_some(())
        });
        let left = proxy.count("DELETE", ".atlasfs/probe");
        assert!(left > 0, "the probe's object is removed");
    }
}
