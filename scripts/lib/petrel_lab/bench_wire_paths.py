# SPDX-License-Identifier: MIT
"""The paths that scripts/bench --wire compares, each set up in `lb` only while it is measured.

    client ──── lb ──── b1 … bN     route     the backends' own addresses, lb forwards
                                    petrel    VIP .1, XDP
                                    nftables  VIP .2, the kernel's DNAT with its conntrack
                                    haproxy   VIP .3, a TCP proxy
                                    ipvs      VIP .4, the kernel's IPVS, scheduler mh, NAT

Nothing of one path may lie in the way of another: an attached XDP program changes how a veth
works, and a single NAT rule makes the kernel track every connection of the namespace.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import ipvs
from .lab import BACKEND_PORT, SERVICE_PORT, Lab, LabError, endpoint, stop

TOOL = Path(__file__).with_name("bench_wire_tool.py")
# A veth holds 256 packets with XDP, and a CPU's backlog 1,000 without: far fewer at once than a
# NIC takes.
BURST_PACKETS = 64
FLOOD_SERVICE_PORT = 81
FLOOD_BACKEND_PORT = 8081
BACKENDS = 4

# Tens of thousands of connections a second need more ports than the default range has, and
# conntrack entries of closed connections must not fill its table (whose size is the host's, not
# the namespace's): a production host that balances by nftables is tuned so.
CLIENT_SYSCTLS = {"net/ipv4/ip_local_port_range": "1024 65535", "net/ipv4/tcp_tw_reuse": "1"}
LB_SYSCTLS = CLIENT_SYSCTLS | {
    f"net/netfilter/nf_conntrack_tcp_timeout_{state}": "1"
    for state in ("time_wait", "close", "fin_wait", "last_ack", "close_wait")}


class Unavailable(Exception):
    """A path cannot be measured on this machine; the message says why."""


class NotThere(Unavailable):
    """It is for hosts that have what it takes: the others miss nothing."""


class WireLab(Lab):
    """A lab whose backends answer at once, with a sink for floods beside each."""

    def __init__(self, bin_dir, seed, model):
        super().__init__(BACKENDS, bin_dir, service_time_ms=0, distribution="constant",
                         concurrency=4096, queue=4096, seed=seed)
        self.model = model
        self.sources_used = 0

    def __enter__(self):
        super().__enter__()
        try:
            self._tune()
            self._start_sinks()
        except BaseException:
            self.__exit__()
            raise
        return self

    def run(self, node, *argv, **options):
        """Runs a command in a node to its end; LabError if it fails."""
        done = subprocess.run(self.command(node, *argv), capture_output=True, text=True,
                              check=False, **options)
        if done.returncode != 0:
            raise LabError(f"{argv[0]} in {node}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def agent_pid(self):
        return self.agent.pid  # nsenter becomes its command

    def backend_indices(self):
        return range(1, self.count + 1)

    def backend_targets(self, port):
        return [endpoint(self.backend_address(i), port) for i in self.backend_indices()]

    def other_vip(self, last):
        return self.vip.rsplit(".", 1)[0] + f".{last}"

    def new_source(self):
        """Gives the client's next connections an address of their own. A port that a backend
        still has in TIME_WAIT from another path would be refused: the client's timestamps
        start anywhere for each pair of addresses, so they look old (PAWS)."""
        self.sources_used += 1
        prefix = self.facts["client4"].split(".")[:2]
        source = ".".join(prefix + [str(128 + self.sources_used // 250),
                                    str(1 + self.sources_used % 250)])
        gateway = ".".join(prefix + ["0", "1"])
        self.run("client", "ip", "route", "replace", "default", "via", gateway, "src", source)

    def _tune(self):
        for node, settings in (("client", CLIENT_SYSCTLS), ("lb", LB_SYSCTLS)):
            script = "\n".join(f"! [ -e /proc/sys/{key} ] || echo '{value}' >/proc/sys/{key}"
                               for key, value in settings.items())
            self.run(node, "sh", "-ec", script)
        for node in ["client", *(f"b{i}" for i in self.backend_indices())]:
            # lb's own packets too must look as on a wire, or a proxy's would be of 64 KiB each.
            self.run("lb", "ethtool", "-K", f"to-{node}", "tx", "off", "tso", "off", "gso", "off")
            self.run("lb", "ip", "link", "set", f"to-{node}", "gso_max_segs", BURST_PACKETS)
            self.run(node, "ip", "link", "set", "eth0", "gso_max_segs", BURST_PACKETS)
            # With a queue a full veth makes its sender wait (since Linux 6.16), as a NIC does.
            # Without one it drops, and a flood would measure how TCP recovers.
            self.run(node, "tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo",
                     "limit", 10000)

    def _start_sinks(self):
        for i in self.backend_indices():
            self.spawn(f"b{i}", sys.executable, "-B", TOOL, "sink", self.backend_address(i),
                       FLOOD_BACKEND_PORT, log=f"sink{i}.log")

    def write_config(self, mode, model, extra="", service_extra=""):
        """As every lab's, and one more service for the flood."""
        lines = [extra, "[[service]]", 'name = "flood"', f'address = "{self.vip}"',
                 f"port = {FLOOD_SERVICE_PORT}"]
        for i in self.backend_indices():
            lines += ["[[service.backend]]", f'name = "b{i}"',
                      f'address = "{self.backend_address(i)}"', f"port = {FLOOD_BACKEND_PORT}"]
        return super().write_config(mode, model, "\n".join(lines), service_extra)


