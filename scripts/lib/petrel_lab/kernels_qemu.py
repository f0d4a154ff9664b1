# SPDX-License-Identifier: MIT
"""One guest: plain qemu, two serial ports, four disks; its events read as they come."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

RESULTS_MB = 32
POLL_S = 0.1
END_S = 20


def has_kvm(cpuinfo="/proc/cpuinfo", device="/dev/kvm"):
    """The device may be there, and open, on a CPU that cannot: both are asked."""
    try:
        flags = Path(cpuinfo).read_text(encoding="utf-8")
        if not re.search(r"^flags\s*:.*\b(vmx|svm)\b", flags, re.M):
            return False
        os.close(os.open(device, os.O_RDWR))
        return True
    except OSError:
        return False


def accelerator(kvm):
    # Without cx16: 6.12 and newer use cmpxchg16b early, which qemu 7.2 emulates wrongly.
    return ["-accel", "kvm", "-cpu", "host"] if kvm else \
        ["-accel", "tcg,thread=multi", "-cpu", "max,-cx16"]


# tsc=reliable: on a busy host the kernel finds the emulated clock too slow to read, takes the HPET in
# its place, which costs an exit to qemu each time, and crawls at a few requests a second.
COMMAND_LINE = "console=ttyS0 panic=-1 loglevel=5 random.trust_cpu=on tsc=reliable"


class GuestError(RuntimeError):
    """The guest did not do what it should; the message says what was seen of it."""


class Guest:
    """with Guest(...) as guest: for event in guest.events(): ..."""

    def __init__(self, work, kernel, disks, kvm, memory_mb=2048, cpus=2, more=(), descriptors=()):
        """more: further words for qemu; descriptors: those that they name."""
        self.work = Path(work)
        self.console = self.work / "console.log"
        self.port = self.work / "events.jsonl"
        self.results = self.work / "results.img"
        _, vmlinuz, initrd, modules = kernel
        userland, petrel = disks
        self.argv = ["qemu-system-x86_64", "-machine", "q35", *accelerator(kvm),
                     "-smp", str(cpus), "-m", str(memory_mb), "-nodefaults", "-nographic",
                     "-no-reboot", "-kernel", str(vmlinuz), "-initrd", str(initrd),
                     "-append", COMMAND_LINE,
                     "-chardev", f"file,id=console,path={self.console}",
                     "-chardev", f"file,id=events,path={self.port}",
                     "-serial", "chardev:console", "-serial", "chardev:events",
                     "-device", "virtio-rng-pci", *more]
        self.descriptors = descriptors
        for path, options in ((userland, "snapshot=on"), (modules, "readonly=on"),
                              (petrel, "readonly=on"), (self.results, "cache=unsafe")):
            self.argv += ["-drive", f"if=virtio,format=raw,file={path},{options}"]
        self.process = None
        self.begun = 0.0

    def __enter__(self):
        with open(self.results, "wb") as disk:
            disk.truncate(RESULTS_MB << 20)
        self.port.write_bytes(b"")
        self.console.write_bytes(b"")
        self.begun = time.monotonic()
        # Its snapshot of the userland is a file in TMPDIR.
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(self.work / "qemu.err", "wb"),  # pylint: disable=consider-using-with
            env={**os.environ, "TMPDIR": str(self.work)}, start_new_session=True,
            pass_fds=self.descriptors)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def now_s(self):
        return time.monotonic() - self.begun

    def last_line(self):
        """Of the console: a panic's first line, if there was one."""
        lines = self.console.read_text(encoding="utf-8", errors="replace").splitlines()
        panics = [line for line in lines if "Kernel panic" in line or "BUG:" in line]
        lines = [line.strip() for line in panics[:1] or lines if line.strip()]
        if lines:
            return lines[-1]
        said = (self.work / "qemu.err").read_text(encoding="utf-8", errors="replace").strip()
        return said or "it said nothing"

    def events(self, boot_s):
        """Yields what the guest tells, with `at_s`. GuestError when it ends or is silent for longer
        than the step that it is at may take."""
        read, what, deadline = 0, "boot", boot_s
        while True:
            ended = self.process.poll() is not None
            lines = self.port.read_bytes()[read:].split(b"\n")
            for line in lines[:-1]:
                read += len(line) + 1
                event = {**json.loads(line), "at_s": self.now_s}
                if event["step"] == "all":
                    self._wait_for_end()
                    return
                what = event["step"]
                deadline = self.now_s + event.get("seconds", 0) + END_S
                yield event
            if ended:
                raise GuestError(f"it ended at {what}: {self.last_line()}")
            if self.now_s > deadline:
                raise GuestError(f"it said nothing more at {what}: {self.last_line()}")
            time.sleep(POLL_S)

    def _wait_for_end(self):
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            pass  # its results are there; __exit__ ends it
