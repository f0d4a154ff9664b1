# SPDX-License-Identifier: MIT
"""Captures labelled runs in the lab, each with weather of its own, and trains a model on them.

Each run is one lab under neutral weights with random load, clients, retry policy and faults, all
drawn from the seed and the run's number. The held-out figures mean something because whole runs
are held out: no row of a run that was trained on is tested on.
"""

import argparse
import concurrent.futures
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from .lab import ROOT, Lab, LabError, progress, stop

FAULTS = ["hang", "refuse", "reset", "blackhole", "errors", "slow", "none"]
FLUSH_S = 6.0  # the retry window, and what the agent's labeller adds to it


def draw(seed, number):
    """The weather of one run."""
    rng = random.Random(f"{seed}/{number}")
    backends = rng.randint(2, 5)
    timeout_ms = rng.choice([300, 500, 1000, 1000, 2000, 3000])
    episodes = []
    # Each kind of fault leads in turn, so that a small set has them all; the others are drawn.
    for begin_s, kind in ((2.0, FAULTS[number % len(FAULTS)]), (6.5, rng.choice(FAULTS)),
                          (11.0, rng.choice(FAULTS))):
        everywhere = rng.random() < 0.1
        parameters = {}
        if kind == "errors":
            parameters["rate"] = round(rng.uniform(0.1, 1.0), 2)
        if kind == "slow":
            parameters["factor"] = round(rng.uniform(3, 60), 1)
        episodes.append({"begin_s": begin_s, "seconds": round(rng.uniform(1.0, 3.5), 2),
                         "kind": kind, "parameters": parameters,
                         "backends": list(range(1, backends + 1)) if everywhere
                         else [rng.randint(1, backends)]})
    return {
        "run": f"run{number:03d}", "seed": rng.randrange(1 << 31), "backends": backends,
        "family": rng.choice([4, 4, 6]), "rate": rng.randint(100, 400),
        "service_time_ms": round(rng.uniform(3, 30), 1),
        "distribution": rng.choice(["lognormal", "exponential"]),
        "clients": rng.choice([500, 2000, 8000]), "timeout_ms": timeout_ms,
        # Clients that never retry are left out: whether a population retries at all is no feature
        # yet, and such runs would only teach the model to doubt what it sees.
        "retry": rng.choice(["exponential", "exponential", "fixed", "immediate"]),
        "retry_delay_ms": rng.choice([50, 100, 250]), "max_attempts": rng.randint(2, 4),
        "keep_alive": rng.random() < 0.25, "seconds": 15, "episodes": episodes}


def play_faults(lab, weather, begun):
    moments = [(e["begin_s"], e, True) for e in weather["episodes"]]
    moments += [(e["begin_s"] + e["seconds"], e, False) for e in weather["episodes"]]
    for at_s, episode, begins in sorted(moments, key=lambda m: m[0]):
        if episode["kind"] == "none":
            continue
        time.sleep(max(0.0, begun + at_s - time.monotonic()))
        for i in episode["backends"]:
            if begins:
                lab.fault(i, episode["kind"], **episode["parameters"])
            else:
                lab.fault(i, "none")


def capture_run(weather, bin_dir, directory):
    """One run; returns its capture's path."""
    output = directory / f"{weather['run']}.db"
    partial = output.with_suffix(".part")
    partial.unlink(missing_ok=True)
    with Lab(weather["backends"], bin_dir, service_time_ms=weather["service_time_ms"],
             distribution=weather["distribution"], seed=weather["seed"],
             family=weather["family"]) as lab:
        lab.start_agent("neutral")
        capture = lab.spawn("lb", lab.bin / "petrel", "capture", "-s", lab.socket, "-o", partial,
                            "--what", "rows", "--run", weather["run"], log="capture.log")
        options = ["--rate", weather["rate"], "--duration", weather["seconds"], "--clients",
                   weather["clients"], "--timeout-ms", weather["timeout_ms"], "--retry",
                   weather["retry"], "--retry-delay-ms", weather["retry_delay_ms"],
                   "--max-attempts", weather["max_attempts"], "--seed", weather["seed"]]
        if weather["keep_alive"]:
            options.append("--keep-alive")
        client = lab.start_client(*options, stderr=subprocess.DEVNULL)
        play_faults(lab, weather, time.monotonic())
        summary = json.loads(client.communicate(timeout=120)[0])
        time.sleep(FLUSH_S)
        stop(capture)
    partial.rename(output)
    output.with_suffix(".json").write_text(
        json.dumps({"weather": weather, "summary": summary}, indent=1) + "\n", encoding="utf-8")
    return output


def capture_all(arguments):
    directory = arguments.captures
    directory.mkdir(parents=True, exist_ok=True)
    weathers = [draw(arguments.seed, n) for n in range(arguments.runs)]
    missing = [w for w in weathers if not (directory / f"{w['run']}.db").exists()]
    begun, done = time.monotonic(), 0
    progress(f"capturing {len(missing)} of {len(weathers)} runs into {directory}, "
             f"{arguments.jobs} at a time")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {pool.submit(capture_run, w, arguments.bin, directory): w for w in missing}
        for future in concurrent.futures.as_completed(futures):
            future.result()
            done += 1
            left_s = (time.monotonic() - begun) / done * (len(missing) - done)
            weather = futures[future]
            kinds = "+".join(e["kind"] for e in weather["episodes"])
            progress(f"  {weather['run']} ({kinds}) done, {done}/{len(missing)}, "
                     f"about {left_s:.0f} s left")
    return [directory / f"{w['run']}.db" for w in weathers]


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="scripts/train", description="Capture runs in the lab and train a model on them.")
    parser.add_argument("--runs", type=int, default=48, help="runs to capture (default 48)")
    parser.add_argument("--seed", type=int, default=1, help="of the weather and the split")
    parser.add_argument("--jobs", type=int, default=4, help="labs at the same time (default 4)")
    parser.add_argument("--captures", type=Path, default=ROOT / "out/captures",
                        help="where captures are kept; those there are not made again")
    parser.add_argument("--output", type=Path, default=ROOT / "model/retry.json")
    parser.add_argument("--model-version", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=ROOT / "build/release/bin",
                        help="where petrel and petrel-traffic are")
    arguments = parser.parse_args(argv)
    if arguments.runs < 3:
        parser.error("--runs: expected at least 3: whole runs are held out")
    return arguments


def main(argv=None):
    arguments = parse(argv)
    try:
        captures = capture_all(arguments)
    except LabError as error:
        progress(f"train: {error}")
        return 1
    return subprocess.run(
        [arguments.bin / "petrel", "train", *captures, "-o", arguments.output, "--seed",
         str(arguments.seed), "--model-version", str(arguments.model_version)],
        check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
