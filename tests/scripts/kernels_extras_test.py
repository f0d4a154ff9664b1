#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the extras of scripts/kernels make of what they measured in a guest."""

import contextlib
import io
import threading
import unittest
from pathlib import Path

from petrel_lab import extra_fentry, extra_ipip, extra_netem, kernels_extras, virtio_net
from petrel_lab.extra_fentry import ACCEPTING, CONNECTING, Name
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


def witness(**changes):
    return {"begun": 1, "established": 1, "closed": 1, "connect_ns": 250_000, "srtt_us": 90,
            "retransmits": 1, "synack_retransmits": 0, "rtos": 0, "resets_sent": 0,
            "resets_received": 0, "bytes_sent": 100, "bytes_received": 50} | changes


def both_ends(**changes):
    """A connection as the witness saw both ends of it; changes: of the accepting one."""
    return {Name(CONNECTING, "10.1.0.2", 5000, "10.1.9.9", 80): witness(),
            Name(ACCEPTING, "10.1.1.2", 8080, "10.1.0.2", 5000): witness(**changes)}


def sensed(**changes):
    view = {name: witness()[name] for name in extra_fentry.VIEW_WIDTHS} | {"connect_ns": 249_000}
    return {("10.1.0.2", 5000): [view, view | changes]}


class Fentry(unittest.TestCase):
    def test_what_agrees_is_good(self):
        found, good, _ = extra_fentry.compare_connections(both_ends(), sensed())
        self.assertTrue(good, found)
        self.assertEqual(found["connections"], 1)
        self.assertEqual(found["witness longer by, us"]["most"], 1.0)

    def test_each_thing_that_does_not_is_counted(self):
        for label, changes in (("counts other", {"retransmits": 0}),
                               ("RTT other", {"srtt_us": 91})):
            found, good, _ = extra_fentry.compare_connections(both_ends(), sensed(**changes))
            self.assertFalse(good)
            self.assertEqual(found[label], 1)
        found, _, odd = extra_fentry.compare_connections(both_ends(), {})
        self.assertEqual(len(odd), 2)
        self.assertEqual(found["not in the sensor's map"], 2)

    def test_what_used_the_same_addresses_is_left_out(self):
        found, good, _ = extra_fentry.compare_connections(both_ends(begun=2), sensed(srtt_us=91))
        self.assertTrue(good)
        self.assertEqual(found["addresses used again"], 1)

    def test_a_backends_counters_are_of_its_accepting_sockets(self):
        sensor = {name: 0 for name in extra_fentry.COUNTERS.values()} | {"socket_retransmits": 3}
        cells = extra_fentry.backend_cells(both_ends(retransmits=2), "10.1.1.2", sensor)
        self.assertEqual(cells["retransmits"], (2, 3))
        self.assertIn("retransmits", extra_fentry.differences(cells))
        self.assertEqual(extra_fentry.backend_cells(both_ends(), "10.1.2.2", sensor)["closed"],
                         (0, 0))


class Virtio(unittest.TestCase):
    def test_qemu_gets_each_tap_with_its_queues(self):
        network = virtio_net.HostNetwork(Path("/nonexistent"))
        network.taps = {"client": [5, 6, 7, 8], "b1": [9], "b2": [10]}
        words = " ".join(network.qemu_words())
        self.assertIn("tap,id=client,fds=5:6:7:8,", words)
        self.assertIn("mq=on,vectors=10", words)
        self.assertIn("tap,id=b1,fd=9,", words)
        self.assertEqual(network.descriptors, (5, 6, 7, 8, 9, 10))


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
