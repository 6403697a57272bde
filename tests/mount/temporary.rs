//! Temporary files on a real mount: behaviour that only a real kernel can show.

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, bash, run};
use super::store::{Store, all_hold, flags, folders, none_holds, schema};

#[track_caller]
fn mount() -> (Vec<Store>, Mounted) {
    let home = Home::new();
    let stores = folders(&home);
    let mounted = home.mount("mnt", flags(&stores));
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", schema("one")).ok();
    (stores, mounted)
}

/// Runs a python script in the directory of the schema.
#[track_caller]
fn python(mounted: &Mounted, script: &str) -> Ran {
    let begin = "import ctypes, errno, fcntl, mmap, os, stat\n\
                 libc = ctypes.CDLL(None, use_errno=True)\n\
                 def fails(code, work, *args):\n    \
                     try: work(*args)\n    \
                     except OSError as error: assert error.errno == code, error\n    \
                     else: raise AssertionError('it works')\n";
    let script = format!("{begin}{script}");
    let mut command = bash(
        r#"cd "$1" && python3 -c "$2""#,
        [mounted.path("app").as_os_str(), script.as_ref()],
    );
    run(&mut command)
}

#[test]
fn a_temporary_file_is_a_file_as_on_a_local_disk() {
    let (stores, mounted) = mount();
    let script = r#"
fd = os.open(".f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
fails(errno.EEXIST, os.open, ".f", os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.pwrite(fd, b"far", 9001)
assert os.pread(fd, 3, 9001) == b"far" and os.pread(fd, 2, 0) == b"\0\0"
os.posix_fallocate(fd, 0, 12000)
assert os.fstat(fd).st_size == 12000
assert libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(5)) == -1
assert ctypes.get_errno() == errno.EOPNOTSUPP
assert os.lseek(fd, 0, os.SEEK_HOLE) == 12000 and os.lseek(fd, 0, os.SEEK_DATA) == 0
os.ftruncate(fd, 10)
os.ftruncate(fd, 5000)
view = mmap.mmap(fd, 0)
view[0:4] = b"mine"
view.flush()
view.close()
assert os.pread(fd, 6, 0) == b"mine\0\0"
other = os.open(".g", os.O_RDWR | os.O_CREAT)
assert os.copy_file_range(fd, other, 4, 0, 0) == 4 and os.pread(other, 9, 0) == b"mine"
fcntl.flock(fd, fcntl.LOCK_EX)
again = os.open(".f", os.O_RDWR)
fails(errno.EAGAIN, fcntl.flock, again, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.fsync(fd)
os.chmod(".f", 0o600)
os.utime(".f", ns=(1, 2))
found = os.stat(".f")
assert (stat.S_IMODE(found.st_mode), found.st_atime_ns, found.st_mtime_ns) == (0o600, 1, 2), found
os.setxattr(".f", "user.mine", b"1")
assert os.listxattr(".f") == ["user.mine"] and os.getxattr(".f", "user.mine") == b"1"
os.removexattr(".f", "user.mine")
os.link(".f", ".h")
assert os.stat(".h").st_nlink == 2
os.unlink(".f")
os.unlink(".h")
assert os.fstat(fd).st_nlink == 0 and os.pread(fd, 4, 0) == b"mine"
fails(errno.ENOENT, os.stat, ".f")
os.symlink("me@here.1", ".#schema")
assert os.readlink(".#schema") == "me@here.1" and stat.S_ISLNK(os.lstat(".#schema").st_mode)
os.mkdir(".d")
open(".d/any name", "w").close()
fails(errno.ENOTEMPTY, os.rmdir, ".d")
os.rename(".d", ".e")
assert os.listdir(".e") == ["any name"]
fails(errno.EINVAL, os.rename, ".e", ".e/below")
fails(errno.ENAMETOOLONG, os.open, "." + "x" * 255, os.O_CREAT)
os.close(os.open("." + "x" * 254, os.O_CREAT))
for name in os.listdir(".e"):
    os.unlink(".e/" + name)
os.rmdir(".e")
folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
os.fsync(folder)
"#;
    python(&mounted, script).ok();
    all_hold(&stores, "app/schema", schema("one").as_bytes());
    none_holds(&stores, "app/.#schema");
}

#[test]
fn renameat2_does_what_its_flags_say() {
    let (stores, mounted) = mount();
    let script = r#"
def rename(old, new, flags):
    if libc.renameat2(-100, old, -100, new, flags) == -1:
        raise OSError(ctypes.get_errno(), "renameat2")
open(".s", "w").write(open("schema").read().replace("one", "two"))
fails(errno.EEXIST, rename, b".s", b"schema", 1)
fails(errno.EINVAL, rename, b".s", b"schema", 2)
fails(errno.EINVAL, rename, b"schema", b".s", 2)
fails(errno.EPERM, rename, b"schema", b"schema~", 0)
rename(b"schema", b"schema.hcl", 0)
number = os.stat(".s").st_ino
fd = os.open(".s", os.O_RDWR)
rename(b".s", b"schema", 0)
fails(errno.ENOENT, os.stat, ".s")
assert "two" in open("schema").read() and "two" in open("schema.hcl").read()
assert os.fstat(fd).st_nlink == 1
os.pwrite(fd, b"three", os.fstat(fd).st_size)
os.ftruncate(fd, os.fstat(fd).st_size - 5)
os.close(fd)
"#;
    python(&mounted, script).ok();
    all_hold(&stores, "app/schema", schema("two").as_bytes());
}

#[test]
fn a_writer_sees_the_inode_number_of_stat() {
    let (_stores, mounted) = mount();
    let script = r#"
before = os.stat("schema")
fd = os.open("schema", os.O_RDWR)
assert os.fstat(fd).st_ino == before.st_ino, (os.fstat(fd), before)
assert os.fstat(fd).st_dev == before.st_dev
"#;
    python(&mounted, script).ok();
}

#[test]
fn a_listing_is_stable_while_temporary_files_come_and_go() {
    let (_stores, mounted) = mount();
    let script = r#"
for n in range(1000):
    open(".f%d" % n, "w").close()
names = set()
for n, entry in enumerate(os.scandir(".")):
    assert entry.name not in names
    names.add(entry.name)
    if n < 500:
        os.unlink(".f%d" % n)
        open(".g%d" % n, "w").close()
assert {"schema", "schema.hcl", "plans"} <= names and len([name for name in names if name.startswith(".f")]) >= 500
assert len(os.listdir(".")) == 1006
"#;
    python(&mounted, script).ok();
}

#[test]
fn the_limit_of_temporary_files_is_reported_as_no_space() {
    let home = Home::new();
    let stores = folders(&home);
    let mut args = flags(&stores);
    args.extend(["--scratch-size", "1MiB"].map(str::to_owned));
    let mounted = home.mount("mnt", args);
    std::fs::create_dir(mounted.path("app")).unwrap();
    let script = r#"dd if=/dev/zero of="$1/.f" bs=64K count=17 status=none"#;
    run(&mut bash(script, [mounted.path("app")])).fails_with("No space left on device");
    run(&mut bash(
        r#"rm "$1/.f"; dd if=/dev/zero of="$1/.g" bs=64K count=16 status=none"#,
        [mounted.path("app")],
    ))
    .ok();
}
