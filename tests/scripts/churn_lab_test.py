#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/churn itself, once and short: each kind of end is met, nothing drifts, nothing is left;
and what does drift is found (at placement backend).

    client ── lb ── b1 … b4, each of which fails in its turn

churn_lab_test.py CHURN DIRECTORY-OF-PROGRAMS PLACEMENT; ends with 77 where it cannot run."""

import contextlib
import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from petrel_lab.bpf_map import BPF_MAP_UPDATE_ELEM, Map

EXIT_UNHEALTHY = 8
EXIT_INTERRUPTED = 130
EXIT_SKIPPED = 77
SECONDS = 48  # of which the second half: the agent keeps 20 s of views before it holds level
RATE = 120
FIRST_ID = 1
# What happens at a placement in one turn of each fault. A refusal that is masked is no client's.
ENDS = {"balancer": ("status_2xx", "abandoned", "resets", "overloads", "server_errors", "masked"),
        "client": ("status_2xx", "abandoned", "resets", "overloads", "server_errors", "refused",
                   "handshake_timeouts")}
GAUGES = ("waiting", "waiting_syn", "inflight", "inflight_map")


def start(churn, programs, placement, *options):
    # A session of its own: what it leaves behind is found by it.
    return subprocess.Popen(
        [churn, "--bin", programs, "--placement", placement, "--rate", str(RATE), "--sample", "1",
         *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True)


def labs_of(process):
    lab_dir = Path(os.environ.get("PETREL_LAB_DIR", "/run/petrel-lab"))
    return [owners.parent for owners in lab_dir.glob("*/owners")
            if str(process.pid) in owners.read_text(encoding="ascii").split()]


def leftovers(process):
    """Processes of its session, and labs that it owned."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "-s", str(process.pid)], capture_output=True,
                           text=True, check=False).stdout.splitlines()
    return [f"left behind: {one}" for one in found + labs_of(process)]


def await_first_sample(process):
    """What it said until then."""
    said = ""
    for line in process.stderr:
        said += line
        if " RSS " in line:
            break
    return said


def judge(result, placement):
    run = result["churn"]
    problems = [f"no {end}" for end in ENDS[placement] if run["ends"][end] == 0]
    if result["schema"] != "petrel/churn/v1":
        problems.append(f"schema {result['schema']}")
    if run["requests"] < SECONDS * RATE / 2 or not run["settled"]:
        problems.append(f"{run['requests']} requests, settled: {run['settled']}")
    if len(run["samples"]) < SECONDS - 3:
        problems.append(f"{len(run['samples'])} samples")
    for key in ("rss_kib", "fds", "maps_kib", "programs_kib", "connections"):
        if min(sample[key] for sample in run["samples"]) <= 0:
            problems.append(f"{key} was not read")
    # Something waited while it was sampled, by each of those who count it: 0 at the end is no
    # gauge that is always 0.
    for key in ("waiting_slots", "waiting_flows", "inflight_map", "waiting_status", "established",
                "sockets"):
        if max(sample[key] for sample in run["samples"]) <= 0:
            problems.append(f"{key} was never above 0")
    problems += [f"{backend['name']}: {gauge} is {backend[gauge]}" for backend in
                 run["end"]["backends"] for gauge in GAUGES if backend[gauge] != 0]
    return problems + run["problems"]


def whole_run(churn, programs, placement):
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "churn.json"
        process = start(churn, programs, placement, "--seconds", str(SECONDS), "--json", output)
        stdout, stderr = process.communicate()
        if process.returncode != 0:
            return [f"churn ended with {process.returncode}:\n{stdout}{stderr}"]
        return judge(json.loads(output.read_text(encoding="utf-8")), placement) + leftovers(process)


def interrupted_run(churn, programs, placement):
    """Ctrl-C under traffic: all of it goes."""
    process = start(churn, programs, placement)
    said = await_first_sample(process)
    # As a terminal does it: to all in the foreground.
    os.killpg(process.pid, signal.SIGINT)
    stderr = process.communicate()[1]
    if process.returncode != EXIT_INTERRUPTED:
        return [f"interrupted, it ended with {process.returncode}:\n{said}{stderr}"]
    return leftovers(process)


def drifting_run(churn, programs, placement):
    """A request too many is put into a backend's count from outside: it is found at the end."""
    process = start(churn, programs, placement, "--seconds", "12")
    said = await_first_sample(process)
    lab, = labs_of(process)
    facts = json.loads((lab / "lab.json").read_text(encoding="utf-8"))
    with contextlib.closing(Map(Path(facts["pin_path"]) / "inflight")) as inflight:
        value = ctypes.create_string_buffer(inflight.lookup(FIRST_ID), inflight.value_stride)
        struct.pack_into("<q", value, 0, struct.unpack_from("<q", value, 0)[0] + 1)
        inflight.element(BPF_MAP_UPDATE_ELEM, struct.pack("<I", FIRST_ID), value)
    stderr = process.communicate()[1]
    if process.returncode != EXIT_UNHEALTHY or "inflight_map is" not in stderr:
        return [f"drifting, it ended with {process.returncode}:\n{said}{stderr}"]
    return leftovers(process)


def main(churn, programs, placement):
    if os.geteuid() != 0:
        print("SKIPPED, nothing was tested: needs root to raise a lab")
        return EXIT_SKIPPED
    runs = {"balancer": (whole_run, interrupted_run), "client": (whole_run,),
            "backend": (drifting_run,)}
    problems = [problem for run in runs[placement] for problem in run(churn, programs, placement)]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
