#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The scenarios and policies of scripts/compare as values: whole, and such that they can be run.

compare_scenarios_test.py"""

import json
import unittest

from petrel_lab.compare_actions import Actions
from petrel_lab.compare_aims import AIMS
from petrel_lab.compare_policies import BASE, POLICIES
from petrel_lab.compare_scenario import described, fingerprint, moments, times_of
from petrel_lab.compare_scenarios import SCENARIOS
from petrel_lab.compare_threshold import Threshold
from petrel_lab.demo_options import FAULTS

# What the comparison is to have at least, whatever else is added.
NAMES = {"healthy", "hang", "reset", "refuse", "blackhole", "slow", "errors", "brownout", "gray",
         "flap", "zone", "all-bad", "overload", "storm", "restart", "unequal", "herd",
         "one-slow-of-11", "capacity-drop", "antagonist-75", "antagonist-103", "antagonist-127",
         "loss", "delay", "reorder"}
BOTH = (False, True)
MOST_PER_S = 1000  # requests: what two cores carry beside the backends and the balancer


def runs():
    for scenario in SCENARIOS.values():
        for quick in BOTH:
            yield scenario, quick, times_of(scenario, quick)


class Values(unittest.TestCase):
    def test_all_that_are_to_be_there_are(self):
        self.assertEqual({s.name for s in SCENARIOS.values() if not s.extra}, NAMES)
        self.assertLessEqual({"static", "two-choices", "petrel-weights", "petrel-shadow", "petrel",
                              "haproxy", "nginx"}, set(POLICIES))
        self.assertEqual(POLICIES[BASE].mode, "neutral")

    def test_each_is_plain_json_with_a_fingerprint_of_its_own(self):
        found = {}
        for scenario, quick, _ in runs():
            value = described(scenario, quick)
            self.assertEqual(json.loads(json.dumps(value)), value)
            found.setdefault(fingerprint(value), []).append((scenario.name, quick))
        self.assertEqual([names for names in found.values() if len(names) > 1], [])

    def test_quick_is_shorter_and_changes_nothing_but_times(self):
        for scenario in SCENARIOS.values():
            slow, quick = described(scenario, False), described(scenario, True)
            self.assertLess(scenario.quick.seconds, scenario.times.seconds)
            self.assertEqual({k for k in slow if slow[k] != quick[k]}, {"times"})

    def test_the_load_is_bounded(self):
        for scenario in SCENARIOS.values():
            clients = scenario.clients
            self.assertLessEqual(clients.rate_per_s * scenario.offered_during, MOST_PER_S)
            # What is smaller than in the source says so.
            self.assertTrue(clients.rate_per_s >= 800 or scenario.scaling or
                            scenario.name == "unequal", scenario.name)

    def test_users_wait_for_at_least_one_attempt(self):
        for scenario in SCENARIOS.values():
            self.assertGreaterEqual(scenario.clients.patience_ms, scenario.clients.timeout_ms)

    def test_aims_are_known(self):
        for scenario in SCENARIOS.values():
            self.assertIn(scenario.aim, {None, *AIMS})
            if scenario.aim == "storm":
                self.assertIsNotNone(scenario.capacity_during)


class Timelines(unittest.TestCase):
    def test_moments_are_in_order_and_within_the_traffic(self):
        for scenario, quick, times in runs():
            for seed in (1, 2):
                at_s = [moment[0] for moment in moments(scenario, seed, quick)]
                self.assertEqual(at_s, sorted(at_s))
                if at_s:
                    self.assertGreaterEqual(at_s[0], 0)
                    self.assertLess(at_s[-1], times.seconds)

    def test_they_strike_backends_that_are_there_and_do_what_is_known(self):
        known = set(Actions(None, None, None)._do) | {"surge"}
        for scenario, quick, _ in runs():
            for _, action, backends, parameters in moments(scenario, 1, quick):
                self.assertIn(action, known)
                self.assertTrue(set(backends) <= set(range(1, scenario.backends.count + 1)))
                if action == "fault":
                    self.assertIn(parameters["kind"], FAULTS)

    def test_what_begins_ends_when_the_cause_does(self):
        ends = {"stop": "continue", "gray": "ungray", "drain": "undrain",
                "impair": "clear"}
        for scenario, quick, times in runs():
            end_s = times.before_s + times.cause_s
            state = {}
            for at_s, action, backends, parameters in moments(scenario, 1, quick):
                for i in backends:
                    if action == "fault":
                        state[i, "fault"] = parameters["kind"]
                    elif action in ends:
                        state[i, ends[action]] = "begun"
                    elif action in ends.values():
                        state[i, action] = "none"
                if scenario.wander is None:
                    self.assertLessEqual(at_s, end_s + 1e-9)
            if scenario.wander is None:
                self.assertEqual(set(state.values()) - {"none"}, set(), scenario.name)

    def test_only_what_wanders_is_another_with_another_seed(self):
        for scenario, quick, _ in runs():
            first, again, other = (moments(scenario, seed, quick) for seed in (1, 1, 2))
            self.assertEqual(first, again)
            self.assertEqual(first == other, scenario.wander is None, scenario.name)

    def test_the_faulty_fail_at_the_beginning_of_the_cause(self):
        for scenario, quick, times in runs():
            if scenario.faulty:
                struck = {i for at_s, _, backends, _ in moments(scenario, 1, quick)
                          for i in backends if at_s == times.before_s}
                self.assertEqual(struck, set(scenario.faulty), scenario.name)


class ThresholdTest(unittest.TestCase):
    """Five failures within a second take a backend out for five."""

    def test_takes_out_the_one_that_fails_and_lets_it_return(self):
        rule = Threshold()
        self.assertEqual(rule.step({"b1": 90, "b2": 7}, 0.0), [])  # what was before is not counted
        self.assertEqual(rule.step({"b1": 90, "b2": 11}, 0.5), [])
        self.assertEqual(rule.step({"b1": 90, "b2": 12}, 0.9), ["b2"])
        self.assertEqual(rule.step({"b1": 90, "b2": 30}, 3.0), [])
        self.assertEqual(rule.step({"b1": 90, "b2": 34}, 6.0), [])
        self.assertEqual(rule.step({"b1": 90, "b2": 35}, 6.1), ["b2"])

    def test_failures_that_are_far_between_take_out_nobody(self):
        rule = Threshold()
        for tenth in range(100):
            self.assertEqual(rule.step({"b1": tenth // 3, "b2": 0}, tenth / 10), [])

    def test_the_last_one_stays(self):
        rule = Threshold()
        rule.step({"b1": 0, "b2": 0}, 0.0)
        self.assertEqual(rule.step({"b1": 9, "b2": 9}, 0.1), ["b1"])
        self.assertEqual(rule.step({"b1": 9, "b2": 99}, 1.0), [])


if __name__ == "__main__":
    unittest.main()
