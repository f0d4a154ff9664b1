#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""petrel train, and what petrel evaluate holds a model against: faults left out, an upper bound.

train_test.py PETREL MODEL"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import evaluate_test

PETREL = MODEL = None  # set by main
FAULTS = ["hang", "reset"]


class Train(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.runs = [f"made{i}" for i in range(9)]
        lines = [evaluate_test.header()]
        for run in cls.runs:
            lines += evaluate_test.rows_of(run, 90)
        cls.rows = cls.folder / "rows.csv"
        cls.rows.write_text("\n".join(lines) + "\n")
        cls.manifest = cls.folder / "dataset.json"
        cls.manifest.write_text(json.dumps(
            {"schema": "petrel/dataset/v1",
             "runs": [{"run": run, "faults": [FAULTS[i % 2]]} for i, run in enumerate(cls.runs)]}))

    def petrel(self, *arguments, code=0):
        done = subprocess.run([PETREL, *map(str, arguments)], capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def train(self, name, *options, code=0):
        path = self.folder / name
        done = self.petrel("train", self.rows, "-o", path, "--date", "2026-01-31", *options,
                           code=code)
        return path, done

    def test_the_same_rows_and_seed_give_the_same_file(self):
        first, _ = self.train("first.json", "--seed", 3)
        second, _ = self.train("second.json", "--seed", 3)
        self.assertEqual(first.read_bytes(), second.read_bytes())
        self.petrel("model", "verify", first)

    def test_the_file_says_how_it_was_fitted(self):
        path, done = self.train("model.json", "--penalty", "l1", "--class-weight", "1",
                                "--calibration", "platt", "--manifest", self.manifest, "--json")
        report = json.loads(done.stdout)
        self.assertEqual(report["schema"], "petrel/train/v1")
        model = json.loads(path.read_text())
        fit = model["training"]["fit"]
        self.assertEqual((fit["penalty"], fit["class_weight"], fit["calibration"]),
                         ("l1", 1, "platt"))
        self.assertEqual(set(model["training"]["runs"]) | set(model["training"]["held_out_runs"]),
                         set(self.runs))
        features = {each["name"]: each for each in model["features"]}
        self.assertGreater(features["refused"]["coefficient"], 0)
        self.assertEqual(features["reset"]["coefficient"], 0)  # never varied
        self.assertIn("reference", features["waiting_age"])

    def test_a_feature_that_is_left_out_has_no_weight(self):
        path, _ = self.train("without.json", "--without", "refused,answered")
        features = {each["name"]: each for each in json.loads(path.read_text())["features"]}
        self.assertEqual(features["refused"]["coefficient"], 0)
        self.assertEqual(features["answered"]["coefficient"], 0)
        _, done = self.train("wrong.json", "--without", "refusal", code=2)
        self.assertIn("refusal", done.stderr)
        self.assertFalse((self.folder / "wrong.json").exists())

    def test_isotonic_calibration_is_in_the_file_and_in_the_score(self):
        path, _ = self.train("curve.json", "--calibration", "isotonic")
        knots = json.loads(path.read_text())["calibration"]["knots_q16"]
        self.assertEqual(knots, sorted(knots))
        self.assertEqual(len(knots), 33)
        self.petrel("model", "verify", path)

    def test_faults_are_left_out_whole(self):
        path, _ = self.train("faults.json")
        done = self.petrel("evaluate", self.rows, "--model", path, "--include-trained", "--manifest",
                           self.manifest, "--leave-one-fault-out", "--json")
        it = json.loads(done.stdout)
        self.assertEqual([each["fault"] for each in it["leave_one_fault_out"]], FAULTS)
        for each in it["leave_one_fault_out"]:
            self.assertGreater(each["auc"], 0.7)
        self.assertEqual([each["fault"] for each in it["by_fault"]], FAULTS)
        wrong = self.folder / "wrong.json"
        wrong.write_text('{"schema": "petrel/dataset/v1", "runs": [{"run": "made0"}]}')
        done = self.petrel("evaluate", self.rows, "--model", path, "--include-trained", "--manifest",
                           wrong, code=3)
        self.assertIn("wrong.json: runs[0].faults: expected", done.stderr)

    def test_an_upper_bound_is_held_against_the_model(self):
        path, _ = self.train("bounded.json")
        held_out = json.loads(path.read_text())["training"]["held_out_runs"]
        bound = self.folder / "bound.json"
        bound.write_text(json.dumps(
            {"schema": "petrel/upper-bound/v1", "checksum": "00000000", "model": "trees",
             "auc": 0.99}))
        runs = [option for run in held_out for option in ("--run", run)]
        done = self.petrel("evaluate", self.rows, "--model", path, *runs, "--upper-bound", bound,
                           "--json")
        it = json.loads(done.stdout)
        self.assertEqual(it["upper_bound"]["model"], "trees")
        self.assertAlmostEqual(it["upper_bound"]["auc_difference"], 0.99 - it["auc"], places=9)
        self.assertFalse(it["upper_bound"]["same_split"])
        bound.write_text("{}")
        done = self.petrel("evaluate", self.rows, "--model", path, *runs, "--upper-bound", bound,
                           code=3)
        self.assertIn("bound.json", done.stderr)


if __name__ == "__main__":
    MODEL = evaluate_test.MODEL = sys.argv.pop()
    PETREL = evaluate_test.PETREL = sys.argv.pop()
    unittest.main()
