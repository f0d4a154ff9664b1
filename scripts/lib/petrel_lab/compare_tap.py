# SPDX-License-Identifier: MIT
"""Each new connection as its backend's host sees it: one SYN tap for whoever balances.

A packet socket in each backend's namespace, with a filter that passes SYNs to its port alone, so
that a balancer in XDP and a proxy are measured by the same thing. It sees SYNs that a fault then
drops. Times are CLOCK_MONOTONIC seconds, of the kernel's own receive time.
"""

import ctypes
import os
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass

from .lab import BACKEND_PORT, LabError

CLONE_NEWNET = 0x40000000
ETH_P_IP = 0x0800
SO_ATTACH_FILTER, SO_TIMESTAMPNS, SO_RCVBUFFORCE = 26, 35, 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
RECEIVE_BYTES = 4 << 20
POLL_S = 0.2

# Of a SOCK_DGRAM packet socket, which begins at the IPv4 header: TCP, to the port, SYN without ACK.
FILTER = (
    (0x30, 0, 0, 9),                     # A = protocol
    (0x15, 0, 7, socket.IPPROTO_TCP),
    (0xb1, 0, 0, 0),                     # X = length of the IPv4 header
    (0x48, 0, 0, 2),                     # A = destination port
    (0x15, 0, 4, BACKEND_PORT),
    (0x50, 0, 0, 13),                    # A = TCP flags
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 128),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True)
class Arrival:
    at_s: float
    backend: int


def attach_filter(tap):
    code = b"".join(struct.pack("HBBI", *line) for line in FILTER)
    buffer = ctypes.create_string_buffer(code)
    tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                   struct.pack("HL", len(FILTER), ctypes.addressof(buffer)))


def open_tap(device):
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # nothing until it is bound
    tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    attach_filter(tap)
    tap.bind((device, ETH_P_IP))
    tap.setblocking(False)
    return tap


def open_in(namespace, opened, failed):
    """Runs in a thread of its own, which ends in that namespace; a socket stays where it was
    made."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(namespace, "rb") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        opened.append(open_tap("eth0"))
    except OSError as error:
        failed.append(f"tap SYNs in {namespace}: {error}")


class SynTap(threading.Thread):
    """with SynTap(lab, of_clients=True) as tap: ...; then tap.arrivals, in order of time.

    of_clients: only SYNs with a client's address. A balancer that keeps it has probes of its own.
    """

    def __init__(self, lab, of_clients):
        super().__init__(daemon=True)
        self.arrivals = []
        self.lost = 0
        self._seen = set()
        self._network = lab.sources if of_clients else None
        self._taps = {}
        self._ending = threading.Event()
        # Both clocks at the same moment; the lab's runs are short enough for one offset.
        self._offset_ns = time.monotonic_ns() - time.time_ns()
        for i in range(1, lab.count + 1):
            self._taps[i] = self._open(f"/run/netns/petrel-{lab.name}-b{i}")

    @staticmethod
    def _open(namespace):
        opened, failed = [], []
        thread = threading.Thread(target=open_in, args=(namespace, opened, failed))
        thread.start()
        thread.join()
        if failed:
            raise LabError(failed[0])
        return opened[0]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self.join()
        for tap in self._taps.values():
            _, lost = struct.unpack("II", tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            self.lost += lost
            tap.close()
        self.arrivals.sort(key=lambda arrival: arrival.at_s)

    def run(self):
        with selectors.DefaultSelector() as selector:
            for i, tap in self._taps.items():
                selector.register(tap, selectors.EVENT_READ, i)
            while True:
                ending = self._ending.is_set()
                ready = selector.select(0 if ending else POLL_S)
                for key, _ in ready:
                    self._read(key.fileobj, key.data)
                if ending and not ready:
                    return

    def _read(self, tap, backend):
        while True:
            try:
                packet, ancillary, _, _ = tap.recvmsg(128, 64)
            except BlockingIOError:
                return
            key = syn_key(packet)
            # A repeated SYN is the same connection.
            if (backend, key) in self._seen or not self._is_wanted(key[0]):
                continue
            self._seen.add((backend, key))
            seconds, ns = struct.unpack("qq", ancillary[0][2][:16])
            at_ns = seconds * 1_000_000_000 + ns + self._offset_ns
            self.arrivals.append(Arrival(at_ns / 1e9, backend))

    def _is_wanted(self, source):
        return self._network is None or in_network(source, self._network)


def syn_key(packet):
    """(source address, its port, sequence number) of an IPv4 packet with TCP."""
    header = (packet[0] & 0xf) * 4
    port, = struct.unpack_from("!H", packet, header)
    sequence, = struct.unpack_from("!I", packet, header + 4)
    return packet[12:16], port, sequence


def in_network(address, network):
    base, _, bits = network.partition("/")
    shift = 32 - int(bits)
    return int.from_bytes(address, "big") >> shift == \
        int.from_bytes(socket.inet_aton(base), "big") >> shift
