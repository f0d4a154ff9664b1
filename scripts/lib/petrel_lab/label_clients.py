# SPDX-License-Identifier: MIT
"""The clients of scripts/label-check by name: each has start(), and finish() which returns its
attempts by its own log."""

from .label_proxy import HaproxyClient, NginxClient
from .label_tools import CurlClient, Urllib3Client
from .label_traffic import TrafficClient

CLASSES = {"petrel-traffic": TrafficClient, "curl": CurlClient, "urllib3": Urllib3Client,
           "nginx": NginxClient, "haproxy": HaproxyClient}


def make_client(lab, weather):
    return CLASSES[weather.client](lab, weather)
