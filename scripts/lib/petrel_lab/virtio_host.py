# SPDX-License-Identifier: MIT
"""scripts/kernels --extras virtio, the host's part: traffic through petrel on a real driver.

The network is virtio_net.py's; the guest obeys (extra_virtio.py). A case is an agent's life: XDP
native or generic; in it one run of traffic for each MTU, and with the offloads of the nodes'
devices on and off. In each run, requests over IPv4 and IPv6, and exchanges of 1 MB each way, are to come through whole with no wrong checksum.

virtio_host.py echo ADDRESS PORT             sends back what it was sent
virtio_host.py exchange ADDRESS PORT BYTES   prints "whole" if it was
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from .lab import endpoint, stop, wait_for_path
from .virtio_net import NODES, VIPS, HostNetwork, VirtioError, lacking

BACKEND_PORT, ECHO_PORT, SERVICE_PORT, EXCHANGE_PORT = 8080, 9000, 80, 81
RATE, SECONDS = 50, 6
BODY_BYTES = 20000
EXCHANGE_BYTES, EXCHANGES, EXCHANGE_S = 1 << 20, 4, 60
ATTACHED = {"native": "driver", "generic": "generic"}  # as bpftool has it
INTERFACES = tuple(f"to-{node.name}" for node in NODES)


@dataclass(frozen=True)
class Case:
    mode: str     # agent.xdp_mode
    runs: tuple   # (MTU, offloads of the nodes) of each run of traffic; the agent starts in the first


# At 9000 a packet takes three of the driver's buffers.
CASES = (Case("native", ((9000, True), (1500, True), (1500, False))),
         Case("generic", ((1500, True), (1500, False))))


class Guest:
    """The guest that obeys."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.answers = self.socket.makefile("r", encoding="utf-8")

    def tell(self, order):
        self.socket.sendall(json.dumps(order).encode() + b"\n")

    def ask(self, **order):
        self.tell(order)
        line = self.answers.readline()
        if not line:
            raise VirtioError("the guest ended")
        return json.loads(line)

    def run(self, *argv, seconds=60):
        return self.ask(do="run", argv=[str(part) for part in argv], seconds=seconds)

    def need(self, *argv, text_of="out"):
        done = self.run(*argv)
        if done["rc"] != 0:
            raise VirtioError(f"{' '.join(argv[:4])} in the guest: {done['err'].strip()}")
        return done[text_of]


