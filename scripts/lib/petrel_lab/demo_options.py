# SPDX-License-Identifier: MIT
"""What may be typed after scripts/demo. Run as a program: checks it, and prints --bin's value."""

import argparse
import sys
from pathlib import Path

from .lab import ROOT

EXIT_USAGE = 2
POLICIES = ("static", "petrel")

# Parameters of each fault. `slow` is strong enough that the backend's capacity (16 requests at
# once, 10 ms each) falls under its load; a milder one would only cost latency.
FAULTS = {
    "hang": {},
    "reset": {},
    "refuse": {},
    "errors": {"rate": 0.5, "status": 503},
    "slow": {"factor": 50},
    "blackhole": {},
    "none": {},
}


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"demo: {message}; see demo --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def whole_number(low, high):
    def convert(text):
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"is {low} to {high}, not '{text}'")
        return int(text)
    return convert


def directory_with_programs(text):
    for name in ("petrel", "petrel-traffic"):
        if not (Path(text) / name).is_file():
            raise argparse.ArgumentTypeError(f"there is no {name} in {text}")
    return Path(text).resolve()


def writable_file(text):
    path = Path(text).absolute()
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write {text}: it is a folder, or in none")
    return path


def parse(argv):
    parser = Parser(prog="demo", add_help=False, allow_abbrev=False)
    parser.add_argument("--fault", choices=FAULTS, default="hang")
    parser.add_argument("--policy", choices=("both", *POLICIES), default="both")
    parser.add_argument("--json", type=writable_file)
    parser.add_argument("--hold", action="store_true")
    # Fewer would keep the client's first log line in its buffer for seconds.
    parser.add_argument("--rate", type=whole_number(20, 100000), default=800)
    parser.add_argument("--backends", type=whole_number(2, 60), default=4)
    parser.add_argument("--seconds", type=whole_number(6, 600), default=30)
    parser.add_argument("--seed", type=whole_number(0, 2**63 - 1), default=1)
    parser.add_argument("--ipv6", action="store_true")
    parser.add_argument("--model", type=Path, default=ROOT / "model/retry.json")
    parser.add_argument("--bin", type=directory_with_programs)
    parser.add_argument("--no-color", action="store_true")
    options = parser.parse_args(argv)
    options.policies = POLICIES if options.policy == "both" else (options.policy,)
    options.fault_begin_s = options.seconds * 8 / 30
    options.fault_end_s = options.seconds * 20 / 30
    options.faulty = 2
    options.drain_s = 20  # from the last request until each is answered
    return options


if __name__ == "__main__":
    print(parse(sys.argv[1:]).bin or "")
