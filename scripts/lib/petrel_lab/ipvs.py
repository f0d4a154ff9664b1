# SPDX-License-Identifier: MIT
"""IPVS, the kernel's own balancer of connections, as scripts/compare and scripts/bench set it up.

In NAT, as petrel's own default: addresses are rewritten in both directions and the backends answer
by way of `lb`. It looks at no backend's health; keepalived and the like do that for it.
"""

import os
import shutil
import subprocess

# mh: Maglev hashing of address and port, what petrel does in mode neutral. mh-fallback: another
# backend where the hash names one of weight 0.
SCHEDULERS = {"mh": ["-s", "mh", "-b", "mh-fallback,mh-port"], "wlc": ["-s", "wlc"]}


def program():
    """Where ipvsadm is, or None. A user's PATH may lack the folder of it."""
    return shutil.which("ipvsadm", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def lacking():
    """Why there is no IPVS here; None where there is, or where only root could tell."""
    if program() is None:
        return "ipvsadm is not installed: a package of that name has it"
    if os.geteuid() != 0:
        return None
    # Which loads the module where it is one.
    done = subprocess.run([program(), "-L", "-n"], capture_output=True, check=False)
    return None if done.returncode == 0 else \
        "this kernel has no ip_vs; those of scripts/kernels have (docs/vm.md)"


def version():
    done = subprocess.run([program(), "-v"], capture_output=True, text=True, check=False)
    return f"{done.stdout.strip()}, Linux {os.uname().release}"


def rules(service, backends, scheduler):
    """Lines for `ipvsadm -R`: a service at ADDRESS:PORT over backends, each at one."""
    return "".join(" ".join(line) + "\n" for line in (
        ["-A", "-t", service, *SCHEDULERS[scheduler]],
        *(["-a", "-t", service, "-r", backend, "-m", "-w", "1"] for backend in backends)))


def weight(service, backend, value):
    """Arguments of ipvsadm that give a backend another weight; 0: nothing new goes there."""
    return ["-e", "-t", service, "-r", backend, "-m", "-w", str(value)]
