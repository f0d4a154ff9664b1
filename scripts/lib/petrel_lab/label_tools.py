# SPDX-License-Identifier: MIT
"""curl and urllib3 as the clients whose retries are followed: programs in the client's node."""

import ipaddress
import itertools
import json
import os
import sys

from . import label_curl
from .lab import ROOT, SERVICE_PORT, LabError, endpoint
from .label_scenarios import TIMEOUT_MS
from .truth import Attempt

# Debian's own: its urllib3 is not in others' search path.
SYSTEM_PYTHON = "/usr/bin/python3"


def hosts_of(network, count):
    hosts = ipaddress.ip_network(network).hosts()
    return [str(host) for host in itertools.islice(hosts, count)]


class ToolClient:
    """Runs `module` in the client's node; it prints a line of JSON for each thing it tells."""

    module = None
    python = sys.executable

    def __init__(self, lab, weather):
        self.lab = lab
        self.weather = weather
        self.output = lab.run_dir / "client.jsonl"
        self.process = None

    def options(self):
        raise NotImplementedError

    def attempts(self, lines):
        raise NotImplementedError

    def start(self):
        weather = self.weather
        hosts = hosts_of(self.lab.sources, weather.hosts)
        common = ["--target", endpoint(self.lab.vip, SERVICE_PORT), "--sources", ",".join(hosts),
                  "--rate", weather.rate, "--seconds", weather.seconds, "--paths", weather.paths,
                  "--timeout", TIMEOUT_MS / 1000, "--seed", weather.seed]
        with open(self.output, "wb") as output, \
                open(self.lab.run_dir / "client.err", "wb") as errors:
            self.process = self.lab.spawn(
                "client", self.python, "-B", "-m", f"petrel_lab.{self.module}", *common,
                *self.options(), stdout=output, stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT / "scripts/lib")})

    def finish(self):
        # After the last request: its timeouts, and the pauses between its attempts.
        if self.process.wait(self.weather.seconds + 60) != 0:
            errors = (self.lab.run_dir / "client.err").read_text(encoding="utf-8").strip()
            raise LabError(f"{self.module} ended with {self.process.returncode}: {errors[-300:]}")
        with open(self.output, encoding="utf-8") as lines:
            return self.attempts([json.loads(line) for line in lines])


class CurlClient(ToolClient):
    """Retries come 1 s after a failure, or 1, 2, 4 s (--retry-delay 0), never sooner."""

    module = "label_curl"

    def options(self):
        weather = self.weather
        return ["--retries", weather.max_attempts - 1,
                "--retry-delay", 1 if weather.retry == "fixed" else 0]

    def attempts(self, lines):
        nat = self.weather.scenario.nat
        return [attempt for line in lines
                for attempt in label_curl.attempts_of(line, nat)]


class Urllib3Client(ToolClient):
    """The first retry comes at once, the next ones after a pause that doubles."""

    module = "label_urllib3"
    python = SYSTEM_PYTHON

    def options(self):
        weather = self.weather
        backoff_s = 0 if weather.retry == "immediate" else weather.retry_delay_ms / 1000
        return ["--retries", weather.max_attempts - 1, "--backoff", backoff_s] + \
            ["--keep-alive"] * weather.scenario.keep_alive

    def attempts(self, lines):
        nat = self.weather.scenario.nat
        return [Attempt(user=line["user"], request=str(line["request"]), number=line["attempt"],
                        start_ns=line["start_ns"], end_ns=line["end_ns"],
                        address="" if nat else line["user"], port=line["port"],
                        reused=line["reused"]) for line in lines]
