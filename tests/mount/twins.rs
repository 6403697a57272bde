//! The two names of one artifact, and programs that use one of them.

use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run};
use super::store::{Store, all_hold, flags, folders, none_holds, plan, schema};

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
const READERS: [&str; 7] = [
    r#"cp "$1" "$3.cp" && cmp "$3.cp" "$2""#,
    r#"install "$1" "$3.install" && cmp "$3.install" "$2""#,
    r#"rsync -t "$1" "$3" && cmp "$3" "$2""#,
    r#"tar cf - -C "${1%/*}" "${1##*/}" | tar xOf - | cmp - "$2""#,
    r#"[ "$(ls -l "${1%/*}" | grep " ${1##*/}$" | awk '{ print $5 }')" = "$(stat -c %s "$2")" ] || [[ "$1" = *.plan.hcl ]]"#,
    r#"[ "$(stat -c %s "$1")" = "$(stat -c %s "$2")" ]"#,
    r#"python3 -c 'import os, sys
before = os.stat(sys.argv[1])
with open(sys.argv[1], "rb") as file:
    after = os.fstat(file.fileno())
assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)' "$1""#,
];

/// The ways in which rsync deletes.
const RSYNC_DELETES: [&str; 7] = [
    "--delete",
    "--delete-before",
    "--delete-during",
    "--delete-delay",
    "--delete-after",
    "--delete-after --inplace",
    "--delete-after --delay-updates",
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
            let _held = std::fs::File::open(&twin).unwrap();
            let args = [live.as_os_str(), new.as_os_str(), mark.as_ref()];
            run(&mut bash(writer, args)).ok();
            // Each reader is once the first one that uses the other name after a push.
            let mut readers = READERS;
            readers.rotate_left(mark.len() % READERS.len());
            for reader in readers {
                let last = home.path("work/last");
                let ran = run(&mut bash(reader, [&twin, &new, &last]));
                assert_eq!(ran.code, Some(0), "{by}: {writer}, {reader}: {ran}");
            }
        }
    }
}

