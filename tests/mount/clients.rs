//! Programs that use files in the mount: databases, git, tar, checksums, watchers.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::home::Home;
use super::mounted::Mounted;
use super::program::{bash, run, start, until};
use super::store::{Store, flags, folders, plan, schema};

const SQL: &str = "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL);\n\
                   CREATE INDEX by_name ON users (name);\n";

/// Mounts two repositories: one in HCL with plans, one in SQL with a plan.
fn mount() -> (Home, Vec<Store>, Mounted) {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    for repo in ["app", "sql"] {
        std::fs::create_dir(mounted.path(repo)).unwrap();
    }
    mounted.cp("app/schema.hcl", schema("one")).ok();
    mounted.cp("sql/schema.sql", SQL).ok();
    for name in ["app/plans/p1", "app/plans/p2", "sql/plans/p1"] {
        let label = name.rsplit_once('/').unwrap().1;
        mounted.cp(name, plan(label, "x")).ok();
    }
    (home, stores, mounted)
}

#[test]
fn a_schema_is_loaded_into_sqlite() {
    let (_home, _stores, mounted) = mount();
    let script = r#"cd "$1/sql"
for file in schema schema.sql; do
    sqlite3 -bail :memory: ".read $file" "SELECT name FROM sqlite_master ORDER BY name"
    sqlite3 -bail :memory: "SELECT count(*) FROM sqlite_master" -init "$file" < /dev/null 2> /dev/null
done
python3 -c 'import sqlite3
database = sqlite3.connect(":memory:")
database.executescript(open("schema.sql").read())
print(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])'"#;
    let ran = run(&mut bash(script, [mounted.dir()])).ok();
    let loaded = "by_name\nsqlite_autoindex_users_1\nusers\n3\n";
    assert_eq!(ran.text(), format!("{loaded}{loaded}3\n"));
}

/// Finds a program of PostgreSQL's server: Debian keeps these outside the PATH.
fn postgres(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut programs: Vec<_> = versions
        .flatten()
        .map(|version| version.path().join("bin").join(program))
        .filter(|path| path.exists())
        .collect();
    programs.sort();
    programs
        .pop()
        .expect("PostgreSQL; scripts/test installs what is needed")
}

/// Makes a command that runs as PostgreSQL's user: the server refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program);
    command
}

#[test]
fn a_schema_is_loaded_into_postgresql() {
    let (home, _stores, mounted) = mount();
    let dir = home.folder("postgres");
    if nix::unistd::geteuid().is_root() {
        run(Command::new("chown").arg("postgres").arg(&dir)).ok();
    }
    let mut made = as_postgres(&postgres("initdb"));
    made.args(["--no-sync", "--auth=trust", "--username=test", "-D"]);
    run(made.arg(dir.join("data")).current_dir(&dir)).ok();
    let mut server = as_postgres(&postgres("postgres"));
    server.args(["-F", "-h", "", "-k"]).arg(&dir).arg("-D");
    let _server = start(server.arg(dir.join("data")).current_dir(&dir));
    let psql = |args: &[&str]| {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["-U", "test", "-d", "postgres", "-h"]).arg(&dir);
        run(psql.args(args).current_dir(mounted.path("sql")))
    };
    until("the server answers", || {
        (psql(&["-c", "SELECT 1"]).code == Some(0)).then_some(())
    });
    psql(&["-f", "schema.sql"]).ok();
    let tables = psql(&[
        "-c",
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    ]);
    assert_eq!(tables.ok().text(), "users\n");
    psql(&["-f", "schema"]).fails_with("already exists");
}

#[test]
fn find_lists_newer_pushes() {
    let (_home, _stores, mounted) = mount();
    let newer = || {
        let script = r#"cd "$1"; find . -name versions -prune -o -type f -newer app/plans/p1 -print | sort | tr '\n' ' '"#;
        run(&mut bash(script, [mounted.dir()])).ok().text()
    };
    assert_eq!(newer(), "./app/plans/p2 ./sql/plans/p1 ");
    mounted.cp("app/schema", schema("two")).ok();
    let newest = "./app/plans/p2 ./app/schema ./app/schema.hcl ./sql/plans/p1 ";
    assert_eq!(newer(), newest);
    // Reading a file or setting its time must not make it newer.
    run(&mut bash(
        r#"cat "$1" > /dev/null; touch "$1""#,
        [mounted.path("sql/schema")],
    ))
    .ok();
    assert_eq!(newer(), newest);
}

