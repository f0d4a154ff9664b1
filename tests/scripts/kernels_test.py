#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What scripts/kernels makes of apt's sources, of packages' names and of what a guest told."""

import io
import subprocess
import tempfile
import unittest
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

from petrel_lab import kernels, kernels_extras
from petrel_lab.kernels_apt import (AptError, Source, debian_sources, kernel_sources,
                                    newest_of_each, parse_deb822, parse_one_line)
from petrel_lab.kernels_image import cpio, load_order
from petrel_lab.kernels_options import parse, pick
from petrel_lab.kernels_qemu import accelerator, has_kvm
from petrel_lab.kernels_table import row_of, row_of_none, table

DEB822 = """Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm

Types: deb
Enabled: no
URIs: http://old.example/debian
Suites: bookworm
"""
THERE = {"5.10": "a", "6.1": "b", "6.12": "c", "7.3": "d"}


class Sources(unittest.TestCase):
    def test_deb822_gives_each_suite_of_what_is_enabled_and_binary(self):
        keyring = "/usr/share/keyrings/debian.gpg"
        self.assertEqual(parse_deb822(DEB822),
                         [Source("http://mirror.example/debian", "bookworm", keyring),
                          Source("http://mirror.example/debian", "bookworm-updates", keyring)])

    def test_one_line_form_with_and_without_options(self):
        text = ("deb [arch=amd64 signed-by=/k.gpg] http://m.example/d bookworm main\n"
                "#deb http://off.example/d bookworm main\n"
                "deb-src http://m.example/d bookworm main\n"
                "deb http://s.example/s bookworm-security main contrib\n")
        self.assertEqual(parse_one_line(text),
                         [Source("http://m.example/d", "bookworm", "/k.gpg"),
                          Source("http://s.example/s", "bookworm-security")])

    def test_other_suites_come_from_where_the_hosts_own_comes(self):
        archive = Source("http://m.example/d", "bookworm", "/k.gpg")
        security = Source("http://s.example/s", "bookworm-security", "/k.gpg")
        found = kernel_sources(*debian_sources([security, archive], "bookworm"))
        self.assertIn(Source("http://m.example/d", "sid", "/k.gpg"), found)
        self.assertIn(Source("http://s.example/s", "bullseye-security", "/k.gpg"), found)
        self.assertIn(Source("http://m.example/d", "trixie-backports", "/k.gpg"), found)
        alone = kernel_sources(*debian_sources([archive], "bookworm"))
        self.assertFalse([s for s in alone if s.suite.endswith("-security")])

    def test_a_host_without_its_own_release_is_an_error(self):
        with self.assertRaises(AptError):
            debian_sources([Source("http://m.example/d", "trixie")], "bookworm")


class Names(unittest.TestCase):
    def test_the_newest_of_each_series_by_number_the_oldest_series_first(self):
        found = newest_of_each(["linux-image-6.12.9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64",
                                "linux-image-6.12.118+deb13-cloud-amd64",
                                "linux-image-6.1.0-7-cloud-amd64"])
        self.assertEqual(list(found), ["6.1", "6.12"])
        self.assertEqual(found["6.1"], "linux-image-6.1.0-56-cloud-amd64")
        self.assertEqual(found["6.12"], "linux-image-6.12.118+deb13-cloud-amd64")

    def test_other_flavours_and_debug_symbols_are_none(self):
        self.assertEqual(newest_of_each(["linux-image-6.1.0-56-amd64", "linux-image-cloud-amd64",
                                         "linux-image-6.1.0-56-cloud-amd64-dbg",
                                         "linux-image-6.1.0-56-cloud-amd64-unsigned",
                                         "linux-image-6.1.0-56-rt-amd64"]), {})

    def test_one_made_for_an_older_release_stands_back(self):
        found = newest_of_each(["linux-image-6.1.0-0.deb11.99-cloud-amd64",
                                "linux-image-6.1.0-2-cloud-amd64"])
        self.assertEqual(found["6.1"], "linux-image-6.1.0-2-cloud-amd64")

    def test_words_and_series_are_picked_once_and_in_order(self):
        self.assertEqual(pick(["oldest", "newest", "5.10"], THERE), ["5.10", "7.3"])
        self.assertEqual(pick(["second-newest", "4.19"], THERE), ["6.12", "4.19"])
        self.assertEqual(pick(["6.1", "all"], THERE), ["6.1", "5.10", "6.12", "7.3"])
        self.assertEqual(pick(["second-newest"], {"6.1": "b"}), [])
        self.assertEqual(pick(["newest", "all"], {}), [])

    def test_bad_input_is_a_usage_error(self):
        for argv in (["--kernel", "six"], ["--kernel", ","], ["--lab-seconds", "3"],
                     ["--bin", "/nonexistent"], ["--extras", "none-such"], ["--extras", ","],
                     ["--no-tests", "--lab-seconds", "0"], ["--json", "/nonexistent/f"]):
            with self.subTest(argv=argv), redirect_stderr(io.StringIO()) as said, \
                    self.assertRaises(SystemExit) as ended:
                parse(argv)
            self.assertEqual(ended.exception.code, 2)
            self.assertIn("see kernels --help", said.getvalue())


