# SPDX-License-Identifier: MIT
"""Pinned BPF maps, read and filled by bpf(): bpftool's JSON of a full table takes minutes."""

import ctypes
import errno
import json
import os
import platform
import struct
import subprocess

from .bench_wire_programs import BPF_SYSCALL_NUMBERS

BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_OBJ_GET = 1, 2, 7
BPF_RAW_TRACEPOINT_OPEN = 17
BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH = 24, 26
BATCH = 4096  # more than a bucket of a hash map holds


class Bpf:
    """The system call."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.number = BPF_SYSCALL_NUMBERS.get(platform.machine())
        if self.number is None:
            raise OSError(f"bpf() has no known number on {platform.machine()}")

    def get(self, pin):
        """The descriptor of what is pinned there."""
        path = ctypes.create_string_buffer(str(pin).encode())
        return self._call(BPF_OBJ_GET, struct.pack("<QII", ctypes.addressof(path), 0, 0))[0]

    def attach(self, pin):
        """The descriptor that keeps a pinned program attached to the function that it was loaded for
        (fentry, fexit)."""
        program = self.get(pin)
        try:
            return self._call(BPF_RAW_TRACEPOINT_OPEN, struct.pack("<QII", 0, program, 0))[0]
        finally:
            os.close(program)

    def _call(self, command, attributes, accepted=()):
        """The result or a negative accepted errno, and the attributes as the kernel left them."""
        buffer = ctypes.create_string_buffer(attributes, 128)
        result = self.libc.syscall(self.number, command, buffer, 128)
        if result < 0:
            code = ctypes.get_errno()
            if code not in accepted:
                raise OSError(code, f"bpf({command}): {os.strerror(code)}")
            result = -code
        return result, buffer.raw


class Map(Bpf):
    """A pinned BPF map."""

    def __init__(self, pin):
        super().__init__()
        self.fd = self.get(pin)
        facts = dict(line.split(":\t", 1) for line in self._facts() if ":\t" in line)
        self.key_bytes = int(facts["key_size"])
        self.value_bytes = int(facts["value_size"])

    def _facts(self):
        with open(f"/proc/self/fdinfo/{self.fd}", encoding="ascii") as info:
            return info.read().splitlines()

    def update_all(self, keys, values, count):
        keys, values = ctypes.create_string_buffer(keys), ctypes.create_string_buffer(values)
        self._call(BPF_MAP_UPDATE_BATCH, struct.pack(
            "<QQQQIIQQ", 0, 0, ctypes.addressof(keys), ctypes.addressof(values), count, self.fd,
            0, 0))

    def batches(self):
        """(count, keys, values) of all entries, some thousand at a time; values are value_stride
        apart. The buffers are used again."""
        keys = ctypes.create_string_buffer(self.key_bytes * BATCH)
        values = ctypes.create_string_buffer(self.value_stride * BATCH)
        here, after = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
        begin, result = 0, 0
        while result == 0:
            result, left = self._call(BPF_MAP_LOOKUP_BATCH, struct.pack(
                "<QQQQIIQQ", begin, ctypes.addressof(after), ctypes.addressof(keys),
                ctypes.addressof(values), BATCH, self.fd, 0, 0), accepted=(errno.ENOENT,))
            count = struct.unpack_from("<I", left, 32)[0]
            if count:
                yield count, memoryview(keys), memoryview(values)
            here[:] = after[:]
            begin = ctypes.addressof(here)

    @property
    def value_stride(self):
        return (self.value_bytes + 7) // 8 * 8

    def element(self, command, key, value):
        key = ctypes.create_string_buffer(key)
        self._call(command, struct.pack("<IIQQQ", self.fd, 0, ctypes.addressof(key),
                                        ctypes.addressof(value), 0))

    def lookup(self, index, cpus=1):
        """An array's element; of a per-CPU one `cpus` of them, value_stride bytes each."""
        value = ctypes.create_string_buffer(self.value_stride * cpus)
        self.element(BPF_MAP_LOOKUP_ELEM, struct.pack("<I", index), value)
        return value.raw

    def close(self):
        os.close(self.fd)


def possible_cpus():
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as cpus:
        last = cpus.read().strip().split("-")[-1]
    return int(last) + 1


def layout(pin):
    """{struct: {member: offset in bytes}} by the BTF of a map."""
    done = subprocess.run(["bpftool", "-j", "btf", "dump", "map", "pinned", str(pin), "all"],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"the layout of {pin}: {done.stderr.strip() or done.stdout.strip()}")
    return {kind["name"]: {member["name"]: member["bits_offset"] // 8
                           for member in kind["members"]}
            for kind in json.loads(done.stdout)["types"] if kind["kind"] == "STRUCT"}
