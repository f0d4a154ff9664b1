#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""petrel-traffic client against a backend on loopback whose answers are all 503: what it asks for,
how often, and on which connections.

traffic_client_test.py PETREL-TRAFFIC"""

import json
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections import defaultdict
from pathlib import Path

PROGRAM = None  # set by main


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class TrafficClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.target = f"127.0.0.1:{free_port()}"
        control = Path(cls.folder.name) / "control"
        cls.backend = subprocess.Popen([PROGRAM, "backend", "--name", "b1", "--listen", cls.target,
                                        "--control", control])
        cls.addClassCleanup(cls.backend.wait)
        cls.addClassCleanup(cls.backend.terminate)
        deadline = time.monotonic() + 20
        while not control.exists():
            if cls.backend.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the backend did not start")
            time.sleep(0.01)
        subprocess.run([PROGRAM, "fault", "--control", control, "errors", "--quick"], check=True)

    def attempts(self, *options):
        log = Path(self.folder.name) / "client.jsonl"
        subprocess.run([PROGRAM, "client", "--target", self.target, "--sources", "127.2.0.0/16",
                        "--timeout-ms", "20000", "--log", log, *options],
                       check=True, stderr=subprocess.DEVNULL)
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        found = [line for line in lines if "attempt" in line]
        self.assertTrue(found)
        return found

    def by_request(self, attempts):
        requests = defaultdict(list)
        for attempt in attempts:
            requests[attempt["request"]].append(attempt)
        return requests.values()

    def test_pollers_come_at_fixed_intervals_and_never_retry(self):
        attempts = self.attempts("--pollers", "3", "--poll-interval-ms", "100", "--rate", "0.001",
                                 "--duration", "1", "--retry", "immediate")
        polls = [attempt for attempt in attempts if attempt["kind"] == "poll"]
        self.assertEqual({(poll["attempt"], poll["path"], poll["status"]) for poll in polls},
                         {(1, "/poll", 503)})
        by_client = defaultdict(list)
        for poll in polls:
            by_client[poll["client"]].append(poll["intended_ns"])
        self.assertEqual(len(by_client), 3)
        for times in by_client.values():
            # A busy machine may leave some out, and moves none.
            self.assertEqual({(at - times[0]) % 100_000_000 for at in times}, {0})
            self.assertLessEqual(len(times), 10)

    def test_users_retry_beside_pollers(self):
        attempts = self.attempts("--pollers", "1", "--rate", "50", "--duration", "0.5",
                                 "--retry", "immediate", "--max-attempts", "2")
        users = [attempt for attempt in attempts if attempt["kind"] == "user"]
        self.assertEqual({len(tries) for tries in self.by_request(users)}, {2})

    def test_a_retry_repeats_its_path_and_requests_differ_in_theirs(self):
        attempts = self.attempts("--paths", "1000", "--rate", "50", "--duration", "0.5",
                                 "--retry", "immediate", "--max-attempts", "3")
        paths = [{attempt["path"] for attempt in tries} for tries in self.by_request(attempts)]
        self.assertEqual({len(tried) for tried in paths}, {1})
        if len(paths) > 1:  # 25 are to be expected
            self.assertGreater(len(set.union(*paths)), 1)

    def test_there_is_one_path_unless_more_are_asked_for(self):
        self.assertEqual({attempt["path"] for attempt in
                          self.attempts("--rate", "50", "--duration", "0.3")}, {"/"})

    def test_requests_in_parallel_are_one_clients_each_on_its_own_connection(self):
        attempts = self.attempts("--parallel", "3", "--paths", "1000", "--rate", "30",
                                 "--duration", "0.5", "--keep-alive")
        pages = defaultdict(list)
        for attempt in attempts:
            pages[attempt["intended_ns"]].append(attempt)
        for page in pages.values():
            self.assertEqual(len(page), 3)
            self.assertEqual(len({attempt["client"] for attempt in page}), 1)
            self.assertEqual(len({attempt["port"] for attempt in page}), 3)

    def test_a_retry_may_travel_on_the_kept_connection_that_failed(self):
        attempts = self.attempts("--keep-alive", "--rate", "20", "--duration", "0.5",
                                 "--retry", "immediate", "--max-attempts", "2")
        for first, second in self.by_request(attempts):
            self.assertTrue(second["reused"])
            self.assertEqual(second["client"], first["client"])

    def test_without_keep_alive_each_attempt_has_a_connection_of_its_own(self):
        attempts = self.attempts("--rate", "20", "--duration", "0.5", "--retry", "immediate")
        self.assertFalse(any(attempt["reused"] for attempt in attempts))


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
