# SPDX-License-Identifier: MIT
"""IPVS in the balancer's place: the kernel's own, in `lb`, on the service's own address."""

import subprocess

from . import ipvs
from .lab import BACKEND_PORT, SERVICE_PORT, LabError, endpoint


class Ipvs:
    """What compare_policies.Balancer is, without a process: all of it is the kernel's."""

    keeps_clients = True
    scheduler = "mh"

    def __init__(self, lab, _clients):
        self.lab = lab
        self.service = endpoint(lab.vip, SERVICE_PORT)

    @staticmethod
    def lacking():
        return ipvs.lacking()

    @staticmethod
    def version():
        return ipvs.version()

    def start(self):
        # IPVS takes what is addressed to this host.
        self._run("ip", "addr", "replace", f"{self.lab.vip}/32", "dev", "lo")
        backends = [self._backend(i) for i in range(1, self.lab.count + 1)]
        self._run(ipvs.program(), "-R", text=ipvs.rules(self.service, backends, self.scheduler))

    def _backend(self, i):
        return endpoint(self.lab.backend_address(i), BACKEND_PORT)

    def _run(self, *argv, text=None):
        done = subprocess.run(self.lab.command("lb", *argv), input=text, capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"{argv[0]} in lb: {done.stderr.strip()}")
        return done.stdout

    def drain(self, i, begins):
        self._run(ipvs.program(), *ipvs.weight(self.service, self._backend(i), 0 if begins else 1))

    def check(self):
        """There is nothing that could end."""

    def processes(self):
        return []

    def state(self):
        return None

    def facts(self):
        return {}

    def stop(self):
        self._run(ipvs.program(), "-C")


class IpvsWlc(Ipvs):
    """With ipvsadm's default scheduler: to who has the fewest connections."""

    scheduler = "wlc"
