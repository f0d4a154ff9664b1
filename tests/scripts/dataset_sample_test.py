#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The sample of the dataset: how it is taken, and that the committed one is of this program.

dataset_sample_test.py PETREL MODEL-SAMPLE CAPTURE.MD"""

import csv
import re
import subprocess
import sys
import tempfile
import unittest
from collections import defaultdict
from pathlib import Path

from petrel_lab.dataset_sample import choose, subsample

PETREL = SAMPLE = REFERENCE = None  # set by main


def entry(run, kinds, retried, losses=None, retry="fixed"):
    return {"run": run, "faults": kinds, "retried": retried, "rows": 100, "losses": losses or {},
            "weather": {"retry": retry}}


def documented_columns():
    """Of `rows`, as docs/capture.md lists them; Capture.* tests hold that list to the program."""
    text = REFERENCE.read_text(encoding="utf-8")
    section = text.split("\n## `rows`\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


class Taking(unittest.TestCase):
    CONNECTIONS = {str(c): [(c + 50 * i, f"row {c} {i}\n") for i in range(1 + c % 3)]
                   for c in range(50)}

    def test_connections_are_whole_and_in_order(self):
        lines = subsample("ds1-000", self.CONNECTIONS, 300)
        self.assertTrue(200 < sum(map(len, lines)) <= 300)
        kept = defaultdict(list)
        for line in lines:
            kept[line.split()[1]].append(line)
        for connection, rows in kept.items():
            self.assertEqual(rows, [line for _, line in self.CONNECTIONS[connection]])
        numbers = {line: number for rows in self.CONNECTIONS.values() for number, line in rows}
        self.assertEqual([numbers[line] for line in lines],
                         sorted(numbers[line] for line in lines))

    def test_the_same_run_gives_the_same_and_another_run_another(self):
        backwards = dict(reversed(self.CONNECTIONS.items()))
        self.assertEqual(subsample("a", self.CONNECTIONS, 300), subsample("a", backwards, 300))
        self.assertNotEqual(subsample("a", self.CONNECTIONS, 300),
                            subsample("b", self.CONNECTIONS, 300))

    def test_runs_are_chosen_of_each_sort_with_retries_and_without_losses(self):
        entries = [entry("a", ["hang"], 0), entry("b", ["slow"], 12), entry("c", ["hang"], 90),
                   entry("d", ["reset"], 9, losses={"rows": 1}), entry("e", ["refuse"], 50),
                   entry("f", ["errors", "slow"], 10), entry("h", ["errors"], 10, retry="none"),
                   entry("g", ["errors"], 80)]
        self.assertEqual([one["run"] for one in choose(entries)], ["b", "e", "g"])
        self.assertEqual(choose(entries), choose(entries[::-1]))
        with self.assertRaisesRegex(ValueError, "no run with errors alone"):
            choose(entries[:-1])


class Committed(unittest.TestCase):
    def test_its_columns_are_those_of_the_program(self):
        columns = documented_columns()
        self.assertIn("retried", columns)
        files = sorted(SAMPLE.glob("*.csv"))
        self.assertEqual(len(files), 3)
        for file in files:
            with file.open(encoding="utf-8", newline="") as rows:
                self.assertEqual(next(csv.reader(rows)), columns,
                                 f"{file.name}: take it anew, by scripts/dataset --sample")

    def test_the_program_reads_it_and_loses_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            for file in SAMPLE.glob("*.csv"):
                database, back = Path(folder) / f"{file.stem}.db", Path(folder) / file.name
                for source, target in ((file, database), (database, back)):
                    subprocess.run([PETREL, "export", source, "-o", target, "--table", "rows"],
                                   check=True, stderr=subprocess.DEVNULL)
                self.assertEqual(back.read_text(encoding="utf-8"), file.read_text(encoding="utf-8"))

    def test_it_is_small_and_has_both_labels(self):
        self.assertLess(sum(file.stat().st_size for file in SAMPLE.iterdir()), 400_000)
        for file in SAMPLE.glob("*.csv"):
            with file.open(encoding="utf-8", newline="") as rows:
                self.assertEqual({row["retried"] for row in csv.DictReader(rows)}, {"0", "1"})


if __name__ == "__main__":
    REFERENCE = Path(sys.argv.pop(3))
    SAMPLE = Path(sys.argv.pop(2))
    PETREL = sys.argv.pop(1)
    unittest.main()
