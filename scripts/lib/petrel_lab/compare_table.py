# SPDX-License-Identifier: MIT
"""What scripts/compare prints: a table for each scenario, its aims, and who beats petrel. Pure."""

from .bench_tables import aligned
from .compare_aims import PETREL, beaten, verdicts
from .compare_stats import against, figure_by_seed, summarised

BASE = "static"
NEVER = float("inf")

# Key, heading, decimals, factor. Each is the median over seeds and, of several, its interval.
COLUMNS = (
    ("requests", "requests", 0, 1), ("goodput", "in time %", 2, 100),
    ("never_served", "never", 0, 1), ("retries", "retries", 0, 1),
    ("amplification", "att/req", 3, 1), ("backend_amplification", "at backends", 3, 1),
    ("p50_ms", "p50 ms", 1, 1), ("p99_ms", "p99 ms", 0, 1), ("p999_ms", "p99.9 ms", 0, 1),
    ("during_goodput", "in time %, during", 2, 100), ("during_p99_ms", "p99 ms, during", 0, 1),
    ("moved_90_ms", "moved ms", 0, 1), ("recovered_ms", "back ms", 0, 1))
# Of the seed's own static.
RATIOS = (("goodput", "in time / static", 3), ("retries", "retries / static", 3),
          ("p99_ms", "p99 / static", 3))
WITH_INTERVAL = {"goodput", "p99_ms"}
NEVER_KEYS = {"moved_90_ms", "recovered_ms"}


def figure(value, digits):
    return "–" if value is None else f"{value:,.{digits}f}"


def with_interval(found, digits, factor=1, shown=True):
    if found is None or found["median"] is None:
        return "–"
    text = figure(found["median"] * factor, digits)
    if not shown or found["interval"] is None or None in found["interval"]:
        return text
    low, high = (figure(value * factor, digits) for value in found["interval"])
    return text if low == high else f"{text} ({low} to {high})"


def summary(cell, key):
    return summarised(figure_by_seed(cell, key), NEVER if key in NEVER_KEYS else None)


def row(policy, cells):
    cell = cells[policy]
    found = [policy, str(len(cell))]
    found += [with_interval(summary(cell, key), digits, factor, key in WITH_INTERVAL)
              for key, _, digits, factor in COLUMNS]
    for key, _, digits in RATIOS:
        versus = against(cell, cells[BASE], key) if BASE in cells and policy != BASE else None
        found.append(with_interval(versus, digits))
    return tuple(found)


def scenario_lines(scenario, cells):
    """cells: policy -> seed -> outcome, those that there are."""
    heading = ("policy", "seeds", *(name for _, name, _, _ in COLUMNS),
               *(name for _, name, _ in RATIOS))
    lines = [f"{scenario.name}: {scenario.about}"]
    if scenario.scaling:
        lines.append(f"  scaled: {scenario.scaling}")
    lines += aligned([heading, *(row(policy, cells) for policy in cells)])
    for verdict in verdicts(scenario, cells):
        lines.append(f"  {verdict.verdict + ':':<9} {verdict.aim}: {verdict.found}")
    return lines + [f"  beaten:   {text}" for text in beaten_lines(cells)]


def beaten_lines(cells):
    """One line a policy."""
    by_policy = {}
    for one in beaten(cells):
        theirs, petrels = (worded(one["figure"], one[whose]) for whose in ("theirs", "petrels"))
        text = f"{one['figure']} {theirs} against {petrels}"
        by_policy.setdefault(one["policy"], []).append(text + ("" if one["sure"] else "?"))
    return [f"{policy} is better than {PETREL}: {'; '.join(texts)}"
            for policy, texts in by_policy.items()]


def worded(key, value):
    if value is None:
        return "never"
    return figure(value, 4 if key in ("goodput", "backend_amplification") else 0)


def table(scenarios, results):
    """results: scenario name -> policy -> seed -> outcome."""
    lines = []
    for scenario in scenarios:
        if cells := results.get(scenario.name):
            lines += [*scenario_lines(scenario, cells), ""]
    return lines


def cells_json(scenarios, results):
    """`cells` of the result file, and what they are held against."""
    cells, judged = [], []
    for scenario in scenarios:
        found = results.get(scenario.name, {})
        for policy, cell in found.items():
            keys = next(iter(cell.values())).keys()
            cells.append({
                "scenario": scenario.name, "policy": policy, "seeds": len(cell),
                "outcome": {key: summary(cell, key) for key in keys},
                "against_static": None if BASE not in found or policy == BASE else
                {key: against(cell, found[BASE], key) for key in keys}})
        judged.append({"scenario": scenario.name,
                       "aims": [v.as_json() for v in verdicts(scenario, found)],
                       "beaten_by": beaten(found)})
    return {"cells": cells, "judged": judged}
