# SPDX-License-Identifier: MIT
"""What the agent's tick costs with 1,000 backends and 100,000 live connections in its maps.

The maps of a running agent are filled from here, through their pins: connections, and waiting
requests in backend_stats. The agent's own clocks, and the kernel's, say what its ticks took.
"""

import contextlib
import ctypes
import os
import socket
import struct
import time
from pathlib import Path

from .bpf_map import BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, Map, possible_cpus

BACKENDS = 1000
CONNECTIONS = 100_000
FIRST_ID = 1
ESTABLISHED = 3
WAITING_SLOTS = 512
SLOT_SHIFT = 24
WAITING_PER_BACKEND = 10  # one connection in ten
RECENT_SLOTS = 6          # an answer takes up to 100 ms


def mapped(address):
    return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(address)


def backend_addresses():
    return [(f"127.1.{i // 250}.{1 + i % 250}", 8080) for i in range(BACKENDS)]


def fill_connections(pin_path):
    """100,000 established connections, each of a client port of its own."""
    with contextlib.closing(Map(pin_path / "connections")) as table:
        keys, values = bytearray(), bytearray()
        for i in range(CONNECTIONS):
            backend = FIRST_ID + i % BACKENDS
            keys += mapped(f"127.2.{i // 50000}.1")
            keys += struct.pack(">HH", 10000 + i % 50000, 80) + struct.pack("<HH", 1, backend)
            value = bytearray(table.value_bytes)
            struct.pack_into("<I", value, 0, backend)
            value[STATE_OFFSET] = ESTABLISHED
            values += value
        table.update_all(bytes(keys), bytes(values), CONNECTIONS)


# Offsets in bpf/types.h, which asserts the sizes that they add up to.
STATE_OFFSET = 52
WAITING_TAIL = WAITING_SLOTS * 4  # waiting[] is the last of struct backend_stats


def fill_waiting(pin_path):
    """Requests that began in the last slots, on one CPU."""
    with contextlib.closing(Map(pin_path / "backend_stats")) as table:
        cpus = possible_cpus()
        stride = (table.value_bytes + 7) // 8 * 8
        for backend in range(FIRST_ID, FIRST_ID + BACKENDS):
            value = ctypes.create_string_buffer(table.value_stride * cpus)
            table.element(BPF_MAP_LOOKUP_ELEM, struct.pack("<I", backend), value)
            now = time.monotonic_ns() >> SLOT_SHIFT
            for i in range(WAITING_PER_BACKEND):
                slot = (now - i % RECENT_SLOTS) % WAITING_SLOTS
                at = table.value_bytes - WAITING_TAIL + slot * 4
                struct.pack_into("<i", value, at, struct.unpack_from("<i", value, at)[0] + 1)
            table.element(BPF_MAP_UPDATE_ELEM, struct.pack("<I", backend), value)


def cpu_s_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return None


def measure(lab, seconds):
    """One row of "tick"."""
    lab.start_sensor("client", backend_addresses(), "max_connections = 131072")
    try:
        pins = Path(lab.facts["pin_path"])
        fill_connections(pins)
        fill_waiting(pins)
        pid = lab.agent.pid
        first = lab.status()["loop"]
        time.sleep(1)  # what the status cost is not the ticks'
        cpu_s, begin = cpu_s_of(pid), time.monotonic()
        time.sleep(seconds)
        core_share = (cpu_s_of(pid) - cpu_s) / (time.monotonic() - begin)
        last = lab.status()["loop"]
        ticks = last["ticks"] - first["ticks"]
        return {"backends": BACKENDS, "connections": CONNECTIONS,
                "tick_ms": (last["all_ticks_us"] - first["all_ticks_us"]) / ticks / 1000,
                "rss_mb": rss_mb_of(pid), "core_share": core_share, "ticks": ticks,
                "late_ticks": last["late_ticks"] - first["late_ticks"]}
    finally:
        lab.stop_agent()
