# SPDX-License-Identifier: MIT
"""scripts/kernels --extras fentry: what the socket sensor says of connections, held against what
tests/lab/witness.bpf.c saw of the kernel's own functions by fentry and fexit.

    client ── lb ─┬─ b1   hangs for a while: clients give up, RSTs and timeouts
                  ├─ b2   loses packets, where the kernel has netem: retransmissions, RTOs
                  └─ b3   resets for a while

Backend by backend its counters, connection by connection its times and its RTT.
"""

import contextlib
import ipaddress
import json
import os
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .bpf_map import Bpf, Map, layout, possible_cpus
from .kernels_extras import BIN, MODEL, OUT, PETREL, NotThere
from .lab import BACKEND_PORT, SERVICE_PORT, Lab, LabError

OBJECT = PETREL / "build/host/tests/lab/witness.bpf.o"
PINS = Path("/sys/fs/bpf/witness")
BACKENDS = 3
RATE, SECONDS, TIMEOUT_MS = 60, 15, 1000
LOSS = "5%"
SETTLES_S = 8  # after the last request: FIN and TIME-WAIT of what was given up
CONNECTING, ACCEPTING = 0, 1  # enum socket_end
# The witness begins before the route is looked up and ends once the socket is established: it is
# never the shorter one. The sensor cuts to whole microseconds.
LONGER_NS = 1_000_000  # at most, for half of them: a busy machine stops either in between
SHOWN = 30
COUNTERS = {  # of the witness, and the sensor's
    "synack_retransmits": "socket_synack_retransmits", "retransmits": "socket_retransmits",
    "rtos": "socket_rtos", "resets_sent": "socket_resets_sent",
    "resets_received": "socket_resets_received", "closed": "socket_closes",
    "bytes_sent": "socket_bytes_sent", "bytes_received": "socket_bytes_received"}
OF_A_CONNECTION = ("retransmits", "rtos", "resets_sent", "resets_received", "bytes_sent",
                   "bytes_received")


@dataclass(frozen=True)
class Name:
    """A connection as its accepting end knows it, or as its connecting end does."""
    end: int
    local: str
    local_port: int
    remote: str
    remote_port: int


class Records:
    """Reads members of structs by the BTF of a map."""

    CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

    def __init__(self, pin):
        self.map = Map(pin)
        self.kinds = layout(pin)

    def all(self):
        """(key, value) of each entry, as bytes."""
        for count, keys, values in self.map.batches():
            for i in range(count):
                yield (bytes(keys[i * self.map.key_bytes:(i + 1) * self.map.key_bytes]),
                       bytes(values[i * self.map.value_stride:(i + 1) * self.map.value_stride]))

    def member(self, data, kind, name, width, at=0):
        return struct.unpack_from(f"<{self.CODES[width]}", data, at + self.kinds[kind][name])[0]


# --- the two sides ------------------------------------------------------------------------------

