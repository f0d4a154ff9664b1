# SPDX-License-Identifier: MIT
"""What a guest's virtio-net is joined to on the host: a tap device in a network namespace for each
node, as the lab's veth pairs are.

    namespaces of the host                  the guest
    client   10.77.0.2 eth0 (tap) ───────── to-client  four pairs of queues: two in use, two for XDP
    b1       10.77.1.2 eth0 (tap) ───────── to-b1      one pair: XDP shares it with the kernel
    b2       10.77.2.2 eth0 (tap) ───────── to-b2      the same

The driver takes as many pairs into use as the guest has CPUs. Where somebody takes more (ethtool -L)
than that, and leaves too few for XDP, virtnet_xdp_xmit() of Linux 6.12 reads beyond its queues: the
first packet that is redirected there is a panic.

Only tap carries the offloads of virtio-net in qemu 7.2: over its sockets and its hub a guest is not
offered checksums or large segments. Needs root on the host, and /dev/net/tun.
"""

import ctypes
import fcntl
import os
import struct
import subprocess
import threading
from dataclasses import dataclass

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x2, 0x1000, 0x4000, 0x100
CLONE_NEWNET = 0x40000000
VIPS = ("10.77.9.9", "fd77:9::9")


class VirtioError(RuntimeError):
    """The host's side could not be made; the message says why."""


@dataclass(frozen=True)
class Node:
    """One end outside of the guest; the guest's interface to it is to-NAME."""
    name: str
    number: int
    queues: int

    @property
    def addresses(self):
        return f"10.77.{self.number}.2", f"fd77:{self.number}::2"

    @property
    def gateways(self):
        return f"10.77.{self.number}.1", f"fd77:{self.number}::1"

    @property
    def guest_mac(self):
        return f"02:70:77:00:0{self.number}:01"

    @property
    def mac(self):
        return f"02:70:77:00:0{self.number}:02"


NODES = (Node("client", 0, 4), Node("b1", 1, 1), Node("b2", 2, 1))


def lacking():
    """Why it cannot be done on this host; "" where it can."""
    if os.geteuid() != 0:
        return "the host's part needs root there: for tap devices"
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except OSError as error:
        return f"the host has no {TUN}: {error.strerror}"
    return ""


def run(*argv, text=None):
    done = subprocess.run([str(part) for part in argv], input=text, capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise VirtioError(f"{argv[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def open_taps(namespace, queues):
    """Descriptors of a tap eth0 inside a namespace, one a queue."""
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if queues > 1 else 0)
    found, wrong = [], []

    def inside():  # a thread has a network namespace of its own, and ends with it
        try:
            where = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
            if ctypes.CDLL(None, use_errno=True).setns(where, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            os.close(where)
            for _ in range(queues):
                tap = os.open(TUN, os.O_RDWR)
                found.append(tap)
                fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"eth0", flags))
        except OSError as error:
            wrong.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if wrong:
        for tap in found:
            os.close(tap)
        raise VirtioError(f"tap in {namespace}: {wrong[0]}")
    return found


class HostNetwork:
    """with HostNetwork(folder) as network: the namespaces, the taps, what qemu is to be told."""

    def __init__(self, work):
        self.port = work / "orders.sock"
        self.prefix = f"petrel-virtio{os.getpid()}"
        self.taps = {}

    def namespace(self, name):
        return f"{self.prefix}-{name}"

    def command(self, name, *argv):
        return ["nsenter", f"--net=/run/netns/{self.namespace(name)}", "--",
                *[str(part) for part in argv]]

    def __enter__(self):
        try:
            for node in NODES:
                run("ip", "netns", "add", self.namespace(node.name))
                self.taps[node.name] = open_taps(self.namespace(node.name), node.queues)
                self._set_up(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for taps in self.taps.values():
            for tap in taps:
                os.close(tap)
        for node in NODES:
            subprocess.run(["ip", "netns", "del", self.namespace(node.name)], capture_output=True,
                           check=False)

    def _set_up(self, node):
        script = "echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad\n" \
                 "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad\n"
        run(*self.command(node.name, "sh", "-ec", script))
        (four, six), (gate4, gate6) = node.addresses, node.gateways
        run(*self.command(node.name, "ip", "-batch", "-"), text=f"""link set lo up
link set eth0 address {node.mac}
link set eth0 up
address add {four}/24 dev eth0
address add {six}/64 dev eth0 nodad
route add default via {gate4}
""")
        run(*self.command(node.name, "ip", "-6", "route", "add", "default", "via", gate6))

    @property
    def descriptors(self):
        return tuple(tap for taps in self.taps.values() for tap in taps)

    def qemu_words(self):
        words = ["-device", "virtio-serial-pci",
                 "-chardev", f"socket,id=orders,path={self.port},server=on,wait=off",
                 "-device", "virtserialport,chardev=orders,name=petrel.orders"]
        for node in NODES:
            taps = self.taps[node.name]
            given = f"fds={':'.join(map(str, taps))}" if len(taps) > 1 else f"fd={taps[0]}"
            queues = f",mq=on,vectors={2 * len(taps) + 2}" if len(taps) > 1 else ""
            words += ["-netdev", f"tap,id={node.name},{given},vhost=off",
                      "-device", f"virtio-net-pci,netdev={node.name},mac={node.guest_mac}{queues}"]
        return words

    def set_offloads(self, on):
        """Of the nodes' own devices: what they leave to the guest's."""
        word = "on" if on else "off"
        for node in NODES:
            for name in ("tx", "tso", "gso", "gro"):
                subprocess.run(self.command(node.name, "ethtool", "-K", "eth0", name, word),
                               capture_output=True, check=False)

    def set_mtu(self, mtu):
        for node in NODES:
            run(*self.command(node.name, "ip", "link", "set", "eth0", "mtu", mtu))

    def checksum_errors(self):
        """Of TCP, UDP and IP over all nodes, by what the receiving kernels count."""
        found = 0
        for node in NODES:
            for line in run(*self.command(node.name, "nstat", "-asz")).splitlines():
                if "CsumErrors" in line or line.startswith("IpInHdrErrors"):
                    found += int(line.split()[1])
        return found
