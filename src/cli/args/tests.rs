//! Command lines and their meaning.

use super::super::settings::LogFormat;
use super::*;
use crate::fuse::Owner;
use crate::registry::{Durability, FallbackOn};

fn read(line: &str) -> Result<Request, Refusal> {
    parse(line.split_whitespace().map(OsString::from).collect())
}

fn mount(line: &str) -> MountSettings {
    match read(line) {
        Ok(Request::Mount(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    match read(line) {
        Err(Refusal::Line(line)) => line,
        Err(Refusal::Clap(error)) => error.to_string(),
        Ok(request) => panic!("{line}: {request:?}"),
    }
}

#[test]
fn the_command_line_is_consistent_in_itself() {
    Cli::command().debug_assert();
}

#[test]
fn defaults_are_those_of_the_contract() {
    let settings = mount("atlasfs mount /mnt");
    assert_eq!(settings.registry.durability, Durability::Any);
    let deadlines = [
        settings.registry.metadata,
        settings.registry.read,
        settings.registry.push,
    ];
    assert_eq!(deadlines, [2, 5, 15].map(Duration::from_secs));
    assert_eq!(settings.registry.ttl, Duration::from_secs(1));
    assert_eq!(settings.registry.max_size, 16 << 20);
    assert_eq!(settings.registry.cache_bytes, 64 << 20);
    assert_eq!(settings.registry.breaker, 3);
    assert_eq!(settings.registry.hedge, Duration::from_millis(250));
    assert_eq!(settings.registry.disk_cache_bytes, 1 << 30);
    assert_eq!(settings.registry.cache_dir, None);
    assert_eq!(settings.owner, Owner::of_this_process());
    assert!(settings.registry.fallback_on == FallbackOn::default());
    assert!(settings.registry.validate && !settings.fs.allow_delete && !settings.fs.read_only);
    assert!(!settings.foreground && !settings.allow_other);
}

#[test]
fn every_flag_reaches_the_settings() {
    let settings = mount(
        "atlasfs mount -f --config file://atlas.hcl --env prod --var a=1 --var b=x=y \
         --registry s3://b/p --backup gs://c --backup file:///d --durability all \
         --metadata-timeout 1s --read-timeout 2s --push-timeout 1m --ttl 0 --max-size 1M \
         --cache-size 2M --state-dir /s --allow-delete --read-only --allow-other --no-validate \
         --fallback-on not-found,denied --log-level debug --log-format json --log-file /l \
         --disk-cache-size 0 --cache-dir /c --uid 7 --gid 8 --max-open-files 9 --scratch-size 3MiB --breaker 5 --hedge 0 /mnt",
    );
    assert!(settings.foreground && settings.fs.allow_delete && settings.fs.read_only);
    assert!(settings.allow_other && !settings.registry.validate);
    assert_eq!(
        settings.selection.config.as_deref(),
        Some("file://atlas.hcl")
    );
    assert!(
        settings
            .selection
            .vars
            .last()
            .unwrap()
            .expose()
            .ends_with("=x=y")
    );
    assert_eq!(settings.selection.backups, ["gs://c", "file:///d"]);
    assert_eq!(settings.registry.push, Duration::from_secs(60));
    assert_eq!(settings.registry.ttl, Duration::ZERO);
    assert_eq!(
        settings.registry.fallback_on,
        FallbackOn {
            not_found: true,
            denied: true
        }
    );
    assert_eq!(settings.owner, Owner { uid: 7, gid: 8 });
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.fs.max_writers, 9);
    assert_eq!(settings.fs.temporary_bytes, 3 << 20);
    assert_eq!(settings.registry.breaker, 5);
    assert_eq!(settings.registry.hedge, Duration::ZERO);
    assert_eq!(settings.registry.disk_cache_bytes, 0);
    assert_eq!(settings.registry.cache_dir, Some(PathBuf::from("/c")));
    assert_eq!(settings.dir, PathBuf::from("/mnt"));
}

#[test]
fn a_mount_option_is_the_flag_of_that_name() {
    let settings = mount(
        "atlasfs mount -o ttl=5s,read-only,allow_other -o durability=all,backup=gs://c /mnt \
         -obackup=gs://d,max_size=1M",
    );
    assert_eq!(settings.registry.ttl, Duration::from_secs(5));
    assert!(settings.fs.read_only && settings.allow_other);
    assert_eq!(settings.registry.durability, Durability::All);
    assert_eq!(settings.selection.backups, ["gs://c", "gs://d"]);
    assert_eq!(settings.registry.max_size, 1 << 20);
}

#[test]
fn the_last_of_a_flag_and_an_option_wins() {
    assert_eq!(
        mount("atlasfs mount --ttl 1s -o ttl=2s /mnt").registry.ttl,
        Duration::from_secs(2)
    );
    assert_eq!(
        mount("atlasfs mount -o ttl=2s --ttl 1s /mnt").registry.ttl,
        Duration::from_secs(1)
    );
}

#[test]
fn an_unknown_option_is_named_beside_the_known_ones() {
    let error = refused("atlasfs mount -o ttl=1s,speed=9 /mnt");
    assert!(error.contains("`speed`"), "{error}");
    assert!(error.contains("metadata-timeout"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_helper_of_mount_takes_a_source_and_the_usual_options() {
    let settings = mount(
        "/sbin/mount.atlasfs s3://bucket/p /mnt -s -n -v \
         -o ro,noauto,nofail,_netdev,user,noexec,nosuid,nodev,defaults,noatime,x-systemd.automount,comment=x \
         -t atlasfs",
    );
    assert_eq!(
        settings.selection.registry.as_deref(),
        Some("s3://bucket/p")
    );
    assert_eq!(settings.dir, PathBuf::from("/mnt"));
    assert!(settings.fs.read_only && !settings.foreground);
    let settings = mount("mount.atlasfs none /mnt -o rw,config=file:///etc/atlas.hcl,env=prod");
    assert_eq!(settings.selection.registry, None);
    assert_eq!(
        settings.selection.config.as_deref(),
        Some("file:///etc/atlas.hcl")
    );
    assert!(!settings.fs.read_only);
}

#[test]
fn a_helper_that_is_sloppy_drops_unknown_options_and_a_fake_one_does_nothing() {
    assert!(refused("mount.atlasfs none /mnt -o speed=9").contains("`speed`"));
    mount("mount.atlasfs none /mnt -s -o speed=9");
    assert!(matches!(
        read("mount.atlasfs none /mnt -f"),
        Ok(Request::Nothing)
    ));
}

#[test]
fn a_source_and_a_directory_without_a_command_are_a_mount() {
    let settings = mount("atlasfs s3://bucket /mnt -o rw,ttl=3s,dev,suid");
    assert_eq!(settings.selection.registry.as_deref(), Some("s3://bucket"));
    assert_eq!(settings.registry.ttl, Duration::from_secs(3));
    let settings = mount("atlasfs atlasfs /mnt -f");
    assert_eq!(settings.selection.registry, None);
    assert!(settings.foreground);
    refused("atlasfs /mnt");
}

#[test]
fn credentials_on_the_command_line_are_refused_and_not_repeated() {
    for line in [
        "atlasfs mount --registry oci://user:hunter2@host/repo /mnt",
        "atlasfs mount --backup oci://hunter2@host/repo /mnt",
        "atlasfs mount -o registry=oci://a:hunter2@host?x=y /mnt",
        "mount.atlasfs oci://a:b@hunter2@host /mnt",
    ] {
        let error = refused(line);
        assert!(error.contains("never from the command line"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    mount("atlasfs mount --registry file:///srv/a@b /mnt");
    mount("atlasfs mount --registry s3://bucket/a@b?endpoint=http://x /mnt");
}

#[test]
fn wrong_values_are_refused() {
    assert!(refused("atlasfs mount --registry /srv /mnt").contains("needs a URL"));
    assert!(refused("atlasfs mount --ttl soon /mnt").contains("250ms"));
    assert!(refused("atlasfs mount --push-timeout 0s /mnt").contains("too short"));
    assert!(refused("atlasfs mount --durability most /mnt").contains("any, registry, all"));
    assert!(refused("atlasfs mount --fallback-on no /mnt").contains("not-found, denied"));
}

#[test]
fn help_says_what_the_exit_codes_mean_and_why_each_default_is_what_it_is() {
    for command in ["", "mount", "unmount", "status"] {
        let help = refused(&format!("atlasfs {command} --help"));
        assert!(help.contains("Exit codes:"), "{help}");
    }
    let cli = Cli::command();
    for arg in cli.find_subcommand("mount").unwrap().get_arguments() {
        let name = arg.get_id();
        let help = arg.get_help().unwrap_or_default().to_string();
        for default in arg.get_default_values() {
            let default = default.to_str().unwrap();
            if arg.get_action().takes_values() {
                assert!(
                    help.contains(&format!("Default {default}: ")),
                    "{name}: {help}"
                );
            }
        }
    }
}

#[test]
fn the_other_commands_are_read() {
    assert!(matches!(
        read("atlasfs umount --lazy /mnt"),
        Ok(Request::Unmount(UnmountArgs { lazy: true, .. }))
    ));
    assert!(matches!(
        read("atlasfs status /mnt --json"),
        Ok(Request::Status(StatusArgs { json: true, .. }))
    ));
    assert!(matches!(read("atlasfs daemon /mnt"), Ok(Request::Daemon)));
}

fn help(line: &str) -> String {
    match read(line) {
        Ok(Request::Help(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn help_on_a_topic_is_its_page() {
    for (topic, title) in [
        ("semantics", "# Semantics"),
        ("configuration", "# Configuration"),
        ("stores", "# Stores"),
        ("operations", "# Operations"),
        ("performance", "# Performance"),
        ("troubleshooting", "# Troubleshooting"),
    ] {
        let page = help(&format!("atlasfs help {topic}"));
        assert_eq!(page.lines().next(), Some(title));
    }
}

#[test]
fn help_on_a_command_is_what_its_flag_shows() {
    for command in [
        "mount", "unmount", "umount", "status", "verify", "sync", "check", "help",
    ] {
        let text = help(&format!("atlasfs help {command}"));
        let flag = refused(&format!("atlasfs {command} --help"));
        assert_eq!(text, flag.trim_end());
        assert!(text.contains("Usage: atlasfs "), "{text}");
    }
}

#[test]
fn help_alone_lists_commands_and_topics() {
    let text = help("atlasfs help");
    assert_eq!(text, refused("atlasfs --help").trim_end());
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "troubleshooting Error messages",
        "mount Mount the registry",
        "Exit codes:",
    ] {
        assert!(words.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_unknown_topic_is_one_line_that_lists_the_topics() {
    for topic in ["nonsense", "daemon", "Semantics", "", "a\nb"] {
        let argv = ["atlasfs", "help", topic].map(OsString::from);
        let Err(Refusal::Line(line)) = parse(argv.to_vec()) else {
            panic!("{topic}");
        };
        for part in [
            &format!("{topic:?}"),
            "semantics, configuration",
            "mount, unmount",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains('\n'), "{line}");
    }
}
