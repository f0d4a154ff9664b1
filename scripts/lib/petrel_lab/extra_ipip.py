# SPDX-License-Identifier: MIT
"""scripts/kernels --extras ipip: dsr backends with the kernel's own tunnel devices.

    client ── lb ─┬─ b1   VIPs on lo; dsr4 (ipip) and dsr6 (ip6tnl) take off what petrel puts on
      │           ├─ b2   as b1, with the loose reverse-path filter, and so with addresses on both
      │           └─ b3   as b1, with devices of its own address instead of "external" ones
      └── requests and uploads: IPv4 in IPv4, IPv6 in IPv6, IPv4 in IPv6

The agent is attached to the client's link alone, as a dsr balancer is, so that nobody lowers the
backends' MSS: an upload's first segments are too big once they have the outer header.

extra_ipip.py serve ADDRESS PORT        takes uploads in, answers each with its SHA-256
extra_ipip.py upload ADDRESS PORT BYTES prints "whole" if the answer is that of what was sent
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys

from .kernels_extras import BIN, MODEL, OUT, need_modules
from .lab import SERVICE_PORT, Lab, LabError, endpoint

BACKENDS = 3
SECONDS = 6
RATE = 60
UPLOAD_BYTES = 1 << 20
UPLOADS = 6  # from a port each, so that each backend gets some
UPLOAD_S = 30
LINK_MTU = 1500
V4_IN_V6 = "v4 in v6"
# name: (family of the VIP, of the backends, bytes of the outer header, offset of its ports)
WAYS = {"v4 in v4": (4, 4, 20, 0), "v6 in v6": (6, 6, 40, 0), V4_IN_V6: (4, 6, 40, 10)}
# A device without an address drops all that the reverse-path filter looks at, loose or not.
LOOSE = """cd /proc/sys/net/ipv4/conf
echo 2 >all/rp_filter
echo 2 >eth0/rp_filter
ip address add 127.0.0.42/32 dev dsr4
ip address add 127.0.0.42/32 dev dsr6"""


class TunnelLab(Lab):
    """Each way is a service for requests and one for uploads."""

    patience = 1

    def vip_of(self, way):
        return self.facts[f"vip{WAYS[way][0]}"]

    @staticmethod
    def port_of(way, uploads=False):
        return SERVICE_PORT + uploads + WAYS[way][3]

    def backend_endpoint(self, i):
        return endpoint(self.vip_of("v4 in v4"), self.port_of("v4 in v4"))

    def addresses(self, name):
        node = next(node for node in self.facts["nodes"] if node["node"] == name)
        return node["address4"], node["address6"]

    def listen_to_all(self):
        """Before the lab is up its addresses are not known."""
        more = [part for way in ("v6 in v6", V4_IN_V6)
                for part in ("--listen", endpoint(self.vip_of(way), self.port_of(way)))]
        self.backend_extra = {i: more for i in range(1, self.count + 1)}

    def _start_backends(self):
        self.listen_to_all()
        super()._start_backends()

    def service_lines(self, extra=""):
        lines = []
        for way, (_, family, _, _) in WAYS.items():
            for uploads in (False, True):
                lines += ["[[service]]", f'name = "{way.replace(" ", "-")}-{uploads:d}"',
                          f'address = "{self.vip_of(way)}"',
                          f"port = {self.port_of(way, uploads)}", 'forward = "dsr"']
                for node in self.facts["nodes"]:
                    if node["node"].startswith("b"):
                        lines += ["[[service.backend]]", f'name = "{node["node"]}"',
                                  f'address = "{node[f"address{family}"]}"']
        return lines

    def write_config(self, mode, model, extra="", service_extra=""):
        path = super().write_config(mode, model, extra, service_extra)
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"^interfaces = .*$", 'interfaces = ["to-client"]', text,
                               flags=re.M), encoding="utf-8")
        return path

    def run(self, node, *argv, seconds=UPLOAD_S):
        done = subprocess.run(self.command(node, *argv), capture_output=True, text=True,
                              check=False, timeout=seconds * self.patience)
        if done.returncode != 0:
            raise LabError(f"{argv[0]} in {node}: {done.stderr.strip()}")
        return done.stdout


def own_devices(address4, address6):
    return (f"ip link del dsr4\nip link del dsr6\n"
            f"ip link add name dsr4 type ipip local {address4} remote any\n"
            f"ip link add name dsr6 type ip6tnl mode any local {address6} remote any\n"
            "ip link set dsr4 up\nip link set dsr6 up")


# --- uploads ------------------------------------------------------------------------------------

def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listening(address, port):
    return socket.create_server((address, port), family=family_of(address))


def serve_one(listener):
    connection, _ = listener.accept()
    with connection:
        digest = hashlib.sha256()
        while piece := connection.recv(1 << 16):
            digest.update(piece)
        connection.sendall(digest.hexdigest().encode())


def upload(address, port, size):
    data = os.urandom(size)
    with socket.create_connection((address, port), timeout=UPLOAD_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(256):
            answer += piece
    print("whole" if answer.decode() == hashlib.sha256(data).hexdigest() else "not whole")


# --- what is measured ---------------------------------------------------------------------------

def device_counts(lab, device):
    """Of each backend: (packets that the device took in, those that it found wrong)."""
    found = {}
    for i in range(1, lab.count + 1):
        shown = json.loads(lab.run(f"b{i}", "ip", "-j", "-s", "link", "show", device))[0]
        received = shown["stats64"]["rx"]
        found[f"b{i}"] = (received["packets"], received["errors"] + received["dropped"])
    return found


def requests(lab, way):
    """Answered requests by backend."""
    family, log = WAYS[way][0], OUT / f"ipip-{way.replace(' ', '-')}.jsonl"
    sources = lab.facts[f"client{family}_net"]
    summary = json.loads(lab.run(
        "client", lab.bin / "petrel-traffic", "client", "--target",
        endpoint(lab.vip_of(way), lab.port_of(way)), "--sources", sources, "--json", "--rate", RATE,
        "--duration", SECONDS, "--log", log, seconds=SECONDS + UPLOAD_S))
    by_backend = {f"b{i}": 0 for i in range(1, lab.count + 1)}
    for line in log.read_text(encoding="utf-8").splitlines():
        attempt = json.loads(line)
        if attempt.get("outcome") == "ok":
            by_backend[attempt["backend"]] += 1
    return summary["requests"], by_backend


def path_mtu(lab, way):
    """What the client's kernel thinks of the path, where it has learnt anything."""
    shown = lab.run("client", "ip", "-o", "route", "get", lab.vip_of(way))
    found = re.search(r"\bmtu (\d+)\b", shown)
    return int(found[1]) if found else LINK_MTU


