//! POSIX on an artifact, where it makes sense: behaviour that only a real kernel can show.

use super::home::Home;
use super::mounted::Mounted;
use super::program::{Ran, bash, run};
use super::store::{Store, all_hold, flags, folders};

/// The state before every script: the schema `V1` has been pushed as `schema`.
const BEGIN: &str = r#"
import errno, fcntl, mmap, os, select, subprocess, sys
V1 = b'schema "main" {\n  comment = "one"\n}\n'
V2 = V1.replace(b"one", b"two")
V3 = V1.replace(b"one", b"three")
def fails(code, work, *args):
    try: work(*args)
    except OSError as error: assert error.errno == code, error
    else: raise AssertionError("it works")
def read(name="schema"):
    with open(name, "rb") as file: return file.read()
def rw(flags=0, name="schema"):
    return os.open(name, os.O_RDWR | flags)
"#;

/// The content that was pushed before every script.
const V1: &str = "schema \"main\" {\n  comment = \"one\"\n}\n";

fn mount(args: &[&str]) -> (Vec<Store>, Mounted) {
    let home = Home::new();
    let stores = folders(&home);
    let mut all = flags(&stores);
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let mounted = home.mount("mnt", all);
    std::fs::create_dir(mounted.path("app")).unwrap();
    mounted.cp("app/schema", V1).ok();
    (stores, mounted)
}

