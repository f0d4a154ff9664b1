# SPDX-License-Identifier: MIT
"""The scenarios of scripts/label-check, and the weather of each of their runs: what clients do, and
which faults come when. All of it is drawn from the seed, so that a run can be repeated."""

import random
from dataclasses import dataclass, field

from .demo_options import FAULTS

CLIENTS = ("petrel-traffic", "curl", "urllib3", "nginx", "haproxy")
FAULT_KINDS = tuple(kind for kind in FAULTS if kind != "none")
# b2 fails, of four: what retries of the others' failures meet is mostly good.
BACKENDS = 4
FAULTY = 2
TIMEOUT_MS = 600


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    nat: bool = False
    # TCP's: as the "kernel" draws them, by a clock of each "host", or "none".
    timestamps: str = "kernel"
    keep_alive: bool = False
    pollers: bool = False
    family: int = 4
    faults: tuple = FAULT_KINDS
    clients: tuple = ("petrel-traffic",)  # unless others are asked for


SCENARIOS = {scenario.name: scenario for scenario in (
    Scenario("one-address", "an address for each client", clients=CLIENTS),
    Scenario("nat-timestamps", "100 hosts behind one address, each with a TCP timestamp clock",
             nat=True, timestamps="host"),
    Scenario("nat-new-timestamps", "the same, with a clock for each connection as Linux has of late",
             nat=True),
    Scenario("nat-no-timestamps", "the same, without TCP timestamps", nat=True, timestamps="none"),
    Scenario("keep-alive", "pools of kept connections", keep_alive=True),
    Scenario("pollers", "hosts that also poll, and do not retry that", pollers=True),
    Scenario("ipv6", "as one-address", family=6),
    *(Scenario(f"fault-{kind}", f"as one-address, {kind} alone", faults=(kind,))
      for kind in FAULT_KINDS))}


@dataclass
class Weather:
    """One run. Of the rates, a proxy's users' is the lower one: its log has only ms."""
    scenario: Scenario
    client: str
    seed: int
    seconds: float
    rate: int = 150
    hosts: int = 300
    paths: int = 20
    parallel: int = 1
    pollers: int = 0
    poll_interval_ms: int = 1000
    retry: str = "exponential"
    retry_delay_ms: int = 100
    max_attempts: int = 4
    episodes: list = field(default_factory=list)  # (begin_s, end_s, kind)


def faults_in_turn(kinds, seconds, rng):
    """Each kind once, in any order; between them all is well."""
    kinds = rng.sample(kinds, len(kinds))
    turn_s = (seconds - 1.0) / len(kinds)
    return [(0.7 + i * turn_s, 0.7 + (i + 0.75) * turn_s, kind) for i, kind in enumerate(kinds)]


def draw(scenario, client, seed, seconds):
    rng = random.Random(f"{seed}/{scenario.name}/{client}")
    # What is unlike in kind goes in turn, so that few seeds have it all; the rest is drawn.
    weather = Weather(scenario, client, seed, seconds,
                      retry=("exponential", "fixed", "immediate")[seed % 3],
                      retry_delay_ms=rng.choice((50, 100, 250, 500)),
                      max_attempts=rng.randint(2, 4),
                      parallel=(1, 1, 3)[seed % 3],
                      episodes=faults_in_turn(scenario.faults, seconds, rng))
    if scenario.nat:
        weather.hosts = 100
    if scenario.pollers:
        weather.hosts, weather.pollers = 150, 50
        weather.poll_interval_ms = rng.choice((500, 1000, 2000))
    if client in ("nginx", "haproxy"):
        weather.rate, weather.parallel = 60, 1
    if client in ("curl", "urllib3"):
        weather.rate, weather.parallel = 20, 1
    return weather
