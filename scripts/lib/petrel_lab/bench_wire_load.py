# SPDX-License-Identifier: MIT
"""The three loads of scripts/bench --wire and what is read off the machine meanwhile.

wrk keeps a fixed number of connections busy, each for one request; a flood of small TCP segments
counts packets; single requests at a low rate give the latency. All run in the lab's client.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time

from .bench_wire_paths import TOOL
from .lab import LabError

WRK_PROCESSES = 4  # one a backend where requests go straight to backends; so on all paths
WRK_CONNECTIONS = 8  # each
FLOOD_CONNECTIONS = 8
PING_RATE = 200  # requests a second: some percent of a core, so that none waits for another
LOAD_GRACE_S = 20  # a load that takes so much longer than asked is ended


def busy_cpu_s():
    """CPU seconds of the whole machine since boot: user, nice, system, irq and softirq."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(field) for field in stat.readline().split()[1:]]
    return sum(ticks[i] for i in (0, 1, 2, 5, 6)) / os.sysconf("SC_CLK_TCK")


def background_cores(seconds=0.5):
    """How many cores others keep busy while nothing is measured."""
    cpu_s, begin = busy_cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (busy_cpu_s() - cpu_s) / (time.monotonic() - begin)


def packets_received(lab):
    """Packets that have come out of lb, at the client's and the backends' ends."""
    total = 0
    for node in ["client", *(f"b{i}" for i in lab.backend_indices())]:
        for line in lab.run(node, "cat", "/proc/net/dev").splitlines():
            name, _, fields = line.partition(":")
            if name.strip() == "eth0":
                total += int(fields.split()[1])
    return total


def finish(process, seconds):
    """A load's output; LabError if it failed or did not end."""
    try:
        output, _ = process.communicate(timeout=seconds + LOAD_GRACE_S)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{process.args[3]} did not end within "
                       f"{seconds + LOAD_GRACE_S:.0f} s") from error
    if process.returncode != 0:
        raise LabError(f"{process.args[3]}: exit code {process.returncode}: {output.strip()}")
    return output


def run_loads(lab, seconds, commands):
    """Runs commands side by side in the client; their outputs. None is left over."""
    lab.new_source()
    processes = [lab.spawn("client", *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True) for command in commands]
    try:
        return [finish(process, seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            lab.processes.remove(process)


def run_tool(lab, seconds, *arguments):
    command = [sys.executable, "-B", TOOL, *arguments]
    return json.loads(run_loads(lab, seconds, [command])[0])


class WrkReport:
    """What one wrk printed."""

    def __init__(self, text):
        done = re.search(r"(\d+) requests in", text)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        if done is None or rate is None:
            raise LabError(f"wrk: no result in: {text.strip()}")
        self.requests = int(done[1])
        self.per_s = float(rate[1])
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)",
                           text)
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        self.errors = sum(map(int, errors.groups())) if errors else 0
        self.errors += int(refused[1]) if refused else 0


def measure_connections(lab, targets, seconds):
    """New connections a second, each for one request, and what a request costs the machine."""
    commands = [["wrk", "-t", 1, "-c", WRK_CONNECTIONS, "-d", f"{seconds}s", "--timeout", "2s",
                 "-H", "Connection: close", f"http://{targets.web[i % len(targets.web)]}/"]
                for i in range(WRK_PROCESSES)]
    cpu_s = busy_cpu_s()
    reports = [WrkReport(text) for text in run_loads(lab, seconds, commands)]
    cpu_s = busy_cpu_s() - cpu_s
    requests = sum(report.requests for report in reports)
    if requests == 0:
        raise LabError(f"no request to {targets.web[0]} was answered")
    return {"connections_per_s": sum(report.per_s for report in reports),
            "cpu_s_per_million_requests": cpu_s / requests * 1e6,
            "requests": requests,
            "errors": sum(report.errors for report in reports)}


def measure_packets(lab, targets, seconds):
    """Packets out of lb in both directions while small segments flood through it."""
    packets = packets_received(lab)
    result = run_tool(lab, seconds, "flood", seconds, FLOOD_CONNECTIONS, *targets.flood)
    packets = packets_received(lab) - packets
    if result["errors"] == FLOOD_CONNECTIONS:
        raise LabError(f"flood to {targets.flood[0]}: {result['first_error']}")
    return {"packets_per_s": packets / result["seconds"], "packets": packets,
            "retransmitted_share": result["retransmitted_share"], "errors": result["errors"]}


def measure_latency(lab, targets, seconds):
    """p50 and p99 of one request on a new connection, one at a time."""
    result = run_tool(lab, seconds, "ping", seconds, PING_RATE, *targets.web)
    times_us = sorted(result["times_us"])
    if len(times_us) < 2:
        raise LabError(f"{result['errors']} of {result['errors'] + len(times_us)} requests to "
                       f"{targets.web[0]} failed")
    percentiles = statistics.quantiles(times_us, n=100, method="inclusive")
    return {"p50_us": percentiles[49], "p99_us": percentiles[98], "errors": result["errors"]}


def warm_up(lab, targets):
    """Neighbours, caches and the balancer's own first packets are not what is measured."""
    run_tool(lab, 0.5, "ping", 0.2, PING_RATE, *targets.web)


def measure_turn(lab, targets, seconds):
    """All figures of one path in one round."""
    warm_up(lab, targets)
    turn = {"errors": 0}
    for measure in (measure_latency, measure_connections, measure_packets):
        figures = measure(lab, targets, seconds)
        turn["errors"] += figures.pop("errors")
        turn |= figures
    return turn
