# SPDX-License-Identifier: MIT
"""IPVS, the kernel's own balancer of connections, as scripts/compare and scripts/bench set it up.

In NAT, as petrel's own default: addresses are rewritten in both directions and the backends answer
by way of `lb`. It looks at no backend's health; keepalived and the like do that for it.
"""

import os
import shutil
import subprocess

PROGRAM = "ipvsadm"
# mh: Maglev hashing of address and port, what petrel does in mode neutral. mh-fallback: another
# backend where the hash names one of weight 0.
SCHEDULERS = {"mh": ["-s", "mh", "-b", "mh-fallback,mh-port"], "wlc": ["-s", "wlc"]}


def lacking():
    """Why there is no IPVS here; None where there is, or where only root could tell."""
    if shutil.which(PROGRAM, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        return "ipvsadm is not installed"
    if os.geteuid() != 0:
        return None
    # Which loads the module where it is one.
    done = subprocess.run([PROGRAM, "-L", "-n"], capture_output=True, check=False)
    return None if done.returncode == 0 else \
        "this kernel has no ip_vs; those of scripts/kernels have (docs/vm.md)"


def version():
    done = subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=False)
    return f"{done.stdout.strip()}, Linux {os.uname().release}"


def rules(service, backends, scheduler):
    """Lines for `ipvsadm -R`: a service at ADDRESS:PORT over backends, each at one."""
    return "".join(" ".join(line) + "\n" for line in (
        ["-A", "-t", service, *SCHEDULERS[scheduler]],
        *(["-a", "-t", service, "-r", backend, "-m", "-w", "1"] for backend in backends)))


def weight(service, backend, value):
    """Arguments of ipvsadm that give a backend another weight; 0: nothing new goes there."""
    return ["-e", "-t", service, "-r", backend, "-m", "-w", str(value)]
