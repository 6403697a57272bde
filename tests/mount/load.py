# Repeats the everyday work of programs on a mount: load.py MNT FIRST COUNT SECONDS
#
# It runs COUNT operations, numbered from FIRST, or as many as fit in the time, and prints their
# number. One in 200 is a push that replaces a plan. One in 4,000 pushes a new plan and deletes it.
# That is rare because the targets keep a record of each deletion, every repair reads these records,
# and the targets are not to be measured. The rest looks up, lists and reads; a fifth finds nothing.
import os
import sys
import time

MNT, FIRST, COUNT, SECONDS = sys.argv[1], *map(int, sys.argv[2:5])
PLANS = 50

app = f"{MNT}/app"
plans = f"{app}/plans"


def push(name, number):
    with open(f"{plans}/{name}", "w") as file:
        # Different sizes: new content must fit into freed memory.
        padding = "-" * (number * 7919 % 5000)
        file.write(f'plan "{name}" {{\n  from = "a"\n  to = "b"\n  migration = "{number}{padding}"\n}}\n')


def nothing(number):
    try:
        os.stat(f"{plans}/none-{number}")
        raise SystemExit("found what is not there")
    except FileNotFoundError:
        pass


def operation(number):
    kept = f"p{number * 7919 % PLANS}"
    new = f"new-{number // 4000 % PLANS}"
    if number % 200 == 0:
        push(f"p{number // 200 % PLANS}", number)
    elif number % 4000 == 100:
        push(new, number)
        os.unlink(f"{plans}/{new}")
    elif number % 5 == 0:
        nothing(number)
    elif number % 5 == 1:
        os.stat(f"{plans}/{kept}")
    elif number % 5 == 2 and number % 3 == 0:
        os.listdir(plans)
    elif number % 5 == 3:
        os.getxattr(f"{plans}/{kept}", "user.atlas.sha256")
    else:
        with open(f"{plans}/{kept}") as file:
            file.read()


end = time.monotonic() + SECONDS
done = 0
while done < COUNT and time.monotonic() < end:
    operation(FIRST + done)
    done += 1
print(done)
