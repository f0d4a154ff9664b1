# SPDX-License-Identifier: MIT
"""scripts/bench --wire: new connections, packets, latency and CPU time through a lab with petrel,
with nftables, HAProxy, IPVS and the plain route, in turns within one run."""

import argparse
import json
import random
import shutil
import signal
import sys
from pathlib import Path

from . import bench_wire_load as load
from . import bench_wire_profile, bench_wire_programs, bench_wire_report, facts
from .bench_wire_paths import BACKENDS, PATHS, NotThere, Unavailable, WireLab
from .demo_options import directory_with_programs, whole_number, writable_file
from .lab import ROOT, LabError, progress

EXIT_RUNTIME = 1
EXIT_USAGE = 2
EXIT_WARNINGS = 4
EXIT_MISSING = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

NOTES = [
    "figures are medians over the rounds, \"range\" is their least and greatest; added_… is the "
    "median of the differences to the plain route within each round",
    f"connections_per_s: {load.WRK_PROCESSES} wrk with {load.WRK_CONNECTIONS} connections each, "
    "closed loop, one HTTP request a connection; client, balancer and backends share the cores",
    "cpu_s_per_million_requests: the whole machine's CPU time (user, system, irq, softirq) in "
    "that run, so it holds the client's and the backends' work, and whatever else ran meanwhile",
    f"packets_per_s: {load.FLOOD_CONNECTIONS} TCP connections flood in segments of 88 bytes; "
    "counted where packets come out of lb (received by the client and the backends), both "
    "directions; a proxy ends connections, so its packets are of two connections each",
    f"p50_us, p99_us: {load.PING_RATE} requests a second, one at a time, each on a new connection",
    "checksum and segmentation offloads are off on all links, as on a wire; the client and the "
    "backends receive with GRO, lb does not",
    "petrel runs as shipped: mode act, both sensors on",
    "ipvs: NAT by Maglev hashing of client address and port, its sysctls as they come",
    "nftables: dnat by jhash of client address and port; conntrack's closed states time out in 1 s",
]


class Parser(argparse.ArgumentParser):
    """One line for what is wrong."""

    def error(self, message):
        print(f"bench: {message}; see bench --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse(argv):
    parser = Parser(prog="bench --wire", allow_abbrev=False)
    parser.add_argument("--wire", action="store_true", help="accepted, and what this does anyway")
    parser.add_argument("--json", type=writable_file, help="write all figures to this file")
    parser.add_argument("--seconds", type=whole_number(1, 60), default=3,
                        help="of each load in each round (3)")
    parser.add_argument("--rounds", type=whole_number(1, 50), default=5, help="(5)")
    parser.add_argument("--seed", type=whole_number(0, 2**63 - 1), default=1,
                        help="of the order of paths in each round (1)")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--bin", type=directory_with_programs, default=ROOT / "build/release/bin",
                        help="where petrel and petrel-traffic are (build/release/bin)")
    parser.add_argument("--model", type=Path, default=ROOT / "model/retry.json")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds = options.seconds = 1
    return options


