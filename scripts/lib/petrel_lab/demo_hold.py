# SPDX-License-Identifier: MIT
"""What to try on the lab by hand, and keeping it up for that."""

import os
import time

from .demo_run import client_options
from .lab import LabError

HOLD_CLIENT_S = 3600  # a client counts each request it made; a new one starts from nothing


def commands(lab, faulty):
    """(what it shows, command), for the lab as it is."""
    sudo = "sudo " if os.environ.get("SUDO_USER") else ""
    pins = lab.facts["pin_path"]
    petrel = f"{sudo}{lab.bin / 'petrel'}"
    fault = f"{sudo}{lab.bin / 'petrel-traffic'} fault --control {lab.control(faulty)}"
    return [
        ("weights and risks", f"{petrel} status -s {lab.socket}"),
        ("why it is so", f"{petrel} explain b{faulty} -s {lab.socket}"),
        ("what the wire sensor counted", f"{sudo}bpftool map dump pinned {pins}/backend_stats"),
        ("the weights the kernel holds", f"{sudo}bpftool map dump pinned {pins}/weights"),
        ("the balancer in the kernel", f"{sudo}bpftool prog show name petrel_balancer"),
        ("where programs are attached", f"{sudo}bpftool link show"),
        (f"let b{faulty} hang", f"{fault} hang"),
        (f"let b{faulty} work again", f"{fault} none"),
    ]


def command_lines(lab, faulty, style):
    lines = []
    for what, command in commands(lab, faulty):
        lines += [style.bold(f"  # {what}"), f"  {command}"]
    return lines


def hold(lab, options):
    """Keeps traffic coming until Ctrl-C, which is a KeyboardInterrupt here."""
    while True:
        client = lab.start_client(*client_options(options, HOLD_CLIENT_S))
        while client.poll() is None:
            if lab.agent.poll() is not None:
                raise LabError(f"the agent ended with {lab.agent.returncode}")
            time.sleep(0.2)
        if client.returncode != 0:
            raise LabError(f"petrel-traffic client ended with {client.returncode}: see above")
        lab.processes.remove(client)
        client.stdout.close()
