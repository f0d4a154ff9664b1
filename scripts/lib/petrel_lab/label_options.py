# SPDX-License-Identifier: MIT
"""What may be typed after scripts/label-check. Run as a program: checks it, prints --bin."""

import argparse
import sys
from pathlib import Path

from .demo_options import EXIT_USAGE, directory_with_programs, whole_number, writable_file
from .label_scenarios import CLIENTS, SCENARIOS


class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"label-check: {message}; see label-check --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse(argv):
    parser = Parser(prog="label-check", add_help=False, allow_abbrev=False)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--client", action="append", choices=CLIENTS)
    parser.add_argument("--seeds", type=whole_number(1, 1000), default=5)
    parser.add_argument("--first-seed", type=whole_number(0, 2**31), default=1)
    parser.add_argument("--seconds", type=whole_number(4, 600), default=10)
    parser.add_argument("--jobs", type=whole_number(1, 16), default=3)
    parser.add_argument("--json", type=writable_file)
    parser.add_argument("--keep-logs", type=Path)
    parser.add_argument("--bin", type=directory_with_programs)
    options = parser.parse_args(argv)
    options.cells = cells_of(options.scenario, options.client)
    if not options.cells:
        parser.error("--client: no scenario that is left out for all others has it: name one")
    return options


def cells_of(scenarios, clients):
    """(scenario, client) in the order of the table. What is named is taken as it is."""
    found = []
    for name in SCENARIOS if scenarios is None else dict.fromkeys(scenarios):
        scenario = SCENARIOS[name]
        for client in clients or scenario.clients:
            if scenarios is not None or client in scenario.clients:
                found.append((scenario, client))
    return found


if __name__ == "__main__":
    print(parse(sys.argv[1:]).bin or "")
