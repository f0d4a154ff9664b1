# SPDX-License-Identifier: MIT
"""scripts/label-check once the programs are built: runs every cell, shows how good the label is."""

import concurrent.futures
import json
import signal
import sqlite3
import subprocess
import sys

from . import facts, label_run
from .bench_tables import aligned
from .lab import ROOT, LabError, progress
from .label_clients import make_client, missing_tools
from .label_figures import Cell
from .label_options import parse
from .label_scenarios import SCENARIOS, draw

EXIT_RUNTIME = 1
EXIT_WARNINGS = 4
EXIT_MISSING = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

# With more records of no attempt than this, or attempts without a record, the join is not to be
# trusted.
MOST_UNJOINED = 0.05

NOTES = [
    "precision: of the requests labelled as retries, those that are, by their client's own log; "
    "recall: of the retries that reached the balancer, those that are labelled",
    "intervals: 95 %, bootstrap over users (1,000 resamples), runs of all seeds together",
    "attempts_not_reached: no record tells of them (their SYN or request never came through); they "
    "are in `attempts` and in no ratio. records_unexplained: of no attempt of the log",
    "petrel runs in mode shadow, with failover, masking, steering, two choices and the budget off: "
    "each failure reaches its client",
]


def end_on(_signal, _frame):
    raise SystemExit(EXIT_TERMINATED)


def seconds_of(scenario, options):
    """Shorter with one fault alone than where all come in turn."""
    return max(4, options.seconds / 2) if len(scenario.faults) == 1 else options.seconds


def run_all(options):
    bin_dir = options.bin or ROOT / "build/release/bin"
    cells = {(scenario.name, client): Cell(scenario.name, client)
             for scenario, client in options.cells}
    weathers = [draw(scenario, client, seed, seconds_of(scenario, options))
                for seed in range(options.first_seed, options.first_seed + options.seeds)
                for scenario, client in options.cells]
    progress(f"label-check: {len(weathers)} runs, {options.jobs} at a time")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = {pool.submit(label_run.run, weather, make_client, bin_dir, options.keep_logs):
                weather for weather in weathers}
        try:
            for done, run in enumerate(concurrent.futures.as_completed(runs), 1):
                weather = runs[run]
                cells[weather.scenario.name, weather.client].add_run(weather.seed, run.result())
                progress(f"  {weather.scenario.name}, {weather.client}, seed {weather.seed}: "
                         f"{done} of {len(weathers)}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [cell.figures(options.first_seed) for cell in cells.values()]


def percent(value):
    return "–" if value is None else f"{100 * value:.1f}"


def with_interval(cell, key):
    interval = cell[f"{key}_interval"]
    around = f" ({percent(interval[0])} to {percent(interval[1])})" if interval else ""
    return percent(cell[key]) + around


def table(cells):
    rows = [("scenario", "client", "attempts", "retries", "labelled", "precision %", "recall %",
             "not reached", "unexplained")]
    rows += [(cell["scenario"], cell["client"], f"{cell['attempts']:,}",
              f"{cell['retries_true']:,}", f"{cell['retries_labelled']:,}",
              with_interval(cell, "precision"), with_interval(cell, "recall"),
              f"{cell['attempts_not_reached']:,}", f"{cell['records_unexplained']:,}")
             for cell in cells]
    return aligned(rows)


def warnings_of(cells):
    found = []
    for cell in cells:
        name = f"{cell['scenario']}, {cell['client']}"
        for key in ("precision", "recall"):
            if cell[key] is None:
                found.append(f"{name}: {key} is null: there were no retries to tell it by")
        if cell["records_lost"]:
            found.append(f"{name}: {cell['records_lost']} records were lost: this machine is too "
                         "busy")
        left = max(cell["attempts_not_reached"], cell["records_unexplained"])
        if left > MOST_UNJOINED * cell["attempts"]:
            found.append(f"{name}: {left} of {cell['attempts']} attempts and their records were "
                         "not joined")
    return found


def main(argv):
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_on)
    sys.argv[0] = "scripts/label-check"  # what result files say was run
    options = parse(argv)
    if missing := missing_tools({client for _, client in options.cells}):
        progress(f"label-check: needs {', '.join(missing)}: run scripts/setup")
        return EXIT_MISSING
    header = facts.header(options.bin or ROOT / "build/release/bin", options.first_seed)
    try:
        cells = run_all(options)
    except (LabError, OSError, sqlite3.Error, subprocess.SubprocessError) as error:
        progress(f"label-check: {error}")
        return EXIT_RUNTIME
    except KeyboardInterrupt:
        progress("label-check: interrupted; the labs are removed")
        return EXIT_INTERRUPTED
    warnings = warnings_of(cells)
    header["notes"] += NOTES + warnings
    print("\n".join(table(cells)))
    for warning in warnings:
        progress(f"label-check: {warning}")
    if options.json:
        scenarios = {name: SCENARIOS[name].about for name in {cell["scenario"] for cell in cells}}
        result = {"schema": "petrel/label-check/v1", **header, "cells": cells,
                  "scenarios": scenarios}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return EXIT_WARNINGS if warnings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
