# SPDX-License-Identifier: MIT
"""What a guest of scripts/kernels does, inside: loads, tests, a short lab run with a fault.

Reads /petrel/job.json. Each step is told by a line of JSON on stdout (the second serial port) when
it begins and when it ends; files that say more go onto the last disk as a tar.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from . import kernels_extras

PETREL = Path("/petrel")
OUT = Path("/tmp/results")
RESULTS_DISK = "/dev/vdd"
FAULTY = 2


def tell(**event):
    print(json.dumps(event), flush=True)


def run(name, argv, seconds):
    """(exit code or None, seconds it took); its output goes to a file of its name."""
    begun = time.monotonic()
    with open(OUT / f"{name}.txt", "wb") as output:
        try:
            done = subprocess.run([str(a) for a in argv], stdout=output, stderr=subprocess.STDOUT,
                                  check=False, timeout=seconds)
            return done.returncode, time.monotonic() - begun
        except subprocess.TimeoutExpired:
            return None, time.monotonic() - begun


def check_system(_job, seconds):
    done = subprocess.run(["petrel", "check", "--system", "--json"], capture_output=True, text=True,
                          check=False, timeout=seconds)
    (OUT / "check.json").write_text(done.stdout, encoding="utf-8")
    return {"exit_code": done.returncode, "checks": json.loads(done.stdout)["checks"]}


def load_programs(_job, seconds):
    code, _ = run("programs", ["petrel-bench-packets", "--programs"], seconds)
    text = (OUT / "programs.txt").read_text(encoding="utf-8", errors="replace")
    if code is None:
        return {"error": f"did not end within {seconds} s"}
    line = next((line for line in text.splitlines() if line.startswith("{")), None)
    if line is None:
        return {"error": text.strip().splitlines()[-1] if text.strip() else f"ended with {code}"}
    found = json.loads(line)
    return {"programs": found["programs"], "notes": found["notes"]}


def test_program(job, seconds, name):
    report = OUT / f"{name}.json"
    code, took = run(name, [name, f"--gtest_output=json:{report}", "--gtest_brief=1",
                            f"--gtest_filter={job.get('filter') or '*'}"], seconds)
    found = {"exit_code": code, "took_s": round(took, 1), "run": 0, "failed": 0, "skipped": 0,
             "failures": []}
    if report.exists():
        for suite in json.loads(report.read_text(encoding="utf-8"))["testsuites"]:
            for case in suite["testsuite"]:
                found["run"] += case["status"] == "RUN" and case["result"] != "SKIPPED"
                found["skipped"] += case["result"] == "SKIPPED"
                if case.get("failures"):
                    found["failed"] += 1
                    found["failures"].append(f"{case['classname']}.{case['name']}")
    if code not in (0, 1) or not report.exists():
        found["error"] = "it did not end in time" if code is None else f"it ended with {code}"
    return found


def lab_run(job, seconds):
    """Traffic through petrel over three backends, one of which hangs for a while."""
    from . import demo_options  # pylint: disable=import-outside-toplevel
    from .demo_run import run_policy  # pylint: disable=import-outside-toplevel
    from .lab import Lab  # pylint: disable=import-outside-toplevel
    arguments = ["--bin", "/petrel/bin", "--fault", "hang", "--policy", "petrel",
                 "--rate", str(job["rate"]), "--seconds", str(job["lab_s"]), "--backends", "3",
                 "--model", "/petrel/model/retry.json"]
    options = demo_options.parse(arguments)
    options.drain_s = job["drain_s"]
    quiet = argparse.Namespace(second=lambda *_: None, clear=lambda: None)
    del seconds
    # Before 5.13 a packet redirected into a veth is dropped unless its far end has a program.
    with Lab(options.backends, options.bin, xdp_ends=True) as lab:
        try:
            # Its programs take an emulated machine the longest.
            lab.start_agent("act", options.model, seconds=job["agent_s"])
            status = lab.status()
            outcome = run_policy(lab, options, "petrel", quiet)
        finally:
            for name in ("agent.log",):
                (OUT / name).write_bytes((lab.run_dir / name).read_bytes())
    return {"outcome": outcome.outcome, "degraded": status["degraded"], "notes": outcome.notes}


def step(name, job, work, seconds, grace_s=0):
    tell(step=name, state="begins", seconds=seconds + grace_s)
    try:
        found = work(job, seconds)
    except Exception as error:  # pylint: disable=broad-exception-caught
        found = {"error": f"{type(error).__name__}: {error}"}
    tell(step=name, state="ended", result=found)


def main():
    job = json.loads((PETREL / "job.json").read_text(encoding="utf-8"))
    OUT.mkdir()
    tell(step="boot", state="ended",
         result={"release": os.uname().release, "uptime_s": float(
             Path("/proc/uptime").read_text(encoding="ascii").split()[0])})
    # Tests know files by where they lie on the host.
    root = Path(job["root"])
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        root.symlink_to(PETREL)
    step("check", job, check_system, job["check_s"])
    if job["tests"]:
        step("programs", job, load_programs, job["programs_s"])
    for name in job["tests"]:
        step(name, job, lambda j, s, n=name: test_program(j, s, n), job["tests_s"])
    if job["lab_s"]:
        step("lab", job, lab_run, job["lab_s"] + job["lab_limit_s"])
    for name, seconds in job["extras"].items():
        step(f"extra {name}", job, lambda j, s, n=name: kernels_extras.run(n, j, s), seconds,
             kernels_extras.CLEAN_UP_S * job["patience"])
    with tarfile.open(RESULTS_DISK, "w") as archive:
        for path in sorted(OUT.iterdir()):
            archive.add(path, path.name)
    tell(step="all", state="ended")


if __name__ == "__main__":
    sys.exit(main())
