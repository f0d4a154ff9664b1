#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which record is which attempt: petrel_lab.label_join."""

import unittest

from petrel_lab.label_join import join
from petrel_lab.labels import Record
from petrel_lab.truth import Attempt

MS = 1_000_000
ADDRESS = "10.1.128.9"
SHARED = "10.1.0.2"


def attempt(start_ms, port=40000, end_ms=None, address=ADDRESS, **more):
    end_ms = start_ms + 10 if end_ms is None else end_ms
    return Attempt(user="u", request=more.pop("request", "1"), number=more.pop("number", 1),
                   start_ns=round(start_ms * MS), end_ns=round(end_ms * MS), address=address,
                   port=port, **more)


def record(begin_ms, port=40000, address=ADDRESS, request=1, syn_ms=None, label=1):
    begin_ns = round(begin_ms * MS)
    first = request <= 1
    return Record(client=address, client_port=port,
                  syn_ns=begin_ns if first else round(syn_ms * MS),
                  request_ns=0 if request == 0 else begin_ns, request=request, attempt=label,
                  evidence=0, confidence=1.0, failure="", previous_failure="")


class Join(unittest.TestCase):
    def paired(self, attempts, records, nat=False):
        """Pairs as (index of the attempt, index of the record), in order."""
        joined = join(attempts, records, nat)
        self.assertEqual(len(joined.pairs) + len(joined.attempts_left), len(attempts))
        self.assertEqual(len(joined.pairs) + len(joined.records_left), len(records))
        return sorted((attempts.index(a), records.index(r)) for a, r in joined.pairs)

    def test_a_record_of_the_port_within_the_attempt_is_its_own(self):
        self.assertEqual(self.paired([attempt(0)], [record(0.1)]), [(0, 0)])

    def test_a_record_before_or_after_the_attempt_is_not(self):
        self.assertEqual(self.paired([attempt(100)], [record(90)]), [])
        self.assertEqual(self.paired([attempt(100)], [record(112)]), [])

    def test_a_record_of_another_port_or_address_is_not(self):
        self.assertEqual(self.paired([attempt(0)], [record(0.1, port=40002)]), [])
        self.assertEqual(self.paired([attempt(0)], [record(0.1, address="10.1.128.10")]), [])

    def test_a_port_used_twice_is_told_apart_by_time(self):
        attempts = [attempt(0), attempt(500, request="2")]
        self.assertEqual(self.paired(attempts, [record(500.1), record(0.1)]), [(0, 1), (1, 0)])

    def test_requests_of_a_kept_connection_are_joined_each_to_its_own(self):
        attempts = [attempt(0), attempt(20, reused=True), attempt(40, reused=True)]
        records = [record(0.1), record(20.1, request=2, syn_ms=0.1),
                   record(40.1, request=3, syn_ms=0.1)]
        self.assertEqual(self.paired(attempts, records), [(0, 0), (1, 1), (2, 2)])

    def test_a_reused_attempt_is_never_joined_to_a_new_connection(self):
        self.assertEqual(self.paired([attempt(0, reused=True)], [record(0.1)]), [])
        self.assertEqual(self.paired([attempt(5)], [record(5.1, request=2, syn_ms=0)]), [])

    def test_a_connection_that_never_had_a_request_is_joined_by_its_syn(self):
        self.assertEqual(self.paired([attempt(0)], [record(0.1, request=0)]), [(0, 0)])

    def test_each_record_is_joined_once(self):
        attempts = [attempt(0, end_ms=50), attempt(0.05, end_ms=50, request="2")]
        self.assertEqual(self.paired(attempts, [record(0.1)]), [(1, 0)])

    def test_an_attempt_that_opened_no_socket_is_joined_to_nothing(self):
        self.assertEqual(self.paired([attempt(0, port=0, sent=False)], [record(0.1)]), [])

    def test_a_log_without_ports_is_joined_by_time_and_address(self):
        attempts = [attempt(0, port=0), attempt(3, port=0, address="10.1.128.10")]
        records = [record(3.2, port=1, address="10.1.128.10"), record(0.2, port=2)]
        self.assertEqual(self.paired(attempts, records), [(0, 1), (1, 0)])

    def test_by_time_alone_what_comes_late_is_no_pair(self):
        late = attempt(0, port=0, end_ms=600, address="")
        self.assertEqual(self.paired([late], [record(30)], nat=True), [])

    def test_by_time_and_address_it_may_come_later(self):
        self.assertEqual(self.paired([attempt(0, port=0, end_ms=600)], [record(300)]), [(0, 0)])

    def test_behind_nat_the_port_is_enough(self):
        attempts = [attempt(0, address=""), attempt(0, address="", port=40002)]
        records = [record(0.1, address=SHARED, port=40002), record(0.2, address=SHARED)]
        self.assertEqual(self.paired(attempts, records, nat=True), [(0, 1), (1, 0)])

    def test_behind_nat_a_port_that_was_translated_is_found_by_time(self):
        attempts = [attempt(0, address="", end_ms=600), attempt(100, address="", request="2")]
        records = [record(0.1, address=SHARED), record(100.1, address=SHARED, port=61234)]
        self.assertEqual(self.paired(attempts, records, nat=True), [(0, 0), (1, 1)])

    def test_without_nat_a_port_that_differs_is_not_explained_by_time(self):
        self.assertEqual(self.paired([attempt(0)], [record(0.1, port=61234)]), [])


if __name__ == "__main__":
    unittest.main()