class Targets:
    """Where a path's requests and floods go."""

    def __init__(self, web, flood):
        self.web = web
        self.flood = flood


def vip_targets(address):
    return Targets([endpoint(address, SERVICE_PORT)], [endpoint(address, FLOOD_SERVICE_PORT)])


@contextlib.contextmanager
def route_path(lab):
    yield Targets(lab.backend_targets(BACKEND_PORT), lab.backend_targets(FLOOD_BACKEND_PORT))


@contextlib.contextmanager
def petrel_path(lab):
    lab.start_agent("act", lab.model)
    try:
        yield vip_targets(lab.vip)
    finally:
        lab.stop_agent()  # a normal stop detaches its programs


def nftables_rules(lab, vip):
    """Each connection to a backend by the hash of its client's address and port."""
    rules = []
    for port, to_port in ((SERVICE_PORT, BACKEND_PORT), (FLOOD_SERVICE_PORT, FLOOD_BACKEND_PORT)):
        slots = ", ".join(f"{i - 1} : {lab.backend_address(i)} . {to_port}"
                          for i in lab.backend_indices())
        rules.append(f"ip daddr {vip} tcp dport {port} dnat ip to "
                     f"jhash ip saddr . tcp sport mod {lab.count} map {{ {slots} }}")
    body = "\n".join(["type nat hook prerouting priority dstnat", *rules])
    return f"table ip petrel_bench {{\nchain to_backends {{\n{body}\n}}\n}}\n"


@contextlib.contextmanager
def nftables_path(lab):
    vip = lab.other_vip(2)
    if shutil.which("nft") is None:
        raise Unavailable("nft is not installed: run scripts/setup")
    try:
        lab.run("lb", "nft", "-f", "-", input=nftables_rules(lab, vip))
    except LabError as error:
        raise Unavailable(f"the kernel or nft refuses the NAT rules: {error}") from error
    try:
        yield vip_targets(vip)
    finally:
        lab.run("lb", "nft", "delete", "table", "ip", "petrel_bench")


def haproxy_config(lab, vip):
    lines = ["global", "  maxconn 8192", "defaults", "  mode tcp", "  timeout connect 5s",
             "  timeout client 30s", "  timeout server 30s"]
    for name, port, to_port, options in (
            ("web", SERVICE_PORT, BACKEND_PORT, ""),
            ("flood", FLOOD_SERVICE_PORT, FLOOD_BACKEND_PORT, " mss 88")):
        lines += [f"listen {name}", f"  bind {vip}:{port}{options}", "  balance roundrobin"]
        lines += [f"  server b{i} {lab.backend_address(i)}:{to_port}"
                  for i in lab.backend_indices()]
    return "\n".join(lines) + "\n"


def wait_until_listening(lab, process, log, seconds=10):
    deadline = time.monotonic() + seconds
    while f":{SERVICE_PORT} " not in lab.run("lb", "ss", "-Hltn"):
        if process.poll() is not None or time.monotonic() > deadline:
            text = (lab.run_dir / log).read_text(encoding="utf-8").strip()
            raise Unavailable(f"haproxy did not start: {text[-300:]}")
        time.sleep(0.02)


@contextlib.contextmanager
def haproxy_path(lab):
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise Unavailable("haproxy is not installed: run scripts/setup")
    vip = lab.other_vip(3)
    config = lab.run_dir / "haproxy.cfg"
    config.write_text(haproxy_config(lab, vip), encoding="utf-8")
    lab.run("lb", "ip", "addr", "replace", f"{vip}/32", "dev", "lo")
    process = lab.spawn("lb", program, "-db", "-f", config, log="haproxy.log")
    try:
        wait_until_listening(lab, process, "haproxy.log")
        yield vip_targets(vip)
    finally:
        stop(process)
        lab.processes.remove(process)
        lab.run("lb", "ip", "addr", "del", f"{vip}/32", "dev", "lo")


@contextlib.contextmanager
def ipvs_path(lab):
    if why := ipvs.lacking():
        raise NotThere(why)
    vip = lab.other_vip(4)
    lab.run("lb", "ip", "addr", "replace", f"{vip}/32", "dev", "lo")
    try:
        for port, to_port in ((SERVICE_PORT, BACKEND_PORT),
                              (FLOOD_SERVICE_PORT, FLOOD_BACKEND_PORT)):
            lab.run("lb", ipvs.program(), "-R", input=ipvs.rules(
                endpoint(vip, port), lab.backend_targets(to_port), "mh"))
        yield vip_targets(vip)
    finally:
        lab.run("lb", ipvs.program(), "-C")
        lab.run("lb", "ip", "addr", "del", f"{vip}/32", "dev", "lo")


PATHS = {"route": route_path, "petrel": petrel_path, "nftables": nftables_path,
         "haproxy": haproxy_path, "ipvs": ipvs_path}
