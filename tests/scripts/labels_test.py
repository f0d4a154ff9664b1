#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A capture read: petrel_lab.labels."""

import sqlite3
import tempfile
import unittest
from pathlib import Path

from petrel_lab.labels import COLUMNS, count_lost, plain, read_labels


class ReadLabels(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name) / "capture.sqlite"

    def write(self, columns, *rows, table="requests"):
        connection = sqlite3.connect(self.path)
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.commit()
        connection.close()

    def write_requests(self, *withdrawn):
        self.write(("time_ns", *COLUMNS, "backend"),
                   (900, "10.1.128.9", 40000, 10, 700, 2, 2, 3, 0.5, "none", "reset", "b1"),
                   (600, "10.1.128.9", 40000, 10, 12, 1, 1, 0, 1.0, "reset", "none", "b1"),
                   (400, "10.1.128.8", 40000, 300, 0, 0, 3, 1, 0.9, "refused", "refused", "b2"))
        self.write(("time_ns", "client", "client_port", "syn_ns", "request"), *withdrawn,
                   table="withdrawn")

    def test_a_label_that_was_taken_back_after_its_row_was_written_is_none(self):
        self.write_requests((901, "10.1.128.9", 40000, 10, 2), (400, "10.1.128.8", 40000, 300, 1))
        self.assertEqual([one.is_retry for one in read_labels(self.path)], [False, False, False])

    def test_one_that_was_taken_back_before_is_as_its_row_says(self):
        self.write_requests((899, "10.1.128.9", 40000, 10, 2), (500, "10.1.128.8", 40000, 301, 1))
        self.assertEqual([one.is_retry for one in read_labels(self.path)], [False, True, True])

    def test_records_come_in_the_order_in_which_their_attempts_began(self):
        self.write_requests()
        records = read_labels(self.path)
        self.assertEqual([one.begin_ns for one in records], [10, 300, 700])
        self.assertEqual([one.is_retry for one in records], [False, True, True])
        self.assertEqual(records[2].confidence, 0.5)
        self.assertEqual(records[2].previous_failure, "reset")

    def test_one_without_the_columns_is_an_error(self):
        self.write(COLUMNS[1:])
        with self.assertRaises(sqlite3.OperationalError):
            read_labels(self.path)

    def test_one_that_is_not_there_is_an_error_and_is_not_made(self):
        with self.assertRaises(sqlite3.OperationalError):
            read_labels(self.path)
        self.assertFalse(self.path.exists())

    def test_what_was_lost_adds_up_over_its_places(self):
        self.write(("time_ns", "place", "lost"), (1, "events", 3), (9, "stream", 4), table="losses")
        self.assertEqual(count_lost(self.path), 7)

    def test_nothing_was_lost_where_no_row_says_so(self):
        self.write(("time_ns", "place", "lost"), table="losses")
        self.assertEqual(count_lost(self.path), 0)

    def test_each_address_has_one_spelling(self):
        self.assertEqual(plain("::ffff:10.1.0.2"), "10.1.0.2")
        self.assertEqual(plain("fd00:0001:0::2"), "fd00:1::2")


if __name__ == "__main__":
    unittest.main()
