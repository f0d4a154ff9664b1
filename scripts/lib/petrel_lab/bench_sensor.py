# SPDX-License-Identifier: MIT
"""scripts/bench --sensor: what the socket sensor costs a saturated loopback (wrk against nginx), on
against off in turns within one run, and what the agent's tick costs with full maps."""

import argparse
import json
import random
import shutil
import signal
import statistics
import sys
from pathlib import Path

from . import bench_sensor_tick, facts
from .bench_sensor_lab import CONNECTIONS, SensorLab
from .bench_wire import (EXIT_INTERRUPTED, EXIT_MISSING, EXIT_RUNTIME, EXIT_USAGE, EXIT_WARNINGS,
                         end_on, interrupt_once)
from .bench_wire_load import background_cores
from .bench_wire_programs import cost_of_each
from .demo_options import directory_with_programs, whole_number, writable_file
from .lab import ROOT, LabError, progress

LOADS = {"keep-alive": True, "connection": False}
PLACEMENTS = {"off": None, "petrel": "client", "petrel-backend": "backend"}
AIMS = {"throughput_percent": 2.0, "us_per_connection": 1.0, "tick_ms": 10.0, "core_share": 0.05}
DRAWS = 4000  # of a bootstrap

NOTES = [
    f"requests_per_s: one wrk thread with {CONNECTIONS} connections, closed loop, against nginx on "
    "the loopback of one namespace; client and server share the cores, and nothing is idle",
    "load \"keep-alive\": requests on kept connections; \"connection\": one request a connection",
    "what \"petrel\": the service's placement is \"client\", \"petrel-backend\": \"backend\"; either "
    "way both ends are on this host: the sensor sees each segment twice, and tells of one end",
    "cpu_us_per_connection: the whole machine's CPU time (user, system, irq, softirq) for a "
    "request of load \"connection\", the agent's included; null for \"keep-alive\"",
    "loss_percent, added_us: medians of the differences to \"off\" within each round, with 95 % "
    "bootstrap intervals",
    "programs: run time by the kernel's own statistics (bpf_stats), which add two clock readings "
    "a run; us a request",
    "tcpconnlat and tcprtt are null: they need fentry or kprobes; compare them where the kernel "
    "has those",
    "tick: the agent's own clock over its ticks, core_share by the kernel's; maps filled through "
    "their pins",
]


class Parser(argparse.ArgumentParser):
    """One line for what is wrong."""

    def error(self, message):
        print(f"bench: {message}; see bench --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse(argv):
    parser = Parser(prog="bench --sensor", allow_abbrev=False)
    parser.add_argument("--sensor", action="store_true", help="accepted, and what this does anyway")
    parser.add_argument("--json", type=writable_file, help="write all figures to this file")
    parser.add_argument("--seconds", type=whole_number(1, 60), default=3,
                        help="of each load in each round (3)")
    parser.add_argument("--rounds", type=whole_number(1, 100), default=9, help="(9)")
    parser.add_argument("--seed", type=whole_number(0, 2**63 - 1), default=1,
                        help="of the order in each round (1)")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--bin", type=directory_with_programs, default=ROOT / "build/release/bin",
                        help="where petrel and petrel-traffic are (build/release/bin)")
    parser.add_argument("--model", type=Path, default=ROOT / "model/retry.json")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds = options.seconds = 1
    return options


def one_turn(lab, what, seconds):
    if PLACEMENTS[what]:
        lab.start_sensor(PLACEMENTS[what])
    try:
        lab.load(1, True)  # caches, and the agent's own start
        return {load: lab.load(seconds, keep) for load, keep in LOADS.items()}
    finally:
        if PLACEMENTS[what]:
            lab.stop_agent()


def run_rounds(lab, options):
    """For each round {what: {load: figures}}; in another order each time."""
    order, rounds = random.Random(options.seed), []
    for number in range(1, options.rounds + 1):
        rounds.append({})
        for what in order.sample(list(PLACEMENTS), len(PLACEMENTS)):
            turn = one_turn(lab, what, options.seconds)
            rounds[-1][what] = turn
            progress(f"round {number} of {options.rounds}: {what:14}  " + "  ".join(
                f"{load} {turn[load]['requests_per_s']:,.0f}/s {turn[load]['cpu_us']:.2f} µs"
                for load in LOADS))
    return rounds


def explain(lab, seconds):
    """What each kind of program cost a request, by load: runs of their own."""
    costs = {}
    for what in list(PLACEMENTS)[1:]:
        lab.start_sensor(PLACEMENTS[what])
        try:
            costs[what] = {load: cost_of_each(lab.agent.pid,
                                              lambda k=keep: lab.load(seconds, k)["requests"])
                           for load, keep in LOADS.items()}
        finally:
            lab.stop_agent()
    return costs