@contextlib.contextmanager
def attached():
    """The witness, watching."""
    if not OBJECT.exists():
        raise LabError(f"there is no {OBJECT.name}: build petrel_lab_program")
    done = subprocess.run(["bpftool", "prog", "loadall", str(OBJECT), str(PINS),
                           "pinmaps", str(PINS) + "_maps"], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        (OUT / "fentry-load.txt").write_text("\n".join(said), encoding="utf-8")
        raise NotThere(f"its programs do not load: {said[-1] if said else done.returncode}")
    bpf, links = Bpf(), []
    try:
        for pin in PINS.iterdir():
            links.append(bpf.attach(pin))
        yield Path(str(PINS) + "_maps")
    finally:
        for link in links:
            os.close(link)
        for folder in (PINS, Path(str(PINS) + "_maps")):
            for pin in folder.iterdir():
                pin.unlink()
            folder.rmdir()


WIDTHS = {"connect_ns": 8, "bytes_sent": 8, "bytes_received": 8}


def seen_by_witness(pins):
    """{Name: {member: value}}"""
    records, found = Records(pins / "witnesses"), {}
    members = list(records.kinds["witness"])
    for key, value in records.all():
        local, remote, local_port, remote_port, end = struct.unpack("!4s4sHH4s", key)
        name = Name(int.from_bytes(end, "little"), str(ipaddress.IPv4Address(local)), local_port,
                    str(ipaddress.IPv4Address(remote)), remote_port)
        found[name] = {member: records.member(value, "witness", member, WIDTHS.get(member, 4))
                       for member in members}
    return found


VIEW_WIDTHS = {"connect_ns": 8, "bytes_sent": 8, "bytes_received": 8, "srtt_us": 4,
               "retransmits": 2, "rtos": 2, "resets_sent": 1, "resets_received": 1}


def seen_by_sensor(pins):
    """{(client, port): [view of the connecting end, of the accepting end]}"""
    records, found = Records(pins / "connections"), {}
    for key, value in records.all():
        client = ipaddress.IPv6Address(key[:16]).ipv4_mapped
        port = struct.unpack_from("!H", key, records.kinds["connection_key"]["client_port_be"])[0]
        first = records.kinds["connection"]["sockets"]
        bytes_each = (records.map.value_bytes - first) // 2
        found[(str(client), port)] = [
            {name: records.member(value, "socket_view", name, width, first + end * bytes_each)
             for name, width in VIEW_WIDTHS.items()} for end in (CONNECTING, ACCEPTING)]
    return found


def counters_of(pins, backend_id):
    """The sensor's, of one backend, over all CPUs."""
    records, cpus = Records(pins / "backend_stats"), possible_cpus()
    value, stride = records.map.lookup(backend_id, cpus), records.map.value_stride
    return {name: sum(records.member(value, "backend_stats", name, 8, cpu * stride)
                      for cpu in range(cpus))
            for name in ("socket_connects", "socket_connect_ns", *COUNTERS.values())}


# --- both beside each other ---------------------------------------------------------------------

def backend_cells(witnessed, address, sensor):
    """{counter: (witness, sensor)} of one backend's accepting sockets."""
    ours = [value for name, value in witnessed.items()
            if name.end == ACCEPTING and name.local == address and name.local_port == BACKEND_PORT]
    return {name: (sum(value[name] for value in ours), sensor[of])
            for name, of in COUNTERS.items()}


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0


def compare_connections(witnessed, sensed):
    """Connection by connection: how many there are, how many disagree, and by how much."""
    found = {"connections": 0, "the agent's own probes": 0, "not in the sensor's map": 0,
             "addresses used again": 0, "RTT other": 0, "counts other": 0}
    clients = {(name.local, name.local_port) for name in witnessed if name.end == CONNECTING
               and name.remote_port == SERVICE_PORT}
    longer, odd = [], []
    for name, value in witnessed.items():
        accepting = name.end == ACCEPTING
        if (name.local_port if accepting else name.remote_port) != (
                BACKEND_PORT if accepting else SERVICE_PORT) or not value["established"]:
            continue
        found["connections"] += not accepting
        if value["begun"] > 1:
            found["addresses used again"] += 1
            continue
        client = (name.remote, name.remote_port) if accepting else (name.local, name.local_port)
        if client not in clients:
            found["the agent's own probes"] += 1
            continue
        if client not in sensed:
            found["not in the sensor's map"] += 1
            odd.append([str(name), value, None])
            continue
        view = sensed[client][name.end]
        if not accepting:
            longer.append(value["connect_ns"] - view["connect_ns"])
        found["RTT other"] += bool(value["srtt_us"]) and value["srtt_us"] != view["srtt_us"]
        if any(value[each] != view[each] for each in OF_A_CONNECTION):
            found["counts other"] += 1
            odd.append([str(name), value, view])
    found["witness longer by, us"] = {
        label: round(quantile(longer, part) / 1000, 1)
        for label, part in (("least", 0), ("p50", 0.5), ("p99", 0.99), ("most", 1))}
    good = (bool(longer) and min(longer) >= 0 and quantile(longer, 0.5) < LONGER_NS
            and not found["RTT other"] and not found["counts other"]
            and not found["not in the sensor's map"])
    return found, good, odd[:SHOWN]


def differences(cells):
    return {name: pair for name, pair in cells.items() if pair[0] != pair[1]}


# --- the run ------------------------------------------------------------------------------------

def lose_packets(lab):
    """Whether b2's link now does."""
    subprocess.run(["modprobe", "sch_netem"], capture_output=True, check=False)
    done = subprocess.run(lab.command("b2", "tc", "qdisc", "add", "dev", "eth0", "root", "netem",
                                      "loss", LOSS), capture_output=True, check=False)
    return done.returncode == 0


def drive(lab):
    """Traffic with faults; the client's summary."""
    client = lab.start_client("--rate", str(RATE), "--duration", str(SECONDS), "--timeout-ms",
                              str(TIMEOUT_MS), "--retry", "immediate", "--max-attempts", "2")
    begun = time.monotonic()
    for at_s, backend, kind in ((3, 3, "reset"), (6, 3, "none"), (7, 1, "hang"), (10, 1, "none")):
        time.sleep(max(0, begun + at_s - time.monotonic()))
        lab.fault(backend, kind)
    summary, _ = client.communicate(timeout=SECONDS * 20)
    time.sleep(SETTLES_S)
    return json.loads(summary)


def run(job, _seconds):
    with Lab(BACKENDS, BIN, xdp_ends=True) as lab:
        # It observes: weights stay, so that the backends that fail go on getting traffic.
        lab.start_agent("shadow", MODEL, seconds=job["agent_s"])
        pins = Path(lab.facts["pin_path"])
        with attached() as witness_pins:
            lossy = lose_packets(lab)
            summary = drive(lab)
            witnessed = seen_by_witness(witness_pins)
            sensed = seen_by_sensor(pins)
            backends = {one["name"]: one["id"] for one in lab.status()["services"][0]["backends"]}
            sensor = {name: counters_of(pins, number) for name, number in backends.items()}
        cells = {f"b{i}": backend_cells(witnessed, lab.backend_address(i), sensor[f"b{i}"])
                 for i in range(1, BACKENDS + 1)}
    connecting = [value for name, value in witnessed.items()
                  if name.end == CONNECTING and name.remote_port == SERVICE_PORT]
    connects = (sum(value["established"] for value in connecting),
                sum(one["socket_connects"] for one in sensor.values()))
    spent_us = (sum(value["connect_ns"] for value in connecting) // 1000,
                sum(one["socket_connect_ns"] for one in sensor.values()) // 1000)
    one_by_one, good, odd = compare_connections(witnessed, sensed)
    (OUT / "fentry.json").write_text(json.dumps(
        {"cells": cells, "connections": one_by_one, "client": summary, "odd": odd,
         "closed twice": [str(name) for name, value in witnessed.items() if value["closed"] > 1]}, indent=1), encoding="utf-8")
    figures = {name: {label: f"{pair[0]}/{pair[1]}" for label, pair in of.items()}
               for name, of in cells.items()}
    figures["connects"] = {"begun": sum(value["begun"] for value in connecting),
                           "SYNs sent again": sum(value["syn_repeats"] for value in connecting),
                           "established": f"{connects[0]}/{connects[1]}",
                           "us in all": f"{spent_us[0]}/{spent_us[1]}"}
    figures["one by one"] = one_by_one
    wrong = [f"{name}: {', '.join(differences(of))}" for name, of in cells.items()
             if differences(of)]
    if connects[0] != connects[1]:
        wrong.append("connects")
    note = "witness/sensor" if lossy else "witness/sensor; no netem here: nothing was lost"
    return {"good": good and not wrong, "figures": figures,
            "note": "; ".join([note, *(["they differ: " + "; ".join(wrong)] if wrong else [])])}
