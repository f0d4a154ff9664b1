# SPDX-License-Identifier: MIT
"""curl --retry as the client whose retries are followed: a process for each request.

Run as a program in the client's node, it starts them and writes what they said; the truth is curl's
own trace, with times in us: a line "Trying ADDRESS:PORT..." for each attempt on a new connection,
and one "Re-using existing connection" where a retry goes on the one that it has.
"""

import argparse
import json
import random
import re
import selectors
import subprocess
import sys
import time

from .truth import Attempt

# 14:05:31.123456 *   Trying 10.1.100.1:80...
# 14:05:32.123456 * Re-using existing connection #0 with host 10.1.100.1
TRYING = re.compile(r"^(\d\d):(\d\d):(\d\d)\.(\d{6}) \* +(Trying |Re-using existing connection)",
                    re.MULTILINE | re.IGNORECASE)
SECOND_NS = 1_000_000_000
CLOCK_SLACK_NS = 1_000_000
DAY_NS = 86_400 * SECOND_NS


def command_of(options, source, path):
    return ["curl", "-sS", "-v", "--trace-time", "--interface", source,
            "--retry", str(options.retries), "--retry-all-errors", "--retry-connrefused",
            "--retry-delay", str(options.retry_delay), "--connect-timeout", str(options.timeout),
            "--max-time", str(options.timeout), f"http://{options.target}{path}"]


class Running:
    """A curl process; its stderr is read to the end by the one loop."""

    def __init__(self, options, source, path):
        self.source = source
        self.start_ns = time.monotonic_ns()
        self.process = subprocess.Popen(command_of(options, source, path), text=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.text = []

    def line(self, number):
        self.process.wait()
        return {"request": number, "source": self.source, "start_ns": self.start_ns,
                "end_ns": time.monotonic_ns(), "day_offset_ns": day_offset_ns(),
                "exit": self.process.returncode, "trace": "".join(self.text)}


def day_offset_ns():
    """Local time less CLOCK_MONOTONIC."""
    now_ns = time.time_ns()
    monotonic_ns = time.monotonic_ns()
    return now_ns + time.localtime(now_ns // SECOND_NS).tm_gmtoff * SECOND_NS - monotonic_ns


def drain(selector, timeout_s):
    for key, _ in selector.select(timeout_s):
        running, number = key.data
        piece = key.fileobj.readline()
        if piece:
            running.text.append(piece)
            continue
        selector.unregister(key.fileobj)
        print(json.dumps(running.line(number)), flush=True)


def main(argv):
    parser = argparse.ArgumentParser()
    for name in ("--target", "--sources"):
        parser.add_argument(name)
    for name in ("--rate", "--seconds", "--timeout"):
        parser.add_argument(name, type=float)
    for name in ("--paths", "--retries", "--retry-delay", "--seed"):
        parser.add_argument(name, type=int)
    options = parser.parse_args(argv)
    sources = options.sources.split(",")
    rng = random.Random(options.seed)
    selector = selectors.DefaultSelector()
    begun, number, due = time.monotonic(), 0, rng.expovariate(options.rate)
    while True:
        wait_s = begun + due - time.monotonic()
        # By the clock: on a machine that cannot start as many, some are left out.
        over = due >= options.seconds or time.monotonic() - begun >= options.seconds
        if over and not selector.get_map():
            break
        if not over and wait_s <= 0:
            number += 1
            running = Running(options, rng.choice(sources), f"/p{rng.randrange(options.paths)}")
            selector.register(running.process.stderr, selectors.EVENT_READ, (running, number))
            due += rng.expovariate(options.rate)
        else:
            drain(selector, None if over else max(0.0, wait_s))


def attempts_of(line, behind_nat):
    """Attempts by one process's trace.

    curl's stamps are CLOCK_MONOTONIC plus whole seconds, found at the first one: its second is that
    of the day, its fraction CLOCK_MONOTONIC's.
    """
    found = TRYING.findall(line["trace"])
    if not found:
        return []
    stamps = [((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * SECOND_NS
              + int(micros) * 1000 for hours, minutes, seconds, micros, _ in found]
    # When that second of the day began, next to the process's start.
    since_ns = (stamps[0] // SECOND_NS * SECOND_NS - line["day_offset_ns"] - line["start_ns"]) % DAY_NS
    second_ns = line["start_ns"] + (since_ns if since_ns < DAY_NS // 2 else since_ns - DAY_NS)
    first_ns = second_ns + (stamps[0] - second_ns) % SECOND_NS
    # time() may lag behind by a tick: at a second's beginning it told curl the one before.
    if first_ns < line["start_ns"] - CLOCK_SLACK_NS:
        first_ns += SECOND_NS
    starts = [first_ns + (stamp - stamps[0]) % DAY_NS for stamp in stamps]
    ends = starts[1:] + [max(line["end_ns"], starts[-1])]
    return [Attempt(user=line["source"], request=str(line["request"]), number=number,
                    start_ns=start, end_ns=end, address="" if behind_nat else line["source"],
                    reused=how.lower().startswith("re"))
            for number, (start, end, (*_, how)) in enumerate(zip(starts, ends, found), 1)]


if __name__ == "__main__":
    main(sys.argv[1:])