def interval(values, seed=1):
    """Of the median, at 95 %, by bootstrap."""
    if len(values) < 3:
        return None
    draw = random.Random(seed)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(DRAWS))
    return [medians[int(DRAWS * 0.025)], medians[int(DRAWS * 0.975)]]


def row_of(what, load, rounds):
    turns = [turn[what][load] for turn in rounds]
    bare = [turn["off"][load] for turn in rounds]
    lost = [100 * (1 - on["requests_per_s"] / off["requests_per_s"])
            for on, off in zip(turns, bare)]
    added = [on["cpu_us"] - off["cpu_us"] for on, off in zip(turns, bare)]
    rates = [turn["requests_per_s"] for turn in turns]
    cpu_us = statistics.median(turn["cpu_us"] for turn in turns)
    row = {"what": what, "load": load, "requests_per_s": statistics.median(rates),
           "interval": interval(rates), "cpu_us_per_request": cpu_us,
           "cpu_us_per_connection": cpu_us if load == "connection" else None,
           "errors": sum(turn["errors"] for turn in turns)}
    if what != "off":
        row |= {"loss_percent": statistics.median(lost), "loss_interval": interval(lost),
                "added_us": statistics.median(added), "added_interval": interval(added)}
    return row


def between(value, bounds):
    return f"{value:.2f}" + (f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else "")


def show(outcome):
    print(f"{'what':15} {'load':11} {'requests/s':>11}  {'lost %':24} {'added µs a request':24}")
    for row in outcome["sensor"]:
        if row["requests_per_s"] is None:
            continue
        lost, added = "–", "–"
        if "loss_percent" in row:
            lost = between(row["loss_percent"], row["loss_interval"])
            added = between(row["added_us"], row["added_interval"])
        print(f"{row['what']:15} {row['load']:11} {row['requests_per_s']:11,.0f}  {lost:24} "
              f"{added:24}")
    print(f"aims: at most {AIMS['throughput_percent']:.0f} % lost, "
          f"{AIMS['us_per_connection']:.0f} µs a connection\n")
    for what, loads in outcome["programs"].items():
        for load, kinds in loads.items():
            print(f"{what:15} {load:11} " + "  ".join(
                f"{kind}: {cost['runs']:.1f} runs, {cost['us']:.2f} µs"
                for kind, cost in kinds.items()))
    for row in outcome["tick"]:
        print(f"\ntick: {row['backends']:,} backends, {row['connections']:,} connections: "
              f"{row['tick_ms']:.2f} ms (aim {AIMS['tick_ms']:.0f}), "
              f"{100 * row['core_share']:.1f} % of a core (aim {100 * AIMS['core_share']:.0f}), "
              f"{row['rss_mb']:.0f} MB resident")
    sys.stdout.flush()


def run(options):
    header = facts.header(options.bin, options.seed)
    model = options.model if options.model.exists() else None
    busy = background_cores()
    with SensorLab(options.bin, options.seed, model) as lab:
        rounds = run_rounds(lab, options)
        programs = explain(lab, options.seconds)
        tick = bench_sensor_tick.measure(lab, max(5, 2 * options.seconds))
    if busy > 0.1:
        header["notes"].append(f"others kept {busy:.1f} cores busy at the start: the figures are "
                               "disturbed")
    rows = [row_of(what, load, rounds) for what in PLACEMENTS for load in LOADS]
    rows += [{"what": what, "load": load, "requests_per_s": None, "cpu_us_per_connection": None}
             for what in ("tcpconnlat", "tcprtt") for load in LOADS]
    outcome = {"schema": "petrel/bench-sensor/v1", **header, "notes": header["notes"] + NOTES,
               "seconds": options.seconds, "rounds": options.rounds, "aims": AIMS, "sensor": rows,
               "tick": [tick], "programs": programs, "turns": rounds, "background_cores": busy}
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    show(outcome)
    return EXIT_WARNINGS  # tcpconnlat and tcprtt are missing


def main(argv):
    signal.signal(signal.SIGINT, interrupt_once)
    signal.signal(signal.SIGTERM, end_on)
    signal.signal(signal.SIGHUP, end_on)
    options = parse(argv)
    missing = [tool for tool in ("wrk", "nginx") if shutil.which(tool) is None]
    if missing:
        progress(f"bench: needs {' and '.join(missing)}: run scripts/setup")
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
    sys.argv[0] = "scripts/bench" if "--sensor" in sys.argv else "scripts/bench --sensor"
    sys.exit(main(sys.argv[1:]))
