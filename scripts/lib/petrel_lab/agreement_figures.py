# SPDX-License-Identifier: MIT
"""When a figure of the lab and one of the simulator are held to agree. Pure.

The lab's is one run's, on a machine that may be busy; the simulator's an interval over seeds. They
agree where the lab's lies in that interval, widened by a part of its ends and by an amount below
which a difference says nothing (a tick of 100 ms, a handful of retries)."""

from .bench_tables import aligned

# Figure -> decimals, widened by this part, and by this amount.
FIGURES = {
    "first_attempt_failures": (0, 0.2, 40),
    "retries": (0, 0.2, 40),
    "p99_ms": (0, 0.25, 8),
    "backend_amplification": (3, 0.02, 0),
    "moved_90_ms": (0, 0.25, 350),
}


def agrees(found, interval, part, amount):
    low, high = interval
    if found is None or low is None or high is None:
        return found is None and low is None and high is None
    return low * (1 - part) - amount <= found <= high * (1 + part) + amount


def judge(fault, policy, figure, lab, simulated):
    _, part, amount = FIGURES[figure]
    summary = simulated[figure]
    return {"fault": fault, "policy": policy, "figure": figure, "lab": lab[figure],
            "simulated": summary["median"], "interval": summary["interval"],
            "agrees": agrees(lab[figure], summary["interval"], part, amount)}


def worded(value, digits):
    return "never" if value is None else f"{value:,.{digits}f}"


def table(rows):
    lines = [("fault", "policy", "figure", "lab", "simulated", "from", "to", "agree")]
    for row in rows:
        digits = FIGURES[row["figure"]][0]
        values = (row["lab"], row["simulated"], *row["interval"])
        lines.append((row["fault"], row["policy"], row["figure"],
                      *(worded(value, digits) for value in values),
                      "yes" if row["agrees"] else "NO"))
    return aligned(lines)
