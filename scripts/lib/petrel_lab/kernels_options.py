# SPDX-License-Identifier: MIT
"""What may be typed after scripts/kernels. Run as a program: checks it, prints --bin."""

import argparse
import os
import re
import sys
from pathlib import Path

from .demo_options import EXIT_USAGE, whole_number, writable_file
from .kernels_extras import names_of
from .kernels_image import BINARIES
from .lab import ROOT

# One of each long-term series that Debian has, and the newest two.
DEFAULT = ("5.10", "6.1", "6.12", "6.18", "second-newest", "newest")
WORDS = ("oldest", "second-newest", "newest", "all")
TESTS = ("balancer_test", "route_cache_netns_test", "tap_reader_test", "score_test",
         "fuzz_test", "flow_model_test")


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"kernels: {message}; see kernels --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def kernel_list(text):
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in WORDS and not re.fullmatch(r"\d+\.\d+", name):
            raise argparse.ArgumentTypeError(
                f"is a series such as 6.1, or one of {', '.join(WORDS)}, not '{name}'")
    if not names:
        raise argparse.ArgumentTypeError("names no kernel")
    return names


def extras(text):
    try:
        return names_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def directory_with_tests(text):
    for name in BINARIES:
        if not (Path(text) / name).is_file():
            raise argparse.ArgumentTypeError(f"there is no {name} in {text}")
    return Path(text).resolve()


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "petrel/kernels"


def parse(argv):
    parser = Parser(prog="kernels", add_help=False, allow_abbrev=False)
    parser.add_argument("--kernel", type=kernel_list, default=list(DEFAULT))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--json", type=writable_file)
    parser.add_argument("--bin", type=directory_with_tests)
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--logs", type=Path, default=ROOT / "out/kernels")
    parser.add_argument("--filter", default="*")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--extras", type=extras, default=[])
    parser.add_argument("--lab-seconds", type=whole_number(0, 600), default=12)
    parser.add_argument("--rate", type=whole_number(20, 10000))
    parser.add_argument("--patience", type=whole_number(1, 100), default=1)
    parser.add_argument("--offline", action="store_true")
    options = parser.parse_args(argv)
    if options.no_tests and not (options.extras or options.lab_seconds):
        parser.error("--no-tests leaves nothing to do: give --extras, or a lab run")
    if 0 < options.lab_seconds < 6:
        parser.error("argument --lab-seconds: is 0, or 6 and more")
    return options


def pick(names, there):
    """Series in the order asked for, each once; `there`: those that Debian gives, oldest first."""
    picked = []
    for name in names:
        if name == "all":
            found = list(there)
        elif name in ("newest", "second-newest", "oldest"):
            place = {"oldest": 0, "newest": -1, "second-newest": -2}[name]
            found = [list(there)[place]] if len(there) >= max(1, -place) else []
        else:
            found = [name]
        picked += [series for series in found if series not in picked]
    return picked


if __name__ == "__main__":
    chosen = parse(sys.argv[1:])
    # Nothing is built for a list.
    print("-" if chosen.list else chosen.bin or "")