def look_around(lab, why):
    """What an upload that failed leaves for whoever asks why."""
    with open(OUT / "ipip-failures.txt", "a", encoding="utf-8") as out:
        out.write(f"=== {why}\n")
        for node in ["client", "lb", *(f"b{i}" for i in range(1, lab.count + 1))]:
            for words in ("ss -tin", "nstat -as", "ip -s link", "ip route show cache",
                          "ip -6 route show cache"):
                out.write(f"--- {node}: {words}\n{lab.run(node, *words.split())}")


def uploads(lab, way):
    """How many came whole, and the path MTU that the first of them taught the client."""
    # v4 in v6 goes to the same address as v4 in v4, whose smaller MTU must not be what is seen.
    lab.run("client", "ip", "route", "flush", "cache")
    lab.run("client", "ip", "-6", "route", "flush", "cache")
    whole = 0
    for _ in range(UPLOADS):
        try:
            said = lab.run("client", sys.executable, "-B", "-m", "petrel_lab.extra_ipip", "upload",
                           lab.vip_of(way), lab.port_of(way, True), UPLOAD_BYTES)
        except (LabError, subprocess.TimeoutExpired) as error:
            look_around(lab, f"{way}: {error}")
            break
        whole += said.strip() == "whole"
    return whole, path_mtu(lab, way)


def measure(lab, way):
    """(figures, whether they are good)."""
    family, outer = WAYS[way][1], WAYS[way][2]
    device = f"dsr{family}"
    before = device_counts(lab, device) if lab.tunnels else {}
    asked, answered = requests(lab, way)
    whole, mtu = uploads(lab, way)
    found = {"requests": asked, "answered": sum(answered.values()), "by backend": answered,
             "uploads": UPLOADS, "whole": whole, "path MTU": mtu}
    good = (found["answered"] == asked and min(answered.values()) > 0 and whole == UPLOADS
            and mtu == LINK_MTU - outer)
    if lab.tunnels:
        after = device_counts(lab, device)
        found[f"packets in by {device}"] = sum(after[b][0] - before[b][0] for b in after)
        found["wrong"] = sum(after[b][1] - before[b][1] for b in after)
        good = good and found["wrong"] == 0 and all(after[b][0] > before[b][0] for b in after)
    return found, good


def lab_run(tunnels, patience=1):
    figures, good = {}, True
    # What XDP sends back where it came from waits in a veth unless its far end has a program.
    with TunnelLab(BACKENDS, BIN, service_time_ms=5, dsr=True, tunnels=tunnels,
                   xdp_ends=True) as lab:
        lab.patience = patience
        if tunnels:
            lab.run("b2", "sh", "-ec", LOOSE)
            lab.run("b3", "sh", "-ec", own_devices(*lab.addresses("b3")))
        for i in range(1, BACKENDS + 1):
            for way in WAYS:
                lab.spawn(f"b{i}", sys.executable, "-B", "-m", "petrel_lab.extra_ipip", "serve",
                          lab.vip_of(way), lab.port_of(way, True), log=f"uploads{i}.log")
        lab.start_agent("act", MODEL)
        for way in WAYS:
            found, well = measure(lab, way)
            figures[f"{way}, {'devices' if tunnels else 'lab program'}"] = found
            good = good and well
    return figures, good


def run(job, _seconds):
    need_modules("ipip", "ip6_tunnel")
    figures, good = lab_run(True, job["patience"])
    others, well = lab_run(False, job["patience"])
    note = "" if well else "the lab's own decapsulation did not do well either"
    return {"good": good and well, "figures": figures | others, "note": note}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with listening(sys.argv[2], int(sys.argv[3])) as served:
            while True:
                serve_one(served)
    else:
        upload(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
