# SPDX-License-Identifier: MIT
"""scripts/demo where BPF may not be used: the same fault in the simulator, and loudly so."""

import subprocess
import sys

from .demo_options import parse
from .lab import ROOT

# The demo's faults as `petrel simulate` calls them: same backends, clients, rate and times.
SCENARIO_OF = {"hang": "hang", "reset": "reset", "refuse": "refuse", "errors": "errors-50",
               "slow": "crawl", "blackhole": "blackhole", "none": "healthy"}

BANNER = """\
==========================================================================================
SIMULATED. {why}
What follows is `petrel simulate`: petrel's own loop, score and ring on a model of clients,
network and backends. No packet was sent. Run it as root on Linux 5.10 or newer for the real one.
=========================================================================================="""


def arguments_of(options):
    """Of petrel, for what was asked of the demo."""
    argv = ["simulate", "--compare", "--seeds", "1", "--seed", str(options.seed),
            "--scenario", SCENARIO_OF[options.fault], "--policy", ",".join(options.policies),
            "--rate", str(options.rate), "--backends", str(options.backends),
            "--duration", str(options.seconds),
            "--cause-duration", f"{options.fault_end_s - options.fault_begin_s:g}",
            "--model", str(options.model)]
    return argv + (["--json", str(options.json)] if options.json else [])


def main(why, argv):
    options = parse(argv)
    print(BANNER.format(why=why))
    sys.stdout.flush()
    binary = (options.bin or ROOT / "build/release/bin") / "petrel"
    return subprocess.run([str(binary), *arguments_of(options)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
