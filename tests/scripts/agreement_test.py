# SPDX-License-Identifier: MIT
"""When the lab and the simulator are held to agree, and the demo's way into the simulator."""

import unittest

from petrel_lab.agreement_figures import FIGURES, agrees, judge, table
from petrel_lab.demo_options import FAULTS, parse
from petrel_lab.demo_simulated import SCENARIO_OF, arguments_of


class Agreement(unittest.TestCase):
    def test_lies_in_the_interval_or_a_little_beside_it(self):
        self.assertTrue(agrees(100, [90, 110], 0, 0))
        self.assertFalse(agrees(111, [90, 110], 0, 0))
        self.assertTrue(agrees(111, [90, 110], 0.1, 0))
        self.assertTrue(agrees(80, [90, 110], 0, 10))
        self.assertFalse(agrees(79, [90, 110], 0, 10))

    def test_never_agrees_with_never_only(self):
        self.assertTrue(agrees(None, [None, None], 0.5, 100))
        self.assertFalse(agrees(None, [90, 110], 0.5, 100))
        self.assertFalse(agrees(100, [None, None], 0.5, 100))
        self.assertFalse(agrees(100, [90, None], 0.5, 100))

    def test_a_storm_of_retries_is_no_agreement(self):
        lab = {figure: 3000 for figure in FIGURES}
        simulated = {figure: {"median": 40, "interval": [30, 50]} for figure in FIGURES}
        rows = [judge("hang", "petrel", figure, lab, simulated) for figure in FIGURES]
        self.assertFalse(any(row["agrees"] for row in rows))
        self.assertIn("NO", "\n".join(table(rows)))


class Demo(unittest.TestCase):
    def test_each_fault_has_its_scenario(self):
        self.assertEqual(set(SCENARIO_OF), set(FAULTS))

    def test_what_was_asked_for_is_passed_on(self):
        argv = arguments_of(parse(["--fault", "errors", "--policy", "petrel", "--seconds", "60",
                                   "--rate", "100", "--backends", "7", "--seed", "9"]))
        for pair in (["--scenario", "errors-50"], ["--policy", "petrel"], ["--duration", "60"],
                     ["--cause-duration", "24"], ["--rate", "100"], ["--backends", "7"],
                     ["--seed", "9"]):
            place = argv.index(pair[0])
            self.assertEqual(argv[place:place + 2], pair)


if __name__ == "__main__":
    unittest.main()
