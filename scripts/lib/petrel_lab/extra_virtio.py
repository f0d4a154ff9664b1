# SPDX-License-Identifier: MIT
"""scripts/kernels --extras virtio, the guest's part: it does what the host orders.

The host has the client and the backends (virtio_host.py); the guest is the balancer between them,
with petrel on virtio-net. Orders and answers are lines of JSON on a virtio serial port.
"""

import json
import os
import subprocess
import time
from pathlib import Path

from .kernels_extras import OUT, NotThere, need_modules

PORT_NAME = "petrel.orders"
LIMIT_S = 600


def open_port():
    for folder in Path("/sys/class/virtio-ports").iterdir():
        if (folder / "name").read_text(encoding="ascii").strip() == PORT_NAME:
            return os.open(f"/dev/{folder.name}", os.O_RDWR)
    raise NotThere("the host gave no port for orders")


class Port:
    """Lines; the host may come late."""

    def __init__(self):
        self.fd, self.rest = open_port(), b""

    def read(self):
        while b"\n" not in self.rest:
            piece = os.read(self.fd, 1 << 16)
            if not piece:
                time.sleep(0.1)  # nobody is there, or not yet
            self.rest += piece
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def write(self, answer):
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data):]


class Doer:
    """Does orders: run, write, start, stop."""

    def __init__(self):
        self.running = {}

    def run(self, argv, seconds=60):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds)
        return {"rc": done.returncode, "out": done.stdout, "err": done.stderr[-4000:]}

    def write(self, path, text):
        Path(path).write_text(text, encoding="utf-8")
        return {"rc": 0}

    def start(self, name, argv):
        with open(OUT / f"{name}.txt", "ab") as output:
            self.running[name] = subprocess.Popen(  # pylint: disable=consider-using-with
                argv, stdout=output, stderr=subprocess.STDOUT)
        return {"rc": 0}

    def state(self, name):
        """Its exit code (None: it runs), and what it said last."""
        said = (OUT / f"{name}.txt").read_text(encoding="utf-8", errors="replace")
        return {"rc": self.running[name].poll(), "out": said[-2000:]}

    def stop(self, name):
        process = self.running.pop(name)
        process.terminate()
        try:
            return {"rc": process.wait(60)}
        except subprocess.TimeoutExpired:
            process.kill()
            return {"rc": process.wait()}

    def end(self):
        for process in self.running.values():
            process.kill()
            process.wait()


def run(job, _seconds):
    """The host's last order is the result."""
    if job.get("virtio"):
        raise NotThere(job["virtio"])
    need_modules("virtio_net", "virtio_console")
    port, doer = Port(), Doer()
    try:
        while True:
            order = port.read()
            if "result" in order:
                return order["result"]
            try:
                answer = getattr(doer, order.pop("do"))(**order)
            except (OSError, subprocess.TimeoutExpired) as error:
                answer = {"rc": -1, "out": "", "err": str(error)}
            port.write(answer)
    finally:
        doer.end()
