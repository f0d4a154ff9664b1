# SPDX-License-Identifier: MIT
"""nginx and the agent on the loopback of one namespace: what scripts/bench --sensor loads.

    wrk ── lo ── nginx     the agent attaches no XDP: its socket sensor sees both ends
"""

import os
import subprocess
import time
from pathlib import Path

from .bench_wire_load import WrkReport, busy_cpu_s
from .lab import Lab, LabError, wait_for_path

WEB = "127.0.0.1"
WEB_PORT = 8080
CONNECTIONS = 32

NGINX = """daemon off;
worker_processes {workers};
pid {run}/nginx.pid;
error_log {run}/nginx.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  server {{
    listen {address}:{port} backlog=4096;
    location / {{ return 200 "hello from the bench\\n"; }}
  }}
}}
"""


class SensorLab(Lab):
    """A lab of which the loopback of `lb` is used."""

    def __init__(self, bin_dir, seed, model):
        super().__init__(1, bin_dir, seed=seed)
        self.model = model

    def __enter__(self):
        super().__enter__()
        try:
            # Connections by the ten thousand a second: more ports, and used again at once.
            self.run("sh", "-ec", "cd /proc/sys/net/ipv4; echo '1024 65535' >ip_local_port_range;"
                     "echo 1 >tcp_tw_reuse")
            self._start_nginx()
        except BaseException:
            self.__exit__()
            raise
        return self

    def run(self, *argv):
        done = subprocess.run(self.command("lb", *argv), capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise LabError(f"{argv[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _start_nginx(self):
        config = self.run_dir / "nginx.conf"
        config.write_text(NGINX.format(run=self.run_dir, address=WEB, port=WEB_PORT,
                                       workers=max(1, (os.cpu_count() or 2) // 2)),
                          encoding="utf-8")
        self.spawn("lb", "nginx", "-p", self.run_dir, "-c", config, log="nginx.log")
        wait_for_path(self.run_dir / "nginx.pid", "nginx")

    def start_sensor(self, placement, backends=((WEB, WEB_PORT),), extra=""):
        """The agent, with the service at this placement and no balancer."""
        lines = ["[agent]", f'pin_path = "{self.facts["pin_path"]}"',
                 f'socket = "{self.socket}"', f'state_dir = "{self.run_dir}/state"',
                 f'model = "{self.model or "/nonexistent"}"', extra,
                 "[[service]]", 'name = "web"', f'address = "{WEB}"', "port = 80",
                 f'placement = "{placement}"']
        for i, (address, port) in enumerate(backends, 1):
            lines += ["[[service.backend]]", f'name = "b{i}"', f'address = "{address}"',
                      f"port = {port}"]
        config = self.run_dir / "petrel.toml"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        untrained = [] if self.model else ["--untrained"]
        self.agent = self.spawn("lb", self.bin / "petrel", "agent", "-c", config, *untrained,
                                log="agent.log")
        self._await_ticks()

    def _await_ticks(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.agent.poll() is not None:
                raise LabError("the agent did not start: " + Path(
                    self.run_dir / "agent.log").read_text(encoding="utf-8").strip())
            try:
                if self.status()["loop"]["ticks"] > 0:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise LabError("the agent did not serve within 30 s")

    def load(self, seconds, keep_alive):
        """wrk at saturation: requests a second, and the machine's CPU time for one."""
        close = [] if keep_alive else ["-H", "Connection: close"]
        cpu_s = busy_cpu_s()
        report = WrkReport(self.run("wrk", "-t", 1, "-c", CONNECTIONS, "-d", f"{seconds}s",
                                    "--timeout", "2s", *close, f"http://{WEB}:{WEB_PORT}/"))
        cpu_s = busy_cpu_s() - cpu_s
        if report.requests == 0:
            raise LabError("nginx answered no request")
        return {"requests_per_s": report.per_s, "requests": report.requests,
                "cpu_us": cpu_s / report.requests * 1e6, "errors": report.errors}
