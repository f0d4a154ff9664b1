# SPDX-License-Identifier: MIT
"""What users got: the client's log read, and the figures of OUTCOME that come from it.

Times are seconds of CLOCK_MONOTONIC, which the client's log and time.monotonic() share.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass, field

# Goodput is compared over this long, or longer until so many requests arrive in it: those under
# way at the window's ends (about 8 at 800/s) must not look like a change of 5 %.
GOODPUT_WINDOW_S = 0.5
GOODPUT_LEAST_REQUESTS = 200
GOODPUT_STEP_S = 0.05
# Back means back for this long: a single good window between two bad ones is none.
GOODPUT_STAYS_S = 1.0
RECOVERED_SHARE = 0.95


@dataclass
class ClientLog:
    """Each list ascending, as times of one kind of thing that happened."""
    arrivals: list = field(default_factory=list)  # when requests were due
    served: list = field(default_factory=list)    # when a request had its answer
    failures: list = field(default_factory=list)  # when an attempt had failed
    retries: list = field(default_factory=list)   # when an attempt after the first began


def first_arrival_s(path):
    """When the traffic began, from the first whole line of a log being written; else None."""
    try:
        with open(path, encoding="utf-8") as log:
            line = log.readline()
    except FileNotFoundError:
        return None
    return json.loads(line)["intended_ns"] / 1e9 if line.endswith("\n") else None


def read_log(path):
    log = ClientLog()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            attempt = json.loads(line)
            if "attempt" not in attempt:
                continue
            if attempt["attempt"] == 1:
                log.arrivals.append(attempt["intended_ns"] / 1e9)
            else:
                log.retries.append(attempt["start_ns"] / 1e9)
            ended = log.served if attempt["outcome"] == "ok" else log.failures
            ended.append(attempt["end_ns"] / 1e9)
    for times in (log.arrivals, log.served, log.failures, log.retries):
        times.sort()
    return log


def count_between(times, begin_s, end_s):
    return bisect_left(times, end_s) - bisect_left(times, begin_s)


def goodput(log, begin_s, end_s):
    """Requests served for each that arrived in the same time; None if none did.

    By arrivals and not by the clock: the arrivals' own scatter in a window is larger than the
    5 % that are looked for.
    """
    arrived = count_between(log.arrivals, begin_s, end_s)
    return count_between(log.served, begin_s, end_s) / arrived if arrived else None


def goodput_window_s(log, began_s, traffic_end_s):
    rate_per_s = len(log.arrivals) / (traffic_end_s - began_s)
    return max(GOODPUT_WINDOW_S, GOODPUT_LEAST_REQUESTS / rate_per_s)


def can_tell_recovery(log, began_s, fault_end_s, traffic_end_s):
    """Whether traffic went on for long enough after the fault."""
    needed_s = goodput_window_s(log, began_s, traffic_end_s) + GOODPUT_STAYS_S
    return fault_end_s + needed_s <= traffic_end_s


def recovered_ms(log, began_s, fault_begin_s, fault_end_s, traffic_end_s):
    """From the fault's end until goodput is back; 0 if it was good all along, None if never."""
    before = goodput(log, began_s, fault_begin_s)
    if not before:
        return None
    width_s = goodput_window_s(log, began_s, traffic_end_s)
    good = []
    begin_s = fault_end_s
    while begin_s + width_s <= traffic_end_s:
        share = goodput(log, begin_s, begin_s + width_s)
        good.append(share is not None and share >= RECOVERED_SHARE * before)
        begin_s += GOODPUT_STEP_S
    stays = round(GOODPUT_STAYS_S / GOODPUT_STEP_S)
    for i in range(len(good) - stays + 1):
        if all(good[i:i + stays]):
            return round(i * GOODPUT_STEP_S * 1000)
    return None


def ratio(part, whole):
    return part / whole if whole else None


def outcome(summary, connections, moved, recovered):
    """OUTCOME of shared results: the client's summary, and what was measured beside it."""
    return {
        "requests": summary["requests"],
        "first_attempt_failures": summary["first_attempt_failures"],
        "retries": summary["retries"],
        "amplification": summary["amplification"],
        "backend_amplification": ratio(connections, summary["requests"]),
        "never_served": summary["never_served"],
        "p50_ms": summary["p50_ms"],
        "p99_ms": summary["p99_ms"],
        "p999_ms": summary["p999_ms"],
        "moved_90_ms": moved,
        "recovered_ms": recovered,
    }
