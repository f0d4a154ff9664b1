# SPDX-License-Identifier: MIT
"""What petrel is to reach in each scenario, and who does better. Pure.

A cell is {seed: outcome}; a scenario's cells are {policy: cell}. A verdict is "met" or "missed" by
the median over seeds, with a question mark where the interval reaches to the other side or there is
none (one seed).
"""

import statistics
from dataclasses import dataclass

from .compare_stats import against, figure_by_seed, finite, interval

PETREL, BASE = "petrel", "static"
RECOVERED_MS = 5000
NEVER = float("inf")
NOISE = 1.05  # two policies that do the same differ by that


@dataclass(frozen=True)
class Verdict:
    aim: str
    found: str
    verdict: str

    def as_json(self):
        return {"aim": self.aim, "found": self.found, "verdict": self.verdict}


def judge(values, good):
    """values: one a seed."""
    if not values:
        return "unknown"
    met = good(statistics.median(values))
    around = interval(values)
    sure = around is not None and all(good(value) == met for value in around)
    return ("met" if met else "missed") + ("" if sure else "?")


def number(value, digits=2):
    if value is None:
        return "-"
    return "never" if value == NEVER else f"{value:,.{digits}f}"


def known(cell, key, missing=None):
    values = [missing if v is None else v for v in figure_by_seed(cell, key).values()]
    return [value for value in values if value is not None]


def absolute(aim, cell, key, good, digits=0, missing=None):
    values = known(cell, key, missing)
    found = number(statistics.median(values), digits) if values else "no figure"
    return Verdict(aim, found, judge(values, good))


def ratio(aim, cells, key, good, base=BASE):
    if base not in cells:
        return Verdict(aim, f"{base} was not run", "unknown")
    mine, theirs = figure_by_seed(cells[PETREL], key), figure_by_seed(cells[base], key)
    pairs = [(mine[s], theirs[s]) for s in mine.keys() & theirs.keys()
             if mine[s] is not None and theirs[s] is not None]
    values = [m / t if t else (1.0 if m == t else NEVER) for m, t in pairs]
    found = number(statistics.median(values)) if values else "no figure"
    return Verdict(aim, found, judge(values, good))


def best_other(cells, key):
    """The policy with the least median of a figure, petrel and its parts aside."""
    others = {policy: statistics.median(values) for policy, cell in cells.items()
              if not policy.startswith(PETREL) and (values := known(cell, key))}
    return min(others, key=others.get) if others else None


def fault_aims(scenario, cells):
    best = best_other(cells, "p99_ms")
    found = [ratio("retries at most 0.2 of static's", cells, "retries", lambda v: v <= 0.2),
             ratio("p99 at most 0.5 of static's", cells, "p99_ms", lambda v: v <= 0.5)]
    if best is not None:
        found.append(ratio(f"p99 at most the best other policy's, {best} (noise: {NOISE})", cells,
                           "p99_ms", lambda v: v <= NOISE, best))
    found.append(absolute("90 % moved within 500 ms", cells[PETREL], "moved_90_ms",
                          lambda v: v <= 500, missing=NEVER))
    return found


def storm_aims(scenario, cells):
    found = [absolute("goodput back within 5 s of the end", cells[PETREL], "recovered_ms",
                      lambda v: v <= RECOVERED_MS, missing=NEVER)]
    capacity = scenario.capacity_during * scenario.backends.capacity_per_s
    offered = scenario.offered_during * scenario.clients.rate_per_s
    allowed = min(capacity, offered)
    if allowed:
        found.append(absolute(f"meanwhile at least 90 % of the {allowed:,.0f}/s of capacity",
                              cells[PETREL], "during_served_per_s", lambda v: v >= 0.9 * allowed))
    found.append(absolute("at most 1.2 attempts a request reach a backend", cells[PETREL],
                          "backend_amplification", lambda v: v <= 1.2, digits=2))
    found.append(never_less(cells))
    return found


def never_less(cells):
    return ratio("never less goodput than static", cells, "goodput", lambda v: v >= 0.999)


def healthy_aims(scenario, cells):
    return [absolute("no request lost", cells[PETREL], "never_served", lambda v: v == 0),
            absolute("no attempt failed", cells[PETREL], "first_attempt_failures",
                     lambda v: v == 0),
            ratio(f"p99 within noise of static's ({NOISE})", cells, "p99_ms",
                  lambda v: v <= NOISE)]


AIMS = {
    "fault": fault_aims,
    "storm": storm_aims,
    "healthy": healthy_aims,
    "never-less": lambda scenario, cells: [never_less(cells)],
    "latency": lambda scenario, cells: [
        ratio("p99 at most a third of static's", cells, "p99_ms", lambda v: v <= 1 / 3)],
    "within": lambda scenario, cells: [
        absolute("at least 0.999 within 1 s", cells[PETREL], "goodput", lambda v: v >= 0.999,
                 digits=4)],
}


def verdicts(scenario, cells):
    if scenario.aim is None or not cells.get(PETREL):
        return []
    return AIMS[scenario.aim](scenario, cells)


# Figures by which a policy may be better, whether less is better, and by how much it must be to be
# told: noise of one machine.
BETTER = (("goodput", False, 1.001), ("never_served", True, 0.9), ("retries", True, 0.9),
          ("p99_ms", True, 0.95), ("during_p99_ms", True, 0.95), ("recovered_ms", True, 0.8),
          ("moved_90_ms", True, 0.8), ("backend_amplification", True, 0.99))


def beaten(cells):
    """[{policy, figure, theirs, petrels, ratio, interval, sure}] where another is better."""
    found = []
    if not cells.get(PETREL):
        return found
    for policy, cell in cells.items():
        if policy == PETREL:
            continue
        for key, less, limit in BETTER:
            missing = NEVER if key.endswith(("recovered_ms", "moved_90_ms")) else None
            theirs, mine = known(cell, key, missing), known(cells[PETREL], key, missing)
            if not theirs or not mine:
                continue
            mine, theirs = statistics.median(mine), statistics.median(theirs)
            if mine == theirs:
                continue
            versus = against(cell, cells[PETREL], key)
            value = versus["median"] if versus else (0.0 if theirs < mine else NEVER)
            if not (value < limit if less else value > limit):
                continue
            around = versus["interval"] if versus else None
            sure = around is not None and (around[1] < 1 if less else around[0] > 1)
            found.append({"policy": policy, "figure": key, "theirs": finite(theirs),
                          "petrels": finite(mine), "ratio": finite(value), "interval": around,
                          "sure": sure})
    return found
