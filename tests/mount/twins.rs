//! The two names of one artifact, and programs that use one of them.

use super::home::Home;
use super::program::{bash, run};
use super::store::{all_hold, flags, folders, none_holds, plan, schema};

/// Programs that write the file `$2` to the artifact `$1`.
const WRITERS: [&str; 5] = [
    r#"cp "$2" "$1""#,
    r#"cp "$2" "${1%/*}/.new" && mv "${1%/*}/.new" "$1""#,
    r#"sed -i "s/mark-[0-9]*/$3/" "$1""#,
    r#"rsync --ignore-times "$2" "$1""#,
    r#"tee "$1" < "$2" > /dev/null"#,
];

/// Programs that read the artifact `$1`, and must get the content of `$2`. `$3` is a file with the
/// content of the last read, and with the artifact's time at that read.
const READERS: [&str; 5] = [
    r#"cp "$1" "$3.cp" && cmp "$3.cp" "$2""#,
    r#"install "$1" "$3.install" && cmp "$3.install" "$2""#,
    r#"rsync -t "$1" "$3" && cmp "$3" "$2""#,
    r#"[ "$(stat -c %s "$1")" = "$(stat -c %s "$2")" ]"#,
    r#"python3 -c 'import os, sys
before = os.stat(sys.argv[1])
with open(sys.argv[1], "rb") as file:
    after = os.fstat(file.fileno())
assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)' "$1""#,
];

#[test]
fn a_push_by_one_name_is_read_by_the_other() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    std::fs::create_dir(home.path("work")).unwrap();
    mounted.cp("app/schema.hcl", schema("mark-0")).ok();
    mounted.cp("app/plans/p1", plan("p1", "mark-0")).ok();
    let mut mark = 0;
    for (by, other) in [
        ("app/schema.hcl", "app/schema"),
        ("app/schema", "app/schema.hcl"),
        ("app/plans/p1.plan.hcl", "app/plans/p1"),
        ("app/plans/p1", "app/plans/p1.plan.hcl"),
    ] {
        let live = mounted.path(by);
        let twin = mounted.path(other);
        for writer in WRITERS {
            // rsync compares contents of the same second by their size alone.
            mark += 1;
            let mark = format!("mark-{}", "1".repeat(2 + mark % 7));
            let content = match by.contains("plans") {
                true => plan("p1", &mark),
                false => schema(&mark),
            };
            let new = home.file("work/new", content);
            // The kernel knows both names, and a descriptor of the old content is open.
            run(&mut bash(r#"stat "$1" "$2""#, [&live, &twin])).ok();
            let mut held = Some(std::fs::File::open(&twin).unwrap());
            let args = [live.as_os_str(), new.as_os_str(), mark.as_ref()];
            run(&mut bash(writer, args)).ok();
            // The first two compare only the inode number and the content.
            for reader in READERS[..2].iter().chain(&READERS) {
                let last = home.path("work/last");
                let ran = run(&mut bash(reader, [&twin, &new, &last]));
                assert_eq!(ran.code, Some(0), "{by}: {writer}, {reader}: {ran}");
                if *reader == READERS[1] {
                    drop(held.take());
                }
            }
        }
    }
}

#[test]
fn rsync_deletes_nothing_that_it_has_written() {
    for how in [
        "--delete",
        "--delete-before",
        "--delete-during",
        "--delete-delay",
        "--delete-after",
        "--delete-after --inplace",
        "--delete-after --delay-updates",
        "--delete-excluded --exclude=x --delete-after",
    ] {
        let home = Home::new();
        let stores = folders(&home);
        let mut args = flags(&stores);
        args.push("--allow-delete".to_owned());
        let mounted = home.mount("mnt", args);
        std::fs::create_dir(mounted.path("app")).unwrap();
        mounted.cp("app/schema.hcl", schema("old")).ok();
        mounted.cp("app/plans/p1", plan("p1", "old")).ok();
        mounted.cp("app/plans/stray", plan("stray", "old")).ok();
        let source = home.folder("source");
        home.folder("source/plans");
        home.file("source/schema.hcl", schema("newer"));
        home.file("source/plans/p1.plan.hcl", plan("p1", "newer"));
        // Once with every file to write, and once with none.
        for what in ["", "--checksum", "--size-only", "--update"] {
            let script = format!(r#"rsync -a {how} {what} "$1/" "$2/""#);
            let ran = run(&mut bash(&script, [&source, &mounted.path("app")]));
            assert!([Some(0), Some(23)].contains(&ran.code), "{script}: {ran}");
            all_hold(&stores, "app/schema", schema("newer").as_bytes());
            all_hold(&stores, "app/plans/p1", plan("p1", "newer").as_bytes());
            none_holds(&stores, "app/plans/stray");
            // The kernel looks names up again after it may no longer keep them.
            std::thread::sleep(std::time::Duration::from_millis(1_100));
        }
        run(&mut bash(
            r#"rm "$1/schema" "$1/plans/p1""#,
            [mounted.path("app")],
        ))
        .ok();
        none_holds(&stores, "app/schema");
        none_holds(&stores, "app/plans/p1");
    }
}

#[test]
fn an_empty_document_under_a_new_name_fails_in_every_program() {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    home.folder("work");
    let empty = home.file("work/empty", "");
    for (n, script) in [
        r#"cp "$2" "$1""#,
        r#"install "$2" "$1""#,
        r#"install /dev/null "$1""#,
        r#"truncate -s 0 "$1""#,
        r#"dd if=/dev/null of="$1" status=none"#,
        r#"tee "$1" < /dev/null"#,
        r#"rsync "$2" "$1""#,
        r#"cp "$2" "${1%/*}/.new" && mv "${1%/*}/.new" "$1""#,
        r#"touch "$1" && cp "$2" "$1""#,
        r#"python3 -c 'import sys; open(sys.argv[1], "x").close()' "$1""#,
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("app/plans/p{n}");
        let ran = run(&mut bash(script, [&mounted.path(&key), &empty]));
        assert_ne!(ran.code, Some(0), "{script}: {ran}");
        none_holds(&stores, &key);
    }
    // The empty file of a shell's redirection must not keep the bytes from the store.
    for (name, script) in [
        ("q1", r#"cat "$2" > "$1""#),
        ("q2", r#"touch "$1"; cat "$2" > "$1""#),
        ("q3", r#"{ cat "$2"; } > "$1""#),
        ("q4", r#"dash -c 'cat "$2" > "$1"' dash "$1" "$2""#),
        ("q5", r#"touch "$1" && cp "$2" "$1""#),
    ] {
        let key = format!("app/plans/{name}");
        let full = home.file("work/full", plan(name, "full"));
        run(&mut bash(script, [&mounted.path(&key), &full])).ok();
        all_hold(&stores, &key, plan(name, "full").as_bytes());
    }
    let shown = r#"touch "$1" && stat -c "%A %s" "$1""#;
    let ran = run(&mut bash(shown, [mounted.path("app/plans/touched")])).ok();
    assert_eq!(ran.text(), "-rw------- 0\n");
}
