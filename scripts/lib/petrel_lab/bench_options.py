# SPDX-License-Identifier: MIT
"""What may be typed after scripts/bench, without --wire. Run as a program: only checks it."""

import argparse
import sys
from pathlib import Path

from .demo_options import EXIT_USAGE, whole_number, writable_file
from .lab import ROOT

PROGRAMS = {"packets": "petrel-bench-packets", "ring": "petrel-bench-ring"}


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"bench: {message}; see bench --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def directory_with_benchmarks(text):
    for name in PROGRAMS.values():
        if not (Path(text) / name).is_file():
            raise argparse.ArgumentTypeError(f"there is no {name} in {text}")
    return Path(text).resolve()


def parse(argv):
    parser = Parser(prog="bench", add_help=False, allow_abbrev=False)
    parser.add_argument("--packets", action="store_true")
    parser.add_argument("--ring", action="store_true")
    parser.add_argument("--json", type=writable_file)
    parser.add_argument("--seconds", type=whole_number(1, 3600), default=30)
    parser.add_argument("--bin", type=directory_with_benchmarks)
    options = parser.parse_args(argv)
    options.parts = [part for part in PROGRAMS if getattr(options, part)] or list(PROGRAMS)
    options.bin = options.bin or ROOT / "build/release/bin"
    return options


if __name__ == "__main__":
    parse(sys.argv[1:])
