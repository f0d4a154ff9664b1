# SPDX-License-Identifier: MIT
"""What petrel's BPF programs cost under load, by the kernel's own run-time statistics.

Measured apart from the figures, for the statistics cost two clock readings a run.
"""

import contextlib
import ctypes
import json
import os
import platform
import subprocess
from pathlib import Path

BPF_ENABLE_STATS = 32
BPF_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280}


class RunTimeStatistics:
    """with RunTimeStatistics(): ... They end with the file descriptor, however this process ends
    (a sysctl would stay)."""

    def __enter__(self):
        number = BPF_SYSCALL_NUMBERS.get(platform.machine())
        if number is None:
            raise OSError(f"bpf() has no known number on {platform.machine()}")
        libc = ctypes.CDLL(None, use_errno=True)
        attributes = ctypes.create_string_buffer(8)  # BPF_STATS_RUN_TIME is 0
        self.descriptor = libc.syscall(number, BPF_ENABLE_STATS, attributes, len(attributes))
        if self.descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"enable BPF statistics: {os.strerror(code)}")
        return self

    def __exit__(self, *_):
        os.close(self.descriptor)


def program_ids(pid):
    """Of the programs that a process holds open, itself or by a link."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            for line in path.read_text(encoding="ascii").splitlines():
                if line.startswith("prog_id:"):
                    found.add(int(line.split()[1]))
    return found


def programs_of(pid):
    """{id: (kind, runs, nanoseconds)} of a process's programs."""
    done = subprocess.run(["bpftool", "prog", "show", "--json"], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise OSError(f"bpftool prog show: {done.stderr.strip()}")
    # bpftool names the holders too, but not as Debian builds it.
    held = program_ids(pid)
    return {program["id"]: (program["type"], program.get("run_cnt", 0),
                            program.get("run_time_ns", 0))
            for program in json.loads(done.stdout) if program["id"] in held}


def cost_of_each(pid, load):
    """Runs load(), which returns how many requests (or packets) it did; what each kind of program
    cost for one of them: {"xdp": {"runs", "us"}, …}."""
    with RunTimeStatistics():
        before = programs_of(pid)
        done = load()
        after = programs_of(pid)
    kinds = {}
    for identity, (kind, runs, spent_ns) in after.items():
        _, runs_before, spent_ns_before = before.get(identity, (kind, 0, 0))
        sums = kinds.setdefault(kind, {"runs": 0.0, "us": 0.0})
        sums["runs"] += (runs - runs_before) / done
        sums["us"] += (spent_ns - spent_ns_before) / 1000 / done
    return {kind: sums for kind, sums in kinds.items() if sums["runs"] > 0}
