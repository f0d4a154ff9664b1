#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""petrel predict, model and quantize as users run them: what they print, and how they end.

predict_test.py PETREL MODEL"""

import csv
import io
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM = MODEL = None  # set by main


def run(*arguments, text=""):
    return subprocess.run([PROGRAM, *map(str, arguments)], input=text, capture_output=True,
                          text=True, check=False, timeout=60)


def predict(*arguments, text=""):
    return run("predict", "--model", MODEL, *arguments, text=text)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def changed_model(self, old, new):
        text = Path(MODEL).read_text(encoding="utf-8")
        self.assertIn(old, text)
        return self.file("changed.json", text.replace(old, new))


class Predict(Folder):
    FLAGS = ["--response-time-ms", "750", "--status", "500", "--bytes-sent", "1024",
             "--anomaly-score", "2.5"]

    def test_a_request_as_flags(self):
        done = predict(*self.FLAGS)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^retry probability 0\.[6-9]\d+ ")
        self.assertNotIn("not used", done.stdout)
        self.assertIn("not used by model", predict("--bytes-received", "5").stdout)
        self.assertIn("response_time_ms: makes no difference to this request\n", done.stdout)
        self.assertRegex(done.stdout, r"not given, at the training (mean|median).*syn_repeats")

    def test_flags_and_json_say_the_same(self):
        request = {"response_time_ms": 750, "status": 500, "bytes_sent": 1024, "anomaly_score": 2.5}
        by_flags = json.loads(predict(*self.FLAGS, "--json").stdout)
        by_file = predict("--json-input", self.file("r.json", json.dumps(request)), "--json")
        by_stdin = predict("--json-input", "-", "--json", text=json.dumps(request))
        self.assertEqual(by_flags["schema"], "petrel/predict/v1")
        self.assertEqual(by_flags["unused"], [])
        self.assertEqual(json.loads(by_file.stdout), by_flags)
        self.assertEqual(json.loads(by_stdin.stdout), by_flags)
        self.assertEqual(by_flags["retry_probability"], by_flags["probability"])
        self.assertEqual(by_flags["band"], "high")
        self.assertIsNone(by_flags["interval"])
        self.assertEqual(by_flags["outside_training"], [])
        self.assertEqual(by_flags["assumed"]["retry_share"], 0.75)
        self.assertIn("syn_repeats", by_flags["assumed"])
        server_error = next(each for each in by_flags["contributions"]
                            if each["feature"] == "server_error")
        self.assertEqual(server_error["value"], 1)
        self.assertGreater(server_error["log_odds"], 1)
        sizes = [abs(each["log_odds"]) for each in by_flags["features"]]
        self.assertEqual(sizes, sorted(sizes, reverse=True))

    def test_what_lies_outside_is_named(self):
        done = predict("--status", "200", "--syn-repeats", "2")
        self.assertIn("outside what was trained on", done.stdout)
        self.assertIn("syn_repeats is 2, trained on 0 to 0", done.stdout)
        self.assertNotIn("outside", predict("--status", "500").stdout)

    def test_wrong_flags_are_usage_errors(self):
        cases = [(["--status", "42"], '--status: expected an integer from 100 to 599, found "42"'),
                 (["--failure", "lost"], "--failure: expected none, refused"),
                 (["--status", "200", "--waiting-ms", "1"], "expected nothing beside waiting_ms"),
                 (["--feature", "nothing=1"], "expected a feature of the model"),
                 (["--feature", "empty"], "--feature empty: expected a number"),
                 (["--status", "200", "--input", "-"], "excludes"),
                 (["--only-probability"], "--input"),
                 (["--nonsense"], "--nonsense")]
        for arguments, expected in cases:
            done = predict(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(expected, done.stderr + done.stdout)

    def test_wrong_files_are_input_errors(self):
        cases = [(["--json-input", self.file("a.json", '{"status": 5}')],
                  "a.json: status: expected an integer from 100 to 599, found 5"),
                 (["--json-input", self.file("b.json", "{")], "b.json: document: expected JSON"),
                 (["--json-input", self.folder / "none"], "ENOENT"),
                 (["--input", self.file("c.csv", "status,id\n")],
                  'c.csv: line 1: header: expected columns'),
                 (["--input", self.file("d.csv", "status\n200\nx\n")],
                  'd.csv: line 3: status: expected an integer from 100 to 599, found "x"'),
                 (["--input", self.file("e.csv", "")], "expected a header, found nothing"),
                 (["--input", self.file("f.jsonl", '{"status":200}\n{"status":"x"}\n')],
                  "f.jsonl: line 2: status: expected"),
                 (["--input", self.file("g.csv", "status\n" + "1" * (1 << 21))],
                  "g.csv: line 2: expected at most 1048576 bytes, found more"),
                 (["--input", self.folder / "none"], "ENOENT")]
        for arguments, expected in cases:
            done = predict(*arguments)
            self.assertEqual(done.returncode, 3, arguments)
            self.assertIn(expected, done.stderr)
        self.assertEqual(run("predict", "--model", self.folder / "none").returncode, 3)

    def test_a_csv_has_a_probability_for_each_row(self):
        rows = ["id,status,response_time_ms,waiting_ms", "a,200,3,", '"b,c",500,4,', "d,,,900"]
        done = predict("--input", "-", "--carry", "id", text="\r\n".join(rows))
        self.assertEqual(done.returncode, 0, done.stderr)
        table = list(csv.DictReader(io.StringIO(done.stdout)))
        self.assertEqual([row["id"] for row in table], ["a", "b,c", "d"])
        singles = [["--status", 200, "--response-time-ms", 3],
                   ["--status", 500, "--response-time-ms", 4], ["--waiting-ms", 900]]
        for row, flags in zip(table, singles):
            expected = json.loads(predict(*flags, "--json").stdout)["probability"]
            self.assertAlmostEqual(float(row["probability"]), expected, delta=1e-6)
        alone = predict("--input", "-", "--carry", "id", "--only-probability", text="\n".join(rows))
        self.assertEqual(alone.stdout.splitlines()[0], "probability,outside")
        self.assertEqual(len(alone.stdout.splitlines()), 4)

    def test_lines_that_span_blocks_are_whole(self):
        count = 200_000  # several blocks of 1 MiB
        text = "response_time_ms,status\n" + "".join(f"{i}.5,200\n" for i in range(count))
        done = predict("--input", "-", text=text)
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), count + 1)
        for i in (0, 77_777, count - 1):
            self.assertTrue(lines[i + 1].startswith(f"{i}.5,200,0."))

    def test_json_lines(self):
        text = '{"status":500}\n{"waiting_ms":900}\n'
        done = predict("--input", "-", "--format", "jsonl", text=text)
        first, second = map(json.loads, done.stdout.splitlines())
        self.assertEqual(first["status"], 500)
        self.assertEqual(second["outside"], [])
        whole = predict("--input", "-", "--format", "jsonl", "--json", text=text)
        probabilities = [json.loads(line)["probability"] for line in whole.stdout.splitlines()]
        self.assertEqual(probabilities, [first["probability"], second["probability"]])


class Model(Folder):
    def test_show(self):
        done = run("model", "show", MODEL)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("held_out_auc", done.stdout)
        shown = json.loads(run("model", "show", "--json", MODEL).stdout)
        self.assertEqual(shown["schema"], "petrel/model-show/v1")
        self.assertTrue(shown["usable"] and shown["checksum_good"])
        changed = self.changed_model('"overload"', '"overlood"')
        shown = json.loads(run("model", "show", "--json", changed).stdout)
        self.assertFalse(shown["usable"] or shown["checksum_good"])

    def test_diff(self):
        self.assertEqual(run("model", "diff", MODEL, MODEL).returncode, 0)
        done = run("model", "diff", "--json", MODEL, self.changed_model('"overload"', '"overlood"'))
        self.assertEqual(done.returncode, 4, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual((found["added"], found["removed"]), (["overlood"], ["overload"]))
        self.assertIn("changed after it was written", done.stderr)
        self.assertEqual(run("model", "diff", MODEL).returncode, 2)
        self.assertEqual(run("model", "diff", MODEL, self.file("x", "{}")).returncode, 3)

    def test_verify(self):
        done = run("model", "verify", "--json", MODEL)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertTrue(found["good"])
        self.assertLess(found["largest_difference"], 1e-4)
        self.assertEqual(run("model", "verify", "--json", MODEL).stdout, done.stdout)
        bad = self.changed_model('"mantissa":0,', '"mantissa":1,')
        done = run("model", "verify", MODEL, bad)
        self.assertEqual(done.returncode, 3)
        self.assertIn("features[11].mantissa: expected 0 with shift 0", done.stderr)
        problem = json.loads(run("model", "verify", "--json", bad).stdout)["problem"]
        self.assertEqual(problem["field"], "features[11].mantissa")
        checksum = self.changed_model('"seed":1,', '"seed":2,')
        self.assertIn("checksum: expected", run("model", "verify", checksum).stderr)


class Quantize(Folder):
    def test_fewer_bits_lose_more(self):
        done = run("quantize", "--model", MODEL, "--json", "--vectors", 20000)
        self.assertEqual(done.returncode, 0, done.stderr)
        widths = json.loads(done.stdout)["widths"]
        self.assertEqual([each["bits"] for each in widths], [8, 12, 16, 24, 32])
        errors = [each["largest_error"] for each in widths]
        self.assertGreater(errors[0], 10 * errors[1])
        self.assertGreater(errors[1], errors[2])
        self.assertLess(errors[-1], 1e-4)

    def test_on_rows_it_has_auc_and_log_loss(self):
        features = [each["name"] for each in
                    json.loads(Path(MODEL).read_text(encoding="utf-8"))["features"]]
        header = ["run", "time_ns", "service", "backend", "client", "connection", "request", "point",
                  "elapsed_ns", "failure", "status", "attempt", *features, "retried", "evidence",
                  "confidence"]
        lines = [",".join(header)]
        for failed in (0, 1) * 10:
            values = [65536 if name == ("refused" if failed else "answered") else 0
                      for name in features]
            point = "end" if failed else "answer"
            lines.append(f"r,1,1,1,1,1,1,{point},5,{failed},0,1,"
                         + ",".join(map(str, values)) + f",{failed},0,255")
        rows = self.file("rows.csv", "\n".join(lines) + "\n")
        found = json.loads(run("quantize", "--model", MODEL, "--capture", rows, "--json").stdout)
        self.assertEqual(found["rows"], 20)
        self.assertEqual(found["float"]["auc"], 1)
        self.assertEqual(found["widths"][0]["rows"]["auc"], 1)
        bad = self.file("bad.csv", "\n".join(lines).replace(",255", ",256") + "\n")
        done = run("quantize", "--model", MODEL, "--capture", bad)
        self.assertEqual(done.returncode, 3)
        self.assertIn("bad.csv: line 2: column", done.stderr)
        predicted = predict("--input", rows, "--only-probability")
        self.assertEqual(len(predicted.stdout.splitlines()), 21)


if __name__ == "__main__":
    PROGRAM, MODEL = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1], verbosity=0)
