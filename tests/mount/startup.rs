//! Faults before a mount appears: the program reports each in one line, and changes nothing.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::home::Home;
use super::mounted::is_mounted;
use super::program::{Ran, bash, run, until};
use super::store::{Store, flags, folders, schema};
use super::support::server::{Kind, SECRET_KEY, Server};

/// Tries to mount, and asserts a refusal in one line that leaves nothing behind.
#[track_caller]
fn refused<S: AsRef<OsStr>>(home: &Home, args: &[S], code: i32, parts: &[&str]) -> Ran {
    refused_command(home, &mut home.mounting("mnt", args), code, parts)
}

#[track_caller]
fn refused_command(home: &Home, command: &mut Command, code: i32, parts: &[&str]) -> Ran {
    let before = tree(home);
    let mut ran = run(command);
    assert_eq!(ran.code, Some(code), "{ran}");
    for part in parts {
        ran = ran.says(part);
    }
    assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{ran}");
    assert!(ran.stderr.starts_with("atlasfs: "), "{ran}");
    assert!(!ran.stderr.contains(SECRET_KEY), "{ran}");
    assert!(!is_mounted(&home.path("mnt")));
    assert_eq!(tree(home), before, "a store was changed");
    ran
}

/// Lists all stores that are folders, with their contents.
fn tree(home: &Home) -> String {
    let script =
        r#"cd "$1"; find registry backup* -type f -exec sha256sum {} + -o -print 2>&1 | sort"#;
    run(&mut bash(script, [home.dir()])).text()
}

fn file_registry(home: &Home) -> [String; 2] {
    ["--registry".into(), home.url("registry")]
}

/// Makes a command that must obey permission bits, even as root.
fn powerless(command: &Command) -> Command {
    let mut without = Command::new("setpriv");
    without.arg("--bounding-set=-dac_override,-dac_read_search");
    if !nix::unistd::geteuid().is_root() {
        without = Command::new("env");
    }
    without.arg(command.get_program()).args(command.get_args());
    without.env_clear();
    let env = command.get_envs();
    without.envs(env.filter_map(|(name, value)| Some((name, value?))));
    without
}

#[test]
fn a_wrong_configuration_is_reported_with_its_file_line_and_column() {
    let home = Home::new();
    let config = |content: &str| {
        let file = home.file("atlas.hcl", content);
        vec!["--config".to_owned(), format!("file://{}", file.display())]
    };
    let with_env = |content: &str, env: &str| {
        let mut args = config(content);
        args.extend(["--env".into(), env.into()]);
        args
    };
    let path = home.path("atlas.hcl").display().to_string();
    let none = format!("file://{}", home.path("none.hcl").display());
    refused(
        &home,
        &["--config", &none],
        1,
        &["none.hcl", "was not found"],
    );
    refused(
        &home,
        &["--config", "atlas.hcl"],
        1,
        &["missing scheme", "file://atlas.hcl"],
    );
    refused(
        &home,
        &["--config", "http://x/atlas.hcl"],
        1,
        &["unsupported config file driver"],
    );
    let folder = format!("file://{}", home.folder("folder").display());
    refused(&home, &["--config", &folder], 1, &["not a regular file"]);
    let broken = "env \"prod\" {\n  schema {\n    repo {\n      name = \"app\n    }\n  }\n}\n";
    refused(
        &home,
        &with_env(broken, "prod"),
        1,
        &[&format!("{path}:4:")],
    );
    let unknown =
        "env \"prod\" {\n  schema {\n    repo {\n      name = local.none\n    }\n  }\n}\n";
    refused(
        &home,
        &with_env(unknown, "prod"),
        1,
        &[&format!("{path}:4:")],
    );
    let typo = "env \"prod\" {\n  schema {\n    repo {\n      name = \"app\"\n      backup = \
                [\"s4://b/p\"]\n    }\n  }\n}\n";
    refused(
        &home,
        &with_env(typo, "prod"),
        1,
        &[&format!("{path}:5:"), "s4", "s3"],
    );
    let fine = "env \"prod\" {\n  schema {\n    repo {\n      name = \"app\"\n    }\n  }\n}\n";
    refused(
        &home,
        &with_env(fine, "staging"),
        1,
        &["\"staging\" not defined", "prod"],
    );
    refused(&home, &config(fine), 1, &["--env"]);
    refused(
        &home,
        &with_env(
            "variable \"v\" {\n  type = string\n}\nenv \"p\" {\n  schema {\n    repo {\n      name = var.v\n    }\n  }\n}\n",
            "p",
        ),
        1,
        &["missing value for required variable \"v\""],
    );
    let file = home.file("atlas.hcl", fine);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).unwrap();
    let url = format!("file://{path}");
    let mut command = powerless(&home.mounting("mnt", ["--config", &url, "--env", "prod"]));
    refused_command(
        &home,
        &mut command,
        1,
        &["can't be read", "Permission denied"],
    );
    refused(&home, &["--env", "prod"], 1, &["--config"]);
}

