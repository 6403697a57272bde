# Runs a program in a terminal of its own, waits for texts on the screen, and types keys.
# terminal.py [wait TEXT | keys TEXT]... -- PROGRAM ARGUMENT...
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

LIMIT = 20
arguments = sys.argv[1:]
at = arguments.index("--")
steps, program = arguments[:at], arguments[at + 1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(program[0], program)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
seen = b""
end = time.monotonic() + LIMIT


def give_up(why):
    sys.stderr.write("%s; the screen: %r\n" % (why, seen[-3000:]))
    os.kill(pid, 9)
    sys.exit(98)


def wait(text):
    """Reads what the program shows until the text has come, or until its end."""
    global seen
    while text is None or text not in seen:
        if time.monotonic() > end:
            give_up("never shown: %r" % text)
        ready, _, _ = select.select([terminal], [], [], 1)
        if not ready:
            continue
        try:
            shown = os.read(terminal, 65536)
        except OSError:
            shown = b""
        if not shown:
            if text is None:
                return
            give_up("it ended before it showed %r" % text)
        seen += shown
    seen = seen[seen.index(text) + len(text):]


for kind, text in zip(steps[::2], steps[1::2]):
    text = text.encode().decode("unicode_escape").encode("latin-1")
    if kind == "wait":
        wait(text)
    else:
        os.write(terminal, text)
wait(None)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
