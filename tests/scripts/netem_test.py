#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""netem in the lab: what may be asked for, what tc is told, and what a kernel without it says."""

import io
import subprocess
import unittest
from contextlib import redirect_stderr
from unittest import mock

from petrel_lab import netem
from petrel_lab.compare_scenarios import SCENARIOS
from petrel_lab.netem import Impairment, NetemError, Node


class Told(unittest.TestCase):
    def test_tc_gets_what_was_asked_for_and_no_more(self):
        cases = {
            Impairment(loss=5): "netem limit 100000 loss 5%",
            Impairment(delay=100): "netem limit 100000 delay 100ms",
            Impairment(delay=20, jitter=2.5): "netem limit 100000 delay 20ms 2.5ms",
            Impairment(loss=0.5, delay=20, reorder=25):
                "netem limit 100000 delay 20ms reorder 25% loss 0.5%",
        }
        for impairment, words in cases.items():
            self.assertIsNone(impairment.problem())
            self.assertEqual(impairment.words(), words)

    def test_what_makes_no_sense_is_said(self):
        for impairment, words in ((Impairment(), "needs"), (Impairment(loss=101), "--loss"),
                                  (Impairment(loss=-1), "--loss"),
                                  (Impairment(delay=10001), "--delay"),
                                  (Impairment(jitter=1), "need a --delay"),
                                  (Impairment(reorder=5), "need a --delay"),
                                  (Impairment(delay=5, jitter=6), "--jitter")):
            self.assertIn(words, impairment.problem())

    def test_bad_input_is_a_usage_error(self):
        for argv in (["--loss", "much"], ["--direction", "up", "--loss", "1"], ["--delay", "-1"],
                     ["--direction", "in"]):
            with self.subTest(argv=argv), redirect_stderr(io.StringIO()) as said, \
                    self.assertRaises(SystemExit) as ended:
                netem.parse(argv)
            self.assertEqual(ended.exception.code, 2)
            self.assertIn("see lab --help", said.getvalue())


class Ran:
    """In subprocess.run's place: keeps what was run; `fails`: whose text has it, fails."""

    def __init__(self, fails="nothing", filters=""):
        self.fails, self.filters, self.lines = fails, filters, []

    def __call__(self, argv, input=None, **_):  # pylint: disable=redefined-builtin
        text = " ".join(argv) + (f": {input.strip()}" if input else "")
        self.lines.append(text)
        code = int(self.fails in text)
        out = self.filters if "filter show" in text else ""
        return subprocess.CompletedProcess(argv, code, out, "Error: no such thing." * code)

    def have(self, part):
        return any(part in line for line in self.lines)


class InANode(unittest.TestCase):
    def impair(self, direction, ran):
        with mock.patch("subprocess.run", ran):
            Node(["enter"]).impair(direction, Impairment(loss=5))

    def test_each_direction_has_a_queue_of_its_own(self):
        for direction, into, out in (("in", True, False), ("out", False, True),
                                     ("both", True, True)):
            ran = Ran()
            self.impair(direction, ran)
            self.assertEqual(ran.have("qdisc add dev impaired root netem"), into)
            self.assertEqual(ran.have("qdisc replace dev eth0 root netem"), out)
            self.assertTrue(all(line.startswith("enter ") for line in ran.lines))

    def test_what_was_set_before_is_taken_away(self):
        ran = Ran()
        self.impair("out", ran)
        self.assertIn("qdisc del dev eth0 root", ran.lines[0])

    def test_a_kernel_without_it_is_told_and_nothing_stays(self):
        ran = Ran(fails="netem")
        with mock.patch("os.geteuid", return_value=0), self.assertRaises(NetemError) as raised:
            self.impair("both", ran)
        self.assertTrue(raised.exception.missing)
        self.assertIn("this kernel has no sch_netem", str(raised.exception))
        self.assertIn("enter ip link del impaired", ran.lines)

    def test_packets_are_not_led_past_a_program(self):
        ran = Ran(filters="filter protocol all pref 49152 bpf chain 0")
        with mock.patch.object(netem, "lacking", return_value=None), \
                self.assertRaises(NetemError) as raised:
            self.impair("in", ran)
        self.assertFalse(raised.exception.missing)
        self.assertIn("only --direction out", str(raised.exception))
        self.impair("out", Ran(filters="bpf"))


class InScenarios(unittest.TestCase):
    def test_each_is_one_that_can_be_set(self):
        found = [s for s in SCENARIOS.values() if s.needs == "netem"]
        self.assertTrue(found)
        for scenario in found:
            for event in scenario.events:
                if event.action == "impair":
                    of_each = dict(event.parameters)
                    self.assertIn(of_each.pop("direction"), netem.DIRECTIONS)
                    self.assertIsNone(Impairment(**of_each).problem())

    def test_none_needs_it_without_saying_so(self):
        for scenario in SCENARIOS.values():
            if any(event.action == "impair" for event in scenario.events):
                self.assertEqual(scenario.needs, "netem", scenario.name)


if __name__ == "__main__":
    unittest.main()
