# SPDX-License-Identifier: MIT
"""What the agent did, second by second: its status watched from a thread, and read afterwards.

Times are seconds of CLOCK_MONOTONIC.
"""

import http.client
import json
import threading
import time
from dataclasses import dataclass

from .lab import UnixConnection
from .outcome import count_between

POLL_PERIOD_S = 0.05  # half a tick, so that no tick of the agent (100 ms) is missed
FAULT_LEAST_S = 0.1  # a second is marked as faulty for no less: orders come some ms late
MOVED_SHARE = 0.1
# A window over which a backend's share is taken: two ticks, and so many connections that the
# backend would get this many of them at its base share. Its getting under a tenth of 20 by
# chance has a probability of 4e-8.
MOVED_WINDOW_S = 0.15
MOVED_LEAST_CONNECTIONS = 20


@dataclass
class Sample:
    """The agent's counters at one of its ticks."""
    at_s: float
    ticks: int
    shares: dict       # of the ring in force, by backend
    base_shares: dict  # as configured
    connections: dict  # new connections sent to each backend so far
    service: dict      # the service's own counters

    @property
    def total(self):
        return sum(self.connections.values())


def sample_of(status, at_s):
    service = status["services"][0]
    backends = service["backends"]
    base = sum(backend["base_weight"] for backend in backends)
    return Sample(
        at_s=at_s,
        ticks=status["loop"]["ticks"],
        shares={backend["name"]: backend["share"] for backend in backends},
        base_shares={backend["name"]: backend["base_weight"] / base for backend in backends},
        connections={backend["name"]: backend["wire"]["connections"] for backend in backends},
        service={key: value for key, value in service.items() if isinstance(value, int)})


class StatusWatch(threading.Thread):
    """Samples the agent over one connection until stop(); keeps one sample of each tick."""

    def __init__(self, socket_path):
        super().__init__(daemon=True)
        self.samples = []  # appended to by the thread alone
        self.error = None  # why it ended by itself
        self._connection = UnixConnection(socket_path)
        self._stopping = threading.Event()

    def run(self):
        due_s = time.monotonic()
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            due_s += POLL_PERIOD_S
            try:
                self._connection.request("GET", "/v1/status")
                status = json.loads(self._connection.getresponse().read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.error = error
                break
            sample = sample_of(status, time.monotonic())
            if not self.samples or sample.ticks > self.samples[-1].ticks:
                self.samples.append(sample)
        self._connection.close()

    def stop(self):
        self._stopping.set()
        self.join()

    @property
    def latest(self):
        return self.samples[-1] if self.samples else None


def connections_gained(samples):
    return samples[-1].total - samples[0].total


def moved_90_ms(samples, backend, fault_begin_s, fault_end_s):
    """From the fault until `backend` gets under a tenth of its base share; None if it never does.

    The moment is the beginning of the first window that is so: its end would add the window's
    length to what took place. Only ticks are seen, so it may be late by one of them.
    """
    inside = [s for s in samples if fault_begin_s <= s.at_s <= fault_end_s]
    for i, first in enumerate(inside):
        for last in inside[i + 1:]:
            fair = (last.total - first.total) * first.base_shares[backend]
            if last.at_s - first.at_s < MOVED_WINDOW_S or fair < MOVED_LEAST_CONNECTIONS:
                continue
            if last.connections[backend] - first.connections[backend] < MOVED_SHARE * fair:
                return round((first.at_s - fault_begin_s) * 1000)
            break
    return None


def connection_shares(first, last):
    """Who got which share of the new connections between two samples; None if there were none."""
    total = last.total - first.total
    if total == 0:
        return None
    return {name: (last.connections[name] - first.connections[name]) / total
            for name in last.connections}


def ticks(samples, backend, began_s):
    """What moved_90_ms rests on: for each tick seen, the backend's weight and the connections."""
    return [{
        "t_s": round(sample.at_s - began_s, 3),
        "weight": sample.shares[backend],
        "connections": sample.total,
        "faulty_connections": sample.connections[backend],
    } for sample in samples]


def rows(policy, samples, log, began_s, end_s, fault):
    """One row a second. `fault`: its (begin, end), or None. Shares are of the second's end."""
    found = []
    for second in range(max(1, int(end_s - began_s + 0.999))):
        begin_s = began_s + second
        inside = [s for s in samples if begin_s <= s.at_s < begin_s + 1]
        found.append({
            "t_s": second,
            "policy": policy,
            "requests": count_between(log.arrivals, begin_s, begin_s + 1),
            "failures": count_between(log.failures, begin_s, begin_s + 1),
            "retries": count_between(log.retries, begin_s, begin_s + 1),
            "served": count_between(log.served, begin_s, begin_s + 1),
            "fault": fault is not None and
                     min(fault[1], begin_s + 1) - max(fault[0], begin_s) > FAULT_LEAST_S,
            "weights": inside[-1].shares if inside else None,
            "connections": connection_shares(inside[0], inside[-1]) if inside else None,
        })
    return found