class Images(unittest.TestCase):
    MODULES = ("kernel/fs/ext4/ext4.ko.xz: kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz\n"
               "kernel/fs/jbd2/jbd2.ko.xz:\nkernel/fs/mbcache.ko.xz:\n"
               "kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n"
               "kernel/drivers/virtio/virtio.ko.xz:\n")

    def test_what_a_module_needs_is_loaded_before_it(self):
        order = [Path(p).name for p in load_order(self.MODULES, ("virtio_blk", "ext4"))]
        self.assertEqual(len(order), 5)
        self.assertLess(order.index("virtio.ko.xz"), order.index("virtio_blk.ko.xz"))
        self.assertLess(order.index("jbd2.ko.xz"), order.index("ext4.ko.xz"))

    def test_what_is_built_in_is_left_out(self):
        self.assertEqual(load_order(self.MODULES, ("virtio_pci",)), [])

    def test_an_archive_is_one_that_others_read(self):
        entries = [("dir", 0o040755, b""), ("dir/file", 0o100644, b"hello"),
                   ("dir/odd", 0o100755, b"x" * 13)]
        data = cpio(entries)
        names = []
        at = 0
        while True:
            fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
            size, name_size = fields[6], fields[11]
            name = data[at + 110:at + 110 + name_size - 1].decode()
            if name == "TRAILER!!!":
                break
            begin = at + (110 + name_size + 3) // 4 * 4
            names.append((name, fields[1], data[begin:begin + size]))
            at = begin + (size + 3) // 4 * 4
        self.assertEqual(names, entries)

    def test_the_guests_own_scripts_are_shell(self):
        for name in ("guest_initrd.sh", "guest_main.sh"):
            path = Path(kernels.__file__).parents[1] / name
            done = subprocess.run(["sh", "-n", path], capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, b""))


class Machine(unittest.TestCase):
    def test_kvm_needs_the_device_and_the_cpu(self):
        with tempfile.TemporaryDirectory() as folder:
            device, with_it, without = (Path(folder) / n for n in ("kvm", "with", "without"))
            device.touch()
            with_it.write_text("processor : 0\nflags\t\t: fpu vmx sse\n", encoding="utf-8")
            without.write_text("flags\t\t: fpu sse\nvmx flags : ept\n", encoding="utf-8")
            self.assertTrue(has_kvm(with_it, device))
            self.assertFalse(has_kvm(without, device))
            self.assertFalse(has_kvm(with_it, Path(folder) / "none"))

    def test_an_emulated_cpu_has_no_cx16(self):
        self.assertIn("max,-cx16", accelerator(False))
        self.assertNotIn("tcg,thread=multi", accelerator(True))


def results(**changes):
    found = {
        "boot": {"release": "6.1.0-56", "boot_s": 14.2},
        "check": {"exit_code": 4, "checks": [
            {"id": "kernel.version", "state": "good", "found": "6.1"},
            {"id": "kernel.atomics", "state": "degraded", "found": "none that answer"}]},
        "programs": {"programs": [{"name": "petrel_balancer", "verified_instructions": 1000},
                                  {"name": "petrel_sent", "verified_instructions": 20},
                                  {"name": "petrel_sockops", "verified_instructions": 30}],
                     "notes": []},
        "score_test": {"run": 5, "failed": 0, "skipped": 1, "failures": []},
        "fuzz_test": {"run": 3, "failed": 0, "skipped": 0, "failures": []},
        "lab": {"outcome": {"moved_90_ms": 400}, "degraded": ["socket sensor: x"]},
        "took_s": 99.0,
    }
    found.update(changes)
    return found


