#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""petrel evaluate on rows that are written here: which runs it takes, what it refuses and how it
says so, and that SQLite, a directory of CSV and CSV alone are one.

evaluate_test.py PETREL MODEL"""

import json
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PETREL = MODEL = None  # set by main
ONE = 65536
MEASURES = ["auc", "auc_within_runs", "average_precision", "log_loss", "brier", "ece",
            "precision", "recall"]


def feature_names():
    return [feature["name"] for feature in json.loads(Path(MODEL).read_text())["features"]]


def training():
    return json.loads(Path(MODEL).read_text(encoding="utf-8"))["training"]


def header():
    return ",".join(["run", "time_ns", "service", "backend", "client", "connection", "request",
                     "point", "elapsed_ns", "failure", "status", "attempt", *feature_names(),
                     "retried", "evidence", "confidence"])


def rows_of(run, requests, seed=1):
    """Requests that wait 8 and 16 ms and are answered after 20 ms; every third is refused instead,
    after 12 ms at a silent backend, and nearly all of those are retried."""
    rng = random.Random(f"{run}/{seed}")
    lines = []
    for i in range(requests):
        bad = i % 3 == 0
        retried = int(bad == (rng.random() < 0.9))
        for age_ms in (8, 16, 12 if bad else 20):
            outcome = age_ms in (12, 20)
            if bad and age_ms == 16:
                continue
            features = dict.fromkeys(feature_names(), 0)
            if outcome:
                features["refused" if bad else "answered"] = ONE
            else:
                features["waiting_response"] = ONE
                features["waiting_age"] = 3 * ONE if age_ms == 8 else 4 * ONE
                features["backend_silence"] = (9 if bad else 0) * ONE
                features["backend_waiting"] = (3 if bad else 0) * ONE
            point = ("end" if bad else "answer") if outcome else "waiting_response"
            lines.append([run, 10**9 + i * 10**8 + age_ms * 10**6, 1, 1, i, i, 1, point,
                          age_ms * 10**6, 1 if outcome and bad else 0, 0, 1, *features.values(),
                          retried, 1, 255])
    return [",".join(map(str, line)) for line in lines]


class Evaluate(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def csv(self, *runs, name="rows.csv", requests=60):
        lines = [header()]
        for run in runs:
            lines += rows_of(run, requests)
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def evaluate(self, *arguments, code=0):
        done = subprocess.run([PETREL, "evaluate", *map(str, arguments), "--model", MODEL],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        if code:
            self.assertEqual(done.stdout, "")
        return done

    def json(self, *arguments):
        return json.loads(self.evaluate(*arguments, "--json").stdout)

    def test_has_all_figures_with_intervals(self):
        path = self.csv(*(f"new{i}" for i in range(6)))
        it = self.json(path)
        self.assertEqual(it["schema"], "petrel/evaluate/v1")
        self.assertEqual(it["resamples"], 200)
        self.assertEqual([run["role"] for run in it["runs"]], ["unknown"] * 6)
        self.assertEqual(sum(run["rows"] for run in it["runs"]), it["all"]["rows"])
        for measure in MEASURES:
            figure = it["all"][measure]
            self.assertLess(figure["low"], figure["high"], measure)
        self.assertGreater(it["all"]["auc"]["value"], 0.8)
        self.assertEqual(list(it["by_point"]),
                         ["waiting_syn", "waiting_response", "answer", "end"])
        self.assertIsNone(it["by_point"]["waiting_syn"]["auc"])  # there is no such row
        self.assertEqual(it["by_failure"]["refused"]["rows"], 6 * 20)
        self.assertEqual(sum(bin["rows"] for bin in it["reliability"]), it["all"]["rows"])
        self.assertEqual(len(it["baselines"]), 6)
        lead = it["lead_time"]
        self.assertEqual(lead["retried"]["requests"] + lead["not_retried"]["requests"], 6 * 60)
        self.assertEqual(lead["median_ms"]["value"], 4)  # from the age of 8 ms to the end at 12 ms
        text = self.evaluate(path).stdout
        for word in ["PR AUC", "waiting_response", "refused", "lead time", "failure threshold",
                     "6 that the model's file does not name"]:
            self.assertIn(word, text)

    def test_a_seed_gives_the_same_and_another_one_other_intervals(self):
        path = self.csv(*(f"new{i}" for i in range(6)))
        self.assertEqual(self.json(path), self.json(path))
        first, other = self.json(path), self.json(path, "--seed", 2)
        self.assertEqual(first["all"]["auc"]["value"], other["all"]["auc"]["value"])
        self.assertNotEqual(first["all"]["auc"], other["all"]["auc"])

    def test_takes_held_out_runs_and_leaves_those_out_that_were_trained_on(self):
        trained, held_out = training()["runs"][0], training()["held_out_runs"][:2]
        done = self.evaluate(self.csv(trained, *held_out, "new0"), "--json")
        it = json.loads(done.stdout)
        self.assertEqual({run["name"]: run["role"] for run in it["runs"]},
                         {held_out[0]: "held_out", held_out[1]: "held_out", "new0": "unknown"})
        self.assertEqual(it["left_out"], [trained])
        self.assertIn("left out 1 runs that the model was trained on", done.stderr)

    def test_refuses_runs_that_were_trained_on(self):
        trained = training()["runs"][:2]
        path = self.csv(*trained, "new0")
        done = self.evaluate(path, code=3)
        self.assertIn("the model was trained on " + ", ".join(trained), done.stderr)
        self.assertIn("--include-trained", done.stderr)
        self.assertEqual(len(self.json(path, "--include-trained")["runs"]), 3)
        self.assertEqual([run["name"] for run in self.json(path, "--run", "new0")["runs"]],
                         ["new0"])
        held_out = self.csv(trained[0], training()["held_out_runs"][0])
        done = self.evaluate(held_out, "--run", trained[0], code=3)
        self.assertIn("trained on " + trained[0], done.stderr)

    def test_a_single_run_has_figures_and_no_intervals(self):
        done = self.evaluate(self.csv("new0"), "--json")
        auc = json.loads(done.stdout)["all"]["auc"]
        self.assertGreater(auc["value"], 0.5)
        self.assertIsNone(auc["low"])
        self.assertIn("1 runs only", done.stderr)

    def test_shuffled_labels_cannot_be_predicted(self):
        path = self.csv(*(f"new{i}" for i in range(6)), requests=300)
        it = self.json(path, "--shuffle-labels", 5)
        self.assertEqual(it["shuffle_seed"], 5)
        self.assertAlmostEqual(it["all"]["auc"]["value"], 0.5, delta=0.03)
        self.assertAlmostEqual(it["all"]["auc_within_runs"]["value"], 0.5, delta=0.03)
        self.assertEqual(it["all"]["retried"], self.json(path)["all"]["retried"])

    def test_reads_all_that_train_reads(self):
        path = self.csv("new0", "new1")
        expected = self.json(path)
        database = self.folder / "rows.db"
        subprocess.run([PETREL, "export", self.folder, "-o", database], check=True,
                       capture_output=True)
        self.assertEqual(self.json(database), expected)
        self.assertEqual(self.json(self.folder), expected)

    def test_says_what_is_wrong_with_an_input_and_where(self):
        path = self.csv("new0")
        lines = path.read_text().splitlines()
        fields = lines[2].split(",")

        def broken(column, value, line=2):
            wrong = list(fields)
            wrong[column] = value
            path.write_text("\n".join(lines[:line] + [",".join(wrong)]) + "\n")
            return self.evaluate(path, code=3).stderr

        self.assertIn("rows.csv: line 3: column 8 (point): expected waiting_syn, waiting_response, "
                      'answer or end, found "later"', broken(7, "later"))
        self.assertIn("line 3: column 10 (failure): expected an integer from 0 to 7",
                      broken(9, "8"))
        path.write_text(header().replace("waiting_age", "age") + "\n")
        self.assertIn("line 1: column 15 (waiting_age): expected this name, found \"age\"",
                      self.evaluate(path, code=3).stderr)
        path.write_text("")
        self.assertIn("line 1: expected a header", self.evaluate(path, code=3).stderr)
        path.write_text(header() + "\n")
        self.assertIn("expected rows, found none", self.evaluate(path, code=3).stderr)
        path = self.csv("new0")
        self.assertIn("expected a run named new7, found none",
                      self.evaluate(path, "--run", "new7", code=3).stderr)
        self.evaluate(path, "--working-point", "1.5", code=2)
        self.evaluate(self.folder / "none.csv", code=2)

    def test_says_what_is_wrong_with_a_model(self):
        path = self.csv("new0")
        model = self.folder / "model.json"
        model.write_text(Path(MODEL).read_text().replace('"version": ', '"version": "one", "was": '))
        done = subprocess.run([PETREL, "evaluate", path, "--model", model], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("model.json", done.stderr)
        self.assertIn("version", done.stderr)


if __name__ == "__main__":
    MODEL = sys.argv.pop()
    PETREL = sys.argv.pop()
    unittest.main()
