//! Editors in a terminal: one save is one push, and a failed save is reported.

use super::saves::{Replica, Tool};
use super::store::{all_hold, schema};

/// The start of every script: vim with its defaults outside of /tmp (see its `backupskip`).
macro_rules! vim {
    ($($rest:literal),*) => {
        concat!(r#"python3 "$TERMINAL" -- vim --cmd 'set backupskip=' "#, $($rest),*)
    };
}

/// Debian's editors for a terminal, with the settings of vim that change its way to save.
const EDITORS: [Tool; 13] = [
    ("vim", vim!(r#"-c "%s/$3/$4/" -c wq "$1""#)),
    ("vim -u NONE", vim!(r#"-u NONE -c "%s/$3/$4/" -c wq "$1""#)),
    (
        "vim backup",
        vim!(r#"-c 'set backup' -c "%s/$3/$4/" -c wq "$1""#),
    ),
    (
        "vim backupcopy=no",
        vim!(r#"-c 'set backupcopy=no' -c "%s/$3/$4/" -c wq "$1""#),
    ),
    (
        "vim backupcopy=no backup",
        vim!(r#"-c 'set backupcopy=no backup' -c "%s/$3/$4/" -c wq "$1""#),
    ),
    (
        "vim backupcopy=yes",
        vim!(r#"-c 'set backupcopy=yes' -c "%s/$3/$4/" -c wq "$1""#),
    ),
    (
        "vim backupcopy=auto",
        vim!(r#"-c 'set backupcopy=auto' -c "%s/$3/$4/" -c wq "$1""#),
    ),
    (
        "vim nowritebackup",
        vim!(r#"-c 'set nowritebackup' -c "%s/$3/$4/" -c wq "$1""#),
    ),
    (
        "vim nowritebackup backupcopy=no",
        vim!(r#"-c 'set nowritebackup backupcopy=no' -c "%s/$3/$4/" -c wq "$1""#),
    ),
    (
        "vim by hand",
        r#"python3 "$TERMINAL" wait "$3" keys ":%s/$3/$4/\r" wait "$4" keys ':wq\r' \
-- vim --cmd 'set backupskip=' "$1""#,
    ),
    (
        "nano",
        r#"python3 "$TERMINAL" wait "$3" keys '\x1c' wait 'Search' keys "$3\r" wait 'with' keys "$4\r" \
wait 'instance' keys 'a' wait 'eplaced' keys '\x0f' wait 'Write' keys '\r' wait 'rote' keys '\x18' -- nano -I "$1""#,
    ),
    (
        "emacs",
        r#"python3 "$TERMINAL" -- emacs -nw -Q "$1" --eval "(progn (search-forward \"$3\")
(replace-match \"$4\") (save-buffer) (kill-emacs))""#,
    ),
    (
        "micro",
        r#"python3 "$TERMINAL" wait "$3" keys '\x05' wait '>' keys "replaceall $3 $4\r" wait 'Replaced' \
keys '\x13' wait 'Saved' keys '\x11' -- micro "$1""#,
    ),
];

#[test]
fn one_save_of_an_editor_is_one_push() {
    Replica::new().one_save_is_one_push(&EDITORS, "schema");
}

#[test]
fn one_save_of_an_editor_under_an_alias_is_one_push() {
    Replica::new().one_save_is_one_push(&EDITORS, "schema.hcl");
}

#[test]
fn two_saves_of_an_editor_are_two_pushes() {
    let watched = Replica::new();
    let before = watched
        .mounted
        .metric("atlasfs_pushes_total{verdict=\"complete\"}");
    let twice = vim!(r#"-c "%s/$3/between/" -c w -c "%s/between/$4/" -c w -c q "$1""#);
    watched
        .run(("vim", twice), "schema", ["mark-0", "mark-1"])
        .ok();
    let after = watched
        .mounted
        .metric("atlasfs_pushes_total{verdict=\"complete\"}");
    assert_eq!(after - before, 2);
    all_hold(&watched.stores, "app/schema", schema("mark-1").as_bytes());
}

/// The editors' messages after a failed save. `$4` is then still in the buffer, and the editor
/// writes it to the file `$2.kept`.
const FAILING: [Tool; 2] = [
    (
        "vim",
        r#"python3 "$TERMINAL" wait "$3" keys ":%s/$3/$4/\r:w\r" wait ' E' keys "\r:w! $2.kept\r:q!\r" \
-- vim --cmd 'set backupskip=' "$1""#,
    ),
    (
        "nano",
        r#"python3 "$TERMINAL" wait "$3" keys "$4" wait "$4" keys '\x0f' wait 'Write' keys '\r' wait 'rror' \
keys '\x0f' wait 'Write' keys '\x0b' keys "$2.kept\r" wait 'DIFFERENT' keys 'y' wait 'rote' keys '\x18' -- nano -I "$1""#,
    ),
];

#[test]
fn an_editor_says_that_a_save_has_failed_and_the_text_is_not_lost() {
    let watched = Replica::new();
    watched.targets_are_there(false);
    for tool in FAILING {
        let ran = watched.run(tool, "schema", ["mark-0", "mark-1"]);
        assert_eq!(ran.code, Some(0), "{}: {ran}", tool.0);
        let kept = watched.home.path("work/schema.kept");
        let text = std::fs::read_to_string(&kept).unwrap();
        assert!(text.contains("mark-1"), "{}: {text}", tool.0);
        std::fs::remove_file(kept).unwrap();
        assert_eq!(
            watched.mounted.read("app/schema"),
            schema("mark-0").as_bytes()
        );
    }
    watched.targets_are_there(true);
    all_hold(&watched.stores, "app/schema", schema("mark-0").as_bytes());
    let kept = watched.mounted.ls(".atlasfs/unpushed/app");
    assert!(kept.len() >= FAILING.len(), "{kept:?}");
}
