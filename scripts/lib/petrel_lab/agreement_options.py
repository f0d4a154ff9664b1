# SPDX-License-Identifier: MIT
"""What may be typed after scripts/agreement."""

import argparse
import sys

from .demo_options import EXIT_USAGE, FAULTS, directory_with_programs, whole_number, writable_file


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"agreement: {message}; see agreement --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def faults(text):
    wanted = text.split(",")
    for name in wanted:
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"there is no '{name}': choose of {', '.join(FAULTS)}")
    return [fault for fault in FAULTS if fault in wanted]


def parse(argv):
    parser = Parser(prog="agreement", add_help=False, allow_abbrev=False)
    parser.add_argument("--fault", dest="faults", type=faults, default=list(FAULTS))
    parser.add_argument("--seeds", type=whole_number(1, 100), default=5)
    parser.add_argument("--bin", type=directory_with_programs)
    parser.add_argument("--json", type=writable_file)
    parser.add_argument("--check", action="store_true")
    return parser.parse_args(argv)
