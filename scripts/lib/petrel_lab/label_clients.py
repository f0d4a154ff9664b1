# SPDX-License-Identifier: MIT
"""The clients of scripts/label-check by name: each has start(), and finish() which returns its
attempts by its own log."""

import shutil
import subprocess

from .label_proxy import HaproxyClient, NginxClient
from .label_tools import SYSTEM_PYTHON, CurlClient, Urllib3Client
from .label_traffic import TrafficClient

CLASSES = {"petrel-traffic": TrafficClient, "curl": CurlClient, "urllib3": Urllib3Client,
           "nginx": NginxClient, "haproxy": HaproxyClient}
TOOLS = {"petrel-traffic": (), "curl": ("curl",), "urllib3": (),
         "nginx": ("nginx", "tcpdump", "ss"), "haproxy": ("haproxy", "tcpdump", "ss")}


def missing_tools(clients):
    """What these clients need and this machine has not."""
    missing = [tool for client in clients for tool in TOOLS[client]
               if shutil.which(tool) is None and shutil.which(tool, path="/usr/sbin:/sbin") is None]
    if "urllib3" in clients:
        try:
            found = subprocess.run([SYSTEM_PYTHON, "-c", "import urllib3"], capture_output=True,
                                   check=False).returncode == 0
        except FileNotFoundError:
            found = False
        missing += [] if found else [f"urllib3 for {SYSTEM_PYTHON}"]
    return list(dict.fromkeys(missing))


def make_client(lab, weather):
    return CLASSES[weather.client](lab, weather)
