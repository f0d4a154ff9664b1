# SPDX-License-Identifier: MIT
"""scripts/train: the dataset, as far as it is not there yet, and a model trained on it.

The held-out figures mean something because whole runs are held out: no row of a run that was
trained on is tested on."""

import subprocess
import sys
from pathlib import Path

from . import dataset
from .dataset_options import Parser
from .demo_options import directory_with_programs, whole_number
from .lab import ROOT, progress


def parse(argv):
    parser = Parser(prog="train", add_help=False, allow_abbrev=False)
    parser.add_argument("--runs", type=whole_number(3, 1000), default=72)
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1)
    parser.add_argument("--jobs", type=whole_number(1, 16), default=2)
    parser.add_argument("--seconds", type=whole_number(3, 600), default=20)
    parser.add_argument("--captures", type=Path, default=ROOT / "out/dataset")
    parser.add_argument("--only-train", action="store_true")
    parser.add_argument("--output", type=Path, default=ROOT / "model/retry.json")
    parser.add_argument("--model-version", type=whole_number(1, 2**31), default=1)
    # The lab has no days: what a model made of the hour would be the hours of the capture.
    parser.add_argument("--without", default="day_sine,day_cosine")
    parser.add_argument("--bin", type=directory_with_programs)
    return parser.parse_args(argv)


def set_options(options):
    """As scripts/dataset would have been asked for the same set."""
    wanted = ["--runs", options.runs, "--seed", options.seed, "--jobs", options.jobs,
              "--seconds", options.seconds, "--output", options.captures]
    if options.bin is not None:
        wanted += ["--bin", options.bin]
    return dataset.parse([str(part) for part in wanted])


def train(options):
    if options.only_train:
        captures = sorted(options.captures.glob("*.db"))
        if not captures:
            progress(f"train: {options.captures}: expected captures (*.db), found none")
            return dataset.EXIT_INPUT
    else:
        code, manifest = dataset.collect(set_options(options))
        if code != 0:
            return code
        captures = [options.captures / f"{run['run']}.db" for run in manifest["runs"]]
    program = (options.bin or ROOT / "build/release/bin") / "petrel"
    manifest_path = options.captures / "dataset.json"
    return subprocess.run(
        [program, "train", *captures, "-o", options.output, "--seed", str(options.seed),
         "--model-version", str(options.model_version),
         *(["--without", options.without] if options.without else []),
         *(["--manifest", manifest_path] if manifest_path.exists() else [])],
        check=False).returncode


def main(argv):
    sys.argv[0] = "scripts/train"
    return dataset.guarded(train, parse(argv))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        print(parse(sys.argv[2:]).bin or "")
    else:
        sys.exit(main(sys.argv[1:]))
