# SPDX-License-Identifier: MIT
"""Figures of scripts/bench --wire from its rounds: medians, ranges, the table, and the notes that
say where petrel is not the fastest, and what was measured about why."""

import statistics

from .bench_wire_profile import PROGRAM, VETH_WORK

FIGURES = ("connections_per_s", "packets_per_s", "p50_us", "p99_us",
           "cpu_s_per_million_requests")
MORE_IS_BETTER = ("connections_per_s", "packets_per_s")
ADDED = ("p50_us", "p99_us", "cpu_s_per_million_requests")
WHAT = {"connections_per_s": "new connections a second", "packets_per_s": "packets a second",
        "p50_us": "µs of a request at p50", "p99_us": "µs of a request at p99",
        "cpu_s_per_million_requests": "CPU seconds for a million requests"}


def median_of(values):
    return statistics.median(values) if values else None


def summarize(path, rounds):
    """One row of "wire"; rounds: for each round {path: figures}, a path that failed left out."""
    turns = [turns_of_round[path] for turns_of_round in rounds if path in turns_of_round]
    row = {"path": path}
    for figure in FIGURES:
        row[figure] = median_of([turn[figure] for turn in turns])
    row["range"] = {figure: [min(turn[figure] for turn in turns),
                             max(turn[figure] for turn in turns)] if turns else None
                    for figure in FIGURES}
    # Differences within a round, so that a change of the machine between rounds cancels out.
    for figure in ADDED:
        row[f"added_{figure}"] = median_of(
            [turns_of_round[path][figure] - turns_of_round["route"][figure]
             for turns_of_round in rounds if path in turns_of_round and "route" in turns_of_round])
    row["errors"] = sum(turn["errors"] for turn in turns) if turns else None
    row["rounds"] = turns
    return row


def number(value, sign=""):
    return "–" if value is None else f"{value:{sign},.0f}"


def with_range(row, figure):
    if row[figure] is None:
        return "–"
    low, high = row["range"][figure]
    if len(row["rounds"]) == 1:
        return number(row[figure])
    return f"{number(row[figure])} ({number(low)} to {number(high)})"


def table(rows):
    """Lines for people: medians, in brackets the range over the rounds."""
    head = ["path", "connections/s", "packets/s", "p50 µs", "added", "p99 µs", "added",
            "CPU s/M requests", "added"]
    lines = [head]
    for row in rows:
        lines.append([row["path"], with_range(row, "connections_per_s"),
                      with_range(row, "packets_per_s"),
                      with_range(row, "p50_us"), number(row["added_p50_us"], "+"),
                      with_range(row, "p99_us"), number(row["added_p99_us"], "+"),
                      with_range(row, "cpu_s_per_million_requests"),
                      number(row["added_cpu_s_per_million_requests"], "+")])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(line, widths)))
            for line in lines]


def is_better(figure, value, than):
    return value > than if figure in MORE_IS_BETTER else value < than


def overlap(row, other, figure):
    low, high = row["range"][figure]
    other_low, other_high = other["range"][figure]
    return low <= other_high and other_low <= high


def comparisons(rows):
    """A sentence for each figure in which another balancer, or the plain route, is ahead."""
    by_path = {row["path"]: row for row in rows}
    petrel = by_path["petrel"]
    sentences = []
    for figure in FIGURES:
        for path in ("route", "nftables", "haproxy", "ipvs"):
            other = by_path[path]
            if petrel[figure] is None or other[figure] is None:
                continue
            if not is_better(figure, other[figure], petrel[figure]):
                continue
            doubt = ", within the range of the rounds" if overlap(petrel, other, figure) else ""
            sentences.append(f"petrel is not the fastest in {WHAT[figure]}: "
                             f"{number(petrel[figure])} against {number(other[figure])} by {path}"
                             f"{doubt}")
    return sentences


def list_programs(costs, unit, per_unit):
    return ", ".join(f"{kind} {cost['us'] * per_unit:.1f} {unit} in {cost['runs']:.1f} runs"
                     for kind, cost in sorted(costs.items()) if cost["runs"] >= 0.05)


def request_reasons(added_us, costs):
    """Of a new connection's request. A million requests' CPU seconds and one request's
    microseconds are the same number."""
    notes = []
    if costs and added_us is not None and added_us > 0:
        total_us = sum(cost["us"] for cost in costs.values())
        notes.append(f"a request by petrel costs the machine {added_us:.0f} µs of CPU more than by "
                     f"the plain route; its BPF programs take {total_us:.1f} µs "
                     f"({list_programs(costs, 'µs', 1)})")
    sensing_us = sum(costs[kind]["us"] for kind in ("tracing", "sock_ops") if kind in costs)
    if sensing_us > 0:
        notes.append(f"{sensing_us:.1f} µs of a request go to the socket sensor (tracing, "
                     "sock_ops), which here sees the client's and the backends' sockets: all of "
                     "the lab is one kernel; a balancer's own host has no sockets of these "
                     "connections")
    return notes


def packet_reasons(costs, profile):
    """Of a packet in the flood."""
    notes = []
    if "xdp" in costs:
        notes.append(f"the balancer's program takes {costs['xdp']['us'] * 1000:.0f} ns a packet in "
                     "the flood (BPF run-time statistics, their own clock readings included)")
    work = [f"{what} {profile[name]:.1%} ({name})" for name, what in VETH_WORK.items()
            if name in profile]
    if work and PROGRAM in profile:
        notes.append(f"of all CPU samples in the flood, idle ones included, petrel's program has "
                     f"{profile[PROGRAM]:.1%}; " + ", ".join(work) + ": what a veth does for XDP "
                     "and a NIC's driver with native XDP does not")
    return notes


def reasons(rows, programs, profile):
    """What was measured about petrel's cost in runs of its own; see bench_wire_programs and
    bench_wire_profile."""
    petrel = next(row for row in rows if row["path"] == "petrel")
    notes = request_reasons(petrel["added_cpu_s_per_million_requests"], programs["request"])
    notes += packet_reasons(programs["packet"], profile)
    return [f"measured: {note}" for note in notes]
