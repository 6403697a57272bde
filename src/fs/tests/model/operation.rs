//! Operations of programs, on so few names that they often use the same one.

use proptest::prelude::*;
use proptest::sample::select;

use crate::fs::OpenMode;

/// The names: artifacts and their aliases, temporary files in every kind of directory, and invalid
/// names.
pub(super) const PATHS: [&str; 24] = [
    "app/schema",
    "app/schema.hcl",
    "app/schema.sql",
    "app/plans/p1",
    "app/plans/p1.plan.hcl",
    "app/plans/p2",
    "app/.s",
    "app/s~",
    "app/plans/.p",
    "app/.d",
    "app/.d/any",
    "app/.d/sub",
    "app/.d/sub/x",
    ".r",
    "new",
    "new/schema",
    "new/plans/p1",
    "new/.n",
    "new/plans/.m",
    "app/plans",
    "app/4913",
    "app/.git",
    "app/notes",
    "no repository",
];

/// The contents: documents of each format, and invalid ones.
pub(super) const CONTENTS: [&str; 9] = [
    "schema \"public\" {}\n",
    "schema \"public\" { comment = \"longer\" }\n",
    "CREATE TABLE t (id int);\n",
    "plan \"p1\" {\n  from = \"a\"\n  to = \"b\"\n  migration = \"c\"\n}\n",
    "plan \"p2\" {\n  from = \"a\"\n  to = \"b\"\n  migration = \"c\"\n}\n",
    "not { hcl",
    " \n",
    "# nothing\n",
    "}",
];

/// The number of files that a sequence may have open.
pub(super) const SLOTS: usize = 3;

/// One operation of a program.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// open(2), if the slot is free.
    Open(usize, &'static str, OpenMode, bool),
    /// pwrite(2), or write(2) with O_APPEND. The offset is at most two bytes beyond the file's end.
    Write(usize, u64, &'static str),
    /// ftruncate(2).
    Truncate(usize, u64),
    /// fsync(2), or close(2) of a duplicate.
    Flush(usize),
    /// close(2).
    Close(usize),
    /// The end of a killed process.
    Abandon(usize),
    /// open with O_CREAT and O_TRUNC, write, close.
    Save(&'static str, &'static str),
    /// truncate(2).
    TruncatePath(&'static str, u64),
    /// unlink(2).
    Unlink(&'static str),
    /// unlink(2) by a program that has listed the directory.
    UnlinkListed(&'static str),
    /// mkdir(2).
    Mkdir(&'static str),
    /// rmdir(2).
    Rmdir(&'static str),
    /// renameat2(2), with RENAME_NOREPLACE or without.
    Rename(&'static str, &'static str, bool),
}

fn path() -> impl Strategy<Value = &'static str> {
    // Prefer the first names, which most of the code paths depend on.
    prop_oneof![select(&PATHS[..10]), select(&PATHS[..])]
}

fn how() -> impl Strategy<Value = OpenMode> {
    let flags = (any::<[bool; 2]>(), any::<bool>(), 0..8_u8);
    flags.prop_map(|([read, append], truncate, exclusive)| {
        let write = !read || append || truncate;
        OpenMode {
            read,
            write,
            append: append && write,
            truncate: truncate && write,
            exclusive: exclusive == 0,
        }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let slot = || 0..SLOTS;
    // Mostly complete documents: an invalid one is not pushed.
    let content = || prop_oneof![2 => select(&CONTENTS[..3]), 1 => select(&CONTENTS[..])];
    let offset = || prop_oneof![2 => Just(0), 1 => 0..60_u64];
    prop_oneof![
        6 => (slot(), path(), how(), any::<bool>())
            .prop_map(|(slot, path, how, create)| Operation::Open(slot, path, how, create)),
        5 => (slot(), offset(), content())
            .prop_map(|(slot, offset, content)| Operation::Write(slot, offset, content)),
        2 => (slot(), 0..40_u64).prop_map(|(slot, size)| Operation::Truncate(slot, size)),
        2 => slot().prop_map(Operation::Flush),
        4 => slot().prop_map(Operation::Close),
        1 => slot().prop_map(Operation::Abandon),
        5 => (path(), content()).prop_map(|(path, content)| Operation::Save(path, content)),
        1 => (path(), 0..40_u64).prop_map(|(path, size)| Operation::TruncatePath(path, size)),
        3 => path().prop_map(Operation::Unlink),
        1 => path().prop_map(Operation::UnlinkListed),
        2 => path().prop_map(Operation::Mkdir),
        1 => path().prop_map(Operation::Rmdir),
        6 => (path(), path(), 0..6_u8)
            .prop_map(|(from, to, flag)| Operation::Rename(from, to, flag == 0)),
    ]
}

/// A sequence of operations, short enough to read when it fails.
pub(super) fn sequence() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 1..30)
}
