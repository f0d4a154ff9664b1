# SPDX-License-Identifier: MIT
"""What may be typed after scripts/compare. Run as a program: checks it, prints --bin."""

import argparse
import sys
from pathlib import Path

from .compare_policies import BASE, POLICIES
from .compare_scenarios import SCENARIOS
from .demo_options import EXIT_USAGE, directory_with_programs, whole_number, writable_file
from .lab import ROOT


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"compare: {message}; see compare --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def names_of(values):
    """A list with commas; each of them once, in their own order."""
    def convert(text):
        wanted = text.split(",")
        for name in wanted:
            if name not in values:
                raise argparse.ArgumentTypeError(
                    f"there is no '{name}': choose of {', '.join(values)}")
        return [value for name, value in values.items() if name in wanted]
    return convert


def existing_file(text):
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text).resolve()


def parse(argv):
    parser = Parser(prog="compare", add_help=False, allow_abbrev=False)
    parser.add_argument("--scenario", type=names_of(SCENARIOS))
    parser.add_argument("--policy", type=names_of(POLICIES))
    parser.add_argument("--seeds", type=whole_number(1, 1000), default=5)
    parser.add_argument("--first-seed", type=whole_number(0, 2**31), default=1)
    # More labs at once than this measure each other.
    parser.add_argument("--jobs", type=whole_number(1, 4), default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", nargs="?", const="-",
                        type=lambda text: text if text == "-" else writable_file(text))
    parser.add_argument("--output", type=Path, default=ROOT / "out/compare")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--bin", type=directory_with_programs)
    parser.add_argument("--model", type=existing_file, default=ROOT / "model/retry.json")
    parser.add_argument("--force", action="store_true")
    options = parser.parse_args(argv)
    options.scenarios = options.scenario or [s for s in SCENARIOS.values() if not s.extra]
    options.policies = options.policy or list(POLICIES.values())
    if options.list and options.check:
        parser.error("--check needs figures: not with --list")
    if options.check and not {BASE, "petrel"} <= {policy.name for policy in options.policies}:
        parser.error("--check holds petrel against static: --policy needs both")
    return options


if __name__ == "__main__":
    print(parse(sys.argv[1:]).bin or "")
