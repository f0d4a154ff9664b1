# SPDX-License-Identifier: MIT
"""Sockets inside a lab's namespaces for scripts/bench --wire; run by path, prints JSON.

bench_wire_tool.py sink ADDRESS PORT             takes in and throws away what floods send
bench_wire_tool.py flood SECONDS CONNECTIONS TARGET...
bench_wire_tool.py ping SECONDS RATE TARGET...   one request at a time; its times in microseconds

A TARGET is ADDRESS:PORT; several are used in turn. IPv4, standard library only.
"""

import json
import socket
import struct
import sys
import threading
import time

# The least that Linux lets a socket ask for. With the TCP timestamps 76 bytes of it are data.
SMALL_SEGMENT_BYTES = 88
# The least; little is under way at once, so that a flood is clocked by its acknowledgements and
# not by what the veths' short queues drop.
FLOOD_BUFFER_BYTES = 4096
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
REQUEST = b"GET / HTTP/1.1\r\nHost: wire\r\nConnection: close\r\n\r\n"


def parse_target(text):
    address, port = text.rsplit(":", 1)
    return address, int(port)


def small_segment_socket():
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT_BYTES)
    return connection


def drain(connection):
    scratch = bytearray(1 << 20)
    try:
        # MSG_TRUNC: the kernel counts the bytes and does not copy them.
        while connection.recv_into(scratch, len(scratch), socket.MSG_TRUNC):
            pass
    except OSError:
        pass  # floods end with a RST
    connection.close()


def sink(address, port):
    # The listener's segment size binds a proxy as well, which sends on a connection of its own.
    listener = small_segment_socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(64)
    while True:
        threading.Thread(target=drain, args=(listener.accept()[0],), daemon=True).start()


def flood_one(target, end, failures):
    block = bytes(65536)
    connection = small_segment_socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FLOOD_BUFFER_BYTES)
    connection.settimeout(1)
    try:
        connection.connect(target)
        while time.monotonic() < end:
            try:
                connection.send(block)
            except TimeoutError:
                pass  # a lost tail waits for its retransmission; the end is looked at again
    except OSError as error:
        failures.append(str(error))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()


def segments_sent():
    """TCP segments sent in this network namespace, and those of them sent again."""
    with open("/proc/self/net/snmp", encoding="ascii") as counters:
        names, values = [line.split() for line in counters if line.startswith("Tcp:")]
    found = dict(zip(names, values))
    return int(found["OutSegs"]), int(found["RetransSegs"])


def flood(seconds, connections, targets):
    """Bulk data in small segments: the kernel cuts them, so that sending costs little."""
    failures = []
    sent, again = segments_sent()
    begin = time.monotonic()
    end = begin + seconds
    threads = [threading.Thread(target=flood_one, args=(targets[i % len(targets)], end, failures))
               for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken_s = time.monotonic() - begin
    sent, again = segments_sent()[0] - sent, segments_sent()[1] - again
    return {"seconds": taken_s, "retransmitted_share": again / max(sent, 1),
            "errors": len(failures), "first_error": failures[0] if failures else None}


def request(target):
    """A connection, a request and its answer, in microseconds. None: it failed."""
    begin_ns = time.perf_counter_ns()
    try:
        with socket.create_connection(target, timeout=1) as connection:
            connection.sendall(REQUEST)
            answer = connection.recv(4096)
            end_ns = time.perf_counter_ns()
            complete = answer.startswith(b"HTTP/1.1 200")
            while answer:  # the server closes first, as with the other loads
                answer = connection.recv(4096)
    except OSError:
        return None
    return (end_ns - begin_ns) / 1000 if complete else None


def ping(seconds, rate, targets):
    """Requests at fixed times; one that comes late makes the next wait, never overlap."""
    times_us = []
    begin = time.monotonic()
    for i in range(int(seconds * rate)):
        time.sleep(max(0.0, begin + i / rate - time.monotonic()))
        times_us.append(request(targets[i % len(targets)]))
    return {"times_us": [taken for taken in times_us if taken is not None],
            "errors": sum(taken is None for taken in times_us)}


def main(argv):
    kind, first, second, *targets = argv
    if kind == "sink":
        sink(first, int(second))
    else:
        work = {"flood": flood, "ping": ping}[kind]
        print(json.dumps(work(float(first), int(second), [parse_target(t) for t in targets])))


if __name__ == "__main__":
    main(sys.argv[1:])
