//! Every target refuses: every program that writes gets an error, and its bytes are kept.

use std::process::Command;
use std::time::{Duration, Instant};

use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run};
use super::store::{flags, folders, none_holds, plan};
use super::writers::{BRINGS, COPIES};

/// These shells ignore the error of the close that pushes: the shell opens the file, and keeps it
/// open while its commands write. The failure shows elsewhere.
const DEAF: [&str; 3] = ["bash", "bash-exec", "dash"];

/// Asserts that every report shows the failed push of an artifact.
#[track_caller]
fn is_visible(mounted: &Mounted, key: &str, content: &str, failed: u64) {
    let status = mounted.status();
    assert_eq!(status["healthy"], false, "{status:#}");
    assert!(
        status["pushes"]["failed"].as_u64() >= Some(failed),
        "{status:#}"
    );
    let of_this = |entry: &&serde_json::Value| entry["artifact"] == key;
    let list = |name: &str| status[name].as_array().unwrap().clone();
    assert!(list("errors").iter().any(|entry| of_this(&entry)), "{key}");
    let unpushed = list("unpushed");
    let kept = unpushed.iter().find(of_this).expect("kept bytes");
    let path = kept["path"].as_str().unwrap();
    assert_eq!(mounted.read(path), content.as_bytes(), "{path}");
    let events = mounted.events("push-failed");
    assert!(events.iter().any(|event| of_this(&event)), "{events:?}");
    let metric = "atlasfs_pushes_total{verdict=\"failed\"}";
    assert!(mounted.metric(metric) >= failed);
    let error = mounted.xattr(key, "error").expect("user.atlas.error");
    assert!(error.contains("can't push"), "{error}");
}

#[test]
fn every_program_that_writes_gets_an_error_when_all_targets_are_out() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    let before = plan("there", "before");
    mounted.cp("app/plans/there", &before).ok();
    for name in ["registry", "backup-1", "backup-2"] {
        std::fs::rename(home.path(name), home.path(&format!("{name}.gone"))).unwrap();
    }
    let mut failed = 0;
    for (name, script) in COPIES.iter().chain(&BRINGS) {
        let key = format!("app/plans/{name}");
        let content = plan(name, "never to be pushed");
        let source = home.file("source", &content);
        let ran = run(&mut bash(script, [&source, &mounted.path(&key)]));
        failed += 1;
        if !DEAF.contains(name) {
            assert!(ran.code != Some(0), "{name}: {ran}");
        }
        assert!(source.exists(), "{name} has removed its source");
        is_visible(&mounted, &key, &content, failed);
        none_holds(&stores, &key);
        // A missing file must not look like an empty one.
        mounted.cat(&key).fails_with("Input/output error");
    }
    let again = plan("there", "never");
    mounted
        .cp("app/plans/there", &again)
        .fails(1, "Input/output error");
    is_visible(&mounted, "app/plans/there", &again, failed + 1);
    assert_eq!(mounted.read("app/plans/there"), before.as_bytes());

    // Once the mount has seen that the targets are back, a push of the same bytes ends their alarm.
    // Until then it skips the targets.
    for name in ["registry", "backup-1", "backup-2"] {
        std::fs::rename(home.path(&format!("{name}.gone")), home.path(name)).unwrap();
    }
    wait_for_all(&mounted);
    mounted.cp("app/plans/there", &again).ok();
    super::store::all_hold(&stores, "app/plans/there", again.as_bytes());
    assert_eq!(mounted.xattr("app/plans/there", "error"), None);
    let status = run(Command::new(super::home::ATLASFS)
        .arg("status")
        .arg(mounted.dir()));
    assert_eq!(status.code, Some(3), "{status}");
    assert!(!status.text().contains("app/plans/there"), "{status}");
    run(&mut bash(
        r#"rm -r "$1"/.atlasfs/unpushed/app/plans/*"#,
        [mounted.dir()],
    ))
    .ok();
    assert_eq!(mounted.status()["unpushed"], serde_json::json!([]));
    none_holds(&stores, "app/plans/cp");
}

/// Waits until the mount skips no target. Probes come at most 45 s apart.
fn wait_for_all(mounted: &Mounted) {
    let begun = Instant::now();
    let skips = |mounted: &Mounted| {
        let status = mounted.status();
        let mut targets = status["targets"].as_array().unwrap().iter();
        targets.any(|target| target["breaker"] == "open")
    };
    while skips(mounted) {
        assert!(begun.elapsed() < Duration::from_secs(60), "still skipped");
        std::thread::sleep(Duration::from_millis(100));
    }
}
