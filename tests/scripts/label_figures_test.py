#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Precision, recall and their intervals: petrel_lab.label_figures."""

import unittest

from petrel_lab.label_figures import Cell
from petrel_lab.label_join import Joined
from petrel_lab.labels import Record
from petrel_lab.truth import Attempt


def attempt(request, number, user="u1"):
    return Attempt(user=user, request=request, number=number, start_ns=0, end_ns=1)


def record(label, confidence=1.0):
    return Record("10.1.0.2", 1, 1, 1, 1, label, 0, confidence, "", "")


def cell_of(*pairs, attempts_left=(), records_left=()):
    cell = Cell("one-address", "curl")
    cell.add_run(1, Joined(list(pairs), list(attempts_left), list(records_left)))
    return cell


def users(count, right, wrong=0, missed=0):
    """Each of so many users with the same attempts."""
    pairs = []
    for user in range(count):
        for number, (true, labelled) in enumerate(
                [(2, 2)] * right + [(1, 2)] * wrong + [(2, 1)] * missed):
            pairs.append((attempt(f"{user}/{number}", true, f"u{user}"), record(labelled)))
    return pairs


class Figures(unittest.TestCase):
    def test_precision_counts_labels_and_recall_counts_retries(self):
        figures = cell_of(*users(1, right=6, wrong=2, missed=4)).figures(1)
        self.assertEqual(figures["precision"], 6 / 8)
        self.assertEqual(figures["recall"], 6 / 10)
        self.assertEqual(figures["retries_true"], 10)
        self.assertEqual(figures["retries_labelled"], 8)
        self.assertEqual(figures["attempts"], 12)

    def test_without_retries_there_are_no_figures(self):
        figures = cell_of((attempt("1", 1), record(1)), (attempt("2", 1, "u2"), record(1))).figures(1)
        for key in ("precision", "recall", "precision_interval", "recall_interval"):
            self.assertIsNone(figures[key], key)

    def test_what_was_not_joined_is_counted_and_in_no_ratio(self):
        figures = cell_of((attempt("1", 2), record(2)), attempts_left=[attempt("2", 2)],
                          records_left=[record(2), record(1)]).figures(1)
        self.assertEqual((figures["precision"], figures["recall"]), (1, 1))
        self.assertEqual(figures["attempts"], 2)
        self.assertEqual(figures["attempts_not_reached"], 1)
        self.assertEqual(figures["retries_not_reached"], 1)
        self.assertEqual(figures["records_unexplained"], 2)
        self.assertEqual(figures["records_unexplained_retries"], 1)

    def test_a_retry_of_what_was_never_seen_is_counted(self):
        seen = cell_of((attempt("1", 1), record(1)), (attempt("1", 2), record(2)))
        unseen = cell_of((attempt("1", 2), record(1)), attempts_left=[attempt("1", 1)])
        self.assertEqual(seen.figures(1)["retries_after_unseen"], 0)
        self.assertEqual(unseen.figures(1)["retries_after_unseen"], 1)

    def test_the_interval_holds_the_figure_and_repeats_with_its_seed(self):
        pairs = users(30, right=3) + users(10, right=1, wrong=1)
        first, again = cell_of(*pairs).figures(7), cell_of(*pairs).figures(7)
        low, high = first["precision_interval"]
        self.assertLess(low, first["precision"])
        self.assertGreater(high, first["precision"])
        self.assertEqual(first["precision_interval"], again["precision_interval"])

    def test_users_that_differ_make_it_wider_than_attempts_that_do(self):
        mixed = [pair for user in range(20) for pair in users_named(f"m{user}", right=5, wrong=5)]
        split = [pair for user in range(10) for pair in users_named(f"r{user}", right=10)] + \
            [pair for user in range(10) for pair in users_named(f"w{user}", wrong=10)]
        narrow = cell_of(*mixed).figures(1)["precision_interval"]
        wide = cell_of(*split).figures(1)["precision_interval"]
        self.assertEqual(narrow, [0.5, 0.5])
        self.assertGreater(wide[1] - wide[0], 0.2)

    def test_runs_add_up_and_their_users_are_not_the_same(self):
        cell = cell_of((attempt("1", 2), record(2)))
        cell.add_run(2, Joined([(attempt("1", 2), record(1))], [], []))
        figures = cell.figures(1)
        self.assertEqual((figures["runs"], figures["users"], figures["recall"]), (2, 2, 0.5))

    def test_records_that_captures_lost_add_up(self):
        cell = Cell("one-address", "curl")
        for seed in (1, 2):
            cell.add_run(seed, Joined([], [], [], lost=seed))
        self.assertEqual(cell.figures(1)["records_lost"], 3)

    def test_confidence_is_told_of_right_and_of_wrong_labels(self):
        figures = cell_of((attempt("1", 2), record(2, 0.9)), (attempt("2", 1), record(2, 0.5)),
                          (attempt("3", 1), record(1, 0.1))).figures(1)
        self.assertAlmostEqual(figures["confidence_right"], 0.9)
        self.assertAlmostEqual(figures["confidence_wrong"], 0.5)


def users_named(user, right=0, wrong=0):
    return [(attempt(f"{user}/{i}", 2 if i < right else 1, user), record(2))
            for i in range(right + wrong)]


if __name__ == "__main__":
    unittest.main()
