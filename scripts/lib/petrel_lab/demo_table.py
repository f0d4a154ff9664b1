# SPDX-License-Identifier: MIT
"""Result files of scripts/demo as one Markdown table: what docs/demo.md shows.

PYTHONPATH=scripts/lib python3 -m petrel_lab.demo_table out/demo/*.json
"""

import json
import sys


def figure(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def row(path):
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    before, after = result["static"], result["petrel"]
    pairs = [("first_attempt_failures", 0), ("retries", 0), ("never_served", 0), ("p99_ms", 0),
             ("p999_ms", 0), ("backend_amplification", 3)]
    cells = [f"{figure(before[key], digits)} → {figure(after[key], digits)}"
             for key, digits in pairs]
    cells.append(figure(after["moved_90_ms"]))
    return f"| `{result['fault']}` | {figure(before['requests'])} | " + " | ".join(cells) + " |"


def main(paths):
    print("| fault | requests | first attempts failed | retries | never served | p99 ms | "
          "p99.9 ms | amplification at backends | moved 90 % in ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for path in paths:
        print(row(path))


if __name__ == "__main__":
    main(sys.argv[1:])
