# SPDX-License-Identifier: MIT
"""The load of scripts/churn: clients of several kinds, and backends that fail in every way."""

import json
import random
import subprocess
from dataclasses import dataclass, field

from .lab import LabError

# What becomes of a backend in a turn; "restart" kills its process, which closes what it had open
# unanswered. Overloads are answered at once, as by a limiter.
STEPS = (("hang", {}), ("reset", {}), ("refuse", {}), ("errors", {"rate": 0.5, "status": 503}),
         ("errors", {"rate": 0.5, "status": 429}), ("slow", {"factor": 50}), ("blackhole", {}),
         ("restart", {}))
LONGEST_TURN_S = 6.0
# So much of a turn it fails, and then all is well.
FAILING = 0.75
FIRST_S, LAST_S = 0.5, 1.0
EVERYWHERE = 3  # one round in so many is all backends': no other one can serve what fails there


@dataclass(frozen=True)
class Clients:
    """One petrel-traffic; `share` of the requests are its own."""
    name: str
    share: float
    options: tuple
    parallel: int = 1


MIX = (
    Clients("kept", 0.35, ("--keep-alive", "--timeout-ms", "1000", "--retry", "exponential",
                           "--max-attempts", "3")),
    Clients("single", 0.35, ("--timeout-ms", "600", "--retry", "fixed", "--retry-delay-ms", "100",
                             "--max-attempts", "3")),
    # An answer takes 10 ms, and a quarter of them more than 12: given up, and never repeated.
    Clients("impatient", 0.15, ("--timeout-ms", "12")),
    Clients("bursts", 0.15, ("--keep-alive", "--timeout-ms", "300", "--retry", "immediate",
                             "--max-attempts", "4"), parallel=3),
)


@dataclass(order=True)
class Moment:
    """At at_s after the traffic began, the backends begin to fail, or end to."""
    at_s: float
    kind: str
    parameters: dict = field(compare=False)
    backends: list = field(compare=False)


def schedule(seconds, backends, seed):
    """Rounds of all steps in an order that is drawn, one backend after the other."""
    rng = random.Random(seed)
    turn_s = min(LONGEST_TURN_S, (seconds - FIRST_S - LAST_S) / len(STEPS))
    moments, at_s, turn = [], FIRST_S, 0
    while at_s + turn_s <= seconds - LAST_S + 1e-6:
        number, place = divmod(turn, len(STEPS))
        if place == 0:
            steps = rng.sample(STEPS, len(STEPS))
        kind, parameters = steps[place]
        everywhere = number % EVERYWHERE == EVERYWHERE - 1
        targets = list(range(1, backends + 1)) if everywhere else [1 + turn % backends]
        moments.append(Moment(at_s, kind, parameters, targets))
        if kind != "restart":
            moments.append(Moment(at_s + FAILING * turn_s, "none", {}, targets))
        at_s += turn_s
        turn += 1
    return moments


def play(lab, moment):
    for i in moment.backends:
        if moment.kind == "restart":
            lab.restart_backend(i)
        else:
            lab.fault(i, moment.kind, **moment.parameters)


class Traffic:
    """All clients of MIX; start(), watch() now and then, finish()."""

    def __init__(self, lab, rate, seconds, seed):
        self.lab = lab
        self.rate = rate
        self.seconds = seconds
        self.seed = seed
        self.clients = {}

    def start(self):
        for number, kind in enumerate(MIX):
            rate = self.rate * kind.share / kind.parallel
            self.clients[kind.name] = self.lab.start_client(
                "--rate", str(rate), "--duration", str(self.seconds), "--clients", "1000",
                "--paths", "20", "--parallel", str(kind.parallel), "--seed",
                str(self.seed + number), *kind.options, stderr=subprocess.DEVNULL)

    def watch(self):
        for name, process in self.clients.items():
            if process.poll() not in (None, 0):
                raise LabError(f"the {name} clients ended with {process.returncode}")

    def finish(self):
        """Each kind's summary."""
        found = {}
        for name, process in self.clients.items():
            text = process.communicate(timeout=60)[0]
            if process.returncode != 0:
                raise LabError(f"the {name} clients ended with {process.returncode}")
            summary = json.loads(text)
            found[name] = {key: summary[key] for key in
                           ("requests", "attempts", "retries", "never_served", "skipped",
                            "by_outcome")}
        return found
