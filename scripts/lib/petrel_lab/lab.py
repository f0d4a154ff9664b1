# SPDX-License-Identifier: MIT
"""A lab of network namespaces with petrel and its backends running in it.

Lab wraps scripts/lab; the lab ends with this process, however that ends. All processes are
children of this one and are stopped before the lab goes. Standard library only.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BACKEND_PORT = 8080
SERVICE_PORT = 80
# The verifier alone takes a minute or more where the CPU is emulated.
AGENT_READY_S = 300


class LabError(RuntimeError):
    """Something the lab was asked to do failed; the message says what and how."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the agent's Unix socket."""

    def __init__(self, path, timeout=5):
        super().__init__("petrel", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Lab:
    """with Lab(backends=4, bin_dir=...) as lab: ..."""

    def __init__(self, backends, bin_dir, service_time_ms=10.0, distribution="lognormal",
                 concurrency=16, queue=1024, seed=1, family=4, dsr=False, mtu=1500,
                 xdp_ends=False, nat=False, host_clocks=False, placement="balancer", sigma=None,
                 backend_extra=None, zones=None, agent_zone=None, tunnels=False):
        """backend_extra: further options of petrel-traffic backend, by the backend's number;
        zones: names of zones, by the same; agent_zone: the agent's own; tunnels: dsr backends have
        the kernel's devices."""
        self.count = backends
        self.bin = Path(bin_dir)
        self.family = family
        self.dsr = dsr or tunnels
        self.tunnels = tunnels
        self.mtu = mtu
        self.xdp_ends = xdp_ends
        self.nat = nat
        self.host_clocks = host_clocks
        self.placement = placement
        self.backend_options = [
            "--service-time-ms", str(service_time_ms), "--distribution", distribution,
            "--concurrency", str(concurrency), "--queue", str(queue), "--seed", str(seed),
            *([] if sigma is None else ["--sigma", str(sigma)])]
        self.backend_extra = backend_extra or {}
        self.zones = zones or {}
        self.agent_zone = agent_zone
        self.processes = []
        self.backends = {}
        self.agent = None
        self.facts = None

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self):
        options = ["--tunnels" if self.tunnels else "--dsr"] * self.dsr + ["--xdp-ends"] * self.xdp_ends + \
            ["--nat"] * self.nat + ["--host-clocks"] * self.host_clocks
        up = subprocess.run(
            [ROOT / "scripts/lab", "up", "--backends", str(self.count), "--mtu", str(self.mtu),
             "--owner", str(os.getpid()), "--json", *options],
            capture_output=True, text=True, check=False)
        if up.returncode != 0:
            raise LabError(f"raise the lab: {up.stderr.strip()}")
        self.facts = json.loads(up.stdout)
        self.name = self.facts["name"]
        self.run_dir = Path(self.facts["run_dir"])
        self.socket = self.run_dir / "petrel.sock"
        try:
            self._start_backends()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            stop(process)
        if self.facts is not None:
            subprocess.run([ROOT / "scripts/lab", "down", "--name", self.name],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    # --- processes ----------------------------------------------------------------------------

    def command(self, node, *argv):
        """argv as it runs inside a node."""
        return ["nsenter", f"--net=/run/netns/petrel-{self.name}-{node}", "--",
                *[str(part) for part in argv]]

    def spawn(self, node, *argv, log=None, **options):
        """Starts a process in a node; its output goes to `log` in the run directory."""
        if log is not None:
            output = open(self.run_dir / log, "ab")  # pylint: disable=consider-using-with
            options.update(stdout=output, stderr=subprocess.STDOUT)
        process = subprocess.Popen(self.command(node, *argv), **options)
        self.processes.append(process)
        return process

    def _start_backend(self, i):
        return self.spawn(f"b{i}", self.bin / "petrel-traffic", "backend", "--name", f"b{i}",
                          "--listen", self.backend_endpoint(i), "--control", self.control(i),
                          *self.backend_options, *self.backend_extra.get(i, []), log=f"b{i}.log")

    def _start_backends(self):
        self.backends = {i: self._start_backend(i) for i in range(1, self.count + 1)}
        for i in self.backends:
            wait_for_path(self.control(i), f"backend b{i}")

    def restart_backend(self, i):
        """Its process is killed, and a new one serves: the kernel closes what it had open."""
        self.backends[i].kill()
        self.backends[i].wait()
        self.processes.remove(self.backends[i])
        self.control(i).unlink(missing_ok=True)
        self.backends[i] = self._start_backend(i)
        wait_for_path(self.control(i), f"backend b{i}")

    def control(self, i):
        return self.run_dir / f"b{i}.sock"

    def backend_address(self, i):
        node = next(n for n in self.facts["nodes"] if n["node"] == f"b{i}")
        return node["address4" if self.family == 4 else "address6"]

    def backend_endpoint(self, i):
        """Where it listens: with dsr the VIP, which is on its lo."""
        if self.dsr:
            return endpoint(self.vip, SERVICE_PORT)
        return endpoint(self.backend_address(i), BACKEND_PORT)

    @property
    def vip(self):
        return self.facts["vip4" if self.family == 4 else "vip6"]

    @property
    def sources(self):
        return self.facts["client4_net" if self.family == 4 else "client6_net"]

    def service_lines(self, extra=""):
        """The [[service]] over all backends; `extra` lines are its own."""
        lines = ["[[service]]", 'name = "web"', f'address = "{self.vip}"', f"port = {SERVICE_PORT}"]
        if self.dsr:
            lines.append('forward = "dsr"')
        if self.placement != "balancer":
            lines.append(f'placement = "{self.placement}"')
        lines.append(extra)
        for i in range(1, self.count + 1):
            lines += ["[[service.backend]]", f'name = "b{i}"',
                      f'address = "{self.backend_address(i)}"']
            if not self.dsr:
                lines.append(f"port = {BACKEND_PORT}")
            if i in self.zones:
                lines.append(f'zone = "{self.zones[i]}"')
        return lines

    def write_config(self, mode, model, extra="", service_extra=""):
        """A configuration for one service over all backends; returns its path."""
        balances = self.placement == "balancer"
        interfaces = ["to-client"] + [f"to-b{i}" for i in range(1, self.count + 1)]
        lines = ["[agent]",
                 f'pin_path = "{self.facts["pin_path"]}"',
                 f'socket = "{self.socket}"',
                 f"interfaces = {json.dumps(interfaces if balances else [])}",
                 f'state_dir = "{self.run_dir}/state"',
                 f'model = "{model}"',
                 f'mode = "{mode}"',
                 extra,
                 *([] if self.agent_zone is None else [f'zone = "{self.agent_zone}"']),
                 *self.service_lines(service_extra)]
        path = self.run_dir / "petrel.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def start_agent(self, mode, model=None, service_extra="", seconds=AGENT_READY_S):
        """Starts the agent in `lb` and waits until it serves. No model: it scores nothing."""
        config = self.write_config(mode, model or "/nonexistent", service_extra=service_extra)
        untrained = [] if model else ["--untrained"]
        self.agent = self.spawn("lb", self.bin / "petrel", "agent", "-c", config, *untrained,
                                log="agent.log")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.agent.poll() is not None:
                raise LabError("the agent did not start: " +
                               (self.run_dir / "agent.log").read_text(encoding="utf-8").strip())
            try:
                if self.status()["loop"]["ticks"] > 0:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise LabError(f"the agent did not serve within {seconds} s")

    def stop_agent(self):
        stop(self.agent)
        self.processes.remove(self.agent)
        self.agent = None

    def status(self):
        """petrel/status/v1 of the agent. OSError if it cannot be reached."""
        connection = UnixConnection(self.socket)
        try:
            connection.request("GET", "/v1/status")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def fault(self, i, kind, **parameters):
        """Switches backend i's fault; kind "none" ends it. A parameter that is True is a flag."""
        options = [part for name, value in parameters.items() if value is not False
                   for part in ((f"--{name}",) if value is True else (f"--{name}", str(value)))]
        done = subprocess.run([self.bin / "petrel-traffic", "fault", "--control", self.control(i),
                               kind, *options], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"switch b{i} to {kind}: {done.stderr.strip()}")

    def start_client(self, *options, log=None, **popen):
        """petrel-traffic client against the service, or its backends in turn where nobody balances;
        its JSON summary is on stdout."""
        targets = [endpoint(self.vip, SERVICE_PORT)]
        if self.placement != "balancer":
            targets = [self.backend_endpoint(i) for i in range(1, self.count + 1)]
        named = [part for target in targets for part in ("--target", target)]
        argv = [self.bin / "petrel-traffic", "client", *named, "--sources", self.sources, "--json",
                *options]
        if log is not None:
            argv += ["--log", log]
        return self.spawn("client", *argv, stdout=subprocess.PIPE, text=True, **popen)


def endpoint(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def wait_for_path(path, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise LabError(f"{what} did not start within {seconds} s")
        time.sleep(0.01)


def stop(process, seconds=5):
    """SIGTERM, then SIGKILL; waits for the end."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def progress(text):
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)
