# SPDX-License-Identifier: MIT
"""What a pcap file says, by tshark, of each TCP connection to a service: when its packets
passed, how many bytes, and which requests. Times: CLOCK_REALTIME nanoseconds; 0: never."""

import subprocess
from dataclasses import dataclass, field

from .lab import LabError
from .labels import plain

FIELDS = ("frame.time_epoch", "tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "tcp.dstport",
          "tcp.flags.syn", "tcp.flags.ack", "tcp.flags.fin", "tcp.flags.reset", "tcp.seq",
          "tcp.len")


@dataclass
class Exchange:
    """One request and its answer. One request waits for its answer at a time: nothing is pipelined."""
    request_ns: int
    response_ns: int = 0
    last_byte_ns: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass
class Flow:
    client: str
    client_port: int
    syn_ns: int = 0
    synack_ns: int = 0
    ack_ns: int = 0
    close_ns: int = 0      # first FIN or RST of either end; nothing after it is counted
    bytes_in: int = 0      # payload, repeats included
    bytes_out: int = 0
    exchanges: list = field(default_factory=list)
    ends: dict = field(default_factory=dict)  # from the client? -> next sequence number

    def is_new(self, packet):
        """Whether it carries payload that was not seen before."""
        end = packet.sequence + packet.length
        new = packet.length > 0 and end > self.ends.get(packet.from_client, 0)
        self.ends[packet.from_client] = max(end, self.ends.get(packet.from_client, 0))
        return new

    def see(self, packet):
        if self.close_ns:
            return
        if packet.syn:
            if packet.from_client:
                self.syn_ns = self.syn_ns or packet.time_ns
            else:
                self.synack_ns = self.synack_ns or packet.time_ns
        elif packet.from_client:
            self._see_client(packet)
        else:
            self._see_backend(packet)
        if packet.fin or packet.rst:
            self.close_ns = packet.time_ns

    def _see_client(self, packet):
        if packet.ack and not packet.rst:
            self.ack_ns = self.ack_ns or packet.time_ns
        self.bytes_in += packet.length
        answered = not self.exchanges or self.exchanges[-1].response_ns
        if self.is_new(packet) and answered:
            self.exchanges.append(Exchange(packet.time_ns))
        if self.exchanges:
            self.exchanges[-1].bytes_in += packet.length

    def _see_backend(self, packet):
        self.bytes_out += packet.length
        new = self.is_new(packet)
        if not self.exchanges:
            return
        exchange = self.exchanges[-1]
        exchange.bytes_out += packet.length
        if new:
            exchange.response_ns = exchange.response_ns or packet.time_ns
            exchange.last_byte_ns = packet.time_ns


class Packet:
    """A line of tshark's."""

    def __init__(self, line, service_port):
        cells = dict(zip(FIELDS, line.split("\t")))
        # As text: a double has no room for nanoseconds since 1970.
        seconds, _, rest = cells["frame.time_epoch"].partition(".")
        self.time_ns = int(seconds) * 10**9 + int(rest.ljust(9, "0")[:9])
        self.stream = int(cells["tcp.stream"])
        self.source = cells["ip.src"] or cells["ipv6.src"]
        self.source_port = int(cells["tcp.srcport"])
        self.from_client = int(cells["tcp.dstport"]) == service_port
        self.syn, self.ack, self.fin, self.rst = (
            cells[f"tcp.flags.{name}"] in ("1", "True") for name in ("syn", "ack", "fin", "reset"))
        self.sequence = int(cells["tcp.seq"])
        self.length = int(cells["tcp.len"])


def read_flows(path, service_port):
    """Each connection of a pcap file, by the order of their first packets."""
    argv = ["tshark", "-n", "-r", path, "-Y", "tcp && !icmp", "-T", "fields"]
    argv += [part for name in FIELDS for part in ("-e", name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"tshark: {done.stderr.strip()}")
    flows = {}
    for line in done.stdout.splitlines():
        packet = Packet(line, service_port)
        if packet.stream not in flows:
            flows[packet.stream] = Flow(plain(packet.source), packet.source_port)
        flows[packet.stream].see(packet)
    return list(flows.values())
