# Programs' everyday work on a mount, over and over: load.py MNT FIRST COUNT SECONDS
#
# It does COUNT operations, numbered from FIRST, or as many as there is time for, and prints how
# many. Of each two hundred, one is a push that replaces a plan, and now and then one is of a new
# plan that is deleted again: now and then, for what the targets keep of each deletion is read by
# every repair, and it is not the targets that are to be measured. The rest looks, lists and reads, and a fifth of that finds nothing.
import os
import sys
import time

MNT, FIRST, COUNT, SECONDS = sys.argv[1], *map(int, sys.argv[2:5])
PLANS = 50

app = f"{MNT}/app"
plans = f"{app}/plans"


def push(name, number):
    with open(f"{plans}/{name}", "w") as file:
        # Some larger than others: what is freed must be of use for what comes.
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
