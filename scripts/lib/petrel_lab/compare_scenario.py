# SPDX-License-Identifier: MIT
"""What a scenario of scripts/compare is: a value that says all of a lab, its load, its clients and
what goes wrong when. Pure: nothing here runs anything."""

import dataclasses
import hashlib
import json
import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Backends:
    """What stands behind the balancer. Service times are waited, not computed: they cost no CPU."""
    count: int = 4
    service_time_ms: float = 10.0
    distribution: str = "lognormal"
    sigma: float | None = None
    concurrency: int = 4
    queue: int = 1024
    smaller: dict = field(default_factory=dict)  # backend -> its concurrency, where that differs

    def concurrency_of(self, i):
        return self.smaller.get(i, self.concurrency)

    @property
    def capacity_per_s(self):
        slots = sum(self.concurrency_of(i) for i in range(1, self.count + 1))
        return slots / self.service_time_ms * 1000


@dataclass(frozen=True)
class Clients:
    """Open loop: arrivals are a Poisson process, whatever becomes of those before."""
    rate_per_s: float = 800
    clients: int = 4000
    timeout_ms: int = 1000       # of an attempt
    retry: str = "exponential"   # with full jitter
    retry_delay_ms: int = 100
    max_attempts: int = 4
    patience_ms: int = 2000      # of a user: what is answered later is no goodput


@dataclass(frozen=True)
class Event:
    """`at`: 0 is the cause's begin, 1 its end. Actions: see compare_actions."""
    at: float
    action: str
    backends: tuple = ()
    parameters: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Wander:
    """Each backend's speed is drawn anew every so often, all through the traffic."""
    low: float
    high: float
    every_s: float


@dataclass(frozen=True)
class Times:
    before_s: float
    cause_s: float
    after_s: float

    @property
    def seconds(self):
        return self.before_s + self.cause_s + self.after_s


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    backends: Backends = Backends()
    clients: Clients = Clients()
    events: tuple = ()
    wander: Wander | None = None
    times: Times = Times(8, 10, 8)
    quick: Times = Times(4, 5, 4)
    faulty: tuple = ()                   # whose new connections are to be moved
    aim: str | None = None               # which of compare_aims it is held against
    capacity_during: float | None = None  # of the nominal capacity, while the cause lasts
    offered_during: float = 1.0          # times rate_per_s
    scaling: str | None = None           # what is smaller than in the source, and why
    extra: bool = False                  # only where it is asked for by name
    needs: str | None = None             # what not every kernel has; see compare_lacks


def fault(kind, backends, begin=0.0, end=1.0, **parameters):
    """The two events of a fault that comes and goes."""
    return (Event(begin, "fault", tuple(backends), {"kind": kind, **parameters}),
            Event(end, "fault", tuple(backends), {"kind": "none"}))


def times_of(scenario, quick):
    return scenario.quick if quick else scenario.times


def moments(scenario, seed, quick):
    """What happens when: (seconds after the traffic began, action, backends, parameters)."""
    times = times_of(scenario, quick)
    found = [(times.before_s + event.at * times.cause_s, event.action, event.backends,
              event.parameters) for event in scenario.events]
    if scenario.wander is not None:
        found += wandering(scenario, seed, times)
    return sorted(found, key=lambda moment: moment[0])


def wandering(scenario, seed, times):
    # Not hash(): it differs from one process to the next.
    rng = random.Random(f"{scenario.name}-{seed}")
    wander, found, at_s = scenario.wander, [], 0.0
    while at_s < times.seconds:
        for i in range(1, scenario.backends.count + 1):
            speed = rng.uniform(wander.low, wander.high)
            found.append((at_s, "fault", (i,), {"kind": "slow", "factor": round(1 / speed, 3)}))
        at_s += wander.every_s
    return found


def described(scenario, quick):
    """All of it as plain JSON, with the times that are in force."""
    value = dataclasses.asdict(scenario)
    value["times"] = dataclasses.asdict(times_of(scenario, quick))
    del value["quick"], value["extra"], value["needs"]
    value["capacity_per_s"] = round(scenario.backends.capacity_per_s, 1)
    value["load"] = round(scenario.clients.rate_per_s / scenario.backends.capacity_per_s, 3)
    return json.loads(json.dumps(value))


def fingerprint(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
