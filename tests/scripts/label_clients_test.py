#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What scripts/label-check runs, and how it reads curl's traces and petrel-traffic's log."""

import json
import tempfile
import unittest
import unittest.mock
from pathlib import Path

from petrel_lab import label_curl, label_scenarios, truth
from petrel_lab.label_clients import CLASSES, TOOLS, missing_tools
from petrel_lab.label_options import cells_of
from petrel_lab.label_scenarios import SCENARIOS, draw

TRACE = """14:05:31.000000 *   Trying 10.1.100.1:80...
14:05:31.000400 * connect to 10.1.100.1 port 80 failed: Connection refused
14:05:32.001000 * Hostname 10.1.100.1 was found in DNS cache
14:05:32.001100 *   Trying 10.1.100.1:80...
14:05:32.001300 * Connected to 10.1.100.1 (10.1.100.1) port 80 (#1)
"""


class CurlTrace(unittest.TestCase):
    """The process began at 77.994 s, which was 14:05:31.3 of the day, so 14:05:31 at 77.694 s."""
    START_NS = 77_994_000_000

    def attempts(self, trace, nat=False, began_s=((14 * 60 + 5) * 60 + 31), later_s=0):
        offset_ns = began_s * 10**9 - 77_694_000_000 - later_s * 10**9
        line = {"request": 3, "source": "10.1.128.1", "start_ns": self.START_NS,
                "end_ns": self.START_NS + 2 * 10**9, "day_offset_ns": offset_ns, "trace": trace}
        return label_curl.attempts_of(line, nat)

    def test_each_trying_is_an_attempt_at_its_time(self):
        first, second = self.attempts(TRACE)
        self.assertEqual((first.number, first.start_ns), (1, 78_000_000_000))
        self.assertEqual((second.number, second.start_ns), (2, 79_001_100_000))
        self.assertEqual(first.end_ns, second.start_ns)
        self.assertEqual(second.end_ns, self.START_NS + 2 * 10**9)
        self.assertEqual(first.address, "10.1.128.1")

    def test_a_process_that_begins_late_is_no_whole_second_wrong(self):
        first, _ = self.attempts(TRACE, later_s=3)
        self.assertEqual(first.start_ns, 81_000_000_000)

    def test_a_stamp_before_the_process_began_is_of_the_next_second(self):
        first, _ = self.attempts(TRACE, later_s=-1)
        self.assertEqual(first.start_ns, 78_000_000_000)

    def test_behind_nat_its_address_is_not_what_petrel_sees(self):
        attempt, *_ = self.attempts(TRACE, nat=True)
        self.assertEqual((attempt.address, attempt.user), ("", "10.1.128.1"))

    def test_midnight_may_come_between(self):
        first, second = self.attempts("23:59:59.500000 *   Trying 10.1.100.1:80...\n"
                                      "00:00:00.600000 *   Trying 10.1.100.1:80...\n",
                                      began_s=86_399)
        self.assertEqual(first.start_ns, 78_500_000_000)
        self.assertEqual(second.start_ns - first.start_ns, 1_100_000_000)

    def test_a_retry_on_the_connection_that_it_has_is_an_attempt_too(self):
        attempts = self.attempts("14:05:31.000000 *   Trying 10.1.100.1:80...\n"
                                 "14:05:32.000000 * Re-using existing connection #0 with host x\n")
        self.assertEqual([(one.number, one.reused) for one in attempts], [(1, False), (2, True)])

    def test_what_never_tried_has_no_attempt(self):
        self.assertEqual(self.attempts("curl: (7) bind failed\n"), [])


class TrafficLog(unittest.TestCase):
    LINE = {"request": 7, "attempt": 2, "kind": "user", "target": "10.1.100.1:80", "path": "/",
            "client": "10.1.128.9", "port": 40000, "intended_ns": 1, "start_ns": 2, "end_ns": 9,
            "reused": False, "outcome": "ok"}

    def read(self, *lines, **options):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "client.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            return truth.read_traffic_log(path, **options)

    def test_a_line_of_an_attempt_is_one_and_that_of_a_requests_end_is_none(self):
        attempt, = self.read(self.LINE, {"request_done": 7, "served": True})
        self.assertTrue(attempt.is_retry)
        self.assertEqual((attempt.address, attempt.port, attempt.sent), ("10.1.128.9", 40000, True))

    def test_one_without_a_port_was_not_sent(self):
        attempt, = self.read(self.LINE | {"port": 0})
        self.assertFalse(attempt.sent)

    def test_behind_nat_the_address_is_the_users_alone(self):
        attempt, = self.read(self.LINE, behind_nat=True)
        self.assertEqual((attempt.address, attempt.user), ("", "10.1.128.9"))


class Clients(unittest.TestCase):
    def test_each_that_may_be_named_is_there_with_what_it_needs(self):
        self.assertEqual(set(CLASSES), set(label_scenarios.CLIENTS))
        self.assertEqual(set(TOOLS), set(label_scenarios.CLIENTS))

    def test_what_is_missing_is_told_once(self):
        self.assertEqual(missing_tools({"petrel-traffic"}), [])
        with unittest.mock.patch("shutil.which", return_value=None):
            self.assertEqual(sorted(missing_tools({"nginx", "haproxy"})),
                             ["haproxy", "nginx", "ss", "tcpdump"])


class Scenarios(unittest.TestCase):
    def test_all_are_run_and_other_clients_have_an_address_each(self):
        cells = [(scenario.name, client) for scenario, client in cells_of(None, None)]
        self.assertEqual([cell for cell in cells if cell[1] != "petrel-traffic"],
                         [("one-address", client) for client in ("curl", "urllib3", "nginx",
                                                                 "haproxy")])
        self.assertEqual({name for name, _ in cells}, set(SCENARIOS))

    def test_what_is_named_is_run_also_where_it_would_be_left_out(self):
        cells = [(scenario.name, client) for scenario, client in cells_of(["ipv6"], ["curl"])]
        self.assertEqual(cells, [("ipv6", "curl")])

    def test_a_client_alone_leaves_the_scenarios_that_have_it(self):
        cells = [(scenario.name, client) for scenario, client in cells_of(None, ["nginx"])]
        self.assertEqual(cells, [("one-address", "nginx")])

    def test_a_run_is_drawn_from_its_seed(self):
        scenario = SCENARIOS["one-address"]
        self.assertEqual(draw(scenario, "curl", 3, 12), draw(scenario, "curl", 3, 12))
        self.assertNotEqual(draw(scenario, "curl", 3, 12).episodes,
                            draw(scenario, "curl", 4, 12).episodes)

    def test_every_fault_comes_once_and_they_do_not_overlap(self):
        weather = draw(SCENARIOS["one-address"], "petrel-traffic", 1, 12)
        self.assertEqual({kind for _, _, kind in weather.episodes},
                         set(label_scenarios.FAULT_KINDS))
        ends = [0, *(end for _, end, _ in weather.episodes)]
        for (begin, end, _), before in zip(weather.episodes, ends):
            self.assertGreater(begin, before)
            self.assertGreater(end, begin)
            self.assertLess(end, weather.seconds)


if __name__ == "__main__":
    unittest.main()
