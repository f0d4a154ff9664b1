#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/dataset itself, with short runs: killed in its middle and taken up again, stopped, asked
for another weather than what is there, and with programs that do not work.

    client ── lb ── b1 … b8, as drawn; two labs side by side

dataset_lab_test.py DATASET DIRECTORY-OF-PROGRAMS; ends with 77 where it cannot run."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

EXIT_INPUT = 3
EXIT_TERMINATED = 143
EXIT_SKIPPED = 77
RUNS = 3
SEED = 5
DATASET = PROGRAMS = None  # set by main


def start(output, *options, programs=None):
    return subprocess.Popen(
        [DATASET, "--bin", programs or PROGRAMS, "--runs", str(RUNS), "--seed", str(SEED),
         "--jobs", "2", "--seconds", "3", "--output", output, *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_line(process, text):
    """Reads until a line of its progress has the text; what it said until then."""
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended and never said {text!r}: {said}")


def labs_of(process):
    lab_dir = Path(os.environ.get("PETREL_LAB_DIR", "/run/petrel-lab"))
    found = []
    for owners in lab_dir.glob("*/owners"):
        with contextlib.suppress(FileNotFoundError):
            if str(process.pid) in owners.read_text(encoding="ascii").split():
                found.append(owners.parent.name)
    return found


def await_no_labs(process):
    deadline = time.monotonic() + 20
    while labs_of(process):
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {labs_of(process)}")
        time.sleep(0.02)


def identity(path):
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


class Dataset(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = Path(folder.name) / "set"

    def finish(self, process, code):
        stdout, stderr = process.communicate()
        self.assertEqual(process.returncode, code, stderr)
        return stdout, stderr

    def check_run(self, entry):
        """What the manifest says of a run is what its capture holds."""
        self.assertEqual(entry["losses"], {}, entry["run"])
        capture = f"file:{self.output / entry['run']}.db?mode=ro"
        with contextlib.closing(sqlite3.connect(capture, uri=True)) as database:
            self.assertEqual(database.execute("SELECT COUNT(*), SUM(retried) FROM rows").fetchone(),
                             (entry["rows"], entry["retried"]))
            self.assertEqual(database.execute("SELECT DISTINCT run FROM rows").fetchall(),
                             [(entry["run"],)])
            for table in ("events", "ticks", "state"):  # so that it can be replayed
                self.assertGreater(
                    database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0], 0, table)
        self.assertGreater(entry["client"]["requests"], 0)
        self.assertEqual(entry["client"]["skipped"], 0)
        if entry["client"]["attempts"] == entry["client"]["by_outcome"].get("ok", 0):
            self.assertEqual(entry["labelled_retries"], 0)

    def test_killed_in_its_middle_it_goes_on_where_it_was(self):
        process = start(self.output)
        said = await_line(process, f"1/{RUNS}, about")
        process.kill()
        process.communicate()
        await_no_labs(process)
        first, = [word for word in said.split() if word.startswith(f"ds{SEED}-")]
        kept = identity(self.output / f"{first}.db")
        self.assertEqual([run["run"] for run in self.manifest()["runs"]], [first])
        self.assertFalse(self.manifest()["complete"])

        stdout, stderr = self.finish(start(self.output, "--json"), 0)
        self.assertIn(f"{RUNS - 1} of {RUNS} runs to make", stderr)
        self.assertEqual(identity(self.output / f"{first}.db"), kept)
        self.assertEqual(json.loads(stdout), self.manifest())
        self.assertTrue(self.manifest()["complete"])
        self.assertEqual([run["run"] for run in self.manifest()["runs"]],
                         [f"ds{SEED}-{number:03d}" for number in range(RUNS)])
        self.assertEqual({path.suffix for path in self.output.iterdir()} - {""}, {".db", ".json"})
        for entry in self.manifest()["runs"]:
            self.check_run(entry)

        # Another weather under the same name is an error, and harms nothing.
        stderr = self.finish(start(self.output, "--seconds", "4"), EXIT_INPUT)[1]
        self.assertIn("expected what is drawn now, found another episodes, seconds", stderr)
        self.assertEqual(identity(self.output / f"{first}.db"), kept)

    def manifest(self):
        return json.loads((self.output / "dataset.json").read_text(encoding="utf-8"))

    def test_stopped_it_leaves_nothing(self):
        process = start(self.output)
        await_line(process, "runs to make")
        deadline = time.monotonic() + 30
        while not list(self.output.glob("*.part*")):
            self.assertLess(time.monotonic(), deadline, "no capture began")
            time.sleep(0.02)
        process.terminate()
        self.finish(process, EXIT_TERMINATED)
        self.assertEqual(labs_of(process), [])
        self.assertEqual([path.name for path in self.output.glob("ds*")], [])

    def test_runs_that_fail_are_tried_once_more_and_counted(self):
        programs = self.output.parent / "bin"
        programs.mkdir()
        (programs / "petrel-traffic").symlink_to(PROGRAMS / "petrel-traffic")
        (programs / "petrel").symlink_to("/bin/false")
        _, stderr = self.finish(start(self.output, "--runs", "1", programs=programs), 1)
        self.assertEqual(stderr.count("the agent did not start"), 2)
        self.assertEqual(list(self.manifest()["failed"]), [f"ds{SEED}-000"])
        self.assertEqual(self.manifest()["runs"], [])

    def test_one_at_a_time_works_in_a_directory(self):
        first = start(self.output)
        await_line(first, "runs to make")
        try:
            self.assertIn("another scripts/dataset is at work",
                          self.finish(start(self.output), 1)[1])
        finally:
            first.send_signal(signal.SIGTERM)
            first.communicate()


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("SKIPPED, nothing was tested: needs root to raise a lab")
        sys.exit(EXIT_SKIPPED)
    PROGRAMS = Path(sys.argv.pop(2)).resolve()
    DATASET = sys.argv.pop(1)
    unittest.main()
