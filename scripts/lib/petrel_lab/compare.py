# SPDX-License-Identifier: MIT
"""scripts/compare: every scenario with every policy, real processes in network namespaces.

compare_scenarios.py and compare_policies.py say what there is, compare_run.py makes one run;
here are the set, what is kept of it, and what is said meanwhile. docs/compare.md has figures."""

import concurrent.futures
import fcntl
import json
import signal
import subprocess
import sys
import threading
import time

from . import compare_table, facts
from .bench_tables import aligned
from .compare_aims import verdicts
from .compare_options import parse
from .compare_lacks import all_missing, split
from .compare_policies import BASE, POLICIES
from .compare_run import Interrupted, run
from .compare_scenario import described, times_of
from .compare_store import SCHEMA, Store
from .lab import ROOT, LabError, progress

EXIT_RUNTIME, EXIT_INPUT, EXIT_WARNINGS, EXIT_MISSING, EXIT_UNHEALTHY = 1, 3, 4, 5, 8
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
MOST_LATE_MS = 100  # requests that begin later (p99) are not those that were to be measured
AROUND_S = 4.0  # a run takes longer than its traffic: the lab, its agent, the last answers
FAILURES = (LabError, OSError, ValueError, subprocess.SubprocessError)

NOTES = [
    "each figure: median over seeds, 95 % interval (bootstrap over seeds); against_static: to "
    "the same seed's static, so that arrivals and service times are the same",
    "percentiles: of the whole request from its intended start to its final answer; one never "
    "served counts with the time at which it was given up. during_: of the requests due while the "
    "cause lasted, or all where nothing goes wrong at a time",
    "goodput: the share of requests served within the user's patience (clients.patience_ms)",
    "backend_amplification: new connections that arrived at the backends' hosts, of health checks "
    "none, for each request",
    "moved_90_ms: from the order to fail until the faulty backends get under a tenth of their "
    "share of new connections and stay there; recovered_ms: from the order to work until goodput "
    "is 95 % of that before",
]


def lateness_of(found):
    return found["details"]["late_start_p99_ms"]


def end_on(number, _frame):
    progress(f"compare: ended by {signal.Signals(number).name}; finished runs are kept")
    raise SystemExit(EXIT_TERMINATED)


