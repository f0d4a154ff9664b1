#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""IPVS beside petrel: the rules that are made, and what is said where a host has none."""

import unittest
from types import SimpleNamespace
from unittest import mock

from petrel_lab import compare_lacks, ipvs, netem
from petrel_lab.compare_policies import POLICIES
from petrel_lab.compare_scenario import Scenario

NONE = "this kernel has no ip_vs"


def options(policy=None, scenario=None, scenarios=()):
    return SimpleNamespace(policy=policy, scenario=scenario, scenarios=list(scenarios),
                           policies=policy or list(POLICIES.values()))


class Rules(unittest.TestCase):
    def test_a_service_and_its_backends_in_nat(self):
        self.assertEqual(
            ipvs.rules("10.1.100.1:80", ["10.1.1.2:8080", "10.1.2.2:8080"], "mh").splitlines(),
            ["-A -t 10.1.100.1:80 -s mh -b mh-fallback,mh-port",
             "-a -t 10.1.100.1:80 -r 10.1.1.2:8080 -m -w 1",
             "-a -t 10.1.100.1:80 -r 10.1.2.2:8080 -m -w 1"])
        self.assertIn("-A -t a:1 -s wlc\n", ipvs.rules("a:1", [], "wlc"))

    def test_one_that_drains_keeps_its_connections_and_gets_no_new_ones(self):
        self.assertEqual(ipvs.weight("a:1", "b:2", 0),
                         ["-e", "-t", "a:1", "-r", "b:2", "-m", "-w", "0"])


class WhereItLacks(unittest.TestCase):
    def setUp(self):
        for target in ("petrel_lab.compare_proxy.program_of",):
            patch = mock.patch(target, return_value="/usr/sbin/program")
            patch.start()
            self.addCleanup(patch.stop)

    def test_it_is_left_out_and_said(self):
        found = options()
        with mock.patch.object(ipvs, "lacking", return_value=NONE):
            asked, left_out = compare_lacks.split(found)
        self.assertEqual((asked, left_out), ({}, {"ipvs": NONE, "ipvs-wlc": NONE}))
        self.assertEqual([p.name for p in found.policies if p.name.startswith("ipvs")], [])
        self.assertIn("petrel", [p.name for p in found.policies])

    def test_one_who_asks_for_it_is_told_that_it_cannot_be(self):
        with mock.patch.object(ipvs, "lacking", return_value=NONE):
            self.assertEqual(compare_lacks.split(options(policy=[POLICIES["ipvs"]])),
                             ({"ipvs": NONE}, {}))

    def test_nothing_is_left_out_where_all_is_there(self):
        found = options()
        with mock.patch.object(ipvs, "lacking", return_value=None):
            self.assertEqual(compare_lacks.split(found), ({}, {}))
        self.assertEqual(len(found.policies), len(POLICIES))

    def test_proxies_are_no_option(self):
        with mock.patch.object(ipvs, "lacking", return_value=None), \
                mock.patch("petrel_lab.compare_proxy.program_of", return_value=None):
            asked, left_out = compare_lacks.split(options())
        self.assertEqual(set(asked), {"haproxy", "nginx"})
        self.assertEqual(left_out, {})

    def test_scenarios_that_need_what_is_lacking_alike(self):
        both = [Scenario("lossy", "", needs="netem"), Scenario("plain", "")]
        lacking = mock.Mock(return_value="no netem")
        with mock.patch.dict(compare_lacks.NEEDS, {"netem": lacking}):
            found = options(policy=[POLICIES["static"]], scenarios=both)
            self.assertEqual(compare_lacks.split(found), ({}, {"lossy": "no netem"}))
            self.assertEqual([s.name for s in found.scenarios], ["plain"])
            found = options([POLICIES["static"]], both, both)
            self.assertEqual(compare_lacks.split(found), ({"lossy": "no netem"}, {}))

    def test_who_is_not_root_is_not_told_that_it_lacks(self):
        with mock.patch("os.geteuid", return_value=1000), \
                mock.patch("shutil.which", return_value="/usr/sbin/ipvsadm"):
            self.assertIsNone(ipvs.lacking())
            self.assertIsNone(netem.lacking())


if __name__ == "__main__":
    unittest.main()