#[test]
fn git_diffs_a_file_of_the_mount_with_one_outside() {
    let (home, _stores, mounted) = mount();
    let other = home.file("work/schema.hcl", schema("two"));
    let diff = |from: &Path, to: &Path| {
        run(Command::new("git")
            .args(["diff", "--no-index", "--no-color"])
            .args([from, to]))
    };
    let ran = diff(&mounted.path("app/schema.hcl"), &other);
    assert_eq!(ran.code, Some(1), "{ran}");
    let lines = "-  comment = \"one\"\n+  comment = \"two\"\n";
    assert!(ran.text().contains(lines), "{ran}");
    let plain = home.path("registry/app/plans");
    assert_eq!(diff(&mounted.path("app/plans"), &plain).ok().text(), "");
}

#[test]
fn checksums_and_an_archive_of_the_mount_are_those_of_the_registry() {
    let (home, stores, mounted) = mount();
    let second = home.mount("second", flags(&stores));
    let script = r#"cd "$1"
sums=$(find . -path ./.atlasfs -prune -o -type f -print | sort | xargs sha256sum)
[ "$(wc -l <<< "$sums")" = 7 ]
mkdir "$3"
tar c -C "$2" . | tar x -C "$3"
diff -r --exclude .atlasfs --exclude migrations --exclude tags --exclude 'schema.*' "$1" "$3"
cmp "$1/app/schema" "$3/app/schema.hcl"
cmp "$1/sql/schema" "$3/sql/schema.sql"
cd "$2"
sha256sum --strict --quiet -c <<< "$sums"
# With two arguments, tar takes both names of a schema for hard links.
tar="tar c --hard-dereference --sort=name --mtime=@0 --mode=0 --owner=0 --group=0"
cmp <($tar app sql) <($tar -C "$3" app sql)"#;
    let out = |name: &str| home.path(name);
    for (mount, name) in [(&mounted, "out"), (&second, "out-2")] {
        let paths = [out("registry"), mount.dir().to_owned(), out(name)];
        let ran = run(&mut bash(script, paths)).ok();
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn inotify_sees_the_saves_of_this_mount_and_no_others() {
    let (home, stores, mounted) = mount();
    let second = home.mount("second", flags(&stores));
    let log = home.path("seen");
    let mut watch = Command::new("inotifywait");
    watch.args(["-m", "-q", "--format", "%e %w%f", "-e"]);
    watch.args(["close_write,moved_to,create,delete,modify", "-o"]);
    watch.arg(&log).args(["app", "app/plans/p1"]);
    let _watch = start(watch.current_dir(mounted.dir()));
    let seen = || std::fs::read_to_string(&log).unwrap_or_default();
    // The watcher is ready once it reports a test file.
    let mut tries = 0;
    until("it watches", || {
        tries += 1;
        std::fs::write(mounted.path(&format!("app/.try{tries}")), "").unwrap();
        seen().contains(".try").then_some(())
    });
    let sees = |event: &str| until(event, || seen().contains(event).then_some(()));
    mounted.cp("app/schema", schema("two")).ok();
    sees("CLOSE_WRITE,CLOSE app/schema\n");
    let script = r#"cd "$1"; sed s/two/three/ schema > .new; mv .new schema"#;
    run(&mut bash(script, [mounted.path("app")])).ok();
    sees("MOVED_TO app/schema\n");
    // A push by another mount, and a push of a file whose first content is watched, but whose
    // folder is not.
    let before = seen();
    mounted.cp("app/plans/p1", plan("p1", "y")).ok();
    second.cp("app/schema", schema("four")).ok();
    until("the push is seen by those who read", || {
        (mounted.read("app/schema") == schema("four").as_bytes()).then_some(())
    });
    std::fs::write(mounted.path("app/.last"), "").unwrap();
    sees("CREATE app/.last\n");
    let (_, after) = seen()
        .split_once(&*before)
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!(
        !after.contains("schema") && !after.contains("plans"),
        "{after}"
    );
}

#[test]
fn terraform_formats_a_schema_where_it_is_installed() {
    let (_home, _stores, mounted) = mount();
    if run(&mut bash("type -P terraform || true", [""; 0]))
        .text()
        .is_empty()
    {
        println!("terraform is not installed, and no package of Debian has it: not tried");
        return;
    }
    // terraform accepts files by their suffix, and a schema on its standard input.
    let script = r#"cd "$1"
terraform fmt -check - < schema.hcl > /dev/null
printf 'schema "main" {\ncomment="one"\n}\n' > schema.hcl
! terraform fmt -check - < schema.hcl > /dev/null
terraform fmt - < schema.hcl > .new
mv .new schema.hcl
terraform fmt -check - < schema.hcl > /dev/null
mkdir .d
cp schema.hcl .d/schema.tf
terraform fmt -check .d"#;
    run(bash(script, [mounted.path("app")]).env("CHECKPOINT_DISABLE", "1")).ok();
    assert_eq!(mounted.read("app/schema"), schema("one").as_bytes());
}
