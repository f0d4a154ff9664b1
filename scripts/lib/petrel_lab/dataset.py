# SPDX-License-Identifier: MIT
"""scripts/dataset: runs the lab through many kinds of weather and keeps what was captured.

dataset_weather.py draws a run, dataset_run.py makes one; here are the set, its manifest, and what
is said meanwhile. docs/dataset.md describes what comes out."""

import concurrent.futures
import fcntl
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

from . import dataset_sample, facts
from .dataset_options import parse
from .dataset_run import Interrupted, finished, make_run, remove_remains, write_whole
from .dataset_weather import draw, kinds_of, line_of
from .lab import ROOT, LabError, progress

SCHEMA = "petrel/dataset/v1"
FULL_RUNS, FULL_ROWS = 60, 300_000  # so many runs must have so many decision points
EXIT_RUNTIME, EXIT_INPUT, EXIT_UNHEALTHY = 1, 3, 8
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
LATE_MS = 100  # a client that is so late (p99) has not asked as was drawn
FAILURES = (LabError, OSError, ValueError, subprocess.SubprocessError, sqlite3.Error)


def end_on(_signal, _frame):
    raise SystemExit(EXIT_TERMINATED)


class Set:
    """The runs of one seed in a directory."""

    def __init__(self, options):
        self.options = options
        self.bin = options.bin or ROOT / "build/release/bin"
        self.directory = options.output
        self.weathers = [draw(options.seed, n, options.seconds) for n in range(options.runs)]
        self.entries = {}
        self.failed = {}
        self.ending = threading.Event()
        self.header = None
        self.lock = None

    def open(self):
        """Takes up what is there. ValueError: it is of another weather, or no set."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.directory / ".lock", "w",  # pylint: disable=consider-using-with
                         encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another scripts/dataset is at work in {self.directory}") from None
        for weather in self.weathers:
            name = weather["run"]
            entry = None if self.options.force else finished(self.directory, name)
            if entry is None:
                remove_remains(self.directory, name)
                continue
            if entry["weather"] != weather:
                differ = sorted(key for key in weather.keys() | entry["weather"].keys()
                                if weather.get(key) != entry["weather"].get(key))
                raise ValueError(
                    f"{self.directory / name}.json: weather: expected what is drawn now, found "
                    f"another {', '.join(differ)}: --force makes the run anew, or choose another "
                    "--output or --seed")
            self.entries[name] = entry
        self.header = facts.header(self.bin, self.options.seed)
        return [weather for weather in self.weathers if weather["run"] not in self.entries]

    def write_manifest(self):
        runs = [self.entries[w["run"]] for w in self.weathers if w["run"] in self.entries]
        manifest = {"schema": SCHEMA, **self.header, "seconds": self.options.seconds,
                    "wanted": len(self.weathers), "complete": len(runs) == len(self.weathers),
                    "rows": sum(run["rows"] for run in runs),
                    "retried": sum(run["retried"] for run in runs),
                    "failed": self.failed, "runs": runs}
        write_whole(self.directory / "dataset.json", manifest)
        return manifest

    def attempt(self, weather):
        """Makes a run, once more if that fails."""
        for last in (False, True):
            if self.ending.is_set():
                raise Interrupted
            try:
                return make_run(weather, self.bin, self.directory, self.ending,
                                self.header["petrel"], self.options.agent_zone)
            except FAILURES as error:
                if self.ending.is_set():
                    raise Interrupted from error
                progress(f"dataset: {weather['run']}: {error}" + ("" if last else "; once more"))
                if last:
                    raise

    def make(self, missing):
        """All that is missing; each entry is in the manifest as soon as its run is over."""
        begun, done = time.monotonic(), 0
        # The first few end together: before as many are over as run at a time, they are no pace.
        jobs = min(self.options.jobs, len(missing))
        pool = concurrent.futures.ThreadPoolExecutor(self.options.jobs)
        try:
            futures = {pool.submit(self.attempt, weather): weather for weather in missing}
            for future in concurrent.futures.as_completed(futures):
                weather = futures[future]
                done += 1
                try:
                    entry = self.entries[weather["run"]] = future.result()
                    said = f"{entry['rows']:,} rows, {entry['retried']:,} retried"
                    if entry["losses"]:
                        said += f", LOST {entry['losses']}"
                except FAILURES as error:
                    self.failed[weather["run"]] = str(error)
                    said = "FAILED"
                self.write_manifest()
                left_s = (time.monotonic() - begun) / max(done, jobs) * (len(missing) - done)
                progress(f"  {weather['run']} ({'+'.join(kinds_of(weather)) or 'none'}): {said}; "
                         f"{done}/{len(missing)}, about {left_s:.0f} s left")
        finally:
            # However this ends: those under way take their labs down and go.
            self.ending.set()
            pool.shutdown(wait=True, cancel_futures=True)


def tell(manifest):
    """What came of it; the exit code."""
    runs, rows = len(manifest["runs"]), manifest["rows"]
    lost = {run["run"]: run["losses"] for run in manifest["runs"] if run["losses"]}
    progress(f"dataset: {runs} runs, {rows:,} decision points, {manifest['retried']:,} of them "
             f"retried ({manifest['retried'] / max(1, rows):.1%})")
    for name, losses in lost.items():
        progress(f"dataset: {name} has lost " +
                 ", ".join(f"{count} {place}" for place, count in losses.items()))
    late = [run["run"] for run in manifest["runs"]
            if (run["client"]["late_start_p99_ms"] or 0) > LATE_MS]
    if late:
        progress(f"dataset: the host was too busy for {len(late)} runs: their client was more than "
                 f"{LATE_MS} ms late for one request in a hundred: {', '.join(late)}")
    if manifest["failed"]:
        progress(f"dataset: {len(manifest['failed'])} runs failed: {', '.join(manifest['failed'])}")
        return EXIT_RUNTIME
    if runs >= FULL_RUNS and rows < FULL_ROWS:
        progress(f"dataset: expected at least {FULL_ROWS:,} decision points of {FULL_RUNS} runs or "
                 f"more, found {rows:,}")
        return EXIT_UNHEALTHY
    return 0


def collect(options):
    """Makes what is missing of the set; (exit code, manifest or None)."""
    dataset = Set(options)
    try:
        missing = dataset.open()
    except ValueError as error:
        progress(f"dataset: {error}")
        return EXIT_INPUT, None
    progress(f"dataset: {len(missing)} of {options.runs} runs to make in {options.output}, "
             f"{options.jobs} at a time, {shutil.disk_usage(options.output).free >> 20:,} MiB free")
    dataset.write_manifest()
    dataset.make(missing)
    manifest = dataset.write_manifest()
    return tell(manifest), manifest


def show_list(options):
    weathers = [draw(options.seed, n, options.seconds) for n in range(options.runs)]
    if options.json:
        print(json.dumps({"schema": "petrel/dataset-weather/v1", "runs": weathers}, indent=1))
    else:
        print("\n".join(line_of(weather) for weather in weathers))
    return 0


def run(options):
    if options.list:
        return show_list(options)
    if options.sample:
        return dataset_sample.write(options.output, options.sample,
                                    options.bin or ROOT / "build/release/bin")
    code, manifest = collect(options)
    if options.json and manifest is not None:
        print(json.dumps(manifest, indent=1))
    return code


def guarded(work, options):
    """work(options), and what an interruption or a failure of it is to who called."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_on)
    try:
        return work(options)
    except (LabError, OSError, subprocess.SubprocessError) as error:
        progress(f"dataset: {error}")
        return EXIT_RUNTIME
    except KeyboardInterrupt:
        progress("dataset: interrupted; the labs are removed, finished runs are kept")
        return EXIT_INTERRUPTED


def main(argv):
    sys.argv[0] = "scripts/dataset"  # what the manifest says was run
    return guarded(run, parse(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
