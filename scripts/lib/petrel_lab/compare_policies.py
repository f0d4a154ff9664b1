# SPDX-License-Identifier: MIT
"""The policies of scripts/compare: who balances, and with what switched on."""

import subprocess
from dataclasses import dataclass

from .compare_ipvs import Ipvs, IpvsWlc
from .compare_proxy import CHECK_PORT, Haproxy, Nginx
from .compare_threshold import ThresholdKeeper
from .lab import LabError, endpoint

KERNEL_OFF = ("two_choices = false", "steer_retries = false", "failover = false",
              "mask_refusals = false", "[service.budget]", "enabled = false")
# No weight falls without so many samples as a run never has; a backend that refuses is still put
# into quarantine.
HOLD_WEIGHTS = ("[control]", "gain = 0.1", "floor = 0.1", "min_samples = 10000")


@dataclass(frozen=True)
class Policy:
    name: str
    about: str
    mode: str | None = None   # of the agent; None: another program balances
    service: tuple = ()       # lines of the service
    control: tuple = ()       # lines of the file
    proxy: type | None = None
    keeper: type | None = None  # what decides beside the agent
    optional: bool = False    # left out where this host lacks it, unless asked for by name


POLICIES = {policy.name: policy for policy in (
    Policy("static", "petrel, mode neutral: consistent hashing on the configured weights",
           "neutral", KERNEL_OFF),
    Policy("threshold", "5 failures within 1 s, as XDP counts them, take a backend out for 5 s; looked "
           "at each 100 ms", "neutral", KERNEL_OFF, keeper=ThresholdKeeper),
    Policy("two-choices", "petrel with two choices alone; weights stay as configured", "act",
           ("two_choices = true", *KERNEL_OFF[1:]), HOLD_WEIGHTS),
    Policy("petrel-weights", "petrel with weights alone", "act", KERNEL_OFF),
    Policy("petrel-shadow", "petrel, mode shadow: all is computed, nothing is put in force",
           "shadow"),
    Policy("petrel", "petrel, mode act, as shipped", "act"),
    Policy("haproxy", "HAProxy: leastconn, health checks, observe layer7, retries with redispatch, "
           "slowstart", proxy=Haproxy),
    Policy("nginx", "nginx: least_conn, max_fails, next upstream", proxy=Nginx),
    Policy("ipvs", "IPVS in NAT, scheduler mh: Maglev hashing, as static", proxy=Ipvs,
           optional=True),
    Policy("ipvs-wlc", "IPVS in NAT, its default scheduler: to who has the fewest connections",
           proxy=IpvsWlc, optional=True),
)}
BASE = "static"


class Balancer:
    """A petrel that balances. compare_proxy.Proxy does the same for other programs."""

    keeps_clients = True

    def __init__(self, policy, lab, model):
        self.policy = policy
        self.lab = lab
        self.model = model
        self.keeper = policy.keeper(lab) if policy.keeper else None

    def start(self):
        self.lab.start_agent(self.policy.mode, self.model,
                             service_extra="\n".join(self.policy.service))
        if self.keeper:
            self.keeper.start()

    def drain(self, i, begins):
        done = subprocess.run(
            [self.lab.bin / "petrel", "drain", "-s", self.lab.socket, f"b{i}",
             *([] if begins else ["--undo"])], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"petrel drain b{i}: {done.stderr.strip()}")

    def check(self):
        if self.lab.agent.poll() is not None:
            raise LabError(f"the agent ended by itself, with {self.lab.agent.returncode}")
        if self.keeper and self.keeper.failure:
            raise LabError(self.keeper.failure)

    def processes(self):
        return [self.lab.agent.pid]  # nsenter becomes its command

    def state(self):
        """Each backend's share of the ring."""
        service = self.lab.status()["services"][0]
        return {backend["name"]: round(backend["share"], 4) for backend in service["backends"]}

    def facts(self):
        service = self.lab.status()["services"][0]
        return {key: value for key, value in service.items() if isinstance(value, int)}

    def stop(self):
        if self.keeper:
            self.keeper.stop()
        self.lab.stop_agent()


def balancer_of(policy, lab, scenario, model):
    if policy.proxy is not None:
        return policy.proxy(lab, scenario.clients)
    return Balancer(policy, lab, model)


def missing_tools(policies):
    """{policy's name: why it cannot run here}."""
    found = {policy.name: policy.proxy.lacking() for policy in policies
             if policy.proxy is not None}
    return {name: why for name, why in found.items() if why}


def check_endpoint(lab, i):
    return endpoint(lab.backend_address(i), CHECK_PORT)
