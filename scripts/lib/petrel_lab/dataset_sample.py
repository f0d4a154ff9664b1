# SPDX-License-Identifier: MIT
"""The small committed sample of the dataset: rows of a few runs as CSV, by whole connections.

The same captures give the same sample: runs are chosen by their faults and names, connections by
a hash of run and connection, so that none is favoured and each has all of its rows."""

import csv
import hashlib
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from .lab import LabError, progress

# One run of each: what clients wait for, what breaks at once, what is answered badly.
WANTED = (("hang", "blackhole", "slow"), ("refuse", "reset"), ("errors",))
MOST_BYTES = 120_000  # of each run


def choose(entries):
    """Of each wanted sort the run with one kind of fault, clients that do retry and nothing lost,
    of whose rows the share that was retried is nearest to a tenth: one without any shows little."""
    chosen = []
    for kinds in WANTED:
        fit = [e for e in entries if len(e["faults"]) == 1 and e["faults"][0] in kinds
               and e["weather"]["retry"] != "none" and e["retried"] > 0 and not e["losses"]]
        if not fit:
            raise ValueError(f"no run with {' or '.join(kinds)} alone, retries, and no losses")
        chosen.append(min(fit, key=lambda e: (abs(e["retried"] / e["rows"] - 0.1), e["run"])))
    return chosen


def read_rows(program, capture):
    """The header's line, and for each connection its rows' (number, line)."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rows.csv"
        done = subprocess.run([program, "export", capture, "-o", table, "--table", "rows"],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"export {capture}: {done.stderr.strip()}")
        header, *lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    place = next(csv.reader([header])).index("connection")
    connections = defaultdict(list)
    for number, line in enumerate(lines):
        connections[next(csv.reader([line]))[place]].append((number, line))
    return header, connections


def subsample(run, connections, most_bytes):
    """Lines of whole connections, in their order, of no more bytes than that."""
    order = sorted(connections, key=lambda connection: (
        hashlib.sha256(f"{run}/{connection}".encode()).digest(), connection))
    kept, size = [], 0
    for connection in order:
        needed = sum(len(line) for _, line in connections[connection])
        if size + needed > most_bytes:
            break
        kept += connections[connection]
        size += needed
    return [line for _, line in sorted(kept)]


def write(directory, target, bin_dir):
    """Writes target/RUN.csv of each chosen run; exit code."""
    manifest = directory / "dataset.json"
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))["runs"]
        chosen = choose(entries)
    except FileNotFoundError:
        progress(f"dataset: {manifest}: expected the manifest of a set, found no file: make one "
                 "first, by scripts/dataset without --sample")
        return 3
    except (ValueError, KeyError, TypeError) as error:
        progress(f"dataset: {manifest}: {error}")
        return 3
    target.mkdir(parents=True, exist_ok=True)
    texts = {}
    for entry in chosen:
        header, connections = read_rows(bin_dir / "petrel", directory / f"{entry['run']}.db")
        lines = subsample(entry["run"], connections, MOST_BYTES)
        texts[f"{entry['run']}.csv"] = header + "".join(lines)
        progress(f"  {entry['run']} ({entry['faults'][0]}): {len(lines):,} of {entry['rows']:,} "
                 "rows")
    for old in target.glob("*.csv"):
        old.unlink()
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
    progress(f"dataset: {sum(map(len, texts.values())):,} bytes in {target}")
    return 0
