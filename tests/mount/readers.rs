//! Programs that read: the result in a mount is the same as in a folder with the same files.

use super::home::Home;
use super::program::{bash, run};
use super::store::{Store, buckets, flags, folders, plan, schema};

/// Each examines the tree in its working directory. The output must not depend on the path.
const LOOKS: [(&str, &str); 18] = [
    ("cat", "cat app/schema app/plans/p0 other/schema"),
    ("find", "find . | sort"),
    (
        "find -type",
        "find . -type f -size +1k | sort; find . -type d -name plans | sort",
    ),
    ("grep", "grep -rn CREATE . | sort"),
    ("grep -c", "grep -rc . . | sort"),
    ("ls", "ls -1R"),
    (
        "ls sizes",
        "ls -l app/plans | awk 'NR > 1 { print $5, $9 }'",
    ),
    ("stat", "stat -c '%n %s %F' app/schema app/plans/*"),
    ("sha256sum", "find . -type f | sort | xargs sha256sum"),
    ("wc", "wc -lc app/schema app/plans/*"),
    (
        "dd odd",
        "dd if=big/schema bs=1013 skip=3 count=7 status=none | sha256sum",
    ),
    (
        "dd direct",
        "dd if=big/schema bs=4096 iflag=direct status=none | sha256sum",
    ),
    (
        "head and tail",
        "head -c 131073 big/schema | tail -c 4097 | sha256sum",
    ),
    (
        "python",
        r#"python3 -c 'import mmap, os
with open("big/schema", "rb") as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    print(len(m), m[70001:70021], f.read()[-20:], os.fstat(f.fileno()).st_size)'"#,
    ),
    (
        "perl",
        r#"perl -ne 'print "$ARGV:$_" if /main/' app/schema other/schema"#,
    ),
    (
        "bash",
        r#"while read -r line; do echo "$line"; done < app/schema; echo "$(< app/plans/p1)""#,
    ),
    (
        "du",
        "du -a --apparent-size --block-size=1 app/plans/p0 app/schema",
    ),
    ("sort", "sort app/schema app/plans/p2"),
];

#[track_caller]
fn readers_see_what_was_pushed(home: &Home, stores: &[Store]) {
    let mut files = vec![
        ("app/schema".to_owned(), schema("app")),
        (
            "other/schema".to_owned(),
            "CREATE TABLE main (id int);".into(),
        ),
        (
            "big/schema".to_owned(),
            "SELECT 1 -- of a SQL;\n".repeat(40_000),
        ),
    ];
    files.extend((0..5).map(|n| {
        let name = format!("p{n}");
        (
            format!("app/plans/{name}"),
            plan(&name, &"-".repeat(n * 600)),
        )
    }));
    let mounted = home.mount("mnt", flags(stores));
    for repo in ["app", "big", "other"] {
        std::fs::create_dir(mounted.path(repo)).unwrap();
        home.folder(&format!("local/{repo}/plans"));
    }
    for (name, content) in &files {
        home.file(&format!("local/{name}"), content);
        if name.ends_with("/schema") {
            let suffix = if name.starts_with("app") {
                "hcl"
            } else {
                "sql"
            };
            home.file(&format!("local/{name}.{suffix}"), content);
        }
        mounted.cp(name, content).ok();
    }
    // Each repository has one version, and its newest tag.
    for (repo, suffix) in [("app", "hcl"), ("big", "sql"), ("other", "sql")] {
        let version = mounted.ls(&format!("{repo}/versions")).remove(0);
        let (_, content) = files
            .iter()
            .find(|(name, _)| *name == format!("{repo}/schema"))
            .unwrap();
        for name in ["schema".to_owned(), format!("schema.{suffix}")] {
            home.file(&format!("local/{repo}/versions/{version}/{name}"), content);
        }
        home.folder(&format!("local/{repo}/migrations"));
        let tags = home.folder(&format!("local/{repo}/tags"));
        let link = format!("../versions/{version}");
        std::os::unix::fs::symlink(link, tags.join("latest")).unwrap();
    }
    let look =
        |script: &str, dir: &std::path::Path| run(bash(script, [""; 0]).current_dir(dir)).ok();
    // From the memory of the writing mount, and from the stores by another mount.
    let second = home.mount("mnt-2", flags(stores));
    for mount in [&mounted, &second] {
        for (name, script) in LOOKS {
            let expected = look(script, &home.path("local"));
            let seen = look(script, mount.dir());
            assert_eq!(seen.text(), expected.text(), "{name}");
            assert_eq!(seen.stderr, "", "{name}");
        }
        let same = r#"diff -r "$1" "$2"
for n in 1 2 3; do
    [ ! -e "$3" ] || chmod -R u+w "$3"
    rm -rf "$3"; mkdir "$3"
    tar cf - -C "$2" . | tar xf - -C "$3"
    diff -r "$1" "$3"
    cp -r "$2" "$3/copy"
    diff -r "$1" "$3/copy"
    sleep 0.6
done"#;
        let out = home.path("out");
        let ran = run(&mut bash(same, [&home.path("local"), mount.dir(), &out])).ok();
        assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("", ""));
    }
}

#[test]
fn programs_that_read_see_pushes_to_folders() {
    let home = Home::new();
    readers_see_what_was_pushed(&home, &folders(&home));
}

#[test]
fn programs_that_read_see_pushes_to_buckets() {
    let home = Home::new();
    readers_see_what_was_pushed(&home, &buckets(&home));
}
