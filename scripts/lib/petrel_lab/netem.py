# SPDX-License-Identifier: MIT
"""netem, the kernel's queueing discipline that loses, delays and reorders packets."""

import os
import subprocess


def lacking():
    """Why there is no netem here; None where there is, or where only root could tell."""
    if os.geteuid() != 0:
        return None
    # In a namespace of its own, which is gone with it. Where it is a module, this loads it.
    done = subprocess.run(["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem"],
                          capture_output=True, check=False)
    return None if done.returncode == 0 else \
        "this kernel has no sch_netem; those of scripts/kernels have (docs/vm.md)"
