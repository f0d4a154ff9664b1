#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a proxy did: its log's counts, its packets, and both together."""

import struct
import tempfile
import unittest
from pathlib import Path

from petrel_lab import label_proxy, packets, proxy_truth
from petrel_lab.truth import Attempt

MS = 1_000_000
PROXY, VIP = "10.1.0.2", "10.1.100.1"
SYN, SYN_ACK, FIN, RST, DATA = 2, 18, 17, 4, 24


def ipv4(text):
    return bytes(int(part) for part in text.split("."))


def frame(inwards, port, flags, payload=b"", padding=b""):
    """A packet from the proxy to the VIP (inwards) or back."""
    ports = (port, 80) if inwards else (80, port)
    source, destination = (PROXY, VIP) if inwards else (VIP, PROXY)
    tcp = struct.pack(">HHIIBBHHH", *ports, 1, 1, 5 << 4, flags, 1000, 0, 0) + payload
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ipv4(source) + \
        ipv4(destination)
    return bytes(12) + b"\x08\x00" + ip + tcp + padding


def ask(request):
    return f"GET /p1 HTTP/1.1\r\nHost: vip\r\nX-Request: {request}\r\n\r\n".encode()


class PacketsTest(unittest.TestCase):
    def read(self, *timed):
        """Connections of (ms, frame)s."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "capture.pcap"
            data = struct.pack("<IHHiIII", packets.MAGIC_NS, 2, 4, 0, 0, 65535, 1)
            for ms, one in timed:
                data += struct.pack("<IIII", ms // 1000, ms % 1000 * MS, len(one), len(one)) + one
            path.write_bytes(data)
            return packets.read_connections(path, VIP, "X-Request")

    def test_a_connection_has_its_requests_answers_and_end(self):
        one, = self.read((1, frame(True, 40000, SYN)), (2, frame(False, 40000, SYN_ACK)),
                         (3, frame(True, 40000, DATA, ask(7))),
                         (9, frame(False, 40000, DATA, b"HTTP/1.1 200 OK\r\n")),
                         (10, frame(False, 40000, FIN)), (11, frame(True, 40000, FIN)))
        self.assertEqual((one.address, one.port, one.syn_ns, one.end_ns),
                         (PROXY, 40000, 1 * MS, 10 * MS))
        self.assertEqual(one.requests, [(3 * MS, "7")])
        self.assertEqual(one.answered_ns, [9 * MS])

    def test_a_repeated_syn_begins_no_connection_and_a_later_one_does(self):
        found = self.read((1, frame(True, 40000, SYN)), (900, frame(True, 40000, SYN)),
                          (901, frame(False, 40000, RST)), (950, frame(True, 40000, SYN)))
        self.assertEqual([(one.syn_ns, one.end_ns) for one in found],
                         [(1 * MS, 901 * MS), (950 * MS, 0)])

    def test_padding_is_no_answer(self):
        one, = self.read((1, frame(True, 40000, SYN)), (3, frame(True, 40000, DATA, ask(7))),
                         (4, frame(False, 40000, 16, padding=bytes(6))))
        self.assertEqual(one.answered_ns, [0])


def connection(port, syn_ms, end_ms, *asked):
    """`asked`: (ms, id, answered ms) of each request."""
    return packets.Connection(PROXY, port, syn_ms * MS, end_ms * MS,
                              [(at * MS, request) for at, request, _ in asked],
                              [answered * MS for _, _, answered in asked])


def user(request, start_ms):
    return Attempt(user="u", request=request, number=1, start_ns=start_ms * MS,
                   end_ns=(start_ms + 1000) * MS)


class ProxyTruth(unittest.TestCase):
    def follow(self, users, counts, connections, lost=0):
        """(request, number, port, reused) of each attempt."""
        attempts, found_lost = proxy_truth.attempts_of(users, counts, connections, 0)
        self.assertEqual(found_lost, lost)
        return [(one.request, one.number, one.port, one.reused) for one in attempts]

    def test_a_refused_try_is_the_connection_without_a_request_before_the_one_with_it(self):
        tries = self.follow([user("7", 100)], {"7": 2},
                            [connection(1, 100, 100), connection(2, 101, 130, (102, "7", 120))])
        self.assertEqual(tries, [("7", 1, 1, False), ("7", 2, 2, False)])

    def test_a_refused_try_may_come_after_one_that_was_answered_badly(self):
        tries = self.follow([user("7", 100)], {"7": 3},
                            [connection(1, 100, 121, (102, "7", 120)), connection(2, 121, 121),
                             connection(3, 122, 140, (123, "7", 139))])
        self.assertEqual(tries, [("7", 1, 1, False), ("7", 2, 2, False), ("7", 3, 3, False)])

    def test_a_request_that_was_tried_once_takes_no_strangers_connection(self):
        tries = self.follow([user("7", 100)], {"7": 1},
                            [connection(1, 100, 100), connection(2, 101, 130, (102, "7", 120))])
        self.assertEqual(tries, [("7", 1, 2, False)])

    def test_two_requests_refused_at_once_get_a_connection_each(self):
        tries = self.follow([user("7", 100), user("8", 110)], {"7": 2, "8": 2},
                            [connection(1, 101, 101), connection(2, 102, 102),
                             connection(3, 111, 111), connection(4, 112, 112)])
        self.assertEqual([port for _, _, port, _ in tries], [1, 2, 3, 4])

    def test_requests_of_a_kept_connection_are_reuses_but_the_first(self):
        kept = connection(1, 50, 900, (51, "6", 60), (100, "7", 120))
        tries = self.follow([user("6", 50), user("7", 100)], {"6": 1, "7": 2},
                            [kept, connection(2, 121, 150, (122, "7", 140))])
        self.assertEqual(tries, [("6", 1, 1, False), ("7", 1, 1, True), ("7", 2, 2, False)])

    def test_a_try_that_no_packet_shows_is_counted(self):
        self.assertEqual(self.follow([user("7", 100)], {"7": 1}, [connection(1, 400, 401)], lost=1),
                         [])


class ProxyLogs(unittest.TestCase):
    def counts(self, read, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "proxy.log"
            path.write_text(text, encoding="utf-8")
            return read(path)

    def test_nginx_lists_an_address_for_each_try(self):
        found = self.counts(label_proxy.nginx_counts,
                            "1 10.1.100.1:80\n2 10.1.100.1:80, 10.1.100.1:80\n3 -\n"
                            "4 [fd00:1::1]:80, [fd00:1::1]:80, [fd00:1::1]:80\n")
        self.assertEqual(found, {"1": 1, "2": 2, "3": 0, "4": 3})

    def test_haproxy_counts_retries_and_marks_redispatches(self):
        found = self.counts(label_proxy.haproxy_counts,
                            "[NOTICE] started\ntries 1 0\ntries 2 +1\ntries 3 2\n")
        self.assertEqual(found, {"1": 1, "2": 2, "3": 3})


if __name__ == "__main__":
    unittest.main()