#[test]
fn a_typo_in_a_url_is_reported_with_the_known_parameters() {
    let home = Home::new();
    let registry = file_registry(&home);
    for (url, parts) in [
        ("s4://bucket/p", &["s4", "s3"][..]),
        ("s3://bucket/p?regoin=us-east-1", &["regoin", "region"]),
        ("s3://bucket/p?anonymous=maybe", &["anonymous", "maybe"]),
        ("s3:///p", &["bucket"]),
        ("file:///srv?create=true", &["create", "create_dir"]),
        ("file://relative/dir", &["file:///relative/dir"]),
        ("http://host/p", &["http", "s3"]),
        ("atlas://app", &["atlas://"]),
    ] {
        let args = ["--backup", url, &registry[0], &registry[1]];
        refused(&home, &args, 1, parts);
        refused(&home, &["--registry", url], 1, parts);
    }
    for url in ["srv/registry", "bucket"] {
        refused(&home, &["--registry", url], 2, &["needs a URL"]);
    }
    let token = "s3://user:hunter2@bucket/p";
    let ran = refused(&home, &["--registry", token], 2, &["credentials"]);
    assert!(!ran.stderr.contains("hunter2"), "{ran}");
    let same = [registry[0].as_str(), &registry[1], "--backup", &registry[1]];
    refused(&home, &same, 1, &["is the registry itself"]);
}

#[test]
fn a_wrong_option_is_reported_with_the_known_options() {
    let home = Home::new();
    let [flag, url] = file_registry(&home);
    let with = |more: &[&str]| {
        let args = [&flag, &url].map(String::as_str);
        [args.as_slice(), more].concat().join("\n")
    };
    for (more, part) in [
        (&["-o", "tll=5s"][..], "ttl"),
        (&["-o", "ttl=fast"], "fast"),
        (&["--durability", "most"], "registry"),
        (&["--max-size", "big"], "big"),
        (&["--fallback-on", "monday"], "not-found"),
        (&["--read-timeout", "0s"], "read-timeout"),
        (&["--unknown"], "--unknown"),
    ] {
        let args = with(more);
        let ran = run(&mut home.mounting("mnt", args.split('\n')));
        assert_eq!(ran.code, Some(2), "{more:?}: {ran}");
        ran.says(part);
        assert!(!is_mounted(&home.path("mnt")));
    }
}

#[test]
fn a_missing_bucket_is_reported_and_stops_a_mount_without_other_targets() {
    let home = Home::new();
    let server = Server::shared(Kind::Moto);
    let typo = format!(
        "s3://no-such-bucket/p?region=us-east-1&endpoint={}",
        server.endpoint()
    );
    refused(
        &home,
        &["--registry", &typo],
        1,
        &["no target can be used", "s3://no-such-bucket/p", "bucket"],
    );
    let gone = format!("file://{}", home.path("registry/none").display());
    refused(
        &home,
        &["--registry", &gone],
        1,
        &["no target can be used", "none"],
    );
    let mut command = home.mounting(
        "mnt",
        ["--registry", &typo, "--backup", &home.url("backup")],
    );
    let (mounted, ran) = home.mount_by("mnt", &mut command);
    ran.says("warning: target s3://no-such-bucket/p")
        .says("is missing");
    run(home.atlasfs(["status"]).arg(mounted.dir())).fails(3, "");
}

