#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/compare itself, once and short: that a cell is measured, kept, taken up again, and that
nothing of it is left. How good a policy is it measures, this does not test.

    client ── lb (petrel, then nginx) ── b1 … b4, of which b2 refuses

compare_lab_test.py COMPARE DIRECTORY-OF-PROGRAMS MODEL; ends with 77 where it cannot run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

EXIT_WARNINGS, EXIT_TERMINATED, EXIT_SKIPPED = 4, 143, 77
GOOD = (0, EXIT_WARNINGS)  # 4: it doubts its figures, as it may on a busy machine
POLICIES = ("static", "nginx")


def labs_of(pid):
    """The labs that are up and owned by a process."""
    labs, found = Path(os.environ.get("PETREL_LAB_DIR", "/run/petrel-lab")), []
    for path in labs.glob("*/lab.json"):
        with contextlib.suppress(FileNotFoundError):  # another's, which has just gone
            owners = path.with_name("owners").read_text(encoding="ascii").splitlines()
            found += [path.parent.name] * any(line.split()[0] == str(pid) for line in owners)
    return found


class Compare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.output = Path(cls.folder.name) / "results"
        cls.first = cls.compare()
        cls.result = json.loads(cls.first.stdout) if cls.first.stdout else None

    @classmethod
    def argv(cls, *more):
        return [COMPARE, "--bin", PROGRAMS, "--model", MODEL, "--scenario", "refuse", "--policy",
                ",".join(POLICIES), "--seeds", "1", "--quick", "--output", str(cls.output),
                "--json", *more]

    @classmethod
    def compare(cls, *more):
        return subprocess.run(cls.argv(*more), capture_output=True, text=True, check=False)

    def files(self):
        return sorted((self.output / "quick/refuse").glob("*.json"))

    def test_each_policy_has_a_cell_and_each_run_a_file(self):
        self.assertIn(self.first.returncode, GOOD, self.first.stderr)
        self.assertEqual(self.result["schema"], "petrel/compare/v1")
        self.assertEqual([(cell["scenario"], cell["policy"], cell["seeds"])
                          for cell in self.result["cells"]],
                         [("refuse", policy, 1) for policy in POLICIES])
        self.assertEqual([path.name for path in self.files()], ["nginx-1.json", "static-1.json"])
        for key in ("petrel", "host", "started", "seed", "command", "notes"):
            self.assertIn(key, self.result)

    def test_requests_and_attempts_are_conserved(self):
        asked = set()
        for path in self.files():
            run = json.loads(path.read_text(encoding="utf-8"))
            found, client = run["outcome"], run["details"]["client"][0]
            asked.add(found["requests"])
            self.assertEqual(found["requests"], client["requests"])
            self.assertEqual(found["requests"] + found["retries"], client["attempts"])
            self.assertEqual(found["never_served"], client["never_served"])
            # The client's percentiles are of its own making, of the same requests.
            self.assertAlmostEqual(found["p99_ms"], client["p99_ms"], delta=1)
            self.assertEqual(sum(run["details"]["connections"].values()),
                             round(found["backend_amplification"] * found["requests"]))
            self.assertGreater(min(run["details"]["connections"].values()), 0)
        # The same arrivals, whoever balances.
        self.assertEqual(len(asked), 1)

    def test_connections_that_the_taps_saw_are_those_that_the_client_made(self):
        run = json.loads((self.output / "quick/refuse/static-1.json").read_text(encoding="utf-8"))
        attempts = run["outcome"]["requests"] + run["outcome"]["retries"]
        self.assertEqual(sum(run["details"]["connections"].values()), attempts)
        self.assertGreater(run["outcome"]["retries"], 0)

    def test_what_is_there_is_not_measured_again(self):
        before = [path.stat().st_mtime_ns for path in self.files()]
        again = self.compare()
        self.assertEqual([path.stat().st_mtime_ns for path in self.files()], before)
        self.assertEqual(json.loads(again.stdout)["cells"], self.result["cells"])

    def test_an_interruption_leaves_no_lab(self):
        # Elsewhere: what it may have kept is not what the other tests speak of.
        elsewhere = str(Path(self.folder.name) / "interrupted")
        process = subprocess.Popen(self.argv("--output", elsewhere), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while not (names := labs_of(process.pid)):
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), deadline, "no lab was raised")
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)  # a background job ignores SIGINT
        said = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, EXIT_TERMINATED, said)
        self.assertEqual(labs_of(process.pid), [])
        self.assertEqual([path for name in names
                          for path in Path("/run/netns").glob(f"petrel-{name}-*")], [])


if __name__ == "__main__":
    COMPARE, PROGRAMS, MODEL = sys.argv[1:4]
    if os.geteuid() != 0:
        print("SKIPPED, nothing was tested: needs root to raise a lab")
        sys.exit(EXIT_SKIPPED)
    unittest.main(argv=sys.argv[:1])