class Comparison:
    """The runs that were asked for."""

    def __init__(self, options):
        self.options = options
        self.bin = options.bin or ROOT / "build/release/bin"
        self.store = Store(options.output, options.quick, self.bin, options.model)
        self.results = {}  # scenario name -> policy name -> seed -> result
        self.stale = []
        self.failed = []
        self.left_out = {}  # name of a scenario or policy -> why
        self.ending = threading.Event()
        self.header = facts.header(self.bin, options.first_seed)
        self.lock = None

    def claim(self):
        """This directory is ours until we end."""
        self.options.output.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.options.output / ".lock", "w",  # pylint: disable=consider-using-with
                         encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another scripts/compare is at work in {self.options.output}: wait for "
                           "it, or choose another --output") from None

    def wanted(self):
        """By seed first: after each seed there is a whole table. A scenario's policies follow each
        other, so that a machine that is busy for a while is so for all of them."""
        seeds = range(self.options.first_seed, self.options.first_seed + self.options.seeds)
        return [(scenario, policy, seed) for seed in seeds for scenario in self.options.scenarios
                for policy in self.options.policies]

    def open(self):
        """Takes up what is there and fresh; returns what is to be measured."""
        missing = []
        for scenario, policy, seed in self.wanted():
            result, stale = (None, None) if self.options.force else \
                self.store.read(scenario, policy, seed)
            if result is not None:
                self._take(scenario, policy, seed, result)
                continue
            missing.append((scenario, policy, seed))
            if stale is not None:
                self.stale.append((scenario.name, policy.name, seed, stale))
        return missing

    def _take(self, scenario, policy, seed, result):
        self.results.setdefault(scenario.name, {}).setdefault(policy.name, {})[seed] = result

    def seconds_of(self, cells):
        return sum(times_of(scenario, self.options.quick).seconds + AROUND_S
                   for scenario, _, _ in cells)

    def measure(self, missing):
        """All that is missing; each is kept as soon as it is over."""
        begun, left_s, done_s = time.monotonic(), self.seconds_of(missing), 0.0
        pool = concurrent.futures.ThreadPoolExecutor(self.options.jobs)
        try:
            futures = {pool.submit(self._attempt, *cell): cell for cell in missing}
            for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
                cell = futures[future]
                said = self._finish(cell, future)
                done_s += self.seconds_of([cell])
                pace = (time.monotonic() - begun) / done_s
                progress(f"  {cell[0].name}, {cell[1].name}, seed {cell[2]}: {said}; "
                         f"{done}/{len(missing)}, about {(left_s - done_s) * pace:.0f} s left")
        finally:
            # However this ends: those under way take their labs down and go.
            self.ending.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _finish(self, cell, future):
        try:
            result = future.result()
        except FAILURES as error:
            self.failed.append({"scenario": cell[0].name, "policy": cell[1].name, "seed": cell[2],
                                "error": str(error)})
            return f"FAILED: {error}"
        self._take(*cell, result)
        found = result["outcome"]
        return (f"in time {100 * found['goodput']:.2f} %, p99 {found['p99_ms']:,.0f} ms, "
                f"{found['retries']:,} retries" +
                "".join(f"; NOTE {note}" for note in result["notes"]))

    def _attempt(self, scenario, policy, seed):
        """Makes a run, and once more if that fails or the machine was too busy for it; keeps the
        one whose requests began nearest to their time."""
        found = header = None
        for last in (False, True):
            if self.ending.is_set():
                raise Interrupted
            try:
                started = facts.header(self.bin, seed)
                made = run(scenario, policy, seed, self.options.quick, self.bin,
                           self.options.model, self.ending)
                if self.ending.is_set():  # it was cut short, or may have been
                    raise Interrupted
                if found is None or lateness_of(made) < lateness_of(found):
                    found, header = made, started
                if lateness_of(found) <= MOST_LATE_MS:
                    break
                why = f"requests began {lateness_of(found):.0f} ms late"
            except FAILURES as error:
                if self.ending.is_set():
                    raise Interrupted from error
                if last and found is None:
                    raise
                why = str(error)
            if not last:
                progress(f"compare: {scenario.name}, {policy.name}, seed {seed}: {why}; once more")
        header["notes"] += found["notes"]
        result = {"schema": SCHEMA, **header, "engine": "lab", "scenario": scenario.name,
                  "policy": policy.name, "quick": self.options.quick,
                  "identity": self.store.identity(scenario, policy),
                  "outcome": found["outcome"], "notes": header["notes"],
                  "details": found["details"],
                  "described": described(scenario, self.options.quick)}
        self.store.write(scenario, policy, seed, result)
        return result

    def outcomes(self):
        """scenario -> policy -> seed -> outcome, policies in their own order."""
        return {scenario: {policy: {seed: by_policy[policy][seed]["outcome"]
                                    for seed in sorted(by_policy[policy])}
                           for policy in POLICIES if policy in by_policy}
                for scenario, by_policy in self.results.items()}

    def warnings(self):
        found = [f"{one['scenario']}, {one['policy']}, seed {one['seed']}: FAILED: {one['error']}"
                 for one in self.failed]
        noted = [f"{scenario}/{policy}-{seed}: {note}"
                 for scenario, by_policy in self.results.items()
                 for policy, by_seed in by_policy.items() for seed, result in by_seed.items()
                 for note in result["notes"]]
        commits = sorted({str(result["petrel"]["commit"]) for by_policy in self.results.values()
                          for by_seed in by_policy.values() for result in by_seed.values()})
        if len(commits) > 1:
            found.append("the same programs, measured at several commits of the sources: "
                         + ", ".join(commit[:12] for commit in commits))
        return found + noted

    def result(self):
        outcomes = self.outcomes()
        header = {**self.header, "notes": [
            *NOTES, *(f"left out: {name}: {why}" for name, why in self.left_out.items()),
            *self.warnings()]}
        return {"schema": "petrel/compare/v1", **header, "engine": "lab",
                "quick": self.options.quick,
                "policies": {policy.name: policy.about for policy in self.options.policies},
                "scenarios": {scenario.name: described(scenario, self.options.quick)
                              for scenario in self.options.scenarios},
                "failed": self.failed,
                **compare_table.cells_json(self.options.scenarios, outcomes)}