#[test]
fn the_mount_reports_wrong_credentials_with_the_target_and_its_answer() {
    let home = Home::new();
    let strict = Arc::new(Server::start(Kind::Moto));
    let store = Store::on(Arc::clone(&strict), strict.endpoint());
    let store2 = Store::bucket(Kind::S3s);
    strict.demand_credentials();
    let Store::Bucket { bucket, .. } = &store else {
        panic!("a bucket")
    };
    let name = format!("s3://{bucket}/pre/fix");
    let wrong = |args: &[String]| {
        let mut command = home.mounting("mnt", args);
        command.env("AWS_SECRET_ACCESS_KEY", "this-is-wrong");
        command
    };
    let both = flags(&[store.clone(), store2.clone()]);
    let ran = refused_command(
        &home,
        &mut wrong(&both),
        1,
        &["no target can be used", &name, "403"],
    );
    assert!(!ran.stderr.contains("this-is-wrong"), "{ran}");
    // The mount succeeds if any target can serve.
    let backup = Store::folder(&home, "backup");
    let mut command = wrong(&flags(&[store2.clone(), backup.clone()]));
    let (mounted, ran) = home.mount_by("mnt", &mut command);
    let ran = ran
        .says("warning: target s3://")
        .says("403")
        .says("refuses");
    assert!(!ran.stderr.contains("this-is-wrong"), "{ran}");
    let status = mounted.status();
    assert_eq!(status["targets"][0]["state"], "denied", "{status:#}");
    assert_eq!(status["targets"][1]["state"], "ok", "{status:#}");
    mounted.unmount();
    let mut command = wrong(&flags(&[backup.clone(), store]));
    let (mounted, ran) = home.mount_by("mnt", &mut command);
    ran.says(&name).says("refuses");
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("served")).ok();
    assert_eq!(
        backup.get("app/schema"),
        Some(schema("served").into_bytes())
    );
    assert_eq!(mounted.read("app/schema"), schema("served").as_bytes());
}

#[test]
fn missing_credentials_are_reported_and_not_prompted_for() {
    let home = Home::new();
    let store = Store::bucket(Kind::Moto);
    let mut command = home.mounting("mnt", flags(&[store]));
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    refused_command(&home, &mut command, 1, &["credentials"]);
}

#[test]
fn an_unfit_mount_point_is_reported_with_the_remedy() {
    let home = Home::new();
    let [flag, url] = file_registry(&home);
    let mount_on = |dir: &Path| run(home.atlasfs(["mount", &flag, &url]).arg(dir));
    mount_on(&home.path("none")).fails(1, "does not exist; make it first: mkdir -p");
    mount_on(&home.file("file", "")).fails(1, "not a directory");
    home.file("full/file", "");
    mount_on(&home.path("full")).fails(1, "not empty; use an empty directory");
    let mounted = home.mount("mnt", [&flag, &url]);
    mount_on(mounted.dir()).fails(1, "is mounted already: atlasfs unmount");
    std::fs::create_dir(mounted.path("app")).unwrap();
    mount_on(&mounted.path("app")).fails(1, "");
    assert_eq!(mounted.ls(""), ["app"]);
    run(home.atlasfs(["unmount"]).arg(home.path("full"))).fails(1, "is not mounted");
    run(home.atlasfs(["status"]).arg(home.path("full"))).fails(1, "is not mounted");
    run(&mut home.atlasfs(["unmount", "/proc"])).fails(1, "not of atlasfs");
}

