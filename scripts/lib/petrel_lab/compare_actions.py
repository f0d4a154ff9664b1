# SPDX-License-Identifier: MIT
"""What the events of a scenario do to a lab that is up.

    fault       petrel-traffic's own faults, over the backend's control socket
    stop        SIGSTOP: the kernel still accepts, requests wait; `continue` ends it
    impair      netem on the link to the backend (netem.Impairment, direction); `clear` ends it
    gray        an nftables rule drops a part of the paths (by client address and port)
    drain       the balancer's own way to take a backend out of service; `undrain` ends it
    restart     the backend's process is killed, and a new one serves
    surge       a second client, until the cause ends
"""

import json
import os
import signal
import socket
import subprocess

from . import netem
from .lab import BACKEND_PORT, LabError

GRAY_TABLE = "petrel_gray"


def order(control, request, timeout_s=5):
    """One order over a backend's control socket, without a process for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(control))
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(connection.makefile().readline() or "{}")
    if answer.get("ok") is not True:
        raise LabError(f"order {request} to {control}: {answer.get('error', 'no answer')}")
    return answer


def gray_rules(one_in):
    return (f"table inet {GRAY_TABLE} {{\nchain in {{\n"
            "type filter hook prerouting priority raw\n"
            f"tcp dport {BACKEND_PORT} jhash ip saddr . tcp sport mod {one_in} 0 drop\n}}\n}}\n")


class Actions:
    """Of one run. `surge`: starts a second client (rate, seconds)."""

    def __init__(self, lab, balancer, surge):
        self.lab = lab
        self.balancer = balancer
        self.surge = surge
        self.stopped = set()
        self._do = {"fault": self._fault, "stop": self._stop, "continue": self._continue,
                    "gray": self._gray, "ungray": self._ungray, "drain": self._drain,
                    "undrain": self._undrain, "restart": self._restart,
                    "impair": self._impair, "clear": self._clear}

    def do(self, action, backends, parameters):
        if action == "surge":
            self.surge(**parameters)
            return
        for i in backends:
            self._do[action](i, **parameters)

    def close(self):
        """What is stopped cannot end by itself."""
        for i in list(self.stopped):
            self._continue(i)

    def _fault(self, i, kind, **parameters):
        order(self.lab.control(i), {"command": "fault", "kind": kind, **parameters})

    def _stop(self, i):
        os.kill(self.lab.backends[i].pid, signal.SIGSTOP)  # nsenter becomes its command
        self.stopped.add(i)

    def _continue(self, i):
        self.stopped.discard(i)
        os.kill(self.lab.backends[i].pid, signal.SIGCONT)

    def _gray(self, i, one_in):
        self._nft(i, "-f", "-", text=gray_rules(one_in))

    def _ungray(self, i):
        self._nft(i, "delete", "table", "inet", GRAY_TABLE)

    def _nft(self, i, *argv, text=None):
        done = subprocess.run(self.lab.command(f"b{i}", "nft", *argv), input=text, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise LabError(f"nft in b{i}: {done.stderr.strip()}")

    def _impair(self, i, direction, **of_each):
        try:
            self._link(i).impair(direction, netem.Impairment(**of_each))
        except netem.NetemError as error:
            raise LabError(f"impair b{i}: {error}") from error

    def _clear(self, i):
        self._link(i).clear()

    def _link(self, i):
        return netem.Node(self.lab.command(f"b{i}"))

    def _drain(self, i):
        self.balancer.drain(i, True)

    def _undrain(self, i):
        self.balancer.drain(i, False)

    def _restart(self, i):
        self.lab.restart_backend(i)
