# SPDX-License-Identifier: MIT
"""petrel-traffic as the client whose retries are followed."""

import subprocess

from . import truth
from .lab import LabError


def options_of(weather):
    options = ["--rate", weather.rate / weather.parallel, "--duration", weather.seconds,
               "--clients", weather.hosts, "--paths", weather.paths,
               "--parallel", weather.parallel, "--timeout-ms", 600,
               "--retry", weather.retry, "--retry-delay-ms", weather.retry_delay_ms,
               "--max-attempts", weather.max_attempts, "--pollers", weather.pollers,
               "--poll-interval-ms", weather.poll_interval_ms, "--seed", weather.seed]
    return [str(option) for option in options] + ["--keep-alive"] * weather.scenario.keep_alive


class TrafficClient:
    """start(), then finish() once the faults are over: the attempts by its log."""

    def __init__(self, lab, weather):
        self.lab = lab
        self.weather = weather
        self.log = lab.run_dir / "client.jsonl"
        self.process = None

    def start(self):
        self.process = self.lab.start_client(*options_of(self.weather), log=self.log,
                                             stderr=subprocess.DEVNULL)

    def finish(self):
        self.process.communicate(timeout=self.weather.seconds + 60)
        if self.process.returncode != 0:
            raise LabError(f"petrel-traffic client ended with {self.process.returncode}")
        return truth.read_traffic_log(self.log, behind_nat=self.weather.scenario.nat)
