# SPDX-License-Identifier: MIT
"""One run of scripts/compare: a lab, a balancer in it, clients, and what goes wrong at its time."""

import json
import os
import subprocess
import time

from . import compare_metrics as metrics
from .compare_actions import Actions
from .compare_policies import balancer_of, check_endpoint
from .compare_scenario import moments, times_of
from .compare_tap import SynTap
from .lab import Lab, LabError
from .outcome import first_arrival_s

STATE_PERIOD_S = 0.5
FINISH_S = 60      # after the last request began: its attempts, timeouts and pauses
WAKE_S = 0.01
LATE_MS = 10       # requests that began later than this (p99) make figures of ms doubtful


class Interrupted(Exception):
    """All is told to end."""


class CompareLab(Lab):
    """A lab of a scenario: each backend listens at a second port too, for health checks."""

    def __init__(self, scenario, policy, bin_dir, seed):
        what = scenario.backends
        super().__init__(what.count, bin_dir, service_time_ms=what.service_time_ms,
                         distribution=what.distribution, sigma=what.sigma,
                         concurrency=what.concurrency, queue=what.queue, seed=seed)
        self.scenario = scenario
        self.policy = policy

    def _start_backend(self, i):
        everybodys = self.backend_options
        at = everybodys.index("--concurrency") + 1
        try:
            self.backend_extra[i] = ["--listen", check_endpoint(self, i)]
            self.backend_options = [*everybodys[:at],
                                    str(self.scenario.backends.concurrency_of(i)),
                                    *everybodys[at + 1:]]
            return super()._start_backend(i)
        finally:
            self.backend_options = everybodys

    def write_config(self, mode, model, extra="", service_extra=""):
        return super().write_config(mode, model, "\n".join([extra, *self.policy.control]),
                                    service_extra)


def client_options(clients, rate_per_s, seconds, seed):
    return ["--rate", rate_per_s, "--duration", seconds, "--clients", clients.clients,
            "--timeout-ms", clients.timeout_ms, "--retry", clients.retry,
            "--retry-delay-ms", clients.retry_delay_ms, "--max-attempts", clients.max_attempts,
            "--seed", seed]


