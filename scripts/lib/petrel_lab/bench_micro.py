# SPDX-License-Identifier: MIT
"""scripts/bench --packets and --ring, once the programs are built: runs them, shows their figures
and writes the result file."""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys

from . import bench_tables, facts
from .bench_options import PROGRAMS, parse

EXIT_RUNTIME = 1
EXIT_WARNINGS = 4
EXIT_INTERRUPTED = 130

# Of the streams of packets: those that draw flows at random start from it.
STREAM_SEED = 0x9e3779b9

NOTES = {
    "packets": [
        "a figure is the median of interleaved samples; a sample is the shortest of 5 short runs "
        "less the shortest of as many of the driver with an empty program, both of the same rounds "
        "and on one core; `spread` has the quartiles of the samples",
        "each packet is restored from a template and gets its flow's address before the program "
        "sees it, so it is in the first-level cache; redirects are decided, not carried out",
        "dsr_hot and shed change a packet's length, which the driver undoes: its part is taken as "
        "half of what growing (cutting) and undoing cost together",
        "syn: of 8,192 new flows into an empty half-open table of 65,536; syn_flood: 16.7 million "
        "addresses in turn, into a full one; steered and shed: 8,192 clients in turn",
        "established packets carry 64 bytes each, the next of their stream; established_100k: any "
        "of 100,000 flows at random",
        "sensor_ns: established_hot less established_bare, which is the same without wire sensor",
        "stack_bytes: of a program's deepest chain of calls",
    ],
    "ring": [
        "equal backends; CPU time of one core, medians; publish_ms: each slot of one ring stored "
        "into the map; publish_changes_ms: only those that one backend at 0.9 of its weight moves",
        "churn is the worst of up to 10 backends: churn_leave: its weight goes to 0; "
        "churn_removal: it is taken out of the configuration, and the ring in force goes to the "
        "new neutral ring",
    ],
}


def run_part(options, part):
    """One program's JSON; CalledProcessError where it fails: it has said why on stderr."""
    print(f"bench: measuring: {part}, about {options.seconds} s", file=sys.stderr)
    done = subprocess.run([str(options.bin / PROGRAMS[part]), "--seconds", str(options.seconds)],
                          stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def header():
    """As facts.header(), without petrel itself: it need not be built. The version is still open."""
    return {
        "schema": "petrel/bench/v1",
        "petrel": {"version": None, "commit": facts._run("git", "rev-parse", "HEAD"),
                   "changed": bool(facts._run("git", "--no-optional-locks", "status",
                                             "--porcelain"))},
        "host": {"kernel": platform.release(), "cpu": facts._cpu_model(),
                 "cores": os.cpu_count(), "load_1min": os.getloadavg()[0]},
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seed": STREAM_SEED,
        "command": " ".join(shlex.quote(part) for part in sys.argv),
        "notes": [],
    }


def measure(options):
    result = header()
    missing = []
    for part in options.parts:
        figures = run_part(options, part)
        result["petrel"]["version"] = figures.pop("version")
        found = figures.pop("notes")
        missing += found
        result["notes"] += NOTES[part] + found
        result.update(figures)
    return result, missing


def main(argv):
    options = parse(argv)
    try:
        result, missing = measure(options)
    except subprocess.CalledProcessError as failure:
        return EXIT_RUNTIME if failure.returncode > 0 else EXIT_INTERRUPTED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print("\n\n".join("\n".join(lines) for lines in bench_tables.tables(result)))
    for note in missing:
        print(f"bench: {note}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return EXIT_WARNINGS if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
