# SPDX-License-Identifier: MIT
"""nginx and HAProxy as the clients whose retries are followed: users ask them, they ask the VIP.

    petrel-traffic ── proxy ── lb        all in the client's node but lb; to petrel the proxy is one
       (no retries)    retries           client of one address, whoever asked it
"""

import json
import re
import shutil
import subprocess
import time

from . import packets, proxy_truth, truth
from .lab import SERVICE_PORT, LabError, endpoint, stop
from .label_scenarios import TIMEOUT_MS

PROXY_PORT = 8888
ID_HEADER = "X-Request"
SERVERS = 3  # times the VIP is listed: a proxy goes on to its next server


def nginx_config(weather, vip, run_dir):
    keep = weather.scenario.keep_alive
    servers = "\n".join(f"    server {vip} max_fails=0;" for _ in range(SERVERS))
    return f"""
user root;
worker_processes 1;
daemon off;
pid {run_dir}/nginx.pid;
error_log {run_dir}/nginx.err warn;
events {{ worker_connections 4096; }}
http {{
  log_format tries '$http_x_request $upstream_addr';
  access_log {run_dir}/proxy.log tries;
  client_body_temp_path {run_dir}/nginx-body;
  proxy_temp_path {run_dir}/nginx-proxy;
  fastcgi_temp_path {run_dir}/nginx-fastcgi;
  uwsgi_temp_path {run_dir}/nginx-uwsgi;
  scgi_temp_path {run_dir}/nginx-scgi;
  upstream vip {{
{servers}
    {"keepalive 32;" if keep else ""}
  }}
  server {{
    listen 127.0.0.1:{PROXY_PORT};
    location / {{
      proxy_pass http://vip;
      proxy_http_version 1.1;
      proxy_set_header Connection "{"" if keep else "close"}";
      proxy_connect_timeout {TIMEOUT_MS}ms;
      proxy_read_timeout {TIMEOUT_MS}ms;
      proxy_next_upstream error timeout http_500 http_502 http_503 http_504 http_429;
      proxy_next_upstream_tries {weather.max_attempts};
    }}
  }}
}}
"""


def haproxy_config(weather, vip, _run_dir):
    keep = weather.scenario.keep_alive
    servers = "\n".join(f"  server vip{i} {vip}" for i in range(SERVERS))
    return f"""
global
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  log global
  timeout client 30s
  timeout connect {TIMEOUT_MS}ms
  timeout server {TIMEOUT_MS}ms
  option {"http-keep-alive" if keep else "httpclose"}
  http-reuse {"safe" if keep else "never"}
  retries {weather.max_attempts - 1}
  option redispatch 1
  retry-on all-retryable-errors
listen proxy
  bind 127.0.0.1:{PROXY_PORT}
  http-request capture req.hdr({ID_HEADER}) len 20
  log-format "tries %[capture.req.hdr(0)] %rc"
  balance roundrobin
{servers}
"""


def nginx_counts(log):
    """Request id to tries: the list of upstream addresses has one for each."""
    counts = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        request, _, addresses = line.partition(" ")
        counts[request] = len(re.split(r",| : ", addresses)) if addresses != "-" else 0
    return counts


def haproxy_counts(log):
    """Request id to tries: %rc is the retries, "+" before it says that it went to another server."""
    found = re.findall(r"^tries (\d+) \+?(\d+)$", log.read_text(encoding="utf-8"), re.MULTILINE)
    return {request: int(retries) + 1 for request, retries in found}


class ProxyClient:
    """Users, the proxy, and tcpdump beside it."""

    program = None
    config = None
    counts = None

    def __init__(self, lab, weather):
        self.lab = lab
        self.weather = weather
        self.log = lab.run_dir / "proxy.log"
        self.users_log = lab.run_dir / "users.jsonl"
        self.capture_file = lab.run_dir / "proxy.pcap"
        self.running = []
        self.users = None

    def command(self, config):
        raise NotImplementedError

    def start(self):
        program = shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin:/sbin")
        vip = endpoint(self.lab.vip, SERVICE_PORT)
        config = self.lab.run_dir / f"{self.program}.conf"
        text = type(self).config(self.weather, vip, self.lab.run_dir)
        config.write_text(text, encoding="utf-8")
        tcpdump = self.lab.spawn("client", "tcpdump", "-i", "eth0", "--immediate-mode", "-U",
                                 "-s", "1024", "-w", self.capture_file,
                                 "--time-stamp-precision=nano", "tcp", "and", "host", self.lab.vip,
                                 log="tcpdump.log")
        proxy = self.lab.spawn("client", program, *self.command(config), log=self.output_name())
        self.running = [proxy, tcpdump]
        self._wait_until_up(proxy)
        weather = self.weather
        self.users = self.lab.spawn(
            "client", self.lab.bin / "petrel-traffic", "client", "--target",
            f"127.0.0.1:{PROXY_PORT}", "--sources", "127.1.0.0/16", "--clients", weather.hosts,
            "--rate", weather.rate, "--duration", weather.seconds, "--paths", weather.paths,
            "--timeout-ms", 10000, "--id-header", ID_HEADER, "--seed", weather.seed,
            "--log", self.users_log, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def output_name(self):
        return f"{self.program}.log"

    def _wait_until_up(self, proxy):
        deadline = time.monotonic() + 10
        while True:
            listening = subprocess.run(self.lab.command("client", "ss", "-Hltn"), text=True,
                                       capture_output=True, check=True).stdout
            if f":{PROXY_PORT} " in listening and self.capture_file.exists():
                return
            if proxy.poll() is not None or time.monotonic() > deadline:
                text = (self.lab.run_dir / self.output_name()).read_text(encoding="utf-8")
                raise LabError(f"{self.program} did not start: {text.strip()[-300:]}")
            time.sleep(0.02)

    def _wait_until_written(self):
        """tcpdump forgets what it has not read yet when it is ended."""
        deadline, size = time.monotonic() + 10, -1
        while size != self.capture_file.stat().st_size and time.monotonic() < deadline:
            size = self.capture_file.stat().st_size
            time.sleep(0.5)

    def finish(self):
        if self.users.wait(self.weather.seconds + 60) != 0:
            raise LabError(f"petrel-traffic client ended with {self.users.returncode}")
        proxy, tcpdump = self.running
        stop(proxy)
        self._wait_until_written()
        stop(tcpdump)
        users = truth.read_traffic_log(self.users_log)
        connections = packets.read_connections(self.capture_file, self.lab.vip, ID_HEADER)
        attempts, lost = proxy_truth.attempts_of(users, type(self).counts(self.log), connections,
                                                 time.monotonic_ns() - time.time_ns())
        (self.lab.run_dir / "tries.json").write_text(
            json.dumps({"tries": len(attempts), "not_found": lost}) + "\n", encoding="utf-8")
        return attempts


class NginxClient(ProxyClient):
    program = "nginx"
    config = staticmethod(nginx_config)
    counts = staticmethod(nginx_counts)

    def command(self, config):
        return ["-c", config, "-p", self.lab.run_dir]


class HaproxyClient(ProxyClient):
    program = "haproxy"
    config = staticmethod(haproxy_config)
    counts = staticmethod(haproxy_counts)

    def command(self, config):
        return ["-db", "-f", config]

    def output_name(self):
        return "proxy.log"
