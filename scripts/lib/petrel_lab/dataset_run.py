# SPDX-License-Identifier: MIT
"""One run of the dataset: a lab with the weather that was drawn for it, and its capture.

A run is finished once its capture and the facts beside it are there, each of which appears whole:
NAME.db first, then NAME.json. What is left of a run that was cut short is made anew."""

import contextlib
import json
import os
import sqlite3
import subprocess
import time

from .dataset_weather import FAR, NEAR, kinds_of
from .lab import Lab, LabError, stop

FLUSH_S = 6.0      # the retry window, and what the agent's labeller adds to it
FINISH_S = 120.0   # until the last request has ended, after the last one has begun
POLL_S = 0.1
RETRY, NO_RETRY = 1, 5  # events.type: a retry; one that is none after all
LEAD_TICKS = 5      # of the agent, between the capture's beginning and the first request


class Interrupted(Exception):
    """The set is told to end."""


def write_whole(path, value):
    """The file has its whole new content, or what it had."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)


def pause(ending, seconds):
    if ending.wait(max(0.0, seconds)):
        raise Interrupted


def play_faults(lab, weather, begun, ending):
    moments = [(e["begin_s"], e, True) for e in weather["episodes"]]
    moments += [(e["begin_s"] + e["seconds"], e, False) for e in weather["episodes"]]
    for at_s, episode, begins in sorted(moments, key=lambda moment: moment[0]):
        pause(ending, begun + at_s - time.monotonic())
        for i in episode["backends"]:
            if begins:
                lab.fault(i, episode["kind"], **episode["parameters"])
            else:
                lab.fault(i, "none")


def client_options(weather):
    options = ["--rate", weather["rate"], "--duration", weather["seconds"],
               "--clients", weather["clients"], "--timeout-ms", weather["timeout_ms"],
               "--connect-timeout-ms", weather["connect_timeout_ms"],
               "--retry", weather["retry"], "--retry-delay-ms", weather["retry_delay_ms"],
               "--retry-cap-ms", weather["retry_cap_ms"],
               "--max-attempts", weather["max_attempts"], "--paths", weather["paths"],
               "--post-share", weather["post_share"], "--post-bytes", weather["post_bytes"],
               "--pollers", weather["pollers"], "--poll-interval-ms", weather["poll_interval_ms"],
               "--seed", weather["seed"]]
    return options + ["--keep-alive"] * weather["keep_alive"] + \
        ["--retry-posts"] * weather["retry_posts"]


def lab_of(weather, bin_dir, agent_zone):
    far = {int(i): delay_ms for i, delay_ms in weather["far_ms"].items()}
    zones = {i: FAR if i in far else NEAR for i in range(1, weather["backends"] + 1)} if far else {}
    return Lab(weather["backends"], bin_dir, service_time_ms=weather["service_time_ms"],
               distribution=weather["distribution"], sigma=weather["sigma"],
               concurrency=weather["concurrency"], queue=weather["queue"], seed=weather["seed"],
               family=weather["family"], zones=zones, agent_zone=NEAR if agent_zone else None,
               backend_extra={i: ["--added-delay-ms", str(ms)] for i, ms in far.items()})


def summary_of(client, ending):
    """What the client says once its last request has ended."""
    deadline = time.monotonic() + FINISH_S
    while True:
        try:
            summary = json.loads(client.communicate(timeout=POLL_S)[0])
            break
        except subprocess.TimeoutExpired:
            pause(ending, 0)
            if time.monotonic() > deadline:
                raise LabError(f"the client went on {FINISH_S:.0f} s after its time") from None
        except ValueError:
            raise LabError(f"the client ended with {client.returncode} and no summary") from None
    if client.returncode != 0:
        raise LabError(f"the client ended with {client.returncode}")
    return summary


def await_capture(lab, capture, partial, ending):
    """Until it has seen some ticks: a row has the features of the tick before it, or is lost."""
    deadline = time.monotonic() + 10
    ticks = None
    while ticks is None or lab.status()["loop"]["ticks"] < ticks + LEAD_TICKS:
        if ticks is None and partial.exists():
            ticks = lab.status()["loop"]["ticks"]
        if capture.poll() is not None or time.monotonic() > deadline:
            raise LabError("the capture did not begin: " +
                           (lab.run_dir / "capture.log").read_text(encoding="utf-8").strip())
        pause(ending, POLL_S / 2)


def play(weather, bin_dir, partial, ending, agent_zone):
    """The run itself; its capture is in `partial` then. Returns what the client says."""
    with lab_of(weather, bin_dir, agent_zone) as lab:
        pause(ending, 0)
        lab.start_agent("neutral")
        capture = lab.spawn("lb", lab.bin / "petrel", "capture", "-s", lab.socket, "-o", partial,
                            "--what", "rows,replay", "--run", weather["run"], log="capture.log")
        await_capture(lab, capture, partial, ending)
        client = lab.start_client(*client_options(weather), stderr=subprocess.DEVNULL)
        play_faults(lab, weather, time.monotonic(), ending)
        summary = summary_of(client, ending)
        pause(ending, FLUSH_S)
        for what, process in (("agent", lab.agent), ("capture", capture)):
            if process.poll() is not None:
                raise LabError(f"the {what} ended by itself, with {process.returncode}: " +
                               (lab.run_dir / f"{what}.log").read_text(encoding="utf-8").strip())
        stop(capture, seconds=30)
        if capture.returncode != 0:
            raise LabError(f"the capture ended with {capture.returncode}")
    return summary


def counts_of(capture):
    """Rows by decision point, how many were retried, retries that were told as such (to be held
    against the client's own count), and what was lost, by place."""
    address = f"{capture.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
        points = dict(database.execute("SELECT point, COUNT(*) FROM rows GROUP BY point"))
        retried = database.execute("SELECT COALESCE(SUM(retried), 0) FROM rows").fetchone()[0]
        told = dict(database.execute("SELECT type, COUNT(*) FROM events GROUP BY type"))
        losses = dict(database.execute("SELECT place, SUM(lost) FROM losses GROUP BY place"))
    return {"rows": sum(points.values()), "retried": retried, "points": points,
            "labelled_retries": told.get(RETRY, 0) - told.get(NO_RETRY, 0), "losses": losses}


def remove_remains(directory, name):
    for remains in directory.glob(f"{name}.part*"):
        remains.unlink()


def make_run(weather, bin_dir, directory, ending, petrel=None, agent_zone=False):
    """Makes a run and returns its entry in the manifest. `petrel`: which one makes it."""
    begun = time.monotonic()
    output = directory / f"{weather['run']}.db"
    # By process: a capture that outlives a killed one by a moment writes into none of ours.
    partial = output.with_suffix(f".part{os.getpid()}")
    facts = output.with_suffix(".json")
    facts.unlink(missing_ok=True)
    remove_remains(directory, weather["run"])
    try:
        summary = play(weather, bin_dir, partial, ending, agent_zone)
        counts = counts_of(partial)
        if counts["rows"] == 0:
            raise LabError("the capture has no rows")
    except BaseException:
        remove_remains(directory, weather["run"])
        raise
    os.replace(partial, output)
    entry = {"run": weather["run"], "seed": weather["seed"], "faults": kinds_of(weather),
             "petrel": petrel, **counts, "wall_s": round(time.monotonic() - begun, 1),
             "bytes": output.stat().st_size, "weather": weather, "client": summary}
    write_whole(facts, entry)
    return entry


def finished(directory, name):
    """The entry of a run that is there, or None."""
    facts = directory / f"{name}.json"
    if not facts.exists() or not (directory / f"{name}.db").exists():
        return None
    try:
        entry = json.loads(facts.read_text(encoding="utf-8"))
        if isinstance(entry, dict) and "weather" in entry and "rows" in entry:
            return entry
    except ValueError:
        pass
    raise ValueError(f"{facts}: expected the facts of a run (run, weather, rows, ...), found "
                     "something else")