#[test]
fn rsync_deletes_nothing_that_it_has_written() {
    for how in RSYNC_DELETES
        .into_iter()
        .chain(["--delete-excluded --exclude=x --delete-after"])
    {
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

/// Mounts a schema, with `--allow-delete` or without.
fn mount_schema(home: &Home, allow_delete: bool) -> (Vec<Store>, Mounted) {
    let stores = folders(home);
    let mut args = flags(&stores);
    if allow_delete {
        args.push("--allow-delete".to_owned());
    }
    let mounted = home.mount("mnt", args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema.hcl", schema("old")).ok();
    (stores, mounted)
}

/// Lists the names of the schema.
fn schemas(mounted: &Mounted) -> Vec<String> {
    let mut names = mounted.ls("app");
    names.retain(|name| name.starts_with("schema"));
    names
}

#[test]
fn rsync_keeps_a_schema_whose_source_has_one_name() {
    let home = Home::new();
    let (stores, mounted) = mount_schema(&home, true);
    home.folder("source/plans");
    let deleted = home.path("registry/.atlasfs/deleted");
    for how in RSYNC_DELETES
        .into_iter()
        .chain(["--delete-excluded --exclude=x"])
    {
        for names in [&["schema.hcl"][..], &["schema"], &["schema", "schema.hcl"]] {
            let content = schema(&format!("{how} {}", names.join(" ")));
            for name in ["schema", "schema.hcl"] {
                let _ = std::fs::remove_file(home.path(&format!("source/{name}")));
            }
            for name in names {
                home.file(&format!("source/{name}"), &content);
            }
            // Once with every file to write, and twice with none.
            for what in ["--ignore-times", "--checksum", "--size-only"] {
                let script = format!(
                    r#"rsync -a --filter="P migrations" --filter="P versions" --filter="P tags" {how} {what} "$1/" "$2/""#
                );
                let paths = [home.path("source"), mounted.path("app")];
                run(&mut bash(&script, paths)).ok();
                all_hold(&stores, "app/schema", content.as_bytes());
            }
        }
    }
    assert!(!deleted.exists(), "nothing was deleted in between");
    // A source without either name deletes the schema.
    let script = r#"rsync -a --delete --exclude=plans --exclude=migrations --exclude=versions --exclude=tags "$1/" "$2/""#;
    let paths = [home.folder("empty"), mounted.path("app")];
    run(&mut bash(script, paths)).ok();
    none_holds(&stores, "app/schema");
}

#[test]
fn without_allow_delete_rsync_says_that_it_may_not_delete() {
    let home = Home::new();
    let (stores, mounted) = mount_schema(&home, false);
    home.folder("source/plans");
    home.file("source/schema.hcl", schema("newer"));
    let script = r#"rsync -a --delete --ignore-times "$1/" "$2/""#;
    let paths = [home.path("source"), mounted.path("app")];
    run(&mut bash(script, paths)).fails(23, "Operation not permitted");
    all_hold(&stores, "app/schema", schema("newer").as_bytes());
}

/// Programs that delete the schema in the folder `$1`, each with exit code 0.
const DELETERS: [&str; 14] = [
    r#"rm "$1/schema"; true"#,
    r#"rm "$1/schema.hcl"; true"#,
    r#"rm "$1"/*.hcl"#,
    r#"rm "$1"/schema*"#,
    r#"cd "$1" && rm schema.hcl ./schema"#,
    r#"printf 'y\ny\n' | rm -i "$1"/schema*"#,
    r#"find "$1" -maxdepth 1 -type f -delete"#,
    r#"find "$1" -maxdepth 1 -name 'schema*' -exec rm {} +"#,
    r#"find "$1" -maxdepth 1 -name '*.hcl' | xargs rm"#,
    r#"mkdir "$2" && mv "$1"/schema* "$2" && cmp "$2"/schema "$2"/schema.hcl"#,
    r#"mkdir "$2" && rsync -a --exclude=versions --exclude=tags --remove-source-files "$1/" "$2/" && cmp "$2"/schema "$2"/schema.hcl"#,
    r#"perl -e 'unlink(glob("$ARGV[0]/schema*")) == 2 or die' "$1""#,
    r#"python3 -c 'import os, sys
os.unlink(sys.argv[1] + "/schema")
assert not os.path.exists(sys.argv[1] + "/schema.hcl")' "$1""#,
    // The folder itself stays, because it always has `plans`.
    r#"! rm -r "$1" 2> /dev/null && [ ! -e "$1/schema" ]"#,
];

#[test]
fn programs_delete_a_schema_by_one_name_or_by_both() {
    let home = Home::new();
    let (stores, mounted) = mount_schema(&home, true);
    for (n, script) in DELETERS.into_iter().enumerate() {
        mounted.cp("app/schema.hcl", schema("old")).ok();
        let out = home.path(&format!("out-{n}"));
        let ran = run(&mut bash(script, [&mounted.path("app"), &out]));
        assert_eq!(ran.code, Some(0), "{script}: {ran}");
        none_holds(&stores, "app/schema");
        assert_eq!(schemas(&mounted), [""; 0], "{script}");
    }
}

#[test]
fn moves_links_and_copies_between_both_names_change_nothing() {
    let home = Home::new();
    let (stores, mounted) = mount_schema(&home, true);
    for script in [
        r#"! mv "$1/schema" "$1/schema.hcl" 2> /dev/null"#,
        r#"! mv -f "$1/schema.hcl" "$1/schema" 2> /dev/null"#,
        r#"python3 -c 'import os, sys; os.rename(sys.argv[1] + "/schema", sys.argv[1] + "/schema.hcl")' "$1""#,
        r#"! ln "$1/schema" "$1/schema.hcl" 2> /dev/null"#,
        r#"! ln -f "$1/schema" "$1/schema.hcl" 2> /dev/null"#,
        r#"! cp "$1/schema" "$1/schema.hcl" 2> /dev/null"#,
    ] {
        run(&mut bash(script, [mounted.path("app")])).ok();
        all_hold(&stores, "app/schema", schema("old").as_bytes());
        assert_eq!(schemas(&mounted), ["schema", "schema.hcl"]);
    }
}

#[test]
fn a_folder_is_copied_out_and_back_with_both_names() {
    let home = Home::new();
    let (stores, mounted) = mount_schema(&home, false);
    for (n, script) in [
        r#"cp -r "$1" "$2" && rm -rf "$2/versions" "$2/tags" && cp -r "$2/." "$1/""#,
        r#"cp -a "$1" "$2" && rm -rf "$2/versions" "$2/tags" && cp -a "$2/." "$1/""#,
        r#"rsync -a --exclude=versions --exclude=tags "$1/" "$2/" && rsync -a --ignore-times "$2/" "$1/""#,
    r#"mkdir "$2" && cp "$1/schema" "$1/schema.hcl" "$2" && cp "$2"/* "$1""#,
    r#"mkdir "$2" && tar c -C "$1" schema schema.hcl | tar x -C "$2" && tar c -C "$2" schema schema.hcl | tar x --overwrite -C "$1""#,
    r#"mkdir "$2" && tar c --exclude=versions --exclude=tags -C "$1" . | tar x -C "$2" && tar c -C "$2" . | tar x --overwrite -C "$1""#,
    ]
    .into_iter()
    .enumerate()
    {
        let out = home.path(&format!("out-{n}"));
        run(&mut bash(script, [&mounted.path("app"), &out])).ok();
        all_hold(&stores, "app/schema", schema("old").as_bytes());
        run(&mut bash(r#"diff -r --exclude=plans --exclude=migrations --exclude=versions --exclude=tags "$1" "$2""#, [&mounted.path("app"), &out])).ok();
    }
    let found = r#"cd "$1" && echo *.hcl && find . -maxdepth 1 -name '*.hcl' && find . -maxdepth 1 -samefile schema.hcl | wc -l
[ "$(ls -i | awk '/schema/ { print $1 }' | uniq | wc -l)" = 1 ]"#;
    let ran = run(&mut bash(found, [mounted.path("app")])).ok();
    assert_eq!(ran.text(), "schema.hcl\n./schema.hcl\n2\n");
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