def cpu_s(pids):
    """Time on a CPU so far; of those that are gone, none."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_idle():
    """(idle, all) of this machine so far, in ticks."""
    with open("/proc/stat", encoding="ascii") as stat:
        values = [int(value) for value in stat.readline().split()[1:]]
    return values[3] + values[4], sum(values[:8])


class Run:
    """Traffic with one policy in a lab that is up."""

    def __init__(self, lab, balancer, scenario, seed, quick, ending, finish_s=FINISH_S):
        self.lab, self.balancer, self.scenario = lab, balancer, scenario
        self.seed, self.ending, self.finish_s = seed, ending, finish_s
        self.times = times_of(scenario, quick)
        self.moments = moments(scenario, seed, quick)
        self.actions = Actions(lab, balancer, self._surge)
        self.clients, self.logs, self.states, self.late_ms = [], [], [], 0.0
        self.began_s = None

    def play(self):
        """Returns the result of the run."""
        idle, cpu = cpu_idle(), cpu_s(self.balancer.processes())
        load = os.getloadavg()[0]
        with SynTap(self.lab, self.balancer.keeps_clients) as tap:
            self._start_client(self.scenario.clients.rate_per_s, self.times.seconds, self.seed)
            self._await_first_request()
            try:
                self._follow()
            finally:
                self.actions.close()
        wall_s = time.monotonic() - self.began_s
        spent_s = cpu_s(self.balancer.processes()) - cpu
        facts = self.balancer.facts()
        now = cpu_idle()
        summaries = [self._summary(client) for client in self.clients]
        log = metrics.read_logs(self.logs)
        notes = metrics.problems(log, summaries)
        if tap.lost:
            notes.append(f"the taps lost {tap.lost} packets: backend_amplification is too low")
        late_ms = max(summary["late_start_p99_ms"] or 0 for summary in summaries)
        if late_ms > LATE_MS:
            notes.append(f"requests began up to {late_ms:.0f} ms late (p99): the machine was busy")
        if self.late_ms > 100:
            notes.append(f"an event came {self.late_ms:.0f} ms late")
        return {
            "outcome": metrics.outcome(log, tap.arrivals, self.scenario, self.began_s, self.times),
            "notes": notes,
            "details": {
                "late_start_p99_ms": late_ms, "load_before": load,
                "machine_idle_share": round((now[0] - idle[0]) / max(1, now[1] - idle[1]), 3),
                "balancer_core_share": round(spent_s / wall_s, 4),
                "connections": self._connections(tap), "connections_by_time": self._series(tap),
                "balancer": facts, "shares": self.states,
                "client": summaries}}

    def _connections(self, tap):
        counts = {f"b{i}": 0 for i in range(1, self.lab.count + 1)}
        for arrival in tap.arrivals:
            counts[f"b{arrival.backend}"] += 1
        return counts

    def _series(self, tap):
        """New connections of each backend in each tenth of a second, from the traffic's begin."""
        tenths = max([int((arrival.at_s - self.began_s) * 10) for arrival in tap.arrivals] or [0])
        series = {f"b{i}": [0] * (tenths + 1) for i in range(1, self.lab.count + 1)}
        for arrival in tap.arrivals:
            series[f"b{arrival.backend}"][max(0, int((arrival.at_s - self.began_s) * 10))] += 1
        return series

    def _start_client(self, rate_per_s, seconds, seed):
        log = self.lab.run_dir / f"client{len(self.clients)}.jsonl"
        options = client_options(self.scenario.clients, rate_per_s, seconds, seed)
        self.clients.append(self.lab.start_client(*options, log=log, stderr=subprocess.DEVNULL))
        self.logs.append(log)

    def _surge(self, rate_per_s):
        # Its requests are other ones, and the same ones for each policy.
        self._start_client(rate_per_s, self.times.cause_s, self.seed + 1_000_000)

    def _await_first_request(self):
        deadline_s = time.monotonic() + 10
        while (began_s := first_arrival_s(self.logs[0])) is None:
            self._check()
            if time.monotonic() > deadline_s:
                raise LabError("the client's first line did not come within 10 s")
            time.sleep(WAKE_S)
        self.began_s = began_s

    def _check(self):
        if self.ending.is_set():
            raise Interrupted
        self.balancer.check()
        for client in self.clients:
            if client.poll() not in (None, 0):
                raise LabError(f"petrel-traffic client ended with {client.returncode}")

    def _follow(self):
        due, next_state_s = list(self.moments), 0.0
        while any(client.poll() is None for client in self.clients):
            now_s = time.monotonic() - self.began_s
            if due and now_s >= due[0][0]:
                at_s, action, backends, parameters = due.pop(0)
                self.late_ms = max(self.late_ms, (now_s - at_s) * 1000)
                self.actions.do(action, backends, parameters)
                continue
            if now_s >= next_state_s:
                next_state_s = now_s + STATE_PERIOD_S
                if (shares := self.balancer.state()) is not None:
                    self.states.append({"t_s": round(now_s, 2), **shares})
            self._check()
            if now_s > self.times.seconds + self.finish_s:
                raise LabError(f"the client did not end within {self.finish_s} s of its time")
            time.sleep(WAKE_S)
        if due:
            raise LabError(f"the traffic ended before {due[0][1]} at {due[0][0]:.1f} s")

    def _summary(self, client):
        summary = json.loads(client.communicate()[0])
        if client.returncode != 0:
            raise LabError(f"petrel-traffic client ended with {client.returncode}")
        return summary


def run(scenario, policy, seed, quick, bin_dir, model, ending, finish_s=FINISH_S):
    with CompareLab(scenario, policy, bin_dir, seed) as lab:
        if ending.is_set():
            raise Interrupted
        balancer = balancer_of(policy, lab, scenario, model)
        balancer.start()
        return Run(lab, balancer, scenario, seed, quick, ending, finish_s).play()
