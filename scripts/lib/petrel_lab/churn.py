# SPDX-License-Identifier: MIT
"""scripts/churn once the programs are built: an agent under connections that come and go, sampled.

    client ── lb ── b1 … b4, which fail in turn    placement client, backend: the agent attaches no
                                                   XDP, and the clients name the backends"""

import json
import signal
import subprocess
import sys
import time

from . import churn_table, facts
from .churn_figures import LEAST_SAMPLES, halves, memory, problems_of
from .churn_options import parse
from .churn_sample import Sampler, is_quiet
from .churn_traffic import Traffic, play, schedule
from .lab import ROOT, Lab, LabError, progress

EXIT_RUNTIME = 1
EXIT_UNHEALTHY = 8
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

BACKENDS = 4
# The sweep ends an unanswered SYN after some 8 s; two audits, 5 s apart, then find what is left.
SETTLE_S = 40
AUDITS = 2
POLL_S = 0.1
PROGRESS_S = 10

NOTES = [
    "waiting_slots: waiting[] and waiting_syn[] as the maps hold them over all CPUs, less "
    "waited_out, less what the agent swept or healed, which the maps keep; waiting_flows: by the "
    "flags of the flows; waiting_status, inflight_status: by the agent. Read one after the other "
    "under traffic, they differ by what came and went meanwhile",
    "rss_kib, anon_kib: the lowest of some readings within 50 ms; maps_kib, programs_kib: memlock "
    "of those the agent holds, to which the kernel does not add what sockets keep in `sockets`",
    "interval: 95 %, residuals resampled in blocks",
]


def end_on(_signal, _frame):
    raise SystemExit(EXIT_TERMINATED)


class Run:
    """One run: samples while the traffic lasts, and one at its end."""

    def __init__(self, lab, options):
        self.lab = lab
        self.options = options
        self.sampler = Sampler(lab)
        self.samples = []
        self.begun = self.told = 0.0

    @property
    def now_s(self):
        return time.monotonic() - self.begun

    def take_sample(self):
        sample = self.sampler.sample(self.now_s)
        self.samples.append(sample)
        if self.now_s - self.told < PROGRESS_S and len(self.samples) > 1:
            return
        self.told = self.now_s
        progress(f"  {sample['t_s']:,.0f} s: RSS {sample['rss_kib']:,} KiB, "
                 f"{sample['connections']:,} flows, {sample['waiting_status']} waiting, "
                 f"{sample['waits_leaked']} leaked; about "
                 f"{max(0.0, self.options.seconds - sample['t_s']):,.0f} s left")

    def under_traffic(self):
        """Fails and samples in time; returns what the clients say."""
        traffic = Traffic(self.lab, self.options.rate, self.options.seconds, self.options.seed)
        traffic.start()
        self.begun = time.monotonic()
        moments = schedule(self.options.seconds, BACKENDS, self.options.seed)
        sample_s = float(self.options.sample)
        while moments or sample_s <= self.options.seconds:
            fails = moments and moments[0].at_s <= sample_s
            at_s = moments[0].at_s if fails else sample_s
            time.sleep(max(0.0, at_s - self.now_s))
            traffic.watch()
            if fails:
                play(self.lab, moments.pop(0))
            else:
                self.take_sample()
                sample_s += self.options.sample
        return traffic.finish()

    def settle(self):
        """Until nothing is under way and the audit has been over it. False: that never was."""
        audits = self.sampler.status()["audit"]["audits"] + AUDITS
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            status = self.sampler.status()
            if is_quiet(status) and status["audit"]["audits"] >= audits:
                return True
            time.sleep(POLL_S)
        return False

    def __call__(self):
        self.begun = time.monotonic()
        idle = self.sampler.sample(0)
        clients = self.under_traffic()
        progress("  the traffic has ended; waiting until nothing is under way")
        settled = self.settle()
        return idle, clients, settled, self.sampler.at_end(self.now_s)


def measure(options):
    """The result, without the header."""
    balances = options.placement == "balancer"
    bin_dir = options.bin or ROOT / "build/release/bin"
    with Lab(BACKENDS, bin_dir, seed=options.seed, placement=options.placement) as lab:
        lab.start_agent("act" if balances else "shadow", options.model)
        run = Run(lab, options)
        try:
            idle, clients, settled, end = run()
        finally:
            run.sampler.close()
    problems = problems_of(run.samples, idle, end, options.seed)
    if not settled:
        problems.append(f"it did not settle within {SETTLE_S} s after the traffic")
    ends = {name: sum(backend["ends"][name] for backend in end["backends"])
            for name in end["backends"][0]["ends"]}
    return {"placement": options.placement, "seconds": options.seconds, "rate": options.rate,
            "requests": sum(kind["requests"] for kind in clients.values()),
            "attempts": sum(kind["attempts"] for kind in clients.values()),
            "settled": settled, "ends": ends,
            "memory": memory(run.samples, "rss_kib", options.seed),
            "anonymous": memory(run.samples, "anon_kib", options.seed),
            "problems": problems,
            "clients": clients, "idle": idle, "end": end, "samples": run.samples}


def main(argv):
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_on)
    sys.argv[0] = "scripts/churn"  # what result files say was run
    options = parse(argv)
    header = facts.header(options.bin or ROOT / "build/release/bin", options.seed)
    progress(f"churn: placement {options.placement}, {options.rate} requests/s for "
             f"{options.seconds:,} s, a sample every {options.sample} s")
    try:
        churn = measure(options)
    except (LabError, OSError, subprocess.SubprocessError) as error:
        progress(f"churn: {error}")
        return EXIT_RUNTIME
    except KeyboardInterrupt:
        progress("churn: interrupted; the lab is removed")
        return EXIT_INTERRUPTED
    header["notes"] += NOTES
    if churn["memory"]["slope_kib_per_h"] is None:
        header["notes"].append(
            f"slopes are null: {len(halves(churn['samples'])[1])} samples in the second half, "
            f"{LEAST_SAMPLES} are needed")
    print("\n".join(churn_table.lines(churn)))
    if options.json:
        result = {"schema": "petrel/churn/v1", **header, "churn": churn}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for problem in churn["problems"]:
        progress(f"churn: {problem}")
    return EXIT_UNHEALTHY if churn["problems"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