def set_up(guest):
    """The guest's interfaces get their names and addresses; it forwards."""
    found = {link["address"]: link["ifname"] for link in json.loads(guest.need("ip", "-j", "link"))}
    lines = ["echo 1 >/proc/sys/net/ipv4/ip_forward",
             "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]
    for node in NODES:
        name, (gate4, gate6) = f"to-{node.name}", node.gateways
        lines += [f"ip link set {found[node.guest_mac]} name {name}",
                  f"ip link set {name} up", f"ip address add {gate4}/24 dev {name}",
                  f"ip address add {gate6}/64 dev {name} nodad",
                  f"ip neigh replace {node.addresses[0]} lladdr {node.mac} dev {name}",
                  f"ip neigh replace {node.addresses[1]} lladdr {node.mac} dev {name}"]
    guest.need("sh", "-ec", "\n".join(lines))
    return guest.need("uname", "-r").strip()


def configuration(mode):
    lines = ["[agent]", 'pin_path = "/sys/fs/bpf/petrel"', 'socket = "/run/petrel.sock"',
             f"interfaces = {json.dumps(INTERFACES)}", f'xdp_mode = "{mode}"',
             'state_dir = "/tmp/state"', 'model = "/petrel/model/retry.json"', 'mode = "act"']
    for family, vip in enumerate(VIPS):
        for port, to in ((SERVICE_PORT, BACKEND_PORT), (EXCHANGE_PORT, ECHO_PORT)):
            lines += ["[[service]]", f'name = "web{"46"[family]}-{port}"', f'address = "{vip}"',
                      f"port = {port}"]
            for node in NODES[1:]:
                lines += ["[[service.backend]]", f'name = "{node.name}"',
                          f'address = "{node.addresses[family]}"', f"port = {to}"]
    return "\n".join(lines) + "\n"


# --- traffic ------------------------------------------------------------------------------------

class Traffic:
    """with Traffic(network, bin, work) as traffic: backends that serve, and clients."""

    def __init__(self, network, bin_dir, work):
        self.network, self.bin, self.work = network, bin_dir, work
        self.processes = []

    def __enter__(self):
        try:
            for node in NODES[1:]:
                self._start(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes:
            stop(process)

    def _spawn(self, name, argv):
        with open(self.work / f"{name}.log", "ab") as log:
            self.processes.append(subprocess.Popen(  # pylint: disable=consider-using-with
                argv, stdout=log, stderr=subprocess.STDOUT))

    def _start(self, node):
        control = self.work / f"{node.name}.sock"
        control.unlink(missing_ok=True)
        listen = [part for address in node.addresses
                  for part in ("--listen", endpoint(address, BACKEND_PORT))]
        self._spawn(node.name, self.network.command(
            node.name, self.bin / "petrel-traffic", "backend", "--name", node.name, *listen,
            "--control", control, "--service-time-ms", 2, "--body-bytes", BODY_BYTES))
        for address in node.addresses:
            self._spawn(f"{node.name}-echo", self.network.command(
                node.name, sys.executable, "-B", "-m", "petrel_lab.virtio_host", "echo", address,
                ECHO_PORT))
        wait_for_path(control, node.name)

    def requests(self, vip):
        done = subprocess.run(self.network.command(
            "client", self.bin / "petrel-traffic", "client", "--json", "--target",
            endpoint(vip, SERVICE_PORT), "--rate", RATE, "--duration", SECONDS, "--timeout-ms",
            10000, "--post-share", "0.5", "--post-bytes", BODY_BYTES), capture_output=True,
            text=True, check=False, timeout=SECONDS * 20)
        if done.returncode != 0:
            raise VirtioError(f"client: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def exchanges(self, vip):
        """How many came back whole."""
        whole = 0
        for _ in range(EXCHANGES):
            try:
                said = subprocess.run(self.network.command(
                    "client", sys.executable, "-B", "-m", "petrel_lab.virtio_host", "exchange", vip,
                    EXCHANGE_PORT, EXCHANGE_BYTES), capture_output=True, text=True, check=False,
                    timeout=EXCHANGE_S)
            except subprocess.TimeoutExpired:
                break
            whole += said.stdout.strip() == "whole"
        return whole


def echo(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=echo_one, args=(connection,), daemon=True).start()


def echo_one(connection):
    with connection:
        data = read_all(connection)
        connection.sendall(data)


def read_all(connection):
    data = b""
    while piece := connection.recv(1 << 16):
        data += piece
    return data


def exchange(address, port, size):
    data = os.urandom(size)
    with socket.create_connection((address, port), timeout=EXCHANGE_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        print("whole" if read_all(connection) == data else "not whole")


# --- cases --------------------------------------------------------------------------------------

def start_agent(guest, case, seconds):
    """"" once it serves, else what it said as it ended."""
    guest.ask(do="write", path="/tmp/petrel.toml", text=configuration(case.mode))
    guest.ask(do="start", name=f"agent-{case.mode}",
              argv=["petrel", "agent", "-c", "/tmp/petrel.toml"])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = guest.ask(do="state", name=f"agent-{case.mode}")
        if state["rc"] is not None:
            return state["out"].strip().splitlines()[-1]
        if guest.run("petrel", "status", "-c", "/tmp/petrel.toml")["rc"] == 0:
            return ""
        time.sleep(1)
    return f"it did not serve within {seconds} s"


def modes(guest):
    """{interface: how XDP is attached}"""
    found = json.loads(guest.need("bpftool", "-j", "net", "show"))[0]["xdp"]
    return {one["devname"]: one["mode"] for one in found}


def counts(guest):
    """What the driver counts of XDP over all interfaces."""
    found = {}
    for name in INTERFACES:
        for line in guest.need("ethtool", "-S", name).splitlines():
            label, _, value = line.strip().partition(":")
            for wanted in ("xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "xdp_tx_drops"):
                if label.endswith(f"_{wanted}"):
                    found[wanted] = found.get(wanted, 0) + int(value)
    return found


def traffic_of(network, traffic, guest, offloads):
    """(figures, whether all is well) of one run."""
    network.set_offloads(offloads)
    wrong, before = network.checksum_errors(), counts(guest)
    found, good = {}, True
    for family, vip in zip(("v4", "v6"), VIPS):
        summary = traffic.requests(vip)
        whole = traffic.exchanges(vip)
        lost = summary["never_served"] + summary["skipped"]
        good = good and not lost and len(summary["by_backend"]) == 2 and whole == EXCHANGES
        found[family] = {"requests": summary["requests"], "answered": summary["requests"] - lost,
                         "exchanges": EXCHANGES, "whole": whole}
    after = counts(guest)
    found["checksum errors"] = network.checksum_errors() - wrong
    found |= {name: after[name] - before.get(name, 0) for name in after}
    return found, good and not found["checksum errors"]


def set_mtu(network, guest, mtu):
    network.set_mtu(mtu)
    for name in INTERFACES:
        guest.need("ip", "link", "set", name, "mtu", str(mtu))


def play(case, network, traffic, guest, seconds):
    """{label: figures}, and whether they are good."""
    set_mtu(network, guest, case.runs[0][0])
    begun = time.monotonic()
    if why := start_agent(guest, case, seconds):
        return {case.mode: {"refused": why}}, False
    figures = {f"{case.mode}, agent": {"attached": modes(guest),
                                       "ready s": round(time.monotonic() - begun, 1)}}
    good = set(modes(guest).values()) == {ATTACHED[case.mode]}
    for mtu, offloads in case.runs:
        set_mtu(network, guest, mtu)
        label = f"{case.mode}, MTU {mtu}, offloads {'on' if offloads else 'off'}"
        figures[label], well = traffic_of(network, traffic, guest, offloads)
        good = good and well
    return figures, good


def drive(network, bin_dir, work, agent_s):
    """The whole; what the guest's step is to give back."""
    guest = None
    try:
        wait_for_path(network.port, "the guest's port")
        guest = Guest(network.port)
        set_up(guest)
        figures, good = {}, True
        with Traffic(network, bin_dir, work) as traffic:
            for case in CASES:
                found, well = play(case, network, traffic, guest, agent_s)
                figures |= found
                good = good and well
                (work / "virtio.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
                (work / f"virtio-{case.mode}.txt").write_text(look_around(guest), encoding="utf-8")
                guest.ask(do="stop", name=f"agent-{case.mode}")
        result = {"good": good, "figures": figures, "note": ""}
    except Exception as error:  # pylint: disable=broad-exception-caught
        result = {"good": False, "figures": {}, "note": f"{type(error).__name__}: {error}"}
    if guest is not None:
        guest.tell({"result": result})
    return result


class Host:
    """with Host(...) as host: qemu's words; a thread drives the guest from begin() on. Where
    it is not wanted, or this host lacks what it takes, there is nothing of it."""

    def __init__(self, wanted, work, bin_dir, agent_s):
        self.network = HostNetwork(work) if wanted and not lacking() else None
        self.arguments = (bin_dir, work, agent_s)
        self.thread = None

    def __enter__(self):
        if self.network:
            self.network.__enter__()
        return self

    def __exit__(self, *_):
        """After the guest, whose end is the thread's."""
        if self.thread:
            self.thread.join()
        if self.network:
            self.network.__exit__()

    @property
    def words(self):
        return self.network.qemu_words() if self.network else []

    @property
    def descriptors(self):
        return self.network.descriptors if self.network else ()

    def begin(self):
        if self.network:
            self.thread = threading.Thread(target=drive, args=(self.network, *self.arguments))
            self.thread.start()


def look_around(guest):
    """What whoever asks why may want to know."""
    parts = [["petrel", "status", "-c", "/tmp/petrel.toml", "--drops"], ["bpftool", "net", "show"],
             ["petrel", "check", "--system", "-c", "/tmp/petrel.toml"], ["dmesg"],
             *(["ethtool", word, name] for word in ("-S", "-k", "-l") for name in INTERFACES),
             ["nstat", "-as"]]
    return "\n".join(f"--- {' '.join(argv)}\n{done['out']}{done['err']}" for argv in parts
                     for done in [guest.run(*argv)])


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo(sys.argv[2], int(sys.argv[3]))
    else:
        exchange(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
