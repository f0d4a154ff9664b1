# SPDX-License-Identifier: MIT
"""What every result file says of where it was measured: petrel, host, start, command."""

import datetime
import os
import platform
import shlex
import subprocess
import sys

from .lab import ROOT


def _run(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:  # not built, or not there
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            for line in cpuinfo:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def header(bin_dir, seed):
    """The keys common to all result files; call at the start of the measurement."""
    return {
        "petrel": {"version": _run(str(bin_dir / "petrel"), "--version"),
                   "commit": _run("git", "rev-parse", "HEAD")},
        "host": {"kernel": platform.release(), "cpu": _cpu_model(), "cores": os.cpu_count()},
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "command": " ".join(shlex.quote(part) for part in sys.argv),
        "notes": [],
    }
