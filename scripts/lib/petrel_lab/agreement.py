# SPDX-License-Identifier: MIT
"""scripts/agreement: the demo's faults in the lab and in the simulator, side by side."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from . import facts
from .agreement_figures import FIGURES, judge, table
from .agreement_options import parse
from .demo_simulated import SCENARIO_OF
from .lab import ROOT, progress

EXIT_RUNTIME, EXIT_MISSING, EXIT_UNHEALTHY, EXIT_INTERRUPTED = 1, 5, 8, 130


class Failed(Exception):
    """Said as it is; ends the program."""


def run(argv, what):
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=None, check=False)
    if done.returncode != 0:
        raise Failed(f"{what} ended with exit code {done.returncode}")


def lab_figures(fault, options, folder):
    """policy -> figures of one run of scripts/demo."""
    file = folder / f"lab-{fault}.json"
    argv = [str(ROOT / "scripts/demo"), "--fault", fault, "--no-color", "--json", str(file)]
    if options.bin:
        argv += ["--bin", str(options.bin)]
    run(argv, f"scripts/demo --fault {fault}")
    found = json.loads(file.read_text(encoding="utf-8"))
    return {policy: found[policy] for policy in ("static", "petrel")}


def simulated_figures(fault, options, folder):
    """policy -> figure -> {median, interval} over seeds."""
    file = folder / f"simulated-{fault}.json"
    binary = (options.bin or ROOT / "build/release/bin") / "petrel"
    run([str(binary), "simulate", "--compare", "--seeds", str(options.seeds), "--scenario",
         SCENARIO_OF[fault], "--policy", "static,petrel", "--model", str(ROOT / "model/retry.json"),
         "--json", str(file)], f"petrel simulate --scenario {SCENARIO_OF[fault]}")
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return {cell["policy"]: cell["outcome"] for cell in cells}


def compared(options):
    rows = []
    with tempfile.TemporaryDirectory(prefix="petrel-agreement-") as folder:
        for done, fault in enumerate(options.faults):
            progress(f"agreement: {fault}, {done + 1} of {len(options.faults)}, about "
                     f"{75 * (len(options.faults) - done)} s left")
            lab = lab_figures(fault, options, Path(folder))
            simulated = simulated_figures(fault, options, Path(folder))
            rows += [judge(fault, policy, figure, lab[policy], simulated[policy])
                     for policy in ("static", "petrel") for figure in FIGURES]
    return rows


def main(argv):
    options = parse(argv)
    try:
        rows = compared(options)
    except Failed as error:
        print(f"agreement: {error}", file=sys.stderr)
        return EXIT_RUNTIME
    except FileNotFoundError as error:
        print(f"agreement: there is no {error.filename}: build petrel first", file=sys.stderr)
        return EXIT_MISSING
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print("\n".join(table(rows)))
    apart = [row for row in rows if not row["agrees"]]
    print(f"{len(rows) - len(apart)} of {len(rows)} figures agree")
    if options.json:
        binary = options.bin or ROOT / "build/release/bin"
        found = {"schema": "petrel/agreement/v1", **facts.header(binary, 1), "figures": rows}
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return EXIT_UNHEALTHY if options.check and apart else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
