#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""petrel-traffic client against a backend on loopback whose answers are all 503: what it asks for,
how often, and on which connections.

traffic_client_test.py PETREL-TRAFFIC"""

import contextlib
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
        backend = cls.running_backend()
        cls.target = backend.__enter__()
        cls.addClassCleanup(backend.__exit__, None, None, None)
        cls.control = Path(cls.folder.name) / f"{cls.target}.sock"
        subprocess.run([PROGRAM, "fault", "--control", cls.control, "errors", "--quick"],
                       check=True)

    @classmethod
    @contextlib.contextmanager
    def running_backend(cls, *options):
        """Its address."""
        target = f"127.0.0.1:{free_port()}"
        control = Path(cls.folder.name) / f"{target}.sock"
        with subprocess.Popen([PROGRAM, "backend", "--name", "b1", "--listen", target, "--control",
                               control, *options]) as backend:
            try:
                deadline = time.monotonic() + 20
                while not control.exists():
                    if backend.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError("the backend did not start")
                    time.sleep(0.01)
                yield target
            finally:
                backend.terminate()

    def stats(self):
        return json.loads(subprocess.run([PROGRAM, "stats", "--control", self.control], check=True,
                                         capture_output=True).stdout)

    def attempts(self, *options, target=None):
        log = Path(self.folder.name) / "client.jsonl"
        subprocess.run([PROGRAM, "client", "--target", target or self.target, "--sources",
                        "127.2.0.0/16", "--timeout-ms", "20000", "--log", log, *options],
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

    def test_posts_are_a_share_and_their_bodies_are_read(self):
        before = self.stats()["request_body_bytes"]
        attempts = self.attempts("--rate", "200", "--duration", "1", "--post-share", "0.5",
                                 "--post-bytes", "5000")
        posts = [attempt for attempt in attempts if attempt["method"] == "POST"]
        self.assertTrue(0.3 < len(posts) / len(attempts) < 0.7, len(posts))
        sent = sum(attempt["body_bytes"] for attempt in posts)
        self.assertGreater(sent, 0)
        self.assertEqual(self.stats()["request_body_bytes"] - before, sent)

    def test_requests_are_get_unless_posts_are_asked_for(self):
        self.assertEqual({(attempt["method"], attempt["body_bytes"]) for attempt in
                          self.attempts("--rate", "50", "--duration", "0.3")}, {("GET", 0)})

    def test_a_post_that_was_answered_is_not_retried(self):
        attempts = self.attempts("--rate", "50", "--duration", "0.5", "--post-share", "0.5",
                                 "--retry", "immediate", "--max-attempts", "2")
        for tries in self.by_request(attempts):
            self.assertEqual(len(tries), 1 if tries[0]["method"] == "POST" else 2)

    def test_a_post_that_never_had_a_connection_is_retried(self):
        attempts = self.attempts("--rate", "20", "--duration", "0.5", "--post-share", "1",
                                 "--retry", "immediate", "--max-attempts", "2",
                                 target=f"127.0.0.1:{free_port()}")
        self.assertEqual({attempt["outcome"] for attempt in attempts}, {"refused"})
        self.assertEqual({len(tries) for tries in self.by_request(attempts)}, {2})

    def test_a_post_is_retried_with_the_same_body_where_asked_for(self):
        attempts = self.attempts("--rate", "50", "--duration", "0.5", "--post-share", "1",
                                 "--retry-posts", "--retry", "immediate", "--max-attempts", "3")
        requests = self.by_request(attempts)
        self.assertEqual({len(tries) for tries in requests}, {3})
        bodies = [{attempt["body_bytes"] for attempt in tries} for tries in requests]
        self.assertEqual({len(sizes) for sizes in bodies}, {1})
        if len(bodies) > 1:
            self.assertGreater(len(set.union(*bodies)), 1)

    def test_the_added_delay_is_in_every_answer(self):
        with self.running_backend("--added-delay-ms", "40", "--service-time-ms", "1",
                                  "--distribution", "constant") as far:
            attempts = self.attempts("--rate", "50", "--duration", "0.5", target=far)
        self.assertEqual({attempt["outcome"] for attempt in attempts}, {"ok"})
        self.assertGreaterEqual(min(attempt["response_us"] for attempt in attempts), 41_000)

    def test_without_keep_alive_each_attempt_has_a_connection_of_its_own(self):
        attempts = self.attempts("--rate", "20", "--duration", "0.5", "--retry", "immediate")
        self.assertFalse(any(attempt["reused"] for attempt in attempts))


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
