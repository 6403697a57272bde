//! pjdfstest: the POSIX rules of each call, from its errors to its times.
//!
//! Its files have made-up names, which only a scratch directory accepts: any name is allowed there.
//! `pjdfstest.excluded` lists the excluded tests, each with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::home::Home;
use super::program::{bash, run};
use super::store::{flags, folders, none_holds};
use super::support::tool::tool;

/// The users are Debian's own. `naptime` is longer than one tick of any clock that sets file times.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
secondary_fs = "SECOND"
[settings]
naptime = 0.03
allow_remount = REMOUNT
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// mount(8) would start atlasfs again by `mount.fuse`. Only the kernel can remount.
const MOUNT: &str = "#!/bin/sh\nPATH=${PATH#*:} exec mount -i \"$@\"\n";

/// The excluded tests.
fn excluded() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("pjdfstest.excluded").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    let named = lines.map(|line| line.split_once(": ").expect("NAME: REASON"));
    named.collect()
}

#[test]
fn every_test_of_pjdfstest_passes_that_is_not_excluded_by_name() {
    let home = Home::in_memory();
    let stores = folders(&home);
    let mut args = flags(&stores);
    // One test writes a byte beyond 2 GiB.
    args.extend(["--allow-other", "--scratch-size", "8GiB"].map(str::to_owned));
    let mounted = home.mount("mnt", args);
    let dir = mounted.path("app/.pjd");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let second = home.folder("second");
    let config = CONFIG.replace("SECOND", &second.display().to_string());
    let shim = home.file("bin/mount", MOUNT);
    std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();

    // Some tests leave files open for writing. A later remount then fails with EBUSY, on a tmpfs
    // too. So the tests that remount get a process of their own.
    let script = r#"PATH="$1/bin:$PATH" exec "$2" -c "$3" -p "$4" $5"#;
    let pjdfstest = tool("bin/pjdfstest");
    let mut said = String::new();
    for (remount, only) in [("false", ""), ("true", "erofs")] {
        let config = home.file("pjdfstest.toml", config.replace("REMOUNT", remount));
        let paths = [home.dir(), &*pjdfstest, &*config, &*dir, Path::new(only)];
        let ran = run(bash(script, paths).env("RUST_BACKTRACE", "0"));
        said += &plain(&ran.text());
    }
    let (mut passed, mut others) = (BTreeSet::new(), BTreeSet::new());
    for line in said.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, "ok"] => passed.insert(name),
            [name, "FAILED" | "skipped"] => others.insert(name),
            _ => continue,
        };
    }
    let others = &others - &passed;
    let excluded = excluded();
    let failed = others.iter().filter(|name| !excluded.contains_key(**name));
    let (failed, out): (Vec<_>, usize) = (failed.collect(), excluded.len());
    println!(
        "pjdfstest: {} passed, {out} excluded, {} failed",
        passed.len(),
        failed.len()
    );
    assert!(passed.len() > 300, "{said}");
    assert!(failed.is_empty(), "{failed:?}: {said}");
    let needless = excluded.keys().filter(|name| !others.contains(**name));
    let needless: Vec<_> = needless.collect();
    assert!(needless.is_empty(), "excluded, and pass: {needless:?}");
    none_holds(&stores, "app/schema");
}

/// Removes the colours.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        plain + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}
