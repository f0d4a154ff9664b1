# SPDX-License-Identifier: MIT
"""scripts/kernels --extras ipvs: IPVS beside petrel where a backend hangs, and on the wire."""

import dataclasses
import json
import subprocess
import sys
import threading

from .compare_policies import POLICIES
from .compare_run import FINISH_S
from .compare_run import run as run_cell
from .compare_scenario import Times
from .compare_scenarios import SCENARIOS
from .kernels_extras import BIN, MODEL, OUT, need_modules

COMPARED = ("static", "ipvs", "ipvs-wlc", "petrel")
SHOWN = ("requests", "retries", "never_served", "goodput", "p99_ms", "moved_90_ms",
         "backend_amplification")
ON_THE_WIRE = ("route", "petrel", "nftables", "ipvs")
WIRE_SHOWN = ("connections_per_s", "packets_per_s", "p50_us", "p99_us", "errors")
# Of those that IPVS has, which sends a quarter of all requests into the hang.
MOST_RETRIES = 0.5
RATE = 40  # requests a second: at 100 an emulated machine begins them seconds late
LATE_MS = 200


def hang():
    """The comparison's own, at a rate that an emulated machine carries."""
    scenario = SCENARIOS["hang"]
    return dataclasses.replace(scenario, quick=Times(4, 16, 4), clients=dataclasses.replace(
        scenario.clients, rate_per_s=RATE))


def compared(finish_s):
    scenario, found = hang(), {}
    for name in COMPARED:
        made = run_cell(scenario, POLICIES[name], 1, True, BIN, MODEL, threading.Event(), finish_s)
        (OUT / f"hang-{name}.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
        found[name] = {key: made["outcome"][key] for key in SHOWN}
        found[name]["late_ms"] = made["details"]["late_start_p99_ms"]
    return found


def on_the_wire():
    """{path: figures}, or why there are none."""
    report = OUT / "wire.json"
    done = subprocess.run(
        [sys.executable, "-B", "-m", "petrel_lab.bench_wire", "--rounds", "1", "--seconds", "3",
         "--bin", BIN, "--model", MODEL, "--json", report], capture_output=True, text=True,
        check=False)
    (OUT / "wire.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if not report.exists():
        return {}, (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
    rows = {row["path"]: row for row in json.loads(report.read_text(encoding="utf-8"))["wire"]}
    return {path: {key: rows[path][key] for key in WIRE_SHOWN} for path in ON_THE_WIRE}, None


def run(job, _seconds):
    need_modules("ip_vs", "ip_vs_mh", "ip_vs_wlc")
    cells = compared(FINISH_S * job["patience"])
    wire, why = on_the_wire()
    good = (cells["petrel"]["retries"] < MOST_RETRIES * cells["ipvs"]["retries"]
            and cells["petrel"]["moved_90_ms"] is not None
            and all(wire[path]["connections_per_s"] for path in wire) and not why)
    figures = {f"hang, {name}": cell for name, cell in cells.items()}
    figures |= {f"wire, {path}": row for path, row in wire.items()}
    notes = [f"on the wire: {why}"] if why else []
    if any(cell["late_ms"] > LATE_MS for cell in cells.values()):
        notes.append("requests began late: figures of ms are the machine's")
    return {"good": good, "figures": figures, "note": "; ".join(notes)}
