# SPDX-License-Identifier: MIT
"""Connections as a capture of their packets shows them: a tcpdump file read, in full and in order.

Only as much as scripts/label-check needs: when each connection began and ended, and which requests
went over it, by the header that names them.
"""

import ipaddress
import re
import struct
from dataclasses import dataclass, field

MAGIC_NS, MAGIC_US = 0xa1b23c4d, 0xa1b2c3d4
FIN, SYN, RST, ACK = 1, 2, 4, 16
ETHERNET_BYTES = 14


@dataclass
class Connection:
    """One connection of a client. Times are the file's, in ns."""
    address: str
    port: int
    syn_ns: int
    end_ns: int = 0                               # FIN or RST of either side; 0: none was seen
    requests: list = field(default_factory=list)  # (time, id) of each, in order
    answered_ns: list = field(default_factory=list)  # first byte after each request; 0: none yet


def packets_of(path):
    """(time_ns, frame) of each packet."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < 24:
        return
    order = "<" if struct.unpack_from("<I", data)[0] in (MAGIC_NS, MAGIC_US) else ">"
    scale = 1 if struct.unpack_from(order + "I", data)[0] == MAGIC_NS else 1000
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, kept, _ = struct.unpack_from(order + "IIII", data, at)
        yield seconds * 10**9 + fraction * scale, data[at + 16:at + 16 + kept]
        at += 16 + kept


def parse(frame):
    """(source, destination, ports, flags, payload) of a TCP packet without IPv6 extensions."""
    kind = struct.unpack_from(">H", frame, 12)[0]
    if kind == 0x0800:
        head = ETHERNET_BYTES + (frame[14] & 15) * 4
        source, destination = frame[26:30], frame[30:34]
        end = ETHERNET_BYTES + struct.unpack_from(">H", frame, 16)[0]
        protocol = frame[23]
    elif kind == 0x86dd:
        head, source, destination = ETHERNET_BYTES + 40, frame[22:38], frame[38:54]
        end = head + struct.unpack_from(">H", frame, 18)[0]
        protocol = frame[20]
    else:
        return None
    if protocol != 6 or len(frame) < head + 20:
        return None
    ports = struct.unpack_from(">HH", frame, head)
    payload = frame[head + (frame[head + 12] >> 4) * 4:end]  # without Ethernet's padding
    return (str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination)), ports,
            frame[head + 13], payload)


def read_connections(path, server, header):
    """Connections to `server`, in the order of their SYNs. A repeated SYN begins none."""
    named = re.compile(rb"\r\n" + re.escape(header.encode()) + rb": *(\d+)\r\n", re.IGNORECASE)
    found, open_ones = [], {}
    for time_ns, frame in packets_of(path):
        parsed = parse(frame)
        if parsed is None:
            continue
        source, destination, ports, flags, payload = parsed
        inwards = destination == server
        key = (source, ports[0]) if inwards else (destination, ports[1])
        connection = open_ones.get(key)
        if inwards and flags & (SYN | ACK) == SYN and (connection is None or connection.end_ns):
            connection = open_ones[key] = Connection(*key, syn_ns=time_ns)
            found.append(connection)
        if connection is None:
            continue
        if inwards and (match := named.search(payload)):
            connection.requests.append((time_ns, match.group(1).decode()))
            connection.answered_ns.append(0)
        elif not inwards and payload and connection.requests and not connection.answered_ns[-1]:
            connection.answered_ns[-1] = time_ns
        if flags & (FIN | RST) and not connection.end_ns:
            connection.end_ns = time_ns
    return found
