# SPDX-License-Identifier: MIT
"""One run of the demo: traffic with one policy in a lab that is up, and the fault at its time."""

import json
import time
from dataclasses import dataclass

from . import outcome, timeline
from .demo_options import FAULTS
from .lab import LabError

# Of scripts/demo's clients. Retries come soon after a failure, as most libraries' do.
CLIENT_OPTIONS = ("--clients", "4000", "--timeout-ms", "1000", "--retry", "exponential",
                  "--retry-delay-ms", "100", "--max-attempts", "4")
MODES = {"static": "neutral", "petrel": "act"}
# Four attempts of 1 s and the pauses between them take less.
WAKE_PERIOD_S = 0.02


@dataclass
class Run:
    outcome: dict
    rows: list
    details: dict  # what the run's figures rest on, for the result file
    notes: list


def client_options(options, seconds):
    return ("--rate", str(options.rate), "--duration", str(seconds), "--seed", str(options.seed),
            *CLIENT_OPTIONS)


class Traffic:
    """The client, the agent's status and the fault, from the first request to the last answer."""

    def __init__(self, lab, options, policy, progress):
        self.lab = lab
        self.options = options
        self.policy = policy
        self.progress = progress
        self.log_path = lab.run_dir / "client.jsonl"
        self.watch = timeline.StatusWatch(lab.socket)
        self.began_s = None
        self.fault_s = {}  # "begin" and "end": when the order was given

    def run(self):
        """Returns the client's summary."""
        self.watch.start()
        self._wait_for(lambda: self.watch.latest, "the agent's status")
        client = self.lab.start_client(*client_options(self.options, self.options.seconds),
                                       log=self.log_path)
        self.began_s = self._wait_for(lambda: outcome.first_arrival_s(self.log_path),
                                      "the client's first line", client)
        self._follow(client)
        # The last connections are in the status only after the next tick.
        time.sleep(4 * timeline.POLL_PERIOD_S)
        self.watch.stop()
        self._check(client)
        self.progress.clear()
        return json.loads(client.communicate()[0])

    def _wait_for(self, get, what, client=None, seconds=10):
        deadline_s = time.monotonic() + seconds
        while (value := get()) is None:
            self._check(client)
            if time.monotonic() > deadline_s:
                raise LabError(f"{what} did not come within {seconds} s")
            time.sleep(WAKE_PERIOD_S)
        return value

    def _follow(self, client):
        due = []
        if self.options.fault != "none":
            due = [(self.options.fault_begin_s, "begin", self.options.fault),
                   (self.options.fault_end_s, "end", "none")]
        shown_s = -1
        while client.poll() is None:
            now_s = time.monotonic() - self.began_s
            if due and now_s >= due[0][0]:
                _, edge, kind = due.pop(0)
                # The order's time: the fault is there some ms later, so figures err upwards.
                self.fault_s[edge] = time.monotonic()
                self.lab.fault(self.options.faulty, kind,
                               **(FAULTS[kind] if edge == "begin" else {}))
            if int(now_s) > shown_s:
                shown_s = int(now_s)
                self.progress.second(shown_s, self._state(shown_s))
            self._check(client)
            limit_s = self.options.drain_s
            if now_s > self.options.seconds + limit_s:
                raise LabError(f"the client did not end within {limit_s} s of its time")
            time.sleep(WAKE_PERIOD_S)

    def _check(self, client):
        if self.watch.error is not None:
            raise LabError(f"the agent's status cannot be read: {self.watch.error}: "
                           f"{self._last_line('agent.log')}")
        if client is not None and client.poll() not in (None, 0):
            raise LabError(f"petrel-traffic client ended with {client.returncode}: see above")

    def _last_line(self, log):
        lines = (self.lab.run_dir / log).read_text(encoding="utf-8").strip().splitlines()
        return lines[-1] if lines else f"{log} is empty"

    def _state(self, second):
        sample = self.watch.latest
        weights = "  ".join(f"{name} {share * 100:3.0f} %"
                            for name, share in sample.shares.items())
        fault = f"  {self.options.fault} on b{self.options.faulty}" \
            if len(self.fault_s) == 1 else ""
        return f"{self.policy:<7}{second:>3} s  {weights}  " \
               f"retries {sample.service['retries']:,}{fault}"


def run_policy(lab, options, policy, progress):
    """Runs the traffic in `lab`, whose agent serves, and returns what came of it."""
    traffic = Traffic(lab, options, policy, progress)
    summary = traffic.run()
    log = outcome.read_log(traffic.log_path)
    samples = traffic.watch.samples
    began_s = traffic.began_s
    traffic_end_s = began_s + options.seconds
    fault = (traffic.fault_s["begin"], traffic.fault_s["end"]) if traffic.fault_s else None
    notes = []
    moved = recovered = None
    if fault is None:
        notes.append(f"{policy}: moved_90_ms and recovered_ms are null: there was no fault")
    else:
        moved = timeline.moved_90_ms(samples, f"b{options.faulty}", *fault)
        recovered = outcome.recovered_ms(log, began_s, *fault, traffic_end_s)
        if moved is None:
            notes.append(f"{policy}: moved_90_ms is null: the faulty backend kept more than a "
                         "tenth of its share")
        if recovered is None:
            why = "goodput was not back for 1 s before the traffic ended" \
                if outcome.can_tell_recovery(log, began_s, fault[1], traffic_end_s) \
                else "too little traffic came after the fault to tell"
            notes.append(f"{policy}: recovered_ms is null: {why}")
    last_end_s = max([traffic_end_s, *log.retries[-1:], *log.failures[-1:]])
    gained = timeline.connections_gained(samples)
    details = {
        "mode": MODES[policy],
        "fault_begin_s": fault and round(fault[0] - began_s, 3),
        "fault_end_s": fault and round(fault[1] - began_s, 3),
        "backend_connections": gained,
        "client": summary,
        "agent": {key: samples[-1].service.get(key)
                  for key in ("first_attempts", "retries", "steered", "off_ring")},
        "ticks": timeline.ticks(samples, f"b{options.faulty}", began_s),
    }
    rows = timeline.rows(policy, samples, log, began_s, last_end_s, fault)
    return Run(outcome.outcome(summary, gained, moved, recovered), rows, details, notes)
