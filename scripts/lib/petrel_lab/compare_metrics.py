# SPDX-License-Identifier: MIT
"""The figures of one run, from the clients' own logs and the taps at the backends. Pure.

Times are seconds of CLOCK_MONOTONIC, which the clients' logs and the taps share.
"""

import json
import math
from bisect import bisect_left
from dataclasses import dataclass

MOVED_SHARE = 0.1
# So many connections that the faulty ones would have had this many at their base share: of the
# first number they must get under a tenth, to tell the moment, and of the second too, as a backend
# that keeps a quarter (what two choices alone leave it) gets that little of 20 now and then.
MOVED_AT_ONCE = 20
MOVED_AND_STAYS = 100

RECOVERED_SHARE = 0.95
RECOVERED_WINDOW_S = 0.5
RECOVERED_LEAST_REQUESTS = 200
RECOVERED_STEP_S = 0.05
RECOVERED_STAYS_S = 1.0


@dataclass(frozen=True)
class Request:
    due_s: float       # when it was to begin
    latency_ms: float  # until its final answer, or until it was given up
    attempts: int
    served: bool


@dataclass
class Log:
    requests: list      # by due_s
    attempts: int       # lines of attempts
    failed_first: int   # first attempts that failed
    unfinished: int     # requests without a last line


def read_logs(paths):
    """The clients' logs as one."""
    requests, attempts, failed_first, unfinished = [], 0, 0, 0
    for path in paths:
        due_s = {}
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if "attempt" in entry:
                    attempts += 1
                    if entry["attempt"] == 1:
                        due_s[entry["request"]] = entry["intended_ns"] / 1e9
                        failed_first += entry["outcome"] != "ok"
                else:
                    requests.append(Request(due_s.pop(entry["request_done"]),
                                            entry["latency_us"] / 1000, entry["attempts"],
                                            entry["served"]))
        unfinished += len(due_s)
    requests.sort(key=lambda request: request.due_s)
    return Log(requests, attempts, failed_first, unfinished)


def percentile(values, part):
    """The nearest rank; `values` ascending."""
    return values[max(0, math.ceil(part * len(values)) - 1)] if values else None


def between(requests, begin_s, end_s):
    return requests[bisect_left(requests, begin_s, key=lambda r: r.due_s):
                    bisect_left(requests, end_s, key=lambda r: r.due_s)]


def in_time(request, patience_ms):
    return request.served and request.latency_ms <= patience_ms


def goodput(requests, patience_ms):
    """The share that was served while its user waited; None of none."""
    if not requests:
        return None
    return sum(in_time(request, patience_ms) for request in requests) / len(requests)


def latencies(requests, prefix=""):
    """One never served counts with the time at which it was given up."""
    values = sorted(request.latency_ms for request in requests)
    return {f"{prefix}{name}": percentile(values, part)
            for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999))}


def moved_90_ms(arrivals, faulty, backends, begin_s, end_s):
    """From the cause's begin until `faulty` get under a tenth of their base share (equal shares) of
    the new connections and stay there; None if they do not before its end. The moment is the
    beginning of the first window that is so: its end would add the window's length."""
    inside = [arrival for arrival in arrivals if begin_s <= arrival.at_s <= end_s]
    fair_share = len(faulty) / backends
    to_faulty = [0]
    for arrival in inside:
        to_faulty.append(to_faulty[-1] + (arrival.backend in faulty))

    def is_under(first, fair):
        last = first + math.ceil(fair / fair_share)
        return last < len(to_faulty) and \
            to_faulty[last] - to_faulty[first] < MOVED_SHARE * fair_share * (last - first)

    for first, arrival in enumerate(inside):
        if is_under(first, MOVED_AT_ONCE) and is_under(first, MOVED_AND_STAYS):
            return round((arrival.at_s - begin_s) * 1000)
    return None


def recovered_ms(requests, patience_ms, began_s, times):
    """From the cause's end until the requests that come have 95 % of the goodput before it, and for
    a second on; 0 if they always had, None if they do not before the traffic's end. By when they
    were due: what is served late of an earlier time is not of now."""
    begin_s, end_s = began_s + times.before_s, began_s + times.before_s + times.cause_s
    traffic_end_s = began_s + times.seconds
    before = goodput(between(requests, began_s, begin_s), patience_ms)
    if not before:
        return None
    width_s = max(RECOVERED_WINDOW_S, RECOVERED_LEAST_REQUESTS * times.seconds / len(requests))
    good, at_s = [], end_s
    while at_s + width_s <= traffic_end_s:
        share = goodput(between(requests, at_s, at_s + width_s), patience_ms)
        good.append(share is not None and share >= RECOVERED_SHARE * before)
        at_s += RECOVERED_STEP_S
    stays = round(RECOVERED_STAYS_S / RECOVERED_STEP_S)
    for i in range(len(good) - stays + 1):
        if all(good[i:i + stays]):
            return round(i * RECOVERED_STEP_S * 1000)
    return None


def outcome(log, arrivals, scenario, began_s, times):
    """OUTCOME of docs/compare.md; `times`: those in force. With `during_`: of the requests that
    were due while the cause lasted."""
    requests, patience_ms = log.requests, scenario.clients.patience_ms
    begin_s, end_s = began_s + times.before_s, began_s + times.before_s + times.cause_s
    # What never goes wrong has no cause: all of it is "during".
    during = between(requests, begin_s, end_s) if scenario.events else requests
    served = sum(request.served for request in requests)
    good_during = goodput(during, patience_ms)
    found = {
        "requests": len(requests),
        "first_attempt_failures": log.failed_first,
        "retries": log.attempts - len(requests),
        "amplification": log.attempts / len(requests) if requests else None,
        "backend_amplification": len(arrivals) / len(requests) if requests else None,
        "never_served": len(requests) - served,
        "goodput": goodput(requests, patience_ms),
        **latencies(requests),
        "during_goodput": good_during,
        "during_served_per_s": None if good_during is None or not scenario.events
        else good_during * len(during) / times.cause_s,
        "during_retries": sum(request.attempts - 1 for request in during),
        **latencies(during, "during_"),
        "moved_90_ms": None,
        "recovered_ms": None,
    }
    if scenario.faulty:
        found["moved_90_ms"] = moved_90_ms(arrivals, scenario.faulty, scenario.backends.count,
                                           begin_s, end_s)
    if scenario.events:
        found["recovered_ms"] = recovered_ms(requests, patience_ms, began_s, times)
    return found


def problems(log, summaries):
    """What does not add up: empty in a run that may be believed."""
    found = []
    asked = sum(summary["requests"] for summary in summaries)
    if asked != len(log.requests) + log.unfinished:
        found.append(f"the clients counted {asked} requests, their logs have "
                     f"{len(log.requests) + log.unfinished}")
    if log.unfinished:
        found.append(f"{log.unfinished} requests have no end")
    if (attempts := sum(request.attempts for request in log.requests)) != log.attempts:
        found.append(f"requests had {attempts} attempts, the logs have {log.attempts}")
    if skipped := sum(summary.get("skipped", 0) for summary in summaries):
        found.append(f"{skipped} requests were not sent: too many were under way")
    return found
