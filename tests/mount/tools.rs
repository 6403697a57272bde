//! Tools that save a file: one save is one push, and readers see no state in between.

use super::program::{bash, run, until};
use super::saves::{Replica, Tool};
use super::store::{all_hold, plan, schema};

/// Tools that replace a file, one for each of the usual ways.
const TOOLS: [Tool; 26] = [
    ("cp", r#"cp "$2" "$1""#),
    ("cp -p", r#"cp -p "$2" "$1""#),
    ("cp --reflink=auto", r#"cp --reflink=auto "$2" "$1""#),
    ("dd", r#"dd if="$2" of="$1" bs=7 status=none"#),
    ("dd fsync", r#"dd if="$2" of="$1" conv=fsync status=none"#),
    ("tee", r#"tee "$1" < "$2" > /dev/null"#),
    ("sed -i", r#"sed -i "s/$3/$4/" "$1""#),
    (
        "sed -i --follow-symlinks",
        r#"sed -i --follow-symlinks "s/$3/$4/" "$1""#,
    ),
    ("perl -i", r#"perl -i -pe "s/$3/$4/" "$1""#),
    ("rsync", r#"rsync --ignore-times "$2" "$1""#),
    ("rsync -a", r#"rsync -a --ignore-times "$2" "$1""#),
    (
        "rsync --inplace",
        r#"rsync --inplace --ignore-times "$2" "$1""#,
    ),
    (
        "rsync --delay-updates",
        r#"rsync -r --delay-updates --ignore-times "$2" ./"#,
    ),
    (
        "rsync --backup",
        r#"rsync --backup --suffix=~ --ignore-times "$2" "$1"; rm -- *~"#,
    ),
    (
        "patch",
        r#"diff -u "$1" "$2" > ../../work/diff || patch -s "$1" ../../work/diff"#,
    ),
    ("sponge", r#"sed "s/$3/$4/" "$1" | sponge "$1""#),
    (
        "tar x --overwrite",
        r#"tar c -C "${2%/*}" schema | tar x --overwrite"#,
    ),
    ("mv within", r#"cp "$2" .new && mv .new "$1""#),
    (
        "mv within, from plans",
        r#"cp "$2" plans/.new && mv -f plans/.new "$1""#,
    ),
    (
        "ln and mv",
        r#"cp "$2" .new && ln .new .other && rm .new && mv .other "$1""#,
    ),
    (
        "unzip -p",
        r#"(cd "${2%/*}" && zip -q -FS s.zip schema) && unzip -p "${2%/*}/s.zip" schema > "$1""#,
    ),
    (
        "git archive",
        r#"cd ../../work && git init -q . && git add schema &&
git -c user.name=n -c user.email=e commit -q -m "$4" && git archive HEAD schema | tar x --overwrite -C "${1%/*}""#,
    ),
    (
        "git show",
        r#"git --git-dir=../../work/.git --work-tree=../../work add schema &&
git --git-dir=../../work/.git show :schema > "$1""#,
    ),
    (
        "python os.replace",
        r#"python3 -c 'import os, sys
live, new = sys.argv[1:]
with open(live) as old, open(live + ".tmp", "x") as to:
    old.read()
    to.write(open(new).read())
    to.flush()
    os.fsync(to.fileno())
os.replace(to.name, live)
os.fsync(os.open(os.path.dirname(live), os.O_RDONLY | os.O_DIRECTORY))' "$1" "$2""#,
    ),
    (
        "a Go program's atomic writer",
        r#"python3 -c 'import os, sys
live, new = sys.argv[1:]
folder = os.path.dirname(live)
temporary = os.path.join(folder, "." + os.path.basename(live) + "4711")
fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.write(fd, open(new, "rb").read())
os.fchmod(fd, 0o644)
os.fsync(fd)
os.close(fd)
os.rename(temporary, live)' "$1" "$2""#,
    ),
    // A rename of an open file, and a close afterwards.
    (
        "a Rust program's atomic writer",
        r#"python3 -c 'import os, sys
live, new = sys.argv[1:]
folder = os.open(os.path.dirname(live), os.O_RDONLY | os.O_DIRECTORY)
fd = os.open(".tmpAbC123", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
os.write(fd, open(new, "rb").read())
os.fsync(fd)
os.rename(".tmpAbC123", live, src_dir_fd=folder)
os.close(fd)
os.fsync(folder)' "$1" "$2""#,
    ),
];

#[test]
fn one_save_of_a_tool_is_one_push() {
    Replica::new().one_save_is_one_push(&TOOLS, "schema");
}

#[test]
fn one_save_of_a_tool_under_an_alias_is_one_push() {
    let tools = TOOLS
        .iter()
        .filter(|(name, _)| {
            ![
                "rsync --delay-updates",
                "tar x --overwrite",
                "git archive",
                "git show",
            ]
            .contains(name)
        })
        .copied();
    let tools: Vec<_> = tools.collect();
    Replica::new().one_save_is_one_push(&tools, "schema.hcl");
}

/// Tools that remove or rename the live file first.
const REFUSED: [Tool; 9] = [
    ("mv across", r#"mv "$2" "$1""#),
    ("install", r#"install -m 644 "$2" "$1""#),
    (
        "cp --remove-destination",
        r#"cp --remove-destination "$2" "$1""#,
    ),
    ("cp --backup", r#"cp --backup "$2" "$1""#),
    ("tar x", r#"tar c -C "${2%/*}" schema | tar x"#),
    ("sed -i.bak", r#"sed -i.bak "s/$3/$4/" "$1""#),
    ("perl -i~", r#"perl -i~ -pe "s/$3/$4/" "$1""#),
    ("mv away", r#"mv "$1" "$1~""#),
    ("rm", r#"rm "$1""#),
];

#[test]
fn a_tool_that_would_take_the_live_file_away_fails_and_changes_nothing() {
    let watched = Replica::new();
    for tool in REFUSED {
        let ran = watched.run(tool, "schema", ["mark-0", "mark-1"]);
        assert_ne!(ran.code, Some(0), "{}: {ran}", tool.0);
        all_hold(&watched.stores, "app/schema", schema("mark-0").as_bytes());
        let live = watched.mounted.read("app/schema");
        assert_eq!(live, schema("mark-0").as_bytes(), "{}", tool.0);
    }
    watched.nothing_else_is_there();
}

#[test]
fn a_git_repository_in_the_mount_is_refused() {
    let watched = Replica::new();
    let tool = ("git init", "git init -q .");
    let ran = watched.run(tool, "schema", ["mark-0", "mark-1"]);
    ran.fails_with("Operation not permitted");
    watched.nothing_else_is_there();
}

#[test]
fn a_tool_says_that_nothing_could_be_pushed_and_the_live_file_stays() {
    let watched = Replica::new();
    watched.targets_are_there(false);
    for tool in TOOLS {
        // unzip doesn't check its last write, and git has nothing to commit a second time.
        if tool.0.starts_with("git") || tool.0.starts_with("unzip") {
            continue;
        }
        let ran = watched.run(tool, "schema", ["mark-0", "mark-1"]);
        assert_ne!(ran.code, Some(0), "{}: {ran}", tool.0);
    }
    watched.targets_are_there(true);
    all_hold(&watched.stores, "app/schema", schema("mark-0").as_bytes());
    let unpushed = watched.mounted.ls(".atlasfs/unpushed/app");
    assert!(!unpushed.is_empty());
    let path = format!(".atlasfs/unpushed/app/{}", unpushed[0]);
    assert_eq!(watched.mounted.read(&path), schema("mark-1").as_bytes());
    // As a user would do it, once the mount has found the targets again. The kept file has the name
    // of the last try.
    let from = watched.mounted.path(".atlasfs/unpushed/app");
    let to = watched.mounted.path("app/schema");
    until("a push succeeds", || {
        let ran = run(&mut bash(r#"cp "$1"/* "$2""#, [&from, &to]));
        (ran.code == Some(0)).then_some(())
    });
    let new = schema("mark-1").into_bytes();
    until("every target has it", || {
        let mut stores = watched.stores.iter();
        stores
            .all(|store| store.get("app/schema").as_ref() == Some(&new))
            .then_some(())
    });
}

#[test]
fn plans_are_saved_by_rename_as_well() {
    let watched = Replica::new();
    let plans = watched.mounted.path("app/plans");
    watched
        .mounted
        .cp("app/plans/p1.plan.hcl", plan("p1", "mark-0"))
        .ok();
    for (n, script) in [
        r#"sed -i s/mark-0/mark-1/ "$1/p1""#,
        r#"perl -i -pe s/mark-1/mark-2/ "$1/p1.plan.hcl""#,
        r#"cd "$1"; sed s/mark-2/mark-3/ p1 > p1.tmp; mv p1.tmp p1"#,
    ]
    .iter()
    .enumerate()
    {
        run(&mut bash(script, [&plans])).ok();
        let content = plan("p1", &format!("mark-{}", n + 1));
        all_hold(&watched.stores, "app/plans/p1", content.as_bytes());
    }
    assert_eq!(watched.mounted.ls("app/plans"), ["p1"]);
    // For EINVAL, mv(1) prints a misleading explanation.
    run(&mut bash(r#"mv "$1/p1" "$1/p2""#, [&plans])).fails_with("cannot move");
}
