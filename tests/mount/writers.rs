//! Programs that write: each write is a push to every target, byte for byte.

use super::home::Home;
use super::program::{bash, run};
use super::store::{Store, all_hold, buckets, flags, folders, plan};

/// Programs that copy the file `$1` to the name `$2`, whether `$2` exists or not.
pub const COPIES: [(&str, &str); 18] = [
    ("cp", r#"cp "$1" "$2""#),
    ("cp-p", r#"cp -p "$1" "$2""#),
    ("cp-a", r#"cp -a "$1" "$2""#),
    ("cat", r#"cat "$1" > "$2""#),
    ("dd", r#"dd if="$1" of="$2" bs=7 status=none"#),
    ("dd-odd", r#"dd if="$1" of="$2" ibs=5 obs=11 status=none"#),
    (
        "dd-fsync",
        r#"dd if="$1" of="$2" bs=13 conv=fsync status=none"#,
    ),
    (
        "dd-notrunc",
        r#"dd if="$1" of="$2" bs=17 conv=notrunc status=none"#,
    ),
    ("tee", r#"tee "$2" < "$1" > /dev/null"#),
    ("tail", r#"tail -c +1 "$1" > "$2""#),
    ("rsync", r#"rsync --inplace --ignore-times "$1" "$2""#),
    ("bash", r#"text=$(cat "$1"); printf '%s\n' "$text" > "$2""#),
    ("bash-exec", r#"exec 3> "$2"; cat "$1" >&3; exec 3>&-"#),
    (
        "dash",
        r#"dash -ec 'text=$(cat "$1"); printf "%s\n" "$text" > "$2"' dash "$1" "$2""#,
    ),
    (
        "python",
        r#"python3 -c 'import sys
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as to:
    for line in source:
        to.write(line)' "$1" "$2""#,
    ),
    (
        "python-fsync",
        r#"python3 -c 'import os, sys
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb", 0) as to:
    to.write(source.read())
    os.fsync(to.fileno())' "$1" "$2""#,
    ),
    (
        "python-shutil",
        r#"python3 -c 'import shutil, sys; shutil.copy2(sys.argv[1], sys.argv[2])' "$1" "$2""#,
    ),
    (
        "perl",
        r#"perl -e 'open my $in, "<", $ARGV[0] or die $!; open my $out, ">", $ARGV[1] or die $!;
print $out $_ while <$in>; close $out or die "close: $!"' "$1" "$2""#,
    ),
];

/// Programs that only bring the file `$1` to a new name `$2`: they would unlink an existing file.
pub const BRINGS: [(&str, &str); 4] = [
    ("mv", r#"mv "$1" "$2""#),
    ("install", r#"install -m 600 "$1" "$2""#),
    (
        "tar-x",
        r#"dir=$(mktemp -d); trap 'rm -r "$dir"' EXIT; cp "$1" "$dir/${2##*/}"
tar cf - -C "$dir" "${2##*/}" | tar xf - -C "${2%/*}""#,
    ),
    ("cp-n", r#"cp -n "$1" "$2""#),
];

#[track_caller]
fn every_program_pushes(home: &Home, stores: &[Store]) {
    let mounted = home.mount("mnt", flags(stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    for (name, script) in COPIES.iter().chain(&BRINGS) {
        let key = format!("app/plans/{name}");
        let path = mounted.path(&key);
        let mut contents = vec![plan(name, "first"), plan(name, "second, which is longer")];
        if BRINGS.iter().any(|(other, _)| other == name) {
            contents.truncate(1);
        }
        for content in contents {
            let source = home.file("source", &content);
            let ran = run(&mut bash(script, [&source, &path]));
            assert!(
                ran.code == Some(0) && ran.stderr.is_empty(),
                "{name}: {ran}"
            );
            all_hold(stores, &key, content.as_bytes());
            assert_eq!(mounted.read(&key), content.as_bytes(), "{name}");
            assert_eq!(source.exists(), *name != "mv", "{name}");
        }
    }
    let status = mounted.status();
    assert_eq!(status["healthy"], true, "{status:#}");
    assert_eq!(status["pushes"]["unreported"], 0, "{status:#}");
    assert_eq!(mounted.ls("app/plans").len(), COPIES.len() + BRINGS.len());
    mounted.unmount();
}

#[test]
fn every_program_that_writes_pushes_to_a_folder_and_its_backups() {
    let home = Home::new();
    every_program_pushes(&home, &folders(&home));
}

#[test]
fn every_program_that_writes_pushes_to_a_bucket_and_its_backups() {
    let home = Home::new();
    every_program_pushes(&home, &buckets(&home));
}

#[test]
fn an_empty_file_that_was_only_touched_stays_local_until_it_is_written() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    let key = "app/plans/p1";
    run(&mut bash(
        r#"mkdir "$1/app"; touch "$1/app/plans/p1""#,
        [mounted.dir()],
    ))
    .ok();
    assert_eq!(mounted.read(key), b"");
    super::store::none_holds(&stores, key);
    let content = plan("p1", "written");
    mounted.cp(key, &content).ok();
    all_hold(&stores, key, content.as_bytes());
}
