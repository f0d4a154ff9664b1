#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What scripts/compare makes of runs: figures of a log, intervals, verdicts, the table, and which
results are stale.

compare_figures_test.py"""

import json
import random
import tempfile
import unittest
from pathlib import Path

from petrel_lab import compare_table
from petrel_lab.compare_aims import beaten, judge, verdicts
from petrel_lab.compare_metrics import (Log, Request, goodput, moved_90_ms, outcome, percentile,
                                        problems, read_logs, recovered_ms)
from petrel_lab.compare_policies import POLICIES
from petrel_lab.compare_scenario import Times
from petrel_lab.compare_scenarios import SCENARIOS
from petrel_lab.compare_stats import against, interval, ratios, summarised
from petrel_lab.compare_store import SCHEMA, Store
from petrel_lab.compare_tap import Arrival, in_network, syn_key

NEVER = float("inf")
TIMES = Times(4, 5, 6)
BEGAN_S = 1000.0


def steady(rate_per_s=400, seconds=15, bad=lambda at_s: False):
    """One request each 1/rate; those that `bad` names are never served."""
    requests = []
    for n in range(int(rate_per_s * seconds)):
        at_s = n / rate_per_s
        failed = bad(at_s)
        requests.append(Request(BEGAN_S + at_s, 4000.0 if failed else 10.0, 4 if failed else 1,
                                not failed))
    return requests


def arrivals(share_of, seconds=5.0, rate_per_s=800, backends=4):
    """Round robin, of which the faulty one (2) gets `share_of(t)` of its turns; else the next."""
    found = []
    kept = 0.0
    for n in range(int(seconds * rate_per_s)):
        at_s, backend = n / rate_per_s, n % backends + 1
        if backend == 2:
            kept += share_of(at_s)
            if kept >= 1:
                kept -= 1
            else:
                backend = 3
        found.append(Arrival(BEGAN_S + at_s, backend))
    return found


class FiguresOfALog(unittest.TestCase):
    def log(self, lines):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "client.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            return read_logs([path])

    def attempt(self, request, number, result):
        return {"request": request, "attempt": number, "intended_ns": request * 10**9,
                "outcome": result}

    def test_requests_have_their_attempts_and_their_end(self):
        log = self.log([self.attempt(2, 1, "reset"), self.attempt(1, 1, "ok"),
                        {"request_done": 1, "served": True, "attempts": 1, "latency_us": 2500},
                        self.attempt(2, 2, "ok"),
                        {"request_done": 2, "served": True, "attempts": 2, "latency_us": 90000}])
        self.assertEqual(log.requests, [Request(1.0, 2.5, 1, True), Request(2.0, 90.0, 2, True)])
        self.assertEqual((log.attempts, log.failed_first, log.unfinished), (3, 1, 0))
        self.assertEqual(problems(log, [{"requests": 2}]), [])

    def test_what_does_not_add_up_is_told(self):
        log = self.log([self.attempt(1, 1, "ok"), self.attempt(2, 1, "ok"),
                        {"request_done": 1, "served": True, "attempts": 3, "latency_us": 1}])
        self.assertEqual(len(problems(log, [{"requests": 3, "skipped": 4}])), 4)

    def test_percentiles_are_values_that_there_are(self):
        values = [float(n) for n in range(1, 101)]
        self.assertEqual([percentile(values, p) for p in (0.5, 0.99, 0.999)], [50, 99, 100])
        self.assertIsNone(percentile([], 0.5))

    def test_goodput_is_what_came_in_time(self):
        requests = [Request(0, 900, 1, True), Request(1, 1100, 2, True), Request(2, 50, 4, False)]
        self.assertEqual(goodput(requests, 1000), 1 / 3)
        self.assertIsNone(goodput([], 1000))

    def test_the_outcome_conserves_requests_and_attempts(self):
        requests = steady(bad=lambda at_s: 4 <= at_s < 5)
        log = Log(requests, sum(r.attempts for r in requests), 400, 0)
        found = outcome(log, arrivals(lambda _: 1), SCENARIOS["hang"], BEGAN_S, TIMES)
        self.assertEqual((found["requests"], found["never_served"], found["retries"]),
                         (6000, 400, 1200))
        self.assertAlmostEqual(found["goodput"], 5600 / 6000)
        self.assertAlmostEqual(found["during_goodput"], 0.8)
        self.assertEqual((found["p50_ms"], found["p999_ms"]), (10.0, 4000.0))
        self.assertEqual(found["recovered_ms"], 0)

    def test_where_nothing_goes_wrong_there_is_nothing_to_recover_from(self):
        log = Log(steady(), 6000, 0, 0)
        found = outcome(log, arrivals(lambda _: 1), SCENARIOS["healthy"], BEGAN_S, TIMES)
        self.assertIsNone(found["recovered_ms"])
        self.assertIsNone(found["moved_90_ms"])
        self.assertEqual(found["during_p99_ms"], found["p99_ms"])


class Recovery(unittest.TestCase):
    def back(self, bad):
        return recovered_ms(steady(bad=bad), 1000, BEGAN_S, TIMES)

    def test_it_is_when_goodput_is_back(self):
        self.assertAlmostEqual(self.back(lambda at_s: 4 <= at_s < 11), 2000, delta=100)

    def test_a_good_moment_between_bad_ones_is_none(self):
        self.assertAlmostEqual(
            self.back(lambda at_s: 4 <= at_s < 10 or 10.8 <= at_s < 12), 3000, delta=100)

    def test_it_may_never_come(self):
        self.assertIsNone(self.back(lambda at_s: at_s >= 4))

    def test_it_is_at_once_where_goodput_never_fell(self):
        self.assertEqual(self.back(lambda at_s: False), 0)


class Moving(unittest.TestCase):
    def moved(self, share_of):
        return moved_90_ms(arrivals(share_of), (2,), 4, BEGAN_S, BEGAN_S + 5)

    def test_it_is_the_moment_when_the_share_fell(self):
        self.assertAlmostEqual(self.moved(lambda at_s: 1 if at_s < 1.5 else 0), 1500, delta=15)

    def test_half_of_the_share_is_not_moved(self):
        self.assertIsNone(self.moved(lambda at_s: 0.5))

    def test_what_two_choices_leave_is_not_moved_by_chance(self):
        """A quarter of the share, at random: of 20 it is under a tenth now and then."""
        rng = random.Random(1)
        found = [Arrival(BEGAN_S + n / 800, 2 if rng.random() < 0.25 * 0.25 else 1)
                 for n in range(4000)]
        self.assertIsNone(moved_90_ms(found, (2,), 4, BEGAN_S, BEGAN_S + 5))

    def test_too_few_connections_tell_nothing(self):
        self.assertIsNone(moved_90_ms(arrivals(lambda _: 0, seconds=0.05), (2,), 4, BEGAN_S,
                                      BEGAN_S + 5))


class Statistics(unittest.TestCase):
    def test_an_interval_needs_two_and_holds_the_median(self):
        self.assertIsNone(interval([3.0]))
        low, high = interval([1.0, 2.0, 3.0, 4.0, 100.0])
        self.assertTrue(1.0 <= low <= 3.0 <= high <= 100.0)
        self.assertEqual(interval([1.0, 2.0, 9.0]), interval([1.0, 2.0, 9.0]))

    def test_a_recovery_that_never_came_is_longer_than_any(self):
        self.assertEqual(summarised({1: 100, 2: None, 3: None}, NEVER)["median"], None)
        self.assertEqual(summarised({1: 100, 2: 200, 3: None}, NEVER)["median"], 200)
        self.assertEqual(summarised({1: 100, 2: 200, 3: None}, NEVER)["missing"], 1)

    def test_ratios_are_of_the_same_seed(self):
        self.assertEqual(ratios({1: 2, 2: 9, 3: 5}, {1: 4, 2: 3, 4: 1}), {1: 0.5, 2: 3.0})

    def test_nothing_to_nothing_is_one_and_to_something_is_no_ratio(self):
        self.assertEqual(ratios({1: 0, 2: 5}, {1: 0, 2: 0}), {1: 1.0})

    def test_against_pairs_seeds(self):
        mine, base = {1: {"p": 10}, 2: {"p": 40}}, {1: {"p": 20}, 2: {"p": 80}}
        self.assertEqual(against(mine, base, "p"),
                         {"median": 0.5, "interval": [0.5, 0.5], "seeds": 2})
        self.assertIsNone(against(mine, {3: {"p": 1}}, "p"))


def figures(**changed):
    found = {"requests": 1000, "first_attempt_failures": 0, "retries": 100, "amplification": 1.1,
             "backend_amplification": 1.1, "never_served": 0, "goodput": 1.0, "p50_ms": 10.0,
             "p99_ms": 1000.0, "p999_ms": 2000.0, "during_goodput": 1.0,
             "during_served_per_s": 400.0, "during_retries": 100, "during_p50_ms": 10.0,
             "during_p99_ms": 1000.0, "during_p999_ms": 2000.0, "moved_90_ms": None,
             "recovered_ms": 0}
    return {**found, **changed}


def cell(seeds=3, **changed):
    return {seed: figures(**changed) for seed in range(1, seeds + 1)}


class Aims(unittest.TestCase):
    def test_a_verdict_is_sure_only_where_the_interval_is_on_one_side(self):
        self.assertEqual(judge([1, 1, 2], lambda v: v <= 3), "met")
        self.assertEqual(judge([1, 1, 9], lambda v: v <= 3), "met?")
        self.assertEqual(judge([9, 9, 8], lambda v: v <= 3), "missed")
        self.assertEqual(judge([2], lambda v: v <= 3), "met?")
        self.assertEqual(judge([], lambda v: v <= 3), "unknown")

    def verdicts_of(self, name, cells):
        return [v.verdict for v in verdicts(SCENARIOS[name], cells)]

    def test_a_fault_that_is_answered_well(self):
        cells = {"static": cell(), "nginx": cell(p99_ms=40.0),
                 "petrel": cell(retries=20, p99_ms=40.0, moved_90_ms=400)}
        self.assertEqual(self.verdicts_of("hang", cells), ["met"] * 4)

    def test_a_fault_that_is_not(self):
        cells = {"static": cell(), "nginx": cell(p99_ms=40.0), "petrel": cell(retries=21)}
        self.assertEqual(self.verdicts_of("hang", cells), ["missed"] * 4)

    def test_the_best_other_policy_is_none_of_petrels_parts(self):
        cells = {"static": cell(), "petrel-weights": cell(p99_ms=1.0),
                 "petrel": cell(p99_ms=500.0)}
        best = verdicts(SCENARIOS["hang"], cells)[2]
        self.assertIn("static", best.aim)
        self.assertEqual(best.verdict, "met")

    def test_a_storm_that_never_ends_misses(self):
        cells = {"static": cell(), "petrel": cell(recovered_ms=None, backend_amplification=3.0,
                                                  goodput=0.5)}
        self.assertEqual(self.verdicts_of("storm", cells), ["missed"] * 3)

    def test_a_drop_is_held_against_what_capacity_allows(self):
        good = cell(during_served_per_s=85.0)  # of 444/s a fifth is 89/s
        bad = cell(during_served_per_s=50.0)
        self.assertEqual(self.verdicts_of("capacity-drop", {"static": cell(), "petrel": good})[1],
                         "met")
        self.assertEqual(self.verdicts_of("capacity-drop", {"static": cell(), "petrel": bad})[1],
                         "missed")

    def test_without_petrel_or_static_nothing_is_claimed(self):
        self.assertEqual(self.verdicts_of("hang", {"static": cell()}), [])
        self.assertIn("unknown", self.verdicts_of("hang", {"petrel": cell()}))

    def test_every_scenario_can_be_judged(self):
        for scenario in SCENARIOS.values():
            found = verdicts(scenario, {"static": cell(), "petrel": cell()})
            self.assertEqual(bool(found), scenario.aim is not None, scenario.name)


class Beaten(unittest.TestCase):
    def test_who_is_better_is_named_with_the_figure(self):
        found = beaten({"petrel": cell(), "haproxy": cell(p99_ms=100.0, retries=500)})
        self.assertEqual([(one["policy"], one["figure"], one["sure"]) for one in found],
                         [("haproxy", "p99_ms", True)])

    def test_noise_beats_nobody(self):
        self.assertEqual(beaten({"petrel": cell(), "haproxy": cell(p99_ms=990.0)}), [])

    def test_one_seed_is_not_sure(self):
        found = beaten({"petrel": cell(1), "haproxy": cell(1, p99_ms=100.0)})
        self.assertEqual([one["sure"] for one in found], [False])

    def test_a_recovery_beats_none(self):
        found = beaten({"petrel": cell(recovered_ms=None), "nginx": cell(recovered_ms=50)})
        self.assertEqual([one["figure"] for one in found], ["recovered_ms"])


class Table(unittest.TestCase):
    def test_columns_are_the_same_whatever_was_run(self):
        scenario = SCENARIOS["hang"]
        both = compare_table.scenario_lines(scenario, {"static": cell(), "petrel": cell()})
        one = compare_table.scenario_lines(scenario, {"petrel": cell(1, p99_ms=None)})
        self.assertEqual(both[1].split(), one[1].split())
        self.assertTrue(one[2].startswith("petrel"))

    def test_ratios_stand_beside_all_but_static(self):
        lines = compare_table.scenario_lines(SCENARIOS["hang"],
                                             {"static": cell(), "petrel": cell(retries=10)})
        self.assertTrue(lines[2].endswith("–"))
        self.assertIn("0.100", lines[3])

    def test_json_has_each_figure_with_its_interval(self):
        result = compare_table.cells_json([SCENARIOS["hang"]],
                                          {"hang": {"static": cell(), "petrel": cell(retries=10)}})
        json.dumps(result, allow_nan=False)
        petrel = result["cells"][1]
        self.assertEqual((petrel["scenario"], petrel["policy"], petrel["seeds"]),
                         ("hang", "petrel", 3))
        self.assertEqual(petrel["outcome"]["retries"], {"median": 10, "interval": [10, 10]})
        self.assertEqual(petrel["against_static"]["retries"]["median"], 0.1)


class Tap(unittest.TestCase):
    def test_a_syn_is_known_by_source_port_and_sequence(self):
        options = bytes([0x46]) + bytes(11) + bytes([10, 1, 128, 9, 10, 2, 1, 2]) + bytes(4)
        tcp = (40112).to_bytes(2, "big") + (8080).to_bytes(2, "big") + (77).to_bytes(4, "big")
        self.assertEqual(syn_key(options + tcp), (bytes([10, 1, 128, 9]), 40112, 77))

    def test_networks(self):
        self.assertTrue(in_network(bytes([10, 1, 200, 9]), "10.1.128.0/17"))
        self.assertFalse(in_network(bytes([10, 1, 100, 9]), "10.1.128.0/17"))


class Staleness(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        for name in ("petrel", "petrel-traffic", "model"):
            (self.root / name).write_text(name, encoding="utf-8")
        self.scenario, self.static = SCENARIOS["hang"], POLICIES["static"]
        store = self.store()
        store.write(self.scenario, self.static, 1, {
            "schema": SCHEMA, "petrel": {"commit": "abc"}, "outcome": figures(),
            "identity": store.identity(self.scenario, self.static)})

    def store(self, quick=False):
        return Store(self.root / "out", quick, self.root, self.root / "model")

    def read(self, quick=False, seed=1, scenario=None):
        return self.store(quick).read(scenario or self.scenario, self.static, seed)

    def test_what_the_same_programs_made_is_taken(self):
        result, stale = self.read()
        self.assertEqual((result["outcome"], stale), (figures(), None))

    def test_another_seed_or_scenario_or_length_is_not_there(self):
        for missing in (self.read(seed=2), self.read(quick=True),
                        self.read(scenario=SCENARIOS["reset"])):
            self.assertEqual(missing, (None, None))

    def test_another_program_or_model_makes_it_stale(self):
        for name, what in (("petrel", "petrel"), ("petrel-traffic", "traffic"), ("model", "model")):
            (self.root / name).write_text("new", encoding="utf-8")
            result, stale = self.read()
            self.assertIsNone(result)
            self.assertIn(f"another {what}", stale)
            self.assertIn("abc", stale)
            (self.root / name).write_text(name, encoding="utf-8")

    def test_what_is_no_result_is_an_error_that_names_it(self):
        path = self.store().path(self.scenario, self.static, 1)
        for text in ("", "{}", "[]", '{"schema": 1, "identity": 2}'):
            path.write_text(text, encoding="utf-8")
            with self.assertRaisesRegex(ValueError, str(path)):
                self.read()


if __name__ == "__main__":
    unittest.main()
