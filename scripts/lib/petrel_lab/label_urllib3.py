# SPDX-License-Identifier: MIT
"""Python's urllib3 with its Retry as the client whose retries are followed.

Run as a program in the client's node by the system's Python, which has Debian's urllib3. The truth
is urllib3's own: each call of a pool's _make_request() is an attempt, numbered by the history that
its Retry keeps. A line of JSON for each: user, request, attempt, start_ns, end_ns, port, reused.
"""

import argparse
import json
import random
import socket
import sys
import threading
import time


def pool_class(urllib3):
    """A pool that tells of its attempts. urllib3 is imported only where it is used."""

    class NotingConnection(urllib3.connection.HTTPConnection):
        """Knows its port also when its socket is closed; 0 while there was none."""
        local_port = 0

        def _new_conn(self):
            self.local_port = 0
            sock = super()._new_conn()
            self.local_port = sock.getsockname()[1]
            return sock

    class TellingPool(urllib3.HTTPConnectionPool):
        """urlopen() calls itself with a Retry of one more entry for each retry."""
        ConnectionCls = NotingConnection
        tell = None  # set by who makes the pool

        def urlopen(self, method, url, *args, **options):
            retries = options.get("retries") or args[2]
            self.attempt = len(retries.history) + 1
            return super().urlopen(method, url, *args, **options)

        def _make_request(self, conn, *args, **options):
            reused = conn.sock is not None
            number, start_ns = self.attempt, time.monotonic_ns()
            try:
                return super()._make_request(conn, *args, **options)
            finally:
                self.tell(attempt=number, start_ns=start_ns, end_ns=time.monotonic_ns(),
                          port=conn.local_port, reused=reused)

    return TellingPool


class User:
    """A client of its own address, whose requests do not overlap."""

    def __init__(self, urllib3, options, source, output):
        self.options = options
        self.source = source
        self.output = output
        self.lock = threading.Lock()
        self.request = None
        # The port is chosen at connect(), as it is for clients that do not bind.
        late = (socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        host, port = options.target.rsplit(":", 1)
        self.pool = pool_class(urllib3)(
            host.strip("[]"), int(port), source_address=(source, 0), maxsize=1,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), late],
            timeout=urllib3.Timeout(total=options.timeout))
        self.pool.tell = self.tell
        self.retry = urllib3.Retry(
            total=options.retries, backoff_factor=options.backoff, raise_on_status=False,
            status_forcelist=(429, 500, 502, 503, 504))
        self.error = urllib3.exceptions.HTTPError

    def tell(self, **attempt):
        line = json.dumps({"user": self.source, "request": self.request, **attempt})
        self.output(line)

    def ask(self, request, path):
        with self.lock:
            self.request = request
            headers = {} if self.options.keep_alive else {"Connection": "close"}
            try:
                self.pool.request("GET", path, headers=headers, retries=self.retry)
            except self.error:
                pass  # given up


def main(argv):
    import urllib3  # pylint: disable=import-outside-toplevel
    parser = argparse.ArgumentParser()
    for name in ("--target", "--sources"):
        parser.add_argument(name)
    for name in ("--rate", "--seconds", "--timeout", "--backoff"):
        parser.add_argument(name, type=float)
    for name in ("--paths", "--retries", "--seed"):
        parser.add_argument(name, type=int)
    parser.add_argument("--keep-alive", action="store_true")
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    lock = threading.Lock()

    def output(line):
        with lock:
            print(line, flush=True)

    users = [User(urllib3, options, source, output) for source in options.sources.split(",")]
    begun, due, threads = time.monotonic(), 0.0, []
    for request in range(1, 10**9):
        due += rng.expovariate(options.rate)
        time.sleep(max(0.0, begun + due - time.monotonic()))
        if time.monotonic() - begun >= options.seconds:
            break
        threads.append(threading.Thread(
            target=rng.choice(users).ask, args=(request, f"/p{rng.randrange(options.paths)}")))
        threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
