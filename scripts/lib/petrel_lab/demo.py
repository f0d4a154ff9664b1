# SPDX-License-Identifier: MIT
"""scripts/demo once the programs are built: runs the policies and shows what came of them."""

import json
import signal
import sys

from . import chart, facts
from .demo_hold import command_lines, hold
from .demo_options import FAULTS, parse
from .demo_run import MODES, Run, run_policy
from .lab import ROOT, Lab, LabError

EXIT_RUNTIME = 1
EXIT_INPUT = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

NOTES = [
    "fault times are those of the order; the backend follows some ms later",
    "moved_90_ms: the agent's counters are of its ticks (100 ms), seen within 50 ms; the figure is "
    "the beginning of the first window of two ticks in which the faulty backend got under a tenth",
    "recovered_ms: steps of 50 ms; goodput is requests served for each that arrived, over 500 ms "
    "(longer at low rates), and must stay back for 1 s",
    "backend_amplification: new connections the balancer sent to backends, for each request",
    "weights are ring shares at the end of the second; `connections` are the shares of the new "
    "connections within it",
]


def end_on(_signal, _frame):
    raise SystemExit(EXIT_TERMINATED)


def interrupt_once(_signal, _frame):
    """The first Ctrl-C ends the demo; further ones must not end the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def results(options, header, runs):
    """The result file: the shape is fixed by the project, keys may be added."""
    none = Run(None, [], None, [])
    found = {policy: runs.get(policy, none) for policy in MODES}
    header["notes"] += NOTES
    for policy, run in found.items():
        if run is none:
            header["notes"].append(f"{policy} is null: it was not run (--policy)")
        header["notes"] += run.notes
    return {
        "schema": "petrel/demo/v1",
        **header,
        "fault": options.fault,
        "fault_parameters": FAULTS[options.fault],
        "faulty": f"b{options.faulty}",
        "rate": options.rate,
        "backends": options.backends,
        "seconds": options.seconds,
        "ip_version": 6 if options.ipv6 else 4,
        "model": str(options.model) if options.model.exists() else None,
        **{policy: run.outcome for policy, run in found.items()},
        "timeline": [row for run in found.values() for row in run.rows],
        "runs": {policy: run.details for policy, run in found.items()},
    }


def show(options, outcome, style):
    """Prints the table, and a timeline for each policy."""
    print()
    fault = options.fault if options.fault != "none" else "no fault"
    print(style.bold(f"{fault}: {options.rate} requests/s for {options.seconds} s, "
                     f"{options.backends} backends"))
    print("\n".join(chart.outcome_table(outcome, style)))
    shares = [max(row["weights"].values()) for row in outcome["timeline"] if row["weights"]]
    for policy in options.policies:
        rows = [row for row in outcome["timeline"] if row["policy"] == policy]
        print(f"\n{style.bold(policy)}: each backend's weight at the end of the second")
        print("\n".join(chart.timeline_table(rows, options.fault, outcome["faulty"],
                                             max(shares, default=1), style)))
    for policy in options.policies:
        late_ms = outcome["runs"][policy]["client"]["late_start_p99_ms"]
        # Later than a request takes: the figures would then show this machine, not the policy.
        if late_ms is not None and late_ms > 10:
            print(f"\n{policy}: requests started up to {late_ms:.0f} ms late (p99): this machine "
                  "was too busy for figures of ms")
    sys.stdout.flush()


def show_commands(lab, options, style):
    live = "on the live lab, from another terminal" if options.hold else \
        "with --hold, which keeps the lab up (its names differ each time)"
    print(f"\nTo try {live}:")
    print("\n".join(command_lines(lab, options.faulty, style)), flush=True)


def run_all(options, progress):
    """Runs each policy in a lab of its own; shows and holds while the last one is up."""
    bin_dir = options.bin or ROOT / "build/release/bin"
    header = facts.header(bin_dir, options.seed)
    style = chart.Style(sys.stdout, options.no_color)
    model = options.model if options.model.exists() else None
    runs = {}
    for policy in options.policies:
        last = policy == options.policies[-1]
        progress.say(f"{policy}: raising a lab of {options.backends} backends")
        with Lab(options.backends, bin_dir, seed=options.seed,
                 family=6 if options.ipv6 else 4) as lab:
            lab.start_agent(MODES[policy], model)
            runs[policy] = run_policy(lab, options, policy, progress)
            if not last:
                continue
            outcome = results(options, header, runs)
            if options.json:
                options.json.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
            show(options, outcome, style)
            show_commands(lab, options, style)
            if options.hold:
                progress.say("\nTraffic goes on; Ctrl-C ends it and removes the lab.")
                hold(lab, options)


def main():
    signal.signal(signal.SIGINT, interrupt_once)
    signal.signal(signal.SIGTERM, end_on)
    signal.signal(signal.SIGHUP, end_on)
    sys.argv[0] = "scripts/demo"  # what result files say was run
    options = parse(sys.argv[1:])
    progress = chart.Progress(sys.stderr)
    if "petrel" in options.policies and not options.model.exists():
        progress.say(f"demo: cannot run petrel: there is no model {options.model}: give one by "
                     "--model, or choose --policy static")
        return EXIT_INPUT
    try:
        run_all(options, progress)
    except (LabError, OSError) as error:
        progress.say(f"demo: {error}")
        return EXIT_RUNTIME
    except KeyboardInterrupt:
        if options.hold:
            progress.say("demo: the lab is removed")
        else:
            progress.say("demo: interrupted; the lab is removed")
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
