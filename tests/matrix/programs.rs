//! The programs: their way to write, and their reaction to an error of close.

/// A program that writes an artifact.
#[derive(Debug)]
pub struct Program {
    pub name: &'static str,
    /// A bash script that brings the file `$1` to the name `$2`, with a folder of its own at `$3`.
    pub script: &'static str,
    pub kind: Kind,
    pub on_error: OnError,
}

/// The effect of a program on the artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The program makes a new file.
    Makes,
    /// The program writes to the name, whether the file exists or not.
    Writes,
    /// The program makes a new file, and then removes its source.
    Moves,
    /// The program changes the word `first` of an existing file to `second`.
    Edits,
}

/// The reaction of a program to an error of close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The program prints the error, and does not exit with 0.
    Repeats,
    /// The program does not exit with 0.
    Fails,
    /// The program ignores the error.
    Ignores,
}

const fn program(
    name: &'static str,
    kind: Kind,
    on_error: OnError,
    script: &'static str,
) -> Program {
    Program {
        name,
        script,
        kind,
        on_error,
    }
}

use Kind::{Edits, Makes, Moves, Writes};
use OnError::{Fails, Ignores, Repeats};

/// Every row of the matrix.
pub const PROGRAMS: [Program; 19] = [
    program("cp", Writes, Repeats, r#"cp "$1" "$2""#),
    program("cp-p", Writes, Repeats, r#"cp -p "$1" "$2""#),
    program("mv", Moves, Repeats, r#"mv "$1" "$2""#),
    program("install", Makes, Repeats, r#"install -m 600 "$1" "$2""#),
    program("cat", Writes, Repeats, r#"cat "$1" > "$2""#),
    program("tee", Writes, Repeats, r#"tee "$2" < "$1" > "$3/out""#),
    program(
        "dd",
        Writes,
        Repeats,
        r#"dd if="$1" of="$2" bs=1000 status=none"#,
    ),
    program(
        "dd-fsync",
        Writes,
        Repeats,
        r#"dd if="$1" of="$2" bs=1000 conv=fsync status=none"#,
    ),
    program("rsync", Writes, Repeats, r#"rsync "$1" "$2""#),
    program("sed-i", Edits, Repeats, r#"sed -i s/first/second/ "$2""#),
    program(
        "tar-x",
        Makes,
        Repeats,
        r#"cp "$1" "$3/${2##*/}"; tar cf - -C "$3" "${2##*/}" | tar xf - -C "${2%/*}""#,
    ),
    program(
        "python-with",
        Writes,
        Repeats,
        r#"python3 -c 'import sys
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as to:
    to.write(source.read())' "$1" "$2""#,
    ),
    program(
        "python-open",
        Writes,
        Ignores,
        r#"python3 -c 'import sys
to = open(sys.argv[2], "w")
to.write(open(sys.argv[1]).read())' "$1" "$2""#,
    ),
    program(
        "perl-checked",
        Writes,
        Repeats,
        r#"perl -e 'open my $in, "<", $ARGV[0] or die $!; open my $out, ">", $ARGV[1] or die $!;
print $out $_ while <$in>; close $out or die "close: $!"' "$1" "$2""#,
    ),
    program(
        "perl",
        Writes,
        Ignores,
        r#"perl -e 'open my $in, "<", $ARGV[0] or die $!; open my $out, ">", $ARGV[1] or die $!;
print $out $_ while <$in>;' "$1" "$2""#,
    ),
    program(
        "bash-echo",
        Writes,
        Ignores,
        r#"text=$(cat "$1"); echo "$text" > "$2""#,
    ),
    program(
        "dash-printf",
        Makes,
        Ignores,
        r#"dash -ec 'text=$(cat "$1"); printf "%s\n" "$text" >> "$2"' dash "$1" "$2""#,
    ),
    program(
        "vim",
        Edits,
        Fails,
        // vim makes no backup copy below /tmp by default, and this row tests that copy.
        r#"vim -es -u NONE -i NONE -c 'set backupskip=' -c '%s/first/second/' -c wq "$2""#,
    ),
    program(
        "git",
        Makes,
        Ignores,
        r#"cd "$3"; cp "$1" "${2##*/}"; git init --quiet; git add "${2##*/}"
git --work-tree="${2%/*}" checkout --quiet -- "${2##*/}""#,
    ),
];
