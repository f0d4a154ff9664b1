#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the extras of scripts/kernels make of what they measured in a guest."""

import contextlib
import io
import threading
import unittest
from pathlib import Path

from petrel_lab import extra_ipip, extra_netem, kernels_extras
from petrel_lab.extra_netem import TIMES
from petrel_lab.kernels_table import row_of


def cell(**changes):
    return {"retries": 0, "never_served": 0, "retries seen by petrel": 0,
            "least share of the ring": 0.25, "late_ms": 5} | changes


def netem(**changes):
    """changes: of petrel's cells."""
    found = {policy: {name: cell() for name in ("loss", "delay", "reorder")}
             for policy in ("static", "petrel")}
    found["static"]["loss"] = cell(retries=100)
    for name, change in changes.items():
        found["petrel"][name] = cell(**change)
    return found


class Netem(unittest.TestCase):
    def test_what_is_as_it_should_be_has_no_problem(self):
        self.assertEqual(extra_netem.problems(netem(loss={"retries": 20})), [])
        # Retries that there were may be seen: an emulated machine makes some by being late.
        self.assertEqual(extra_netem.problems(
            netem(delay={"retries": 2, "retries seen by petrel": 2})), [])

    def test_each_thing_that_is_not_is_named(self):
        cases = {"loss: petrel has more retries": netem(loss={"retries": 101}),
                 "delay: petrel sees retries": netem(delay={"retries seen by petrel": 1}),
                 "reorder: petrel moves traffic": netem(reorder={"least share of the ring": 0.1}),
                 "reorder: requests were not served": netem(reorder={"never_served": 1})}
        for words, found in cases.items():
            said = extra_netem.problems(found)
            self.assertEqual(len(said), 1, said)
            self.assertIn(words, said[0])

    def test_connections_are_counted_while_the_cause_lasts(self):
        tenths = int(TIMES.seconds * 10)
        begin, end = int(TIMES.before_s * 10), int((TIMES.before_s + TIMES.cause_s) * 10)
        series = {f"b{i}": [1] * tenths for i in (1, 2, 3, 4)}
        series["b2"] = [1] * begin + [0] * (end - begin) + [1] * (tenths - end)
        made = {"details": {"connections_by_time": series}}
        self.assertEqual(extra_netem.share_of_connections(made, 4), 0)
        series["b2"] = [1] * tenths
        self.assertEqual(extra_netem.share_of_connections(made, 4), 0.25)


class Uploads(unittest.TestCase):
    def test_what_arrives_whole_is_known(self):
        for address in ("127.0.0.1", "::1"):
            with extra_ipip.listening(address, 0) as listener:
                port = listener.getsockname()[1]
                threading.Thread(target=extra_ipip.serve_one, args=(listener,)).start()
                said = io.StringIO()
                with contextlib.redirect_stdout(said):
                    extra_ipip.upload(address, port, 300_000)
                self.assertEqual(said.getvalue(), "whole\n")

    def test_ways_have_ports_of_their_own_where_they_share_a_vip(self):
        ports = {(extra_ipip.WAYS[way][0], extra_ipip.TunnelLab.port_of(way, uploads))
                 for way in extra_ipip.WAYS for uploads in (False, True)}
        self.assertEqual(len(ports), 2 * len(extra_ipip.WAYS))


class Table(unittest.TestCase):
    def test_each_is_a_module_that_can_run(self):
        folder = Path(kernels_extras.__file__).parent
        for name, extra in kernels_extras.EXTRAS.items():
            text = (folder / f"{extra.module}.py").read_text(encoding="utf-8")
            self.assertIn("\ndef run(", text, name)

    def test_all_names_all_and_each_is_named_once(self):
        self.assertEqual(kernels_extras.names_of("all"), list(kernels_extras.EXTRAS))
        self.assertEqual(kernels_extras.names_of("netem,ipvs,netem"), ["netem", "ipvs"])

    def test_one_that_broke_without_a_result_fails_the_row(self):
        row = row_of("6.12", {"extra netem": {"error": "no module"}}, tested=False)
        self.assertFalse(row["passed"])
        self.assertIn("FAILED", kernels_extras.lines_of("netem", {"error": "no module"})[0])


if __name__ == "__main__":
    unittest.main()
