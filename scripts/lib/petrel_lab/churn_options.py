# SPDX-License-Identifier: MIT
"""What may be typed after scripts/churn. Run as a program: checks it, prints --bin."""

import argparse
import sys
from pathlib import Path

from .demo_options import EXIT_USAGE, directory_with_programs, whole_number, writable_file
from .lab import ROOT

PLACEMENTS = ("balancer", "client", "backend")


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"churn: {message}; see churn --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse(argv):
    parser = Parser(prog="churn", add_help=False, allow_abbrev=False)
    parser.add_argument("--placement", choices=PLACEMENTS, default="balancer")
    # In less each kind of failure would last too short a time to be met.
    parser.add_argument("--seconds", type=whole_number(12, 30 * 86400), default=3600)
    parser.add_argument("--rate", type=whole_number(20, 100000), default=200)
    parser.add_argument("--sample", type=whole_number(1, 600), default=10)
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1)
    parser.add_argument("--model", type=Path, default=ROOT / "model/retry.json")
    parser.add_argument("--json", type=writable_file)
    parser.add_argument("--bin", type=directory_with_programs)
    return parser.parse_args(argv)


if __name__ == "__main__":
    print(parse(sys.argv[1:]).bin or "")