def say_stale(comparison):
    by_reason = {}
    for scenario, policy, seed, why in comparison.stale:
        by_reason.setdefault(why, []).append(f"{scenario}/{policy}-{seed}")
    for why, names in by_reason.items():
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        progress(f"compare: stale, left out: {len(names)} of {why}: {shown}")


def show(comparison):
    """The table, or the result as JSON; the exit code."""
    options, result = comparison.options, comparison.result()
    if options.json and options.json != "-":
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.json == "-":
        print(json.dumps(result, indent=1))
    else:
        print("\n".join(compare_table.table(options.scenarios, comparison.outcomes())))
    for warning in comparison.warnings():
        progress(f"compare: {warning}")
    if comparison.failed:
        return EXIT_RUNTIME
    if options.check and (missed := missed_aims(comparison)):
        progress(f"compare: {len(missed)} aims are missed: " + "; ".join(missed))
        return EXIT_UNHEALTHY
    return EXIT_WARNINGS if comparison.warnings() else 0


def missed_aims(comparison):
    outcomes = comparison.outcomes()
    return [f"{scenario.name}: {verdict.aim}" for scenario in comparison.options.scenarios
            for verdict in verdicts(scenario, outcomes.get(scenario.name, {}))
            if verdict.verdict != "met" and verdict.verdict != "met?"]


def show_list(options):
    lacks = all_missing(options)

    def about(what):
        return what.about + (f" (not here: {lacks[what.name]})" if what.name in lacks else "")
    if options.json:
        print(json.dumps({
            "schema": "petrel/compare-list/v1",
            "scenarios": {s.name: described(s, options.quick) for s in options.scenarios},
            "policies": {p.name: p.about for p in options.policies},
            "not_here": lacks}, indent=1))
        return 0
    rows = [("scenario", "s", "requests/s", "load", "what")]
    for scenario in options.scenarios:
        rows.append((scenario.name, f"{times_of(scenario, options.quick).seconds:g}",
                     f"{scenario.clients.rate_per_s:g}",
                     f"{scenario.clients.rate_per_s / scenario.backends.capacity_per_s:.2f}",
                     about(scenario)))
    lines = aligned([row[:-1] for row in rows])
    print("\n".join(f"{line}  {row[-1]}" for line, row in zip(lines, rows)))
    print()
    width = max(len(policy.name) for policy in options.policies)
    print("\n".join(f"{policy.name:<{width}}  {about(policy)}" for policy in options.policies))
    return 0


def compare(options):
    if options.list:
        return show_list(options)
    asked, left_out = ({}, {}) if options.table else split(options)
    if asked:
        progress("compare: cannot run " + "; ".join(f"{n}: {why}" for n, why in asked.items()) +
                 "; choose others")
        return EXIT_MISSING
    for name, why in left_out.items():
        progress(f"compare: left out: {name}: {why}")
    if not options.model.is_file():
        progress(f"compare: there is no model {options.model}: give one by --model")
        return EXIT_INPUT
    comparison = Comparison(options)
    comparison.left_out = left_out
    try:
        if not options.table:
            comparison.claim()
        missing = comparison.open()
    except ValueError as error:
        progress(f"compare: {error}")
        return EXIT_INPUT
    say_stale(comparison)
    if missing and not options.table:
        progress(f"compare: {len(missing)} of {len(comparison.wanted())} runs to make, "
                 f"{options.jobs} at a time, about "
                 f"{comparison.seconds_of(missing) / options.jobs / 60:.0f} min")
        comparison.measure(missing)
    elif missing:
        progress(f"compare: {len(missing)} of {len(comparison.wanted())} runs are not there")
    if BASE not in {policy.name for policy in options.policies}:
        progress("compare: without static there are no ratios")
    return show(comparison)


def guarded(work, options):
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_on)
    try:
        return work(options)
    except (LabError, OSError, subprocess.SubprocessError) as error:
        progress(f"compare: {error}")
        return EXIT_RUNTIME
    except (KeyboardInterrupt, Interrupted):
        progress("compare: interrupted; the labs are removed, finished runs are kept")
        return EXIT_INTERRUPTED


def main(argv):
    sys.argv[0] = "scripts/compare"  # what the results say was run
    return guarded(compare, parse(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
