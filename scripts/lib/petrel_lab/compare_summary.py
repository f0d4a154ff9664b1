# SPDX-License-Identifier: MIT
"""Results of scripts/compare as the Markdown tables of docs/compare.md: scenarios by policies.

python3 -m petrel_lab.compare_summary RESULT.json... (of scripts/compare --json=RESULT.json)"""

import json
import sys
from pathlib import Path

from .compare_table import NEVER_KEYS, figure

SHOWN = (
    ("goodput", "Requests served in time, %", 2, 100),
    ("retries", "Retries of clients", 0, 1),
    ("p99_ms", "Whole request, p99 in ms", 0, 1),
    ("during_p99_ms", "The same of requests that were due while the cause lasted", 0, 1),
    ("backend_amplification", "Connections at backends for each request", 3, 1),
    ("moved_90_ms", "From the fault to 90 % moved, ms", 0, 1),
    ("recovered_ms", "From the cause's end to 95 % of goodput, ms", 0, 1),
)


def cell_text(cell, key, digits, factor):
    if cell is None:
        return ""
    found = cell["outcome"][key]
    if found["median"] is None:
        return "never" if key in NEVER_KEYS else "–"
    text = figure(found["median"] * factor, digits)
    around = found["interval"]
    if around is None or None in around:
        return text
    low, high = (figure(value * factor, digits) for value in around)
    return text if low == high else f"{text} ({low} to {high})"


def applies(scenario, key):
    """Whether a scenario has this figure at all."""
    return {"moved_90_ms": bool(scenario["faulty"]),
            "recovered_ms": bool(scenario["events"])}.get(key, True)


def tables(results):
    cells, scenarios, policies = {}, {}, {}
    for result in results:
        scenarios |= result["scenarios"]
        policies |= result["policies"]
        cells |= {(cell["scenario"], cell["policy"]): cell for cell in result["cells"]}
    lines = []
    for key, name, digits, factor in SHOWN:
        lines += [f"{name}:", "", "| scenario | " + " | ".join(policies) + " |",
                  "| --- |" + " ---: |" * len(policies)]
        for scenario, about in scenarios.items():
            if applies(about, key) and any((scenario, policy) in cells for policy in policies):
                lines.append(f"| `{scenario}` | " + " | ".join(
                    cell_text(cells.get((scenario, policy)), key, digits, factor)
                    for policy in policies) + " |")
        lines.append("")
    return lines


def judged(results):
    lines = ["| scenario | aim | found | |", "| --- | --- | ---: | --- |"]
    for result in results:
        for one in result["judged"]:
            lines += [f"| `{one['scenario']}` | {aim['aim']} | {aim['found']} | {aim['verdict']} |"
                      for aim in one["aims"]]
    return lines


def main(paths):
    results = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    print("\n".join(tables(results) + judged(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
