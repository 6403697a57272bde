//! Programs that change a part of a file. The result is the same as on a local file, on every
//! target.

use super::home::Home;
use super::program::{bash, run};
use super::store::{Store, all_hold, buckets, flags, folders};

/// Each changes the file `$1`, a SQL schema of several kilobytes.
const EDITS: [(&str, &str); 17] = [
    (
        "dd odd",
        r#"printf 'odd' | dd of="$1" bs=1 seek=1013 conv=notrunc status=none"#,
    ),
    (
        "dd beyond the end",
        r#"printf -- '-- end' | dd of="$1" bs=1 seek=9001 conv=notrunc status=none"#,
    ),
    (
        "dd fsync",
        r#"printf 'x%.0s' {1..333} | dd of="$1" bs=37 seek=3 conv=notrunc,fsync status=none"#,
    ),
    (
        "dd truncating",
        r#"printf -- '-- cut here' | dd of="$1" bs=1 seek=5003 status=none"#,
    ),
    ("truncate shorter", r#"truncate -s 4099 "$1""#),
    ("truncate longer", r#"truncate -s 5001 "$1""#),
    ("truncate by", r#"truncate -s -77 "$1""#),
    ("bash >>", r#"printf -- '-- bash\n' >> "$1""#),
    ("dash >>", r#"dash -ec 'echo "-- dash" >> "$1"' dash "$1""#),
    ("cat >>", r#"seq 1 3000 | cat >> "$1""#),
    ("tee -a", r#"echo '-- tee' | tee -a "$1" > /dev/null"#),
    (
        "perl >>",
        r#"perl -e 'open my $f, ">>", $ARGV[0] or die; print $f "-- perl\n"; close $f or die' "$1""#,
    ),
    (
        "python r+",
        r#"python3 -c 'import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(777); f.write(b"seven"); f.seek(-5, 2); f.write(b"end"); f.truncate()' "$1""#,
    ),
    (
        "python append",
        r#"python3 -c 'import sys
with open(sys.argv[1], "a") as f:
    f.write("-- python\n"); f.flush(); f.write("-- again\n")' "$1""#,
    ),
    (
        "python read and write",
        r#"python3 -c 'import sys
with open(sys.argv[1], "r+") as f:
    text = f.read(); f.seek(0); f.write(text.upper()); f.truncate()' "$1""#,
    ),
    (
        "bash group",
        r#"{ seq 1 2000; seq 3 9; echo "-- last"; } > "$1""#,
    ),
    (
        "bash <>",
        r#"exec 3<> "$1"; read -r -u 3 line; printf 'between' >&3; exec 3>&-"#,
    ),
];

#[track_caller]
fn edits_are_as_on_a_local_file(home: &Home, stores: &[Store]) {
    let mounted = home.mount("mnt", flags(stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    let begin: String = (0..400)
        .map(|n| format!("SELECT {n}, 0; -- line\n"))
        .collect();
    let local = home.file("schema.sql", &begin);
    mounted.cp("app/schema.sql", &begin).ok();
    for (name, script) in EDITS {
        run(&mut bash(script, [&local])).ok();
        let ran = run(&mut bash(script, [&mounted.path("app/schema.sql")]));
        assert_eq!(ran.code, Some(0), "{name}: {ran}");
        let expected = std::fs::read(&local).unwrap();
        assert!(mounted.read("app/schema") == expected, "{name}");
        all_hold(stores, "app/schema", &expected);
    }
}

#[test]
fn edits_of_a_part_are_as_on_a_local_file_on_folders() {
    let home = Home::new();
    edits_are_as_on_a_local_file(&home, &folders(&home));
}

#[test]
fn edits_of_a_part_are_as_on_a_local_file_on_buckets() {
    let home = Home::new();
    edits_are_as_on_a_local_file(&home, &buckets(&home));
}
