# SPDX-License-Identifier: MIT
"""HAProxy and nginx in the balancer's place: real processes in `lb`, on the service's own address.

Each is set up as well as a careful operator would who knows how long clients wait, and not what the
backends can carry. Both repeat a failed request at another server by themselves, which no balancer
of connections can; what they repeat counts as attempts at the backends.
"""

import shutil
import signal
import socket
import subprocess
import time

from .lab import BACKEND_PORT, SERVICE_PORT, LabError, endpoint, stop

CHECK_PORT = 8081  # of the same backend, with the same faults: checks are not counted as requests
TRIES = 3


def connect_ms(clients):
    return max(100, clients.timeout_ms // 4)


def answer_ms(clients):
    """Half of what clients wait, so that there is time for a second server."""
    return clients.timeout_ms // 2


def haproxy_config(lab, clients):
    servers = "\n".join(
        f"  server b{i} {endpoint(lab.backend_address(i), BACKEND_PORT)} check port {CHECK_PORT} "
        "inter 500ms fastinter 200ms downinter 500ms fall 2 rise 2 observe layer7 error-limit 5 "
        "on-error mark-down slowstart 5s" for i in range(1, lab.count + 1))
    return f"""
global
  maxconn 9000
  stats socket {lab.run_dir}/haproxy.sock mode 600 level admin
defaults
  mode http
  option httpclose
  option redispatch 1
  retries {TRIES - 1}
  retry-on all-retryable-errors
  timeout client 60s
  timeout queue {clients.timeout_ms}ms
  timeout connect {connect_ms(clients)}ms
  timeout server {answer_ms(clients)}ms
  timeout check 400ms
listen web
  bind {endpoint(lab.vip, SERVICE_PORT)} backlog 4096
  balance leastconn
  option httpchk GET /health
{servers}
"""


def nginx_config(lab, clients, drained):
    servers = "\n".join(
        f"    server {endpoint(lab.backend_address(i), BACKEND_PORT)} max_fails=3 fail_timeout=5s"
        f"{' down' if i in drained else ''};" for i in range(1, lab.count + 1))
    paths = "\n".join(f"  {name}_temp_path {lab.run_dir}/nginx-{name};"
                      for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {lab.run_dir}/nginx.pid;
error_log {lab.run_dir}/nginx.err crit;
events {{ worker_connections 9000; }}
http {{
  access_log off;
{paths}
  upstream web {{
    least_conn;
{servers}
  }}
  server {{
    listen {endpoint(lab.vip, SERVICE_PORT)} backlog=4096;
    location / {{
      proxy_pass http://web;
      proxy_http_version 1.1;
      proxy_set_header Connection close;
      proxy_connect_timeout {connect_ms(clients)}ms;
      proxy_read_timeout {answer_ms(clients)}ms;
      proxy_next_upstream error timeout http_500 http_502 http_503 http_504 http_429;
      proxy_next_upstream_tries {TRIES};
    }}
  }}
}}
"""


def program_of(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class Proxy:
    """What compare_policies.Balancer is, for a program of others."""

    name = None
    keeps_clients = False  # its connections to backends have its own address

    def __init__(self, lab, clients):
        self.lab = lab
        self.clients = clients
        self.process = None
        self.config = lab.run_dir / f"{self.name}.conf"

    @classmethod
    def lacking(cls):
        """Why it cannot run here, or None."""
        return None if program_of(cls.name) else f"{cls.name} is not installed: run scripts/setup"

    @classmethod
    def version(cls):
        done = subprocess.run([program_of(cls.name), "-v"], capture_output=True, text=True,
                              check=False)
        return (done.stdout + done.stderr).strip().splitlines()[0]

    def command(self):
        raise NotImplementedError

    def text(self):
        raise NotImplementedError

    def start(self):
        self.config.write_text(self.text(), encoding="utf-8")
        self._run("ip", "addr", "replace", f"{self.lab.vip}/32", "dev", "lo")
        self.process = self.lab.spawn("lb", program_of(self.name), *self.command(),
                                      log=f"{self.name}.log")
        deadline = time.monotonic() + 10
        while f":{SERVICE_PORT} " not in self._run("ss", "-Hltn"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.lab.run_dir / f"{self.name}.log").read_text(encoding="utf-8")
                raise LabError(f"{self.name} did not start: {said.strip()[-300:]}")
            time.sleep(0.02)

    def _run(self, *argv):
        done = subprocess.run(self.lab.command("lb", *argv), capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise LabError(f"{argv[0]} in lb: {done.stderr.strip()}")
        return done.stdout

    def check(self):
        if self.process.poll() is not None:
            raise LabError(f"{self.name} ended by itself, with {self.process.returncode}")

    def processes(self):
        return [self.process.pid]

    def state(self):
        return None

    def facts(self):
        return {}

    def stop(self):
        stop(self.process)
        self.lab.processes.remove(self.process)


class Haproxy(Proxy):
    name = "haproxy"

    def command(self):
        return ["-db", "-f", self.config]

    def text(self):
        return haproxy_config(self.lab, self.clients)

    def drain(self, i, begins):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(5)
            admin.connect(str(self.lab.run_dir / "haproxy.sock"))
            admin.sendall(f"set server web/b{i} state {'drain' if begins else 'ready'}\n".encode())
            if said := admin.recv(4096).strip():
                raise LabError(f"haproxy: drain b{i}: {said.decode()}")


class Nginx(Proxy):
    name = "nginx"

    def __init__(self, lab, clients):
        super().__init__(lab, clients)
        self.drained = set()

    def command(self):
        return ["-c", self.config, "-p", self.lab.run_dir]

    def text(self):
        return nginx_config(self.lab, self.clients, self.drained)

    def drain(self, i, begins):
        (self.drained.add if begins else self.drained.discard)(i)
        self.config.write_text(self.text(), encoding="utf-8")
        self.process.send_signal(signal.SIGHUP)

    def processes(self):
        """The master and its workers."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children",
                  encoding="ascii") as children:
            return [self.process.pid, *map(int, children.read().split())]
