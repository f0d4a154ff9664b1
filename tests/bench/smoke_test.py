#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs both benchmarks for as short as they can, and sees that every figure is there. What the
figures are depends on the machine and is not tested.

smoke_test.py DIRECTORY-OF-PROGRAMS; ends with 77 where it cannot run."""

import json
import os
import subprocess
import sys

PACKETS = {"empty_ns", "lru_hot_ns", "not_ours_ns", "established_hot_ns", "established_100k_ns",
           "reply_hot_ns", "syn_ns", "syn_flood_ns", "shed_ns", "steered_ns", "dsr_hot_ns",
           "sensor_ns", "score_ns", "score_features_ns"}
PROGRAM = {"name", "instructions", "jited_bytes", "stack_bytes", "stack_bytes_counted",
           "verified_instructions"}
STACK_BYTES = 512  # the most that a kernel allows a chain of calls
RING = {"backends", "slots", "build_ms", "publish_ms", "balance_error", "churn_reweigh",
        "churn_leave"}
EXIT_SKIPPED = 77


def output_of(directory, program, *arguments):
    done = subprocess.run([os.path.join(directory, program), *arguments], check=True, text=True,
                          stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def missing(figures, keys):
    return sorted(key for key in keys if figures.get(key) is None)


def main(directory):
    if os.geteuid() != 0:
        print("SKIPPED, nothing was tested: needs root to load BPF programs")
        return EXIT_SKIPPED
    found = output_of(directory, "petrel-bench-packets", "--rounds", "1", "--runs", "1",
                      "--flows", "2000")
    problems = [f"packets: no {key}" for key in missing(found["packets"], PACKETS)]
    for program in found["programs"]:
        problems += [f"{program.get('name')}: no {key}" for key in missing(program, PROGRAM)]
        if (program.get("stack_bytes_counted") or 0) > STACK_BYTES:
            problems.append(f"{program['name']}: Linux 6.1 counts "
                            f"{program['stack_bytes_counted']} bytes of stack and refuses it")
    if not any(program["name"] == "petrel_balancer" for program in found["programs"]):
        problems.append("programs: no petrel_balancer")
    if problems:
        problems += found["notes"]
    ring = output_of(directory, "petrel-bench-ring", "--seconds", "0")
    problems += [f"ring of {row['backends']}: no {key}"
                 for row in ring["ring"] for key in missing(row, RING)]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
