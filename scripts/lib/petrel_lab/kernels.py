# SPDX-License-Identifier: MIT
"""scripts/kernels once the programs are built: a guest for each kernel, one after the other."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from . import facts, kernels_extras, kernels_image, virtio_host, virtio_net
from .kernels_apt import (Apt, AptError, debian_sources, host_sources, kernel_sources,
                          release_sources)
from .kernels_image import ImageError
from .kernels_options import TESTS, parse, pick
from .kernels_qemu import Guest, GuestError, has_kvm
from .kernels_table import row_of, row_of_none, table
from .lab import ROOT, progress

EXIT_RUNTIME = 1
EXIT_WARNINGS = 4
EXIT_MISSING = 5
EXIT_UNHEALTHY = 8
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

BOOT_LIMIT_S = 180
MORE_BOOTS = 2
CHECK_LIMIT_S = 60
# A machine that emulates two cores on busy ones takes ten times what it takes itself.
PROGRAMS_LIMIT_S = 180
TESTS_LIMIT_S = 400
AGENT_LIMIT_S = 60
LAB_LIMIT_S = AGENT_LIMIT_S + 60  # beside the traffic
DRAIN_LIMIT_S = 20  # from when the last request was to be sent until each is answered
RATE, EMULATED_RATE = 100, 40  # what the lab carries


def end_on(_signal, _frame):
    raise SystemExit(EXIT_TERMINATED)


def patched_under_a_cpu(console):
    """The kernel met a breakpoint that it had put into its own code for a moment: an emulated CPU ran
    what another one was changing. No kernel's fault."""
    return "Oops: int3" in console.read_text(encoding="utf-8", errors="replace")


def codename():
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    raise AptError("/etc/os-release has no VERSION_CODENAME: this is no Debian")


class Matrix:
    """What all guests share: apt, the userland, petrel's disk."""

    def __init__(self, options):
        self.options = options
        self.cache = options.cache
        self.cache.mkdir(parents=True, exist_ok=True)
        options.logs.mkdir(parents=True, exist_ok=True)
        self.kvm = has_kvm()
        self.release = codename()
        self.archives = debian_sources(host_sources(), self.release)
        self.apt = Apt(self.cache, kernel_sources(*self.archives))
        self.notes = []
        self.userland = self.busybox = self.petrel = None

    def kernels(self):
        """{series: package} of all kernels there are."""
        if not self.options.offline:
            progress("reading the package lists of Debian's releases")
            warning = self.apt.update()
            if warning:
                self.notes.append(f"some lists could not be read: {warning}")
        return self.apt.images()

    def make_disks(self):
        self.userland, self.busybox = kernels_image.make_userland(
            self.cache, self.release, release_sources(*self.archives))
        progress("making a disk of petrel as it is built here")
        self.petrel = self.options.logs / "petrel.img"
        patience = self.options.patience
        tests = () if self.options.no_tests else TESTS
        job = {"root": str(ROOT), "tests": tests, "filter": self.options.filter,
               "check_s": CHECK_LIMIT_S * patience, "programs_s": PROGRAMS_LIMIT_S * patience,
               "tests_s": TESTS_LIMIT_S * patience, "lab_limit_s": LAB_LIMIT_S * patience,
               "agent_s": AGENT_LIMIT_S * patience,
               "lab_s": self.options.lab_seconds, "patience": patience,
               "drain_s": DRAIN_LIMIT_S * patience,
               "rate": self.options.rate or (RATE if self.kvm else EMULATED_RATE),
               "virtio": virtio_net.lacking(),
               "extras": {name: kernels_extras.EXTRAS[name].seconds * patience
                          for name in self.options.extras}}
        kernels_image.make_petrel(self.petrel, self.options.logs,
                                  self.options.bin or ROOT / "build/release/bin", job)

    def row(self, series, package):
        begun = time.monotonic()
        try:
            progress(f"{series}: fetching {package}")
            packages = self.apt.fetch(package)
            kernel = kernels_image.make_kernel(self.cache, packages, self.busybox)
        except (AptError, ImageError) as error:
            return row_of_none(series, str(error))
        work = self.options.logs / series
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        results, error = self._boot(series, kernel, work)
        results["took_s"] = round(time.monotonic() - begun, 1)
        row = row_of(series, results, error, not self.options.no_tests)
        (work / "row.json").write_text(json.dumps({"row": row, "steps": results}, indent=1),
                                       encoding="utf-8")
        return row

    def _boot(self, series, kernel, work):
        """Its steps' results, and why it ended early or None."""
        results, error = self._boot_once(series, kernel, work)
        for _ in range(MORE_BOOTS):
            if error is None or self.kvm or not patched_under_a_cpu(work / "console.log"):
                break
            progress(f"{series}: {error}: qemu's doing, once more")
            results, error = self._boot_once(series, kernel, work)
        return results, error

    def _boot_once(self, series, kernel, work):
        progress(f"{series}: booting {kernel[0]} ({'KVM' if self.kvm else 'emulated'})")
        results = {}
        try:
            with self._host(work) as host, \
                    Guest(work, kernel, (self.userland, self.petrel), self.kvm,
                          more=host.words, descriptors=host.descriptors) as guest:
                for event in guest.events(BOOT_LIMIT_S * self.options.patience):
                    if event["state"] == "begins":
                        if event["step"] == "extra virtio":
                            host.begin()
                        progress(f"{series}: {event['step']} (at {event['at_s']:.0f} s, at most "
                                 f"{event['seconds']} s)")
                        continue
                    results[event["step"]] = event["result"]
                    if event["step"] == "boot":
                        event["result"]["boot_s"] = round(event["at_s"], 1)
                        progress(f"{series}: up after {event['at_s']:.1f} s")
            kernels_image.unpack_results(guest.results, work)
            guest.results.unlink()
        except (GuestError, virtio_net.VirtioError) as error:
            return results, str(error)
        return results, None

    def _host(self, work):
        """What the extra virtio has on the host."""
        return virtio_host.Host("virtio" in self.options.extras, work,
                                self.options.bin or ROOT / "build/release/bin",
                                AGENT_LIMIT_S * self.options.patience)


def measure(matrix, there):
    rows = []
    for series in pick(matrix.options.kernel, there):
        if series not in there:
            rows.append(row_of_none(series, "Debian gives none: there are " + ", ".join(there)))
            continue
        rows.append(matrix.row(series, there[series]))
        last = rows[-1]
        progress(f"{series}: {'good' if last['passed'] else '; '.join(last['problems'][:3])}")
    return rows


def exit_code(rows):
    if any(row["obtained"] and not row["passed"] for row in rows):
        return EXIT_UNHEALTHY
    return 0 if all(row["obtained"] for row in rows) else EXIT_WARNINGS


def main():
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, end_on)
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    try:
        header = facts.header(options.bin or ROOT / "build/release/bin", None)
        matrix = Matrix(options)
        there = matrix.kernels()
        if options.list:
            print("\n".join(f"{series:<6} {package}" for series, package in there.items()))
            return 0
        matrix.make_disks()
        rows = measure(matrix, there)
    except (AptError, ImageError) as error:
        progress(f"kernels: {error}")
        return EXIT_MISSING if "not installed" in str(error) else EXIT_RUNTIME
    except OSError as error:
        progress(f"kernels: {error}")
        return EXIT_RUNTIME
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    header["notes"] += matrix.notes
    header["notes"].append("seed is null: nothing is drawn but the lab's traffic, by seed 1")
    if options.json:
        result = {"schema": "petrel/kernels/v1", **header, "accelerator":
                  "kvm" if matrix.kvm else "tcg", "kernels": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
