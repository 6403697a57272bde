# Runs one operation after the other on a mount, and reports the time of each.
#
#   client.py names MNT                    prints the operations, one JSON object per line
#   client.py hunt MNT NUMBER              runs them on the repository app<NUMBER>, one line each
#   client.py alone MNT                    runs those that change the root
#   client.py one MNT NUMBER NAME READY GO prepares one operation, makes the file READY, waits for
#                                          the file GO, and runs it
#   client.py control MNT STOP             reads the status until the file STOP exists. This never
#                                          waits for a target, and so measures the machine
#
# The letters are the kernel's requests for an operation if it may not cache names (--ttl 0s): m has
# the deadline of metadata, r of a read, and p of a push. An operation without letters is answered
# from memory.
import json
import os
import subprocess
import sys
import time

HOW, MNT = sys.argv[1:3]


def measure(name, requests, call):
    begin = time.monotonic()
    result, error = None, None
    try:
        result = call()
    except OSError as raised:
        error = raised.errno
    end = time.monotonic()
    told = {"op": name, "requests": requests, "begin": begin, "end": end, "errno": error}
    print(json.dumps(told), flush=True)
    return result


def whole(path):
    with open(path, "rb") as file:
        return file.read()


def listed(path):
    done = subprocess.run(["ls", "-l", path], capture_output=True)
    if done.returncode:
        raise OSError(5, done.stderr.decode())


def opened(name, flags):
    return os.open(name, flags, 0o644)


# The kind of descriptor that some operations need.
READER, WRITER = "reader", "writer"


def operations(number):
    app = f"{MNT}/app{number}"
    schema = f"{app}/schema"
    plan = f"{app}/plans/new"
    repo = f"{MNT}/repo{number}"
    text = b'schema "main" {\n  comment = "%s"\n}\n' % number.encode()
    write = os.O_WRONLY | os.O_TRUNC
    create = os.O_WRONLY | os.O_CREAT
    # name, requests, call, needed descriptor, returned descriptor
    return [
        ("stat of a directory", "m", lambda held: os.stat(app), None, None),
        ("stat", "mm", lambda held: os.stat(schema), None, None),
        ("stat of nothing", "mmm", lambda held: os.stat(f"{app}/plans/none"), None, None),
        ("open", "mmr", lambda held: opened(schema, os.O_RDONLY), None, READER),
        ("read", "r", lambda held: os.read(held, 1 << 16), READER, None),
        ("fstat", "m", lambda held: os.fstat(held), READER, None),
        ("close of a reader", "p", lambda held: os.close(held), READER, None),
        # Python closes the descriptor at once.
        ("readdir of the root", "mmm", lambda held: os.listdir(MNT), None, None),
        ("readdir", "mmmm", lambda held: os.listdir(app), None, None),
        ("ls -l", "mmmmmm", lambda held: listed(app), None, None),
        # A writer gets an inode of its own, so the kernel must look the name up again.
        ("open to write", "mmmmr", lambda held: opened(schema, write), None, WRITER),
        ("write", "", lambda held: os.write(held, text), WRITER, None),
        ("ftruncate", "p", lambda held: os.ftruncate(held, len(text) - 1), WRITER, None),
        ("fsync", "p", lambda held: os.fsync(held), WRITER, None),
        ("close of a writer", "p", lambda held: os.close(held), WRITER, None),
        ("create", "mmmr", lambda held: opened(plan, create), None, WRITER),
        ("write of a plan", "", lambda held: os.write(held, text), WRITER, None),
        ("close of a plan", "p", lambda held: os.close(held), WRITER, None),
        ("truncate", "mmp", lambda held: os.truncate(schema, 10), None, None),
        ("rename", "mmmmp", lambda held: os.rename(schema, schema + "2"), None, None),
        ("unlink", "mmp", lambda held: os.unlink(schema), None, None),
        ("mkdir", "mm", lambda held: os.mkdir(repo), None, None),
        ("rmdir", "mm", lambda held: os.rmdir(repo), None, None),
        ("statfs", "", lambda held: os.statvfs(MNT), None, None),
        ("getxattr", "mmm", lambda held: os.getxattr(schema, "user.atlas.url"), None, None),
        ("listxattr", "mmm", lambda held: os.listxattr(schema), None, None),
        ("chmod", "mmm", lambda held: os.chmod(schema, 0o600), None, None),
        ("utime", "mmm", lambda held: os.utime(schema), None, None),
        ("reading status", "", lambda held: whole(f"{MNT}/.atlasfs/status"), None, None),
        ("reading metrics", "", lambda held: whole(f"{MNT}/.atlasfs/metrics"), None, None),
        ("reading events", "", lambda held: whole(f"{MNT}/.atlasfs/events"), None, None),
    ]


# The kernel allows one change of the root at a time, so no other client may run then.
ALONE = ("mkdir", "rmdir")


def hunt(number, alone):
    held = {}
    for name, requests, call, needs, gives in operations(number):
        if (name in ALONE) != alone:
            continue
        # After a failed open, there is no descriptor.
        if needs and held.get(needs) is None:
            continue
        result = measure(name, requests, lambda: call(held.get(needs)))
        if gives:
            held[gives] = result
        if name.startswith("close"):
            held[needs] = None


def at_last(call):
    """Repeats what a busy machine may not manage by these deadlines."""
    while True:
        try:
            return call()
        except OSError:
            time.sleep(0.1)


def one(number, wanted, ready, go):
    every = operations(number)
    _, requests, call, needs, _ = next(each for each in every if each[0] == wanted)
    held, schema = None, f"{MNT}/app{number}/schema"
    if needs == READER:
        held = at_last(lambda: opened(schema, os.O_RDONLY))
    if needs == WRITER:
        held = at_last(lambda: opened(schema, os.O_WRONLY))
        os.write(held, b"#" * 10)
    os.close(os.open(ready, os.O_CREAT | os.O_WRONLY))
    while not os.path.exists(go):
        time.sleep(0.002)
    measure(wanted, requests, lambda: call(held))


def control(stop):
    while not os.path.exists(stop):
        measure("control", "", lambda: whole(f"{MNT}/.atlasfs/status"))
        time.sleep(0.003)


if HOW == "hunt":
    hunt(sys.argv[3], alone=False)
elif HOW == "alone":
    hunt("0", alone=True)
elif HOW == "names":
    for name, requests, _, needs, _ in operations("0"):
        print(json.dumps({"op": name, "requests": requests, "needs": needs}))
elif HOW == "one":
    one(*sys.argv[3:7])
else:
    control(sys.argv[3])
