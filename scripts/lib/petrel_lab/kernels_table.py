# SPDX-License-Identifier: MIT
"""The rows of scripts/kernels: what a guest told, as figures and as a table."""

from .kernels_extras import lines_of

# Its programs; those for kernels before 5.12 are several.
BALANCER = ("petrel_balancer", "petrel_client", "petrel_backend", "petrel_rare", "petrel_hedge")
EXTRA = "extra "


def row_of(series, results, error=None, tested=True):
    """One kernel's figures, from its steps' results. `error`: why the guest ended early; `tested`:
    whether tests were to be run."""
    tests = {name: found for name, found in results.items() if name.endswith("_test")}
    programs = results.get("programs", {})
    check = results.get("check", {})
    lab = results.get("lab")
    extras = {name.removeprefix(EXTRA): found for name, found in results.items()
              if name.startswith(EXTRA)}
    problems = [error] if error else []
    problems += [f"programs: {note}" for note in programs.get("notes", [])
                 if not note.startswith("stack_bytes")]
    for name, found in results.items():
        if isinstance(found, dict) and "error" in found:
            problems.append(f"{name}: {found['error']}")
    for name, found in tests.items():
        problems += [f"{name}: {failure} failed" for failure in found.get("failures", [])]
    problems += [f"check: {c['id']}: {c['found']}" for c in check.get("checks", [])
                 if c["state"] == "fatal"]
    if lab and lab.get("outcome") and lab["outcome"]["moved_90_ms"] is None:
        problems.append("lab: traffic was not moved off the backend that hung")
    problems += [f"{name}: {found.get('note') or 'its figures are not good'}"
                 for name, found in extras.items() if found.get("good") is False]
    if tested and not error and not any(found.get("run") for found in tests.values()):
        problems.append("no test was run")
    degraded = [f"{c['id']}: {c['found']}" for c in check.get("checks", [])
                if c["state"] == "degraded"]
    degraded += lab.get("degraded", []) if lab else []
    boot = results.get("boot", {})
    return {
        "kernel": boot.get("release", series),
        "series": series,
        "obtained": True,
        "boot_s": boot.get("boot_s"),
        "took_s": results.get("took_s"),
        "tests_run": sum(found.get("run", 0) for found in tests.values()),
        "tests_failed": sum(found.get("failed", 0) for found in tests.values()),
        "tests_skipped": sum(found.get("skipped", 0) for found in tests.values()),
        "passed": not problems,
        "problems": problems,
        "degraded": degraded,
        "programs": programs.get("programs", []),
        "lab": lab.get("outcome") if lab else None,
        "extras": extras,
    }


def row_of_none(series, why):
    return {"kernel": series, "series": series, "obtained": False, "boot_s": None, "took_s": None,
            "tests_run": None, "tests_failed": None, "tests_skipped": None, "passed": False,
            "problems": [why], "degraded": [], "programs": [], "lab": None,
            "extras": {}}


def _figure(value, form="{}"):
    return "-" if value is None else form.format(value)


def _cells(row):
    sizes = {p["name"]: p["verified_instructions"] for p in row["programs"]}
    balancer = max((size for name, size in sizes.items() if name in BALANCER), default=None)
    others = max((size for name, size in sizes.items() if name not in BALANCER), default=None)
    tests = "-"
    if row["tests_run"] is not None:
        tests = f"{row['tests_run'] - row['tests_failed']}/{row['tests_run']}"
    moved = row["lab"]["moved_90_ms"] if row["lab"] else None
    state = "good" if row["passed"] else "FAILED" if row["obtained"] else "not there"
    return [row["kernel"], _figure(row["boot_s"], "{:.1f}"), tests, _figure(balancer, "{:,}"),
            _figure(others, "{:,}"), _figure(moved),
            str(len(row["degraded"])) if row["obtained"] else "-", state]


HEADINGS = ("kernel", "boot s", "tests", "balancer", "sensor", "moved ms", "degraded", "")


def table(rows):
    """Lines; under each kernel what is degraded and what went wrong."""
    cells = [list(HEADINGS), *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADINGS))]

    def line_of(line):
        first, *rest = [cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))]
        return "  ".join([first, *rest]).rstrip()

    lines = [line_of(cells[0])]
    for row, line in zip(rows, cells[1:]):
        lines.append(line_of(line))
        lines += [f"    degraded: {text}" for text in row["degraded"]]
        lines += [f"    problem: {text}" for text in row["problems"]]
        lines += [text for name, found in row["extras"].items() for text in lines_of(name, found)]
    lines.append("balancer, sensor: instructions that the verifier went through, of the heaviest "
                 "program of each (1,000,000 is the most); moved: from a backend's hang until it "
                 "gets under a tenth of its share of connections")
    return lines
