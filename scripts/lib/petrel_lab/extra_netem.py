# SPDX-License-Identifier: MIT
"""scripts/kernels --extras netem: the comparison's scenarios of loss, delay and reordering on one
backend's link, through static and petrel, one after the other in one lab each.

Loss makes clients retry: petrel is to have fewer retries than static. Delay and reordering alone
make nobody retry: petrel is to see no retry and to leave the backend its share of the ring.
"""

import dataclasses
import json
import re
import subprocess
import threading

from .compare_policies import POLICIES, balancer_of
from .compare_run import FINISH_S, CompareLab, Run
from .compare_scenario import Times
from .compare_scenarios import BAD, SCENARIOS
from .kernels_extras import BIN, MODEL, OUT, need_modules
from .lab import ROOT, Lab, LabError

COMPARED = ("static", "petrel")
HARMLESS = ("delay", "reorder")
TIMES = Times(4, 15, 6)
RATE = 40  # requests a second: what an emulated machine carries
SHOWN = ("requests", "retries", "never_served", "goodput", "during_p50_ms", "during_p99_ms",
         "moved_90_ms")
LEAST_SHARE = 0.8  # of its configured share, where nothing is wrong
LATE_MS = 200


def scenario_of(name):
    scenario = SCENARIOS[name]
    return dataclasses.replace(scenario, quick=TIMES, clients=dataclasses.replace(
        scenario.clients, rate_per_s=RATE))


def share_of_connections(made, backends):
    """What b2 got of the new connections while the cause lasted."""
    begin, end = int(TIMES.before_s * 10), int((TIMES.before_s + TIMES.cause_s) * 10)
    series = made["details"]["connections_by_time"]
    counts = {f"b{i}": sum(series[f"b{i}"][begin:end]) for i in range(1, backends + 1)}
    return round(counts[f"b{BAD}"] / max(1, sum(counts.values())), 3)


def figures_of(made, seen, backends):
    details = made["details"]
    ring = [state[f"b{BAD}"] for state in details["shares"]]
    return {**{key: made["outcome"][key] for key in SHOWN},
            "share of connections": share_of_connections(made, backends),
            "least share of the ring": min(ring, default=None), "retries seen by petrel": seen,
            "late_ms": details["late_start_p99_ms"]}


def look_around(lab, why):
    """What a run that failed leaves for whoever asks why."""
    with open(OUT / "netem-failures.txt", "a", encoding="utf-8") as out:
        out.write(f"=== {why}\n")
        for node in ("client", "lb", f"b{BAD}"):
            for words in ("ss -tinoa", "nstat -as", "ip -s link", "tc -s qdisc",
                          "tc -s filter show dev eth0 ingress"):
                done = subprocess.run(lab.command(node, *words.split()), capture_output=True,
                                      text=True, check=False)
                out.write(f"--- {node}: {words}\n{done.stdout}")
        log = (lab.run_dir / "client0.jsonl").read_text(encoding="utf-8").splitlines()
        out.write("\n".join(["--- the client's log", *log[-20:]]) + "\n")


def measure(policy, finish_s):
    """{scenario: figures} of all scenarios in one lab: an agent takes long to start where the CPU
    is emulated."""
    scenarios, found = [scenario_of(name) for name in ("reorder", "loss", "delay")], {}
    with CompareLab(scenarios[0], policy, BIN, 1) as lab:
        balancer = balancer_of(policy, lab, scenarios[0], MODEL)
        balancer.start()
        for scenario in scenarios:
            before = balancer.facts()["retries"]
            (lab.run_dir / "client0.jsonl").unlink(missing_ok=True)
            try:
                made = Run(lab, balancer, scenario, 1, True, threading.Event(),
                           finish_s).play()
            except LabError:
                look_around(lab, f"{scenario.name}, {policy.name}")
                raise
            (OUT / f"netem-{scenario.name}-{policy.name}.json").write_text(
                json.dumps(made, indent=1), encoding="utf-8")
            found[scenario.name] = figures_of(made, balancer.facts()["retries"] - before,
                                              scenario.backends.count)
        (OUT / f"netem-{policy.name}-agent.log").write_bytes(
            (lab.run_dir / "agent.log").read_bytes())
    return found


def ping(lab):
    """(percent lost, ms of the quickest round trip) from lb to b2."""
    done = subprocess.run(lab.command("lb", "ping", "-q", "-c", 10, "-i", 0.2, "-W", 1,
                                      lab.backend_address(BAD)),
                          capture_output=True, text=True, check=False)
    lost = re.search(r"([\d.]+)% packet loss", done.stdout)
    times = re.search(r"= ([\d.]+)/", done.stdout)
    return float(lost[1]) if lost else None, float(times[1]) if times else None


def by_hand(lab):
    """scripts/lab impair, as it is typed; (figures, whether they are good)."""
    found = {}
    for name, words in (("before", None), ("out", "--direction out --delay 80"),
                        ("in", "--direction in --delay 80"), ("both", "--delay 80"),
                        ("lost", "--loss 100"), ("cleared", "--clear")):
        if words:
            done = subprocess.run([ROOT / "scripts/lab", "impair", "--name", lab.name, f"b{BAD}",
                                   *words.split()], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise LabError(f"lab impair {words}: {done.stderr.strip()}")
        lost, ms = ping(lab)
        found[name] = "all lost" if lost == 100 else ms
    ms = {name: value if isinstance(value, float) else 0 for name, value in found.items()}
    good = (found["lost"] == "all lost" and ms["out"] >= 80 and ms["in"] >= 80
            and ms["both"] >= 160 and 0 < ms["cleared"] < 80)
    return found, good


def problems(found, backends=4):
    """What is not as it should be."""
    said = []
    petrel, static = found["petrel"], found["static"]
    if petrel["loss"]["retries"] > static["loss"]["retries"]:
        said.append("loss: petrel has more retries than static")
    for name in HARMLESS:
        if petrel[name]["retries seen by petrel"] > petrel[name]["retries"]:
            said.append(f"{name}: petrel sees retries that there were not")
        if petrel[name]["least share of the ring"] < LEAST_SHARE / backends:
            said.append(f"{name}: petrel moves traffic away")
        if petrel[name]["never_served"]:
            said.append(f"{name}: requests were not served")
    return said


def run(job, _seconds):
    need_modules("sch_netem", "ifb", "act_mirred", "cls_matchall")
    with Lab(BAD, BIN) as lab:
        pings, well = by_hand(lab)
    found = {name: measure(POLICIES[name], FINISH_S * job["patience"]) for name in COMPARED}
    said = problems(found) + ([] if well else ["scripts/lab impair does not do what it says"])
    good = not said
    if any(cell["late_ms"] > LATE_MS for cells in found.values() for cell in cells.values()):
        said.append("requests began late: figures of ms are the machine's")
    figures = {"lab impair, ms of a ping": pings}
    figures |= {f"{name}, {policy}": found[policy][name] for name in ("loss", *HARMLESS)
               for policy in COMPARED}
    return {"good": good, "figures": figures, "note": "; ".join(said)}
