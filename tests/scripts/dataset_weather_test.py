#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What scripts/dataset draws: the same each time, without gaps, and such that it can be run.

dataset_weather_test.py"""

import json
import unittest
from collections import Counter

from petrel_lab.dataset_weather import FAULTS, draw, kinds_of, line_of

RUNS = 72
SECONDS = 20
SEEDS = (1, 2, 77)


def sort_of(weather):
    kinds = kinds_of(weather)
    return "none" if not kinds else kinds[0] if len(kinds) == 1 else "mixed"


def capacity_per_s(weather):
    return weather["backends"] * weather["concurrency"] / weather["service_time_ms"] * 1000


class EachSeed(unittest.TestCase):
    """check(weathers) of each seed."""

    def each(self):
        for seed in SEEDS:
            with self.subTest(seed=seed):
                yield [draw(seed, number) for number in range(RUNS)]

    def spread(self, weathers, key, least, most, cells=4):
        """Each of `cells` equal parts between least and most has some of the values."""
        found = {min(cells - 1, int((weather[key] - least) / (most - least) * cells))
                 for weather in weathers}
        self.assertEqual(found, set(range(cells)), key)


class Drawing(EachSeed):
    def test_the_same_seed_and_number_draw_the_same(self):
        for weathers in self.each():
            self.assertEqual(weathers, [draw(int(w["run"][2:].split("-")[0]), w["number"])
                                        for w in weathers])

    def test_another_seed_or_number_draws_another(self):
        drawn = [draw(seed, number) for seed in SEEDS for number in range(RUNS)]
        for keys in (["run"], ["seed"], ["rate", "load", "clients", "timeout_ms"]):
            self.assertEqual(len({tuple(weather[key] for key in keys) for weather in drawn}),
                             len(drawn), keys)

    def test_it_comes_back_from_json_as_it_was(self):
        for weathers in self.each():
            self.assertEqual(json.loads(json.dumps(weathers)), weathers)

    def test_it_is_shown_in_one_line(self):
        for weathers in self.each():
            for weather in weathers:
                self.assertNotIn("\n", line_of(weather))
                self.assertTrue(line_of(weather).startswith(weather["run"]))


class Faults(EachSeed):
    def test_most_runs_have_one_kind_and_some_several_and_some_none(self):
        for weathers in self.each():
            sorts = Counter(map(sort_of, weathers))
            self.assertEqual({kind: sorts[kind] for kind in FAULTS}, {kind: 9 for kind in FAULTS})
            self.assertEqual((sorts["none"], sorts["mixed"]), (6, 12))

    def test_episodes_are_within_the_traffic_and_do_not_overlap(self):
        for seconds in (3, 20, 60):
            for number in range(RUNS):
                episodes = draw(1, number, seconds)["episodes"]
                ends = [0.0] + [e["begin_s"] + e["seconds"] for e in episodes]
                for episode, end in zip(episodes, ends):
                    self.assertGreaterEqual(episode["begin_s"], end)
                self.assertLessEqual(ends[-1], seconds)

    def test_they_are_short_and_long_at_one_at_several_and_at_all_backends(self):
        for weathers in self.each():
            for kind in FAULTS:
                found = [(e, w["backends"]) for w in weathers for e in w["episodes"]
                         if e["kind"] == kind]
                lengths = [e["seconds"] for e, _ in found]
                self.assertTrue(0.5 <= min(lengths) < 1 and 3 < max(lengths) <= 5, (kind, lengths))
                self.assertTrue({"one", "all"} <= {
                    "one" if len(e["backends"]) == 1 else
                    "all" if len(e["backends"]) == backends else "several"
                    for e, backends in found}, kind)
            self.assertTrue(any(1 < len(e["backends"]) < w["backends"]
                                for w in weathers for e in w["episodes"]))

    def test_they_strike_backends_that_are_there(self):
        for weathers in self.each():
            for weather in weathers:
                for episode in weather["episodes"]:
                    struck = episode["backends"]
                    self.assertEqual(len(set(struck)), len(struck))
                    self.assertTrue(set(struck) <= set(range(1, weather["backends"] + 1)))

    def test_errors_and_slowness_have_every_strength(self):
        for weathers in self.each():
            for kind, parameter, edges in (("errors", "rate", (0.05, 0.14, 0.37, 1)),
                                           ("slow", "factor", (2, 6.2, 19.3, 60))):
                values = [e["parameters"][parameter] for w in weathers for e in w["episodes"]
                          if e["kind"] == kind]
                self.assertTrue(edges[0] <= min(values) and max(values) <= edges[-1], values)
                for least, most in zip(edges, edges[1:]):
                    self.assertTrue(any(least <= value <= most for value in values), kind)


class Axes(EachSeed):
    def test_every_choice_is_made(self):
        for weathers in self.each():
            for key, values in (("backends", set(range(2, 9))), ("family", {4, 6}),
                                ("retry", {"none", "immediate", "fixed", "exponential"}),
                                ("max_attempts", {2, 3, 4, 5}), ("keep_alive", {True, False}),
                                ("retry_posts", {True, False}),
                                ("distribution", {"exponential", "lognormal", "constant"})):
                self.assertEqual({weather[key] for weather in weathers}, values, key)

    def test_a_few_runs_have_clients_that_never_retry(self):
        for weathers in self.each():
            self.assertEqual(sum(w["retry"] == "none" for w in weathers), RUNS // 8)

    def test_numbers_are_spread_over_their_range(self):
        for weathers in self.each():
            self.spread(weathers, "load", 0.2, 1.1)
            self.spread(weathers, "rate", 50, 450)
            self.spread(weathers, "clients", 20, 8000, 3)
            self.spread(weathers, "timeout_ms", 300, 3000)
            self.spread(weathers, "paths", 1, 50)

    def test_the_load_is_that_of_the_capacity(self):
        for weathers in self.each():
            for weather in weathers:
                self.assertAlmostEqual(weather["rate"] / capacity_per_s(weather), weather["load"],
                                       delta=0.005)
                self.assertTrue(50 <= weather["rate"] <= 450)
                self.assertLess(weather["service_time_ms"], 90)
                waits_s = weather["queue"] * weather["backends"] / capacity_per_s(weather)
                self.assertTrue(0.05 <= waits_s / weather["timeout_ms"] * 1000 <= 1.4 or
                                weather["queue"] == 4, waits_s)

    def test_a_connect_times_out_no_later_than_the_attempt(self):
        for weathers in self.each():
            shorter = [w for w in weathers if w["connect_timeout_ms"] < w["timeout_ms"]]
            self.assertTrue(0 < len(shorter) < RUNS)
            self.assertTrue(all(w["connect_timeout_ms"] <= w["timeout_ms"] for w in weathers))

    def test_a_third_has_zones_and_never_is_every_backend_far(self):
        for weathers in self.each():
            zoned = [w for w in weathers if w["far_ms"]]
            self.assertEqual(len(zoned), RUNS // 3)
            for weather in zoned:
                self.assertLess(len(weather["far_ms"]), weather["backends"])
                self.assertTrue(all(2 <= ms <= 40 for ms in weather["far_ms"].values()))

    def test_some_have_pollers_and_some_posts(self):
        for weathers in self.each():
            self.assertEqual(sum(w["pollers"] > 0 for w in weathers), RUNS // 4)
            self.assertEqual(sum(w["post_share"] > 0 for w in weathers), RUNS // 2)
            self.assertTrue(all(w["post_share"] <= 0.4 for w in weathers))
            self.assertTrue(all(w["pollers"] <= w["clients"] for w in weathers))


if __name__ == "__main__":
    unittest.main()
