#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What scripts/churn makes of its samples: petrel_lab.churn_figures, and the exit code of a run."""

import contextlib
import copy
import io
import random
import unittest
from unittest import mock

from petrel_lab import churn
from petrel_lab.churn_figures import drift_of, memory, problems_of
from petrel_lab.churn_sample import ENDS, LOSSES
from petrel_lab.churn_traffic import STEPS, schedule

HOUR_S = 3600


def sample(t_s, rss_kib=40_000):
    zeros = ("connections", "established", "half_open", "clients", "waiting_flows", "sockets",
             "waiting_slots", "inflight_map", "waiting_status", "inflight_status",
             "expired_handshakes", "unaccounted", "lost_events_share", *LOSSES)
    return {"t_s": t_s, "rss_kib": rss_kib, "anon_kib": rss_kib, "fds": 100, "maps_kib": 80_000,
            "programs_kib": 250, **dict.fromkeys(zeros, 0)}


def series(growth_kib_per_h=0.0, noise_kib=40):
    rng = random.Random(1)
    return [sample(t_s, 40_000 + growth_kib_per_h * t_s / HOUR_S + rng.gauss(0, noise_kib))
            for t_s in range(10, HOUR_S + 1, 10)]


def quiet_end():
    return {**sample(HOUR_S + 20), "waiting_unexplained": 0, "service_inflight_map": 0,
            "unclosed": 0,
            "backends": [{"name": name, "waiting": 0, "waiting_syn": 0, "inflight": 0,
                          "inflight_map": 0, "waits_leaked": 0, "ends": dict.fromkeys(ENDS, 1)}
                         for name in ("b1", "b2")]}


class Memory(unittest.TestCase):
    def test_the_slope_is_that_of_the_series_and_lies_in_its_interval(self):
        for growth in (0, 3000, -3000):
            figures = memory(series(growth), "rss_kib")
            low, high = figures["slope_interval_kib_per_h"]
            self.assertLess(low, growth)
            self.assertGreater(high, growth)
            self.assertLess(high - low, 200)
            self.assertAlmostEqual(figures["second_half_growth_kib"], growth / 2, delta=60)

    def test_growth_is_a_problem(self):
        problem, = problems_of(series(3000), sample(0), quiet_end())
        self.assertIn("RSS grows", problem)

    def test_a_first_half_that_grows_and_noise_are_none(self):
        begun = [sample(t_s, 30_000 + min(10_000, 10 * t_s)) for t_s in range(10, HOUR_S + 1, 10)]
        for samples in (begun, series(), series(noise_kib=1000), series(-3000), series(100)):
            self.assertEqual(problems_of(samples, sample(0), quiet_end()), [])

    def test_a_few_samples_have_no_slope_and_their_medians(self):
        figures = memory(series()[:8], "rss_kib")
        self.assertIsNone(figures["slope_kib_per_h"])
        self.assertIsNone(figures["slope_interval_kib_per_h"])
        self.assertGreater(figures["second_half_median_kib"], 0)

    def test_descriptors_and_kernel_memory_that_stay_are_problems(self):
        for key in ("fds", "maps_kib", "programs_kib"):
            end = quiet_end()
            end[key] += 1
            self.assertEqual(len(problems_of(series(), sample(0), end)), 1, key)


class Drift(unittest.TestCase):
    def test_nothing_left_is_none(self):
        self.assertEqual(drift_of(quiet_end()), [])

    def test_each_leftover_is_one(self):
        for gauge in ("waiting", "waiting_syn", "inflight", "inflight_map"):
            for left in (1, -1):
                end = quiet_end()
                end["backends"][1][gauge] = left
                problem, = drift_of(end)
                self.assertTrue(problem.startswith(f"b2: {gauge} is {left} "), problem)
        for key in ("service_inflight_map", "waiting_unexplained", "waiting_flows", "waits_leaked",
                    "unaccounted", "unclosed"):
            end = quiet_end()
            end[key] = 1
            self.assertEqual(len(drift_of(end)), 1, key)


class Schedule(unittest.TestCase):
    def test_a_short_run_has_each_step_once_and_ends_well(self):
        moments = schedule(16, 4, 1)
        begun = [(moment.kind, moment.parameters) for moment in moments if moment.kind != "none"]
        self.assertCountEqual(begun, STEPS)
        self.assertLess(moments[-1].at_s, 16)

    def test_every_backend_meets_every_step_and_some_rounds_are_everywhere(self):
        met = {(moment.kind, i) for moment in schedule(HOUR_S, 4, 1) for i in moment.backends}
        for kind, _ in STEPS:
            for i in range(1, 5):
                self.assertIn((kind, i), met)
        self.assertTrue(any(len(moment.backends) == 4 for moment in schedule(HOUR_S, 4, 1)))

    def test_what_failed_is_well_before_the_next_fails(self):
        failing = set()
        for moment in schedule(600, 4, 2):
            if moment.kind == "none":
                failing -= set(moment.backends)
            elif moment.kind != "restart":
                self.assertEqual(failing, set())
                failing |= set(moment.backends)
        self.assertEqual(failing, set())


class ExitCode(unittest.TestCase):
    """All of main() but the lab."""

    def code_of(self, samples, end):
        run = {"placement": "balancer", "seconds": HOUR_S, "rate": 100, "requests": 1,
               "attempts": 1, "settled": True, "ends": dict.fromkeys(ENDS, 2),
               "memory": memory(samples, "rss_kib"), "anonymous": memory(samples, "anon_kib"),
               "problems": problems_of(samples, sample(0), end), "clients": {},
               "idle": sample(0), "end": end, "samples": samples}
        with mock.patch.object(churn, "measure", return_value=run), \
                mock.patch.object(churn.facts, "header", return_value={"notes": []}), \
                mock.patch.object(churn.signal, "signal"), \
                contextlib.redirect_stdout(io.StringIO()) as shown, \
                contextlib.redirect_stderr(io.StringIO()):
            code = churn.main([])
        return code, shown.getvalue()

    def test_it_is_0_without_and_8_with_problems(self):
        left = copy.deepcopy(quiet_end())
        left["backends"][0]["waiting"] = 1
        self.assertEqual(self.code_of(series(), quiet_end())[0], 0)
        for code, shown in (self.code_of(series(), left), self.code_of(series(3000), quiet_end())):
            self.assertEqual(code, 8)
            self.assertIn("1 problems", shown)


if __name__ == "__main__":
    unittest.main()