class Measurement:
    """All rounds in one lab."""

    def __init__(self, lab, options):
        self.lab = lab
        self.options = options
        self.rounds = []
        self.unavailable = {}  # path: why
        self.complete = True  # but for what this host is not expected to have
        self.background = []
        self.programs = {"request": {}, "packet": {}}
        self.profile = {}
        self.notes = []

    def run(self):
        order = random.Random(self.options.seed)
        for number in range(1, self.options.rounds + 1):
            self.rounds.append({})
            # In another order each time, so that no path always follows the same one.
            for path in order.sample(list(PATHS), len(PATHS)):
                if path not in self.unavailable:
                    self._turn(number, path)

    def _turn(self, number, path):
        self.background.append(load.background_cores())
        try:
            with PATHS[path](self.lab) as targets:
                turn = load.measure_turn(self.lab, targets, self.options.seconds)
                if path == "petrel" and number == self.options.rounds:
                    self._explain(targets)
        except Unavailable as error:
            self.unavailable[path] = str(error)
            self.complete &= isinstance(error, NotThere)
            progress(f"{path}: {error}")
            return
        except LabError as error:
            raise LabError(f"measure {path}: {error}") from error
        self.rounds[-1][path] = turn
        progress(f"round {number} of {self.options.rounds}: {path:8}  "
                 f"{turn['connections_per_s']:,.0f} connections/s  "
                 f"{turn['packets_per_s']:,.0f} packets/s  p50 {turn['p50_us']:.0f} µs  "
                 f"p99 {turn['p99_us']:.0f} µs  {turn['errors']} errors")

    def _explain(self, targets):
        """What petrel's own programs cost, and what the lab's links do: runs of their own, for
        looking costs time too."""
        pid, seconds = self.lab.agent_pid(), self.options.seconds

        def requests():
            return load.measure_connections(self.lab, targets, seconds)["requests"]

        def packets():
            return load.measure_packets(self.lab, targets, seconds)["packets"]

        try:
            self.programs["request"] = bench_wire_programs.cost_of_each(pid, requests)
            self.programs["packet"] = bench_wire_programs.cost_of_each(pid, packets)
        except OSError as error:
            self.notes.append(f"petrel_programs is not complete: {error}")
        try:
            self.profile = bench_wire_profile.profile(self.lab.run_dir / "perf.data", seconds,
                                                      packets)
        except OSError as error:
            self.notes.append(f"flood_profile is empty: {error}")


def results(options, header, measurement):
    """The result file: the shape is fixed by the project, keys may be added."""
    rows = [bench_wire_report.summarize(path, measurement.rounds) for path in PATHS]
    notes = header["notes"] + NOTES + measurement.notes
    notes += [f"{path} is null: {why}" for path, why in measurement.unavailable.items()]
    background = max(measurement.background)
    if background > 0.1:
        notes.append(f"others kept up to {background:.1f} of {header['host']['cores']} cores busy "
                     "while nothing was measured: the figures are disturbed")
    if not options.model.exists():
        notes.append(f"petrel ran without a model: there is no {options.model}")
    explanation = bench_wire_report.comparisons(rows)
    if explanation:
        explanation += bench_wire_report.reasons(rows, measurement.programs,
                                                 measurement.profile)
    return {
        "schema": "petrel/bench-wire/v1",
        **header,
        "notes": notes + explanation,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "backends": BACKENDS,
        "wire": rows,
        "petrel_programs": measurement.programs,
        "flood_profile": measurement.profile,
        "background_cores": measurement.background,
    }, explanation


def show(outcome, explanation):
    print("\n".join(bench_wire_report.table(outcome["wire"])))
    if explanation:
        print()
        print("\n".join(explanation))
    sys.stdout.flush()


def run(options):
    header = facts.header(options.bin, options.seed)
    model = options.model if options.model.exists() else None
    with WireLab(options.bin, options.seed, model) as lab:
        measurement = Measurement(lab, options)
        measurement.run()
    outcome, explanation = results(options, header, measurement)
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    show(outcome, explanation)
    return 0 if measurement.complete else EXIT_WARNINGS


def end_on(_signal, _frame):
    raise SystemExit(EXIT_TERMINATED)


def interrupt_once(_signal, _frame):
    """The first Ctrl-C ends the measurement; further ones must not end the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv):
    signal.signal(signal.SIGINT, interrupt_once)
    signal.signal(signal.SIGTERM, end_on)
    signal.signal(signal.SIGHUP, end_on)
    options = parse(argv)
    if shutil.which("wrk") is None:
        progress("bench: needs wrk, which is not installed: run scripts/setup")
        return EXIT_MISSING
    try:
        return run(options)
    except (LabError, OSError) as error:
        progress(f"bench: {error}")
        return EXIT_RUNTIME
    except KeyboardInterrupt:
        progress("bench: interrupted; the lab is removed")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    # What result files say was run.
    sys.argv[0] = "scripts/bench" if "--wire" in sys.argv else "scripts/bench --wire"
    sys.exit(main(sys.argv[1:]))