/// Runs a python script in the directory of the schema.
#[track_caller]
fn python(mounted: &Mounted, script: &str) -> Ran {
    let script = format!("{BEGIN}{script}");
    let args = [mounted.path("app").into_os_string(), script.into()];
    run(&mut bash(r#"cd "$1" && exec python3 -c "$2""#, args)).ok()
}

fn version(mark: &str) -> String {
    V1.replace("one", mark)
}

#[test]
fn the_flags_of_open_mean_what_they_say() {
    let (stores, mounted) = mount(&[]);
    let script = r#"
fails(errno.EEXIST, rw, os.O_CREAT | os.O_EXCL)
fails(errno.EEXIST, rw, os.O_CREAT | os.O_EXCL, "schema.hcl")
fails(errno.ENOENT, rw, 0, "plans/p1")
fails(errno.ENOTDIR, rw, os.O_DIRECTORY)
fails(errno.EISDIR, rw, 0, "plans")
fd = rw(os.O_APPEND)
os.write(fd, b"// 1\n")
os.pwrite(fd, b"// 2\n", 0)  # Linux appends these too
os.lseek(fd, 0, os.SEEK_SET)
os.write(fd, b"// 3\n")
os.close(fd)
assert read() == V1 + b"// 1\n// 2\n// 3\n", read()
fd = rw(os.O_TRUNC)
assert os.fstat(fd).st_size == 0
assert read() == V1 + b"// 1\n// 2\n// 3\n", "nobody sees that before the close"
os.write(fd, V2)
os.close(fd)
assert read() == V2
fd = os.open("schema", os.O_WRONLY)
fails(errno.EBADF, os.read, fd, 1)
os.close(fd)
fd = os.open("schema", os.O_RDONLY)
fails(errno.EBADF, os.write, fd, b"x")
os.close(fd)
"#;
    python(&mounted, script);
    all_hold(&stores, "app/schema", version("two").as_bytes());
}

#[test]
fn a_file_is_read_and_written_at_any_offset() {
    let (stores, mounted) = mount(&["--no-validate"]);
    let script = r#"
fd = rw()
assert os.pread(fd, 6, 8) == V1[8:14] and os.pread(fd, 9, 4096) == b""
os.pwrite(fd, b"far", 300001)
assert os.fstat(fd).st_size == 300004
assert os.pread(fd, 5, 299999) == b"\0\0far" and os.pread(fd, len(V1), 0) == V1
assert os.lseek(fd, 0, os.SEEK_DATA) == 0 and os.lseek(fd, 0, os.SEEK_HOLE) == 300004
fails(errno.ENXIO, os.lseek, fd, 300004, os.SEEK_DATA)
assert os.lseek(fd, -4, os.SEEK_END) == 300000
assert os.read(fd, 9) == b"\0far"
os.ftruncate(fd, 10)
os.ftruncate(fd, 20)
assert os.pread(fd, 99, 0) == V1[:10] + bytes(10)
os.posix_fallocate(fd, 15, 10)
assert os.pread(fd, 99, 0) == V1[:10] + bytes(15)
os.posix_fallocate(fd, 0, 5)
assert os.fstat(fd).st_size == 25
fails(errno.EFBIG, os.pwrite, fd, b"x", 16 << 20)
fails(errno.EFBIG, os.ftruncate, fd, (16 << 20) + 1)
os.ftruncate(fd, 0)
os.pwrite(fd, V2, 0)
other = os.open(".copy", os.O_RDWR | os.O_CREAT)
assert os.copy_file_range(fd, other, 1000, 0, 0) == len(V2) and os.pread(other, 1000, 0) == V2
os.pwrite(other, b"three", V2.index(b"two"))
os.pwrite(other, V2[V2.index(b"two") + 3:], V2.index(b"two") + 5)
os.ftruncate(fd, 0)
assert os.copy_file_range(other, fd, 1000, 0, 0) == len(V3)
assert os.preadv(fd, [bytearray(3), bytearray(5)], 0) == 8
os.close(fd)
assert read() == V3
"#;
    python(&mounted, script);
    all_hold(&stores, "app/schema", version("three").as_bytes());
}

#[test]
fn a_descriptor_can_be_duplicated_and_inherited() {
    let (stores, mounted) = mount(&[]);
    let pushes = || mounted.metric("atlasfs_pushes_total{verdict=\"complete\"}");
    let before = pushes();
    let script = r#"
fd = rw(os.O_TRUNC)
os.write(fd, V2[:9])
copy = os.dup(fd)
assert os.lseek(copy, 0, os.SEEK_CUR) == 9, "one offset"
if os.fork() == 0:
    os.write(copy, V2[9:])
    os._exit(0)
assert os.wait()[1] == 0
# The child's end has closed both. This process has opened the file, and goes on with it.
assert read() == V1
assert os.lseek(fd, 0, os.SEEK_CUR) == len(V2)
os.close(copy)
assert read() == V1
os.close(fd)
assert read() == V2
"#;
    python(&mounted, script);
    all_hold(&stores, "app/schema", version("two").as_bytes());
    assert_eq!(pushes() - before, 1, "what is pushed is not pushed again");
}

#[test]
fn of_several_handles_each_has_the_content_that_it_opened() {
    let (stores, mounted) = mount(&[]);
    let script = r#"
reader, first, second = os.open("schema", os.O_RDONLY), rw(), rw()
os.pwrite(first, V2, 0)
os.pwrite(second, V3, 0)
assert [os.pread(fd, 99, 0) for fd in (reader, first, second)] == [V1, V2, V3]
os.close(first)
assert read() == V2 and os.pread(reader, 99, 0) == V1 and os.pread(second, 99, 0) == V3
fails(errno.ESTALE, os.fsync, second)
fails(errno.ESTALE, os.close, second)
assert read() == V2
# Its base is current, though another handle was closed in between that had nothing to push.
third, idle = rw(), rw()
os.close(idle)
V4 = V1.replace(b"one", b"number 4")
os.pwrite(third, V4, 0)
os.close(third)
assert read() == V4
"#;
    python(&mounted, script);
    all_hold(&stores, "app/schema", version("number 4").as_bytes());
    // The bytes of the rejected push are kept.
    for kept in mounted.ls(".atlasfs/unpushed/app") {
        let kept = mounted.read(&format!(".atlasfs/unpushed/app/{kept}"));
        assert_eq!(kept, version("three").as_bytes());
    }
    assert!(mounted.metric("atlasfs_unpushed") > 0);
}

#[test]
fn a_file_can_be_mapped() {
    let (stores, mounted) = mount(&[]);
    let script = r#"
reader = os.open("schema", os.O_RDONLY)
shared = mmap.mmap(reader, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
private = mmap.mmap(reader, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
private[0:6] = b"SCHEMA"
assert shared[:] == V1 and private[:] == b"SCHEMA" + V1[6:]
fd = rw()
written = mmap.mmap(fd, 0)
place = V1.index(b"one")
written[place:place + 3] = b"two"
assert os.pread(fd, 99, 0) == V2
written.flush()  # msync, which is an fsync, which is a push
assert read() == V2
written[place:place + 3] = b"six"
written.close()
os.close(fd)
assert read() == V1.replace(b"one", b"six") and shared[:] == V1
"#;
    python(&mounted, script);
    all_hold(&stores, "app/schema", version("six").as_bytes());
}

#[test]
fn names_and_paths_have_the_lengths_of_linux() {
    let (stores, mounted) = mount(&["--no-validate"]);
    let script = r#"
longest = "p" * 255
open("plans/" + longest, "wb").write(V1)
assert read("plans/" + longest) == V1 and os.listdir("plans") == [longest]
for name in ["plans/" + "p" * 256, "p" * 256, "." * 256]:
    fails(errno.ENAMETOOLONG, os.stat, name)
    fails(errno.ENAMETOOLONG, os.open, name, os.O_CREAT)
    fails(errno.ENAMETOOLONG, os.mkdir, name)
    fails(errno.ENAMETOOLONG, os.rename, "schema", name)
assert read("./" * 2044 + "schema") == V1
fails(errno.ENAMETOOLONG, os.stat, "./" * 2045 + "schema")
# Directories as deep as a path can say, and one more.
os.mkdir(".d")
path = ".d"
while len(path) + 201 < 4095:
    path += "/" + "d" * 200
    os.mkdir(path)
path += "/" + "f" * (4095 - len(path) - 1)
open(path, "w").close()
assert len(path) == 4095 and os.stat(path).st_size == 0
fails(errno.ENAMETOOLONG, os.stat, path + "f")
figures = os.statvfs(".")
assert figures.f_namemax == 255 and figures.f_bavail > 1 << 30 and figures.f_files > 1 << 30
assert os.pathconf(".", "PC_NAME_MAX") == 255
"#;
    python(&mounted, script);
    all_hold(
        &stores,
        &format!("app/plans/{}", "p".repeat(255)),
        V1.as_bytes(),
    );
}

#[test]
fn a_listing_goes_on_where_it_was_left() {
    let (_stores, mounted) = mount(&["--no-validate"]);
    let script = r#"
for n in range(600):
    # Without O_TRUNC, as touch(1) does it: an empty file of any other making is refused.
    fd = os.open("plans/p%03d" % n, os.O_WRONLY | os.O_CREAT)
    n < 3 and os.write(fd, V1)
    os.close(fd)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.telldir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.telldir.restype = ctypes.c_long
stream = libc.opendir(b"plans")
def next():
    entry = libc.readdir(stream)
    return entry and ctypes.string_at(entry + 19).decode()
def rest():
    return list(iter(next, None))
names = rest()
assert sorted(names) == [".", ".."] + ["p%03d" % n for n in range(600)]
libc.rewinddir(stream)
places = []
for name in names:
    places.append(libc.telldir(stream))
    assert next() == name
for n in (599, 3, 300, 0, 257):
    libc.seekdir(stream, places[n])
    assert next() == names[n] and rest() == names[n + 1:]
# What comes and goes while it is read neither hides what stays nor shows it twice.
libc.rewinddir(stream)
seen = [next() for n in range(100)]
for n in range(3, 300):
    os.unlink("plans/p%03d" % n)
    open("plans/.new%d" % n, "w").close()
seen += rest()
assert len(seen) == len(set(seen)) and {"p%03d" % n for n in range(300, 600)} <= set(seen)
libc.rewinddir(stream)
assert len(rest()) == 602 and len(os.listdir("plans")) == 600
"#;
    python(&mounted, script);
}

#[test]
fn locks_hold_between_processes_on_a_temporary_file() {
    let (_stores, mounted) = mount(&[]);
    let script = r#"
fd = os.open(".lock", os.O_RDWR | os.O_CREAT)
other = """import fcntl, os, sys
fd = os.open(".lock", os.O_RDWR)
for work in (lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
             lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)):
    try: work()
    except BlockingIOError: print("busy")
    else: print("free")
"""
def tries():
    return subprocess.run([sys.executable, "-c", other], stdout=subprocess.PIPE).stdout.split()
assert tries() == [b"free", b"free"]
fcntl.flock(fd, fcntl.LOCK_EX)
assert tries() == [b"busy", b"free"]
fcntl.flock(fd, fcntl.LOCK_UN)
fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
assert tries() == [b"free", b"busy"]
fcntl.lockf(fd, fcntl.LOCK_UN, 10, 0)
fcntl.lockf(fd, fcntl.LOCK_SH, 5, 0)
assert tries() == [b"free", b"free"], "another range"
# A lock on an artifact is granted; between writers it excludes nobody, for each has its own file.
first, second = rw(), rw()
fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
readers = [os.open("schema", os.O_RDONLY) for n in range(2)]
fcntl.flock(readers[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
fails(errno.EAGAIN, fcntl.flock, readers[1], fcntl.LOCK_SH | fcntl.LOCK_NB)
"#;
    python(&mounted, script);
}

#[test]
fn a_removed_temporary_file_lives_as_long_as_it_is_open_or_mapped() {
    let (_stores, mounted) = mount(&[]);
    let script = r#"
fd = os.open(".f", os.O_RDWR | os.O_CREAT)
os.write(fd, b"here")
view = mmap.mmap(fd, 0)
os.unlink(".f")
fails(errno.ENOENT, os.stat, ".f")
open(".f", "w").write("another")
os.close(fd)
view[0:1] = b"H"
assert view[:] == b"Here" and open(".f").read() == "another"
import tempfile
with tempfile.TemporaryFile(dir=".", prefix=".") as file:
    file.write(b"nameless")
    file.seek(0)
    assert file.read() == b"nameless"
assert sorted(os.listdir(".")) == [".f", "migrations", "plans", "schema", "schema.hcl", "tags", "versions"]
"#;
    python(&mounted, script);
}

#[test]
fn labels_and_access_control_lists_are_nothing_that_this_file_system_has() {
    let (_stores, mounted) = mount(&[]);
    // Without this error, `ls -l` would ask for them on every file.
    let script = r#"
open(".scratch", "w").close()
for name in "schema", "plans", ".scratch":
    for attribute in "security.selinux", "security.capability", "system.posix_acl_access":
        fails(errno.EOPNOTSUPP, os.getxattr, name, attribute)
    fails(errno.EOPNOTSUPP, os.setxattr, name, "security.selinux", b"x")
assert os.getxattr("schema", "user.atlas.url") == b"atlas://app"
fails(errno.ENODATA, os.getxattr, "schema", "user.atlas.error")
with open("schema", "wb") as file: file.write(V2)
assert read() == V2
"#;
    python(&mounted, script);
}
