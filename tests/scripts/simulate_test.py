#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""petrel simulate as users run it: the same bytes for the same seed, what JSON has, how it fails.

simulate_test.py PETREL MODEL DOCUMENT"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM = MODEL = DOCUMENT = None  # set by main

OUTCOME = {"requests", "first_attempt_failures", "retries", "amplification",
           "backend_amplification", "never_served", "p50_ms", "p99_ms", "p999_ms", "moved_90_ms",
           "recovered_ms"}


def simulate(*arguments, model=None):
    return subprocess.run([PROGRAM, "simulate", "--model", model or MODEL, *map(str, arguments)],
                          capture_output=True, text=True, check=False, timeout=100)


class Simulate(unittest.TestCase):
    def test_same_seed_gives_the_same_bytes_and_another_does_not(self):
        arguments = ("--scenario", "crawl", "--policy", "petrel", "--balancers", 3, "--json")
        first = simulate(*arguments, "--seed", 4)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(first.stdout, simulate(*arguments, "--seed", 4).stdout)
        self.assertNotEqual(first.stdout, simulate(*arguments, "--seed", 5).stdout)

    def test_run_has_the_figures_that_the_lab_has(self):
        done = json.loads(simulate("--scenario", "hang", "--policy", "static", "--json").stdout)
        self.assertEqual(done["schema"], "petrel/simulate/v1")
        self.assertLessEqual(OUTCOME, set(done["outcome"]))
        self.assertIsNone(done["outcome"]["moved_90_ms"])  # static never moves
        self.assertEqual(sum(second["requests"] for second in done["timeline"]),
                         done["outcome"]["requests"])
        self.assertEqual(set(done["timeline"][5]["weights"]), {"b1", "b2", "b3", "b4"})

    def test_comparison_has_intervals_and_says_where_it_was_made(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cells.json"
            run = simulate("--compare", "--scenario", "reset,healthy", "--policy", "static,petrel",
                           "--seeds", 5, "--json", path)
            self.assertEqual(run.returncode, 0, run.stderr)
            made = json.loads(path.read_text(encoding="utf-8"))
        for key in ("petrel", "host", "started", "seed", "command", "engine", "cells", "notes"):
            self.assertIn(key, made)
        self.assertEqual(made["engine"], "simulator")
        self.assertEqual([(cell["scenario"], cell["policy"]) for cell in made["cells"]],
                         [(s, p) for s in ("reset", "healthy") for p in ("static", "petrel")])
        for cell in made["cells"]:
            self.assertEqual(cell["seeds"], 5)
            self.assertLessEqual(OUTCOME, set(cell["outcome"]))
        low, high = made["cells"][0]["outcome"]["retries"]["interval"]
        self.assertLess(low, high)
        self.assertLessEqual(low, made["cells"][0]["outcome"]["retries"]["median"])
        self.assertIn("--scenario reset,healthy", made["command"])

    def test_boundary_of_a_storm_is_where_the_queue_outlasts_patience(self):
        run = simulate("--boundary", "--scenario", "storm", "--policy", "static", "--json")
        found = json.loads(run.stdout)["boundaries"][0]
        self.assertLess(found["recovers_from_s"], found["not_from_s"])
        self.assertAlmostEqual(found["not_from_s"], 1.25, delta=0.5)

    def test_document_names_each_scenario_and_policy(self):
        listed = json.loads(simulate("--list", "--json").stdout)
        text = Path(DOCUMENT).read_text(encoding="utf-8")
        for each in listed["scenarios"] + listed["policies"]:
            self.assertIn(f"| `{each['name']}` | {each['what']} |", text)

    def test_what_is_asked_wrongly_is_named(self):
        for arguments, named in ((("--scenario", "nope"), "nope"), (("--policy", "nope"), "nope"),
                                 (("--seeds", 0), "--seeds"), (("--backends", 5000), "--backends"),
                                 (("--scenario", "healthy", "--boundary"), "healthy")):
            run = simulate(*arguments)
            self.assertEqual(run.returncode, 2, arguments)
            self.assertIn(named, run.stderr)
            self.assertNotIn("Traceback", run.stderr)
        missing = simulate(model="/nonexistent.json")
        self.assertEqual(missing.returncode, 3)
        self.assertIn("/nonexistent.json", missing.stderr)
        # Policies that score nothing need no model.
        self.assertEqual(simulate("--policy", "static", model="/nonexistent.json").returncode, 0)


if __name__ == "__main__":
    PROGRAM, MODEL, DOCUMENT = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1])
