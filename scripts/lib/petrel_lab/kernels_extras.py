# SPDX-License-Identifier: MIT
"""What scripts/kernels --extras runs in a guest beside the tests: what developers' kernels lack.

Each extra is a module of its own with run(job, seconds) -> {"good": bool, "figures": {...},
"note": str}. `figures` may hold dicts; each entry becomes a line below the kernel's row. One that
the kernel has not what it takes for raises NotThere: that is told, and is no failure.
"""

import importlib
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

PETREL = Path("/petrel")
BIN = PETREL / "bin"
MODEL = PETREL / "model/retry.json"
OUT = Path("/tmp/results")  # what is left here comes out of the guest
CLEAN_UP_S = 60  # an extra that took too long still takes its lab down


class NotThere(Exception):
    """The kernel lacks what the extra is about; the message says what."""


@dataclass(frozen=True)
class Extra:
    module: str
    seconds: int  # that it may take, before --patience
    about: str


EXTRAS = {
    "ipvs": Extra("extra_ipvs", 400, "IPVS beside petrel: a backend hangs; and on the wire"),
    "ipip": Extra("extra_ipip", 300, "dsr backends with ipip and ip6tnl devices"),
    "fentry": Extra("extra_fentry", 300, "the socket sensor's figures against fentry's"),
    "virtio": Extra("extra_virtio", 900, "native XDP on virtio-net, the host its peer"),
    "netem": Extra("extra_netem", 400, "loss, delay and reordering on one backend's link"),
}


def need_modules(*names):
    """Loads the kernel's modules; what is built in is there already."""
    for name in names:
        done = subprocess.run(["modprobe", name], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotThere(f"this kernel has no {name}")


def names_of(text):
    """What may be typed after --extras; ValueError says what is wrong."""
    names = list(EXTRAS) if text == "all" else [name for name in text.split(",") if name]
    for name in names:
        if name not in EXTRAS:
            raise ValueError(f"is all, or of {', '.join(EXTRAS)}, not '{name}'")
    if not names:
        raise ValueError("names nothing")
    return list(dict.fromkeys(names))


def _too_late(_signal, _frame):
    raise TimeoutError("it did not end in time")


def run(name, job, seconds):
    """One extra, ended when its time is over; its result, whatever happens."""
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(seconds)
    try:
        module = importlib.import_module(f".{EXTRAS[name].module}", __package__)
        return module.run(job, seconds)
    except NotThere as error:
        return {"good": None, "figures": {}, "note": str(error)}
    except Exception as error:  # pylint: disable=broad-exception-caught
        return {"good": False, "figures": {}, "note": f"{type(error).__name__}: {error}"}
    finally:
        signal.alarm(0)


def _shown(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def lines_of(name, found):
    """An extra's result as lines."""
    state = {None: "not there", True: "good"}.get(found.get("good", False), "FAILED")
    note = f": {found['note']}" if found.get("note") else ""
    figures = found.get("figures", {}).items()
    return [f"    {name}: {state}{note}",
            *(f"        {label}: {_shown(value)}" for label, value in figures)]
