# SPDX-License-Identifier: MIT
"""One run of scripts/label-check: a lab, its agent and a capture, clients, and faults in turn."""

import shutil
import time
from pathlib import Path

from . import labels
from .demo_options import FAULTS
from .label_join import join
from .label_scenarios import BACKENDS, FAULTY
from .lab import Lab, LabError, stop, wait_for_path

# In mode shadow, and with all off that changes what becomes of an attempt: a masked refusal is no
# failure to its client, so nothing would follow that could be labelled.
SERVICE_LINES = "\n".join(["two_choices = false", "steer_retries = false", "failover = false",
                           "mask_refusals = false"])
BUDGET_LINES = "[service.budget]\nenabled = false"

# The agent's next ticks drain the last ones.
LAST_RECORDS_S = 0.5
# A SYN that nobody ever answered is given up by the agent's sweep.
SWEEP_S = 8.5


def settled_s(weather):
    """When the last record has come, after the traffic began."""
    return max((end_s + SWEEP_S for _, end_s, kind in weather.episodes if kind == "blackhole"),
               default=0)


def play_faults(lab, episodes, begun):
    moments = [(begin_s, kind) for begin_s, _, kind in episodes]
    moments += [(end_s, "none") for _, end_s, _ in episodes]
    for at_s, kind in sorted(moments):
        time.sleep(max(0.0, begun + at_s - time.monotonic()))
        lab.fault(FAULTY, kind, **FAULTS[kind])


def prepare(lab, weather):
    if weather.scenario.timestamps == "none":
        done = lab.spawn("client", "sh", "-c", "echo 0 >/proc/sys/net/ipv4/tcp_timestamps")
        if done.wait() != 0:
            raise LabError("cannot switch TCP timestamps off in the client's namespace")


def capture_run(lab, weather, make_client):
    """Attempts and records of the run, and how many records were lost."""
    prepare(lab, weather)
    lab.start_agent("shadow", service_extra=f"{SERVICE_LINES}\n{BUDGET_LINES}")
    output = lab.run_dir / "capture.db"
    capture = lab.spawn("lb", lab.bin / "petrel", "capture", "-s", lab.socket, "-o", output,
                        "--what", "requests", "--run", f"{weather.scenario.name}-{weather.seed}",
                        log="capture.log")
    wait_for_path(output, "petrel capture")
    client = make_client(lab, weather)
    client.start()
    begun = time.monotonic()
    play_faults(lab, weather.episodes, begun)
    attempts = client.finish()
    time.sleep(max(LAST_RECORDS_S, begun + settled_s(weather) - time.monotonic()))
    stop(capture)
    if capture.returncode != 0:
        raise LabError("petrel capture failed: " +
                       (lab.run_dir / "capture.log").read_text(encoding="utf-8").strip())
    return attempts, labels.read_labels(output), labels.count_lost(output)


def keep(lab, weather, directory):
    """Copies the logs that the run's figures are made of."""
    kept = Path(directory) / f"{weather.scenario.name}-{weather.client}-{weather.seed}"
    kept.mkdir(parents=True, exist_ok=True)
    for path in lab.run_dir.iterdir():
        if path.is_file():
            shutil.copy2(path, kept / path.name)


def run(weather, make_client, bin_dir, keep_logs=None):
    """Returns label_join.Joined."""
    with Lab(BACKENDS, bin_dir, seed=weather.seed, family=weather.scenario.family,
             nat=weather.scenario.nat,
             host_clocks=weather.scenario.timestamps == "host") as lab:
        try:
            attempts, records, lost = capture_run(lab, weather, make_client)
        finally:
            if keep_logs is not None:
                keep(lab, weather, keep_logs)
    joined = join(attempts, records, nat=weather.scenario.nat)
    joined.lost = lost
    return joined
