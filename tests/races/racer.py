# Saves the same artifact on two mounts at the same moment, again and again: racer.py MNT-1 MNT-2
#
# Each line of the input is a race, and each line of the output its result, both as JSON.
import errno
import json
import os
import shutil
import sys
import threading

MOUNTS = sys.argv[1:3]
HANG_TIMEOUT = 120


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def attribute(path, name):
    try:
        return os.getxattr(path, f"user.atlas.{name}").decode()
    except OSError:
        return None


def write(fd, content):
    os.ftruncate(fd, 0)
    os.pwrite(fd, content.encode(), 0)


def close(path, content, barrier):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    write(fd, content)
    barrier.wait(HANG_TIMEOUT)
    os.close(fd)


def rename(path, content, barrier):
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.new"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT)
    write(fd, content)
    os.close(fd)
    barrier.wait(HANG_TIMEOUT)
    try:
        os.rename(temporary, path)
    except OSError:
        # After a failure, the temporary file is unchanged.
        assert read(temporary) == content
        os.unlink(temporary)
        raise


def saver(ways, place, path, content, barrier, bases, ends):
    try:
        # Read in this thread: a rename replaces the content that its own thread has read.
        bases[place] = read(path)
        {"close": close, "rename": rename}[ways[place]](path, content, barrier)
        ends[place] = 0
    except OSError as error:
        ends[place] = error.errno
    except BaseException as error:
        ends[place] = repr(error)
        barrier.abort()


def kept(mount, key):
    """The bytes of pushes of a key that failed on a mount, and where they are."""
    folder, name = os.path.split(f"{mount}/.atlasfs/unpushed/{key}")
    try:
        names = sorted(other for other in os.listdir(folder) if other.startswith(f"{name}@"))
    except FileNotFoundError:
        names = []
    return [f"{folder}/{name}" for name in names]


def race(key, contents, ways, resolves):
    paths = [f"{mount}/{key}" for mount in MOUNTS]
    barrier, bases, ends = threading.Barrier(2), [None, None], [None, None]
    threads = [
        threading.Thread(
            target=saver,
            args=(ways, place, paths[place], contents[place], barrier, bases, ends),
        )
        for place in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    unpushed = [kept(mount, key) for mount in MOUNTS]
    outcome = {
        "bases": bases,
        "ends": ends,
        "reads": [read(path) for path in paths],
        "kept": [[read(path) for path in paths] for paths in unpushed],
        "errors": [attribute(path, "error") for path in paths],
        "stale": errno.ESTALE,
    }
    for place, paths_of_kept in enumerate(unpushed):
        for path in paths_of_kept:
            if resolves:
                # The loser saves its bytes over the winner's.
                shutil.copyfile(path, paths[place])
            else:
                os.unlink(path)
    outcome["after"] = [read(path) for path in paths]
    outcome["left"] = [len(kept(mount, key)) for mount in MOUNTS]
    outcome["errors_after"] = [attribute(path, "error") for path in paths]
    return outcome


for line in sys.stdin:
    print(json.dumps(race(**json.loads(line))), flush=True)