class Rows(unittest.TestCase):
    def test_a_good_kernel(self):
        row = row_of("6.1", results())
        self.assertTrue(row["passed"], row["problems"])
        self.assertEqual((row["tests_run"], row["tests_failed"], row["tests_skipped"]), (8, 0, 1))
        self.assertEqual(row["degraded"], ["kernel.atomics: none that answer", "socket sensor: x"])
        self.assertIn("1,000", "\n".join(table([row])))

    def test_each_thing_that_goes_wrong_fails_the_kernel_and_is_named(self):
        cases = {
            "moved": results(lab={"outcome": {"moved_90_ms": None}, "degraded": []}),
            "lab: LabError": results(lab={"error": "LabError: no"}),
            "Score.Adds failed": results(score_test={"run": 5, "failed": 1, "skipped": 0,
                                                     "failures": ["Score.Adds"]}),
            "it did not end": results(fuzz_test={"run": 0, "failed": 0, "skipped": 0,
                                                 "failures": [], "error": "it did not end"}),
            "refuses": results(programs={"programs": [], "notes": [
                "programs of the balancer are missing: the kernel refuses them: x"]}),
            "kernel.btf": results(check={"checks": [
                {"id": "kernel.btf", "state": "fatal", "found": "none"}]}),
        }
        for words, found in cases.items():
            with self.subTest(words=words):
                row = row_of("6.1", found)
                self.assertFalse(row["passed"])
                self.assertIn(words, " ".join(row["problems"]))

    def test_an_extra_fails_the_kernel_only_where_it_could_run(self):
        found = {"good": True, "figures": {"petrel": {"retries": 1200, "p99_ms": 1.5}}}
        lacking = {"good": None, "figures": {}, "note": "this kernel has no ip_vs"}
        row = row_of("6.1", results(**{"extra a": found, "extra b": lacking}))
        self.assertTrue(row["passed"], row["problems"])
        shown = "\n".join(table([row]))
        self.assertIn("a: good\n        petrel: retries 1,200, p99_ms 1.5", shown)
        self.assertIn("b: not there: this kernel has no ip_vs", shown)
        bad = {"good": False, "figures": {}, "note": "2 requests were lost"}
        row = row_of("6.1", results(**{"extra a": bad}))
        self.assertEqual(row["problems"], ["a: 2 requests were lost"])

    def test_without_tests_none_are_missed(self):
        found = {name: value for name, value in results().items() if not name.endswith("_test")}
        self.assertTrue(row_of("6.1", found, tested=False)["passed"])
        self.assertFalse(row_of("6.1", found)["passed"])

    def test_a_guest_that_ended_early_has_not_passed(self):
        row = row_of("6.12", {}, "it ended at boot: Kernel panic")
        self.assertFalse(row["passed"])
        self.assertEqual(row["kernel"], "6.12")
        self.assertIn("Kernel panic", "\n".join(table([row])))

    def test_an_extra_always_gives_a_result(self):
        calls = {"lacks": kernels_extras.NotThere("no ip_vs"), "breaks": ValueError("odd")}

        def work(_job, _seconds):
            raise calls[name]
        for name, good in (("lacks", None), ("breaks", False)):
            module = mock.Mock(run=work)
            with mock.patch.dict(kernels_extras.EXTRAS, {name: kernels_extras.Extra("m", 1, "")}), \
                    mock.patch("importlib.import_module", return_value=module):
                self.assertIs(kernels_extras.run(name, {}, 5)["good"], good)

    def test_exit_codes(self):
        good, bad = row_of("6.1", results()), row_of("6.1", {}, "it ended")
        none = row_of_none("4.4", "Debian gives none")
        self.assertEqual(kernels.exit_code([good]), 0)
        self.assertEqual(kernels.exit_code([good, none]), 4)
        self.assertEqual(kernels.exit_code([good, none, bad]), 8)
        self.assertIn("not there", "\n".join(table([none])))


if __name__ == "__main__":
    unittest.main()
