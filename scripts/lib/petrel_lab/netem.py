# SPDX-License-Identifier: MIT
"""netem, the kernel's queueing discipline that loses, delays and reorders packets, on a node's link
in a lab. Run as a program inside a node, it is what `scripts/lab impair` calls.

            lb ──── eth0 of a node      out: eth0's own queue
                     └─ ifb device       in: what eth0 takes in is led through this one's queue

Both are at the node's end: a packet that XDP sends from `lb` passes no queue there.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass

EXIT_RUNTIME, EXIT_USAGE, EXIT_MISSING = 1, 2, 5
IFB = "impaired"
# More than what is under way in a lab within the longest delay: else netem itself drops.
LIMIT_PACKETS = 100000
MOST_MS = 10000
DIRECTIONS = {"in": ("in",), "out": ("out",), "both": ("in", "out")}
LACKING = "this kernel has no sch_netem; those of scripts/kernels have (docs/vm.md)"


class NetemError(RuntimeError):
    """It could not be set; the message says why. `missing`: the kernel has it not."""

    def __init__(self, text, missing=False):
        super().__init__(text)
        self.missing = missing


def lacking():
    """Why there is no netem here; None where there is, or where only root could tell."""
    if os.geteuid() != 0:
        return None
    # In a namespace of its own, which is gone with it. Where it is a module, this loads it.
    done = subprocess.run(["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem"],
                          capture_output=True, check=False)
    return None if done.returncode == 0 else LACKING


@dataclass(frozen=True)
class Impairment:
    """Of each packet of one direction."""
    loss: float = 0      # percent
    delay: float = 0     # ms
    jitter: float = 0    # ms more or less than the delay
    reorder: float = 0   # percent that overtake those before them, not being delayed

    def problem(self):
        """What of it makes no sense, or None."""
        if not (self.loss or self.delay or self.jitter or self.reorder):
            return "needs --loss, --delay or --clear"
        for name in ("loss", "reorder"):
            if not 0 <= getattr(self, name) <= 100:
                return f"--{name} is 0 to 100 percent"
        for name in ("delay", "jitter"):
            if not 0 <= getattr(self, name) <= MOST_MS:
                return f"--{name} is 0 to {MOST_MS} ms"
        if (self.jitter or self.reorder) and not self.delay:
            return "--jitter and --reorder need a --delay: packets overtake those that are delayed"
        if self.jitter > self.delay:
            return "--jitter is at most --delay"
        return None

    def words(self):
        """As tc wants it."""
        words = ["netem", "limit", str(LIMIT_PACKETS)]
        if self.delay:
            words += ["delay", f"{self.delay:g}ms"]
        if self.jitter:
            words.append(f"{self.jitter:g}ms")
        if self.reorder:
            words += ["reorder", f"{self.reorder:g}%"]
        if self.loss:
            words += ["loss", f"{self.loss:g}%"]
        return " ".join(words)


def lines_in(impairment):
    """For tc -batch, once the ifb device is up."""
    return (f"qdisc add dev {IFB} root {impairment.words()}\n"
            "filter add dev eth0 ingress pref 1 matchall action mirred egress redirect "
            f"dev {IFB}\n")


def lines_out(impairment):
    return f"qdisc replace dev eth0 root {impairment.words()}\n"


class Node:
    """One in which netem is set; `enter`: what goes before a command to run inside it."""

    def __init__(self, enter=()):
        self.enter = list(enter)

    def _run(self, *argv, text=None):
        return subprocess.run([*self.enter, *argv], input=text, capture_output=True, text=True,
                              check=False)

    def _need(self, *argv, text=None):
        done = self._run(*argv, text=text)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise NetemError(said[0] if said else f"{argv[0]} ended with {done.returncode}")

    def clear(self):
        """Both directions; what is not there is no error."""
        self._run("tc", "-force", "-batch", "-",
                  text="qdisc del dev eth0 root\nfilter del dev eth0 ingress pref 1\n")
        self._run("ip", "link", "del", IFB)

    def impair(self, direction, impairment):
        """In place of what was set before, in both directions."""
        self.clear()
        try:
            if "in" in DIRECTIONS[direction]:
                self._impair_in(impairment)
            if "out" in DIRECTIONS[direction]:
                self._need("tc", "-batch", "-", text=lines_out(impairment))
        except NetemError as error:
            self.clear()
            if why := lacking():
                raise NetemError(why, missing=True) from error
            raise

    def _impair_in(self, impairment):
        # A program there (of a dsr backend, of --host-clocks) would not see what comes from the
        # ifb device.
        if "bpf" in self._run("tc", "filter", "show", "dev", "eth0", "ingress").stdout:
            raise NetemError("a program works on what this node takes in: only --direction out")
        self._run("tc", "qdisc", "add", "dev", "eth0", "clsact")
        self._need("ip", "-batch", "-", text=f"link add name {IFB} type ifb\nlink set {IFB} up\n")
        self._need("tc", "-batch", "-", text=lines_in(impairment))

    def shown(self):
        """What is in force, as tc says it, with counts."""
        text = self._run("tc", "-s", "qdisc", "show").stdout
        found = []
        for part in text.split("qdisc ")[1:]:
            if part.startswith("netem"):
                direction = "in" if f" dev {IFB} " in part else "out"
                found.append(f"{direction}: " + " ".join(part.split()))
        return found or ["nothing is impaired"]


# --- as a program -------------------------------------------------------------------------------

class Parser(argparse.ArgumentParser):
    """One line for what is wrong; the help is the shell script's."""

    def error(self, message):
        print(f"lab: impair: {message}; see lab --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def parse(argv):
    parser = Parser(prog="lab", add_help=False, allow_abbrev=False)
    parser.add_argument("--direction", choices=DIRECTIONS, default="both")
    for name in ("loss", "delay", "jitter", "reorder"):
        parser.add_argument(f"--{name}", type=float, default=0)
    parser.add_argument("--clear", action="store_true")
    options = parser.parse_args(argv)
    options.impairment = Impairment(options.loss, options.delay, options.jitter, options.reorder)
    if argv and not options.clear and (problem := options.impairment.problem()):
        parser.error(problem)
    return options


def main(argv):
    options = parse(argv)
    node = Node()
    if not argv:
        print("\n".join(node.shown()))
        return 0
    if options.clear:
        node.clear()
        return 0
    try:
        node.impair(options.direction, options.impairment)
    except NetemError as error:
        print(f"lab: impair: {error}", file=sys.stderr)
        return EXIT_MISSING if error.missing else EXIT_RUNTIME
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