/// Runs the program in a mount namespace of its own, after a script has changed its /dev.
fn with_dev(home: &Home, script: &str) -> Command {
    let mount = home.mounting("mnt", file_registry(home));
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "--propagation", "private", "bash", "-euc"]);
    command.arg(format!("{script}\nexec \"$@\"")).arg("bash");
    command.arg(mount.get_program()).args(mount.get_args());
    home.enter(&mut command);
    command
}

#[test]
fn a_missing_or_forbidden_fuse_device_is_reported_with_the_remedy() {
    let home = Home::new();
    let missing = "mount -t tmpfs none /dev; touch /dev/null; mkdir /dev/pts";
    let mut command = with_dev(&home, missing);
    refused_command(
        &home,
        &mut command,
        1,
        &["/dev/fuse", "modprobe fuse", "--device /dev/fuse"],
    );
    // A device on a mount with `nodev` is forbidden, also to root.
    let forbidden = r#"dir=$(mktemp -d); mount -t tmpfs -o nodev none "$dir"
touch "$dir/fuse"; mount --bind /dev/fuse "$dir/fuse"
mount -o remount,bind,nodev "$dir/fuse"; mount --move "$dir/fuse" /dev/fuse"#;
    let mut command = with_dev(&home, forbidden);
    refused_command(
        &home,
        &mut command,
        1,
        &["/dev/fuse", "Permission denied", "chmod 666 /dev/fuse"],
    );
}

#[test]
fn two_mounts_of_one_registry_share_a_state_directory() {
    let home = Home::new();
    let stores = folders(&home);
    let state = home.path("the-state");
    let mut args = flags(&stores);
    args.extend(["--state-dir".into(), state.display().to_string()]);
    args.extend(["--ttl".into(), "0s".into()]);
    let first = home.mount("first", &args);
    let second = home.mount("second", &args);
    std::fs::create_dir(first.path("app")).unwrap();
    first.cp("app/schema", schema("one")).ok();
    assert_eq!(second.read("app/schema"), schema("one").as_bytes());
    second.cp("app/schema", schema("two")).ok();
    assert_eq!(first.read("app/schema"), schema("two").as_bytes());
}

#[test]
fn a_known_folder_that_is_away_is_an_outage_and_never_made_anew() {
    let home = Home::new();
    let mut args = file_registry(&home);
    args[1] += "?create_dir=true";
    let content = schema("kept");
    let mounted = home.mount("mnt", &args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema.hcl", &content).ok();
    mounted.unmount();
    let (folder, away) = (home.path("registry"), home.path("away"));
    std::fs::rename(&folder, &away).unwrap();
    // The disk is missing. In the second round, its empty mount point exists.
    for is_there in [false, true] {
        if is_there {
            std::fs::create_dir(&folder).unwrap();
        }
        let mounted = home.mount("mnt", &args);
        assert_eq!(mounted.read("app/schema.hcl"), content.as_bytes());
        mounted.unmount();
        let made = std::fs::read_dir(&folder).map(Iterator::count);
        assert_eq!(made.ok(), is_there.then_some(0));
    }
    std::fs::remove_dir(&folder).unwrap();
    let mounted = home.mount("mnt", &args);
    std::fs::rename(&away, &folder).unwrap();
    let changed = schema("changed");
    until("the folder is used again", || {
        let ran = mounted.cp("app/schema.hcl", &changed);
        (ran.code == Some(0)).then_some(())
    });
    let held = std::fs::read(folder.join("app/schema")).unwrap();
    assert_eq!(held, changed.as_bytes());
    mounted.unmount();
    // A mount that has never seen the folder can serve nothing.
    std::fs::rename(&folder, &away).unwrap();
    let other = home.path("other-state");
    args[1] = args[1].replace("?create_dir=true", "");
    let mut fresh = home.mounting("fresh", &args);
    run(fresh.arg("--state-dir").arg(&other)).fails(1, "no folder at");
}
