# SPDX-License-Identifier: MIT
"""What may be typed after scripts/dataset. Run as a program: checks it, prints --bin if petrel is
to be run and is not to be built."""

import argparse
import sys
from pathlib import Path

from .demo_options import EXIT_USAGE, directory_with_programs, whole_number
from .lab import ROOT


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse(argv):
    parser = Parser(prog="dataset", add_help=False, allow_abbrev=False)
    parser.add_argument("--runs", type=whole_number(1, 1000), default=72)
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1)
    parser.add_argument("--jobs", type=whole_number(1, 16), default=2)
    parser.add_argument("--seconds", type=whole_number(3, 600), default=20)
    parser.add_argument("--output", type=Path, default=ROOT / "out/dataset")
    parser.add_argument("--bin", type=directory_with_programs)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--no-agent-zone", dest="agent_zone", action="store_false")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--sample", nargs="?", type=Path, const=ROOT / "model/sample")
    return parser.parse_args(argv)


if __name__ == "__main__":
    print(parse(sys.argv[1:]).bin or "")
