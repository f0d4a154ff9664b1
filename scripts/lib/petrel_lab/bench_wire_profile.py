# SPDX-License-Identifier: MIT
"""Where the CPU goes while packets flood through petrel on veths, as far as `perf` can be had.

A veth that has XDP works otherwise than a NIC's driver does: packets come to it as sk_buffs. It
copies each into a page of its own before the program runs, and at the far end of a redirect an
sk_buff is built anew. Neither happens on a NIC whose driver has native XDP.
"""

import re
import shutil
import subprocess

# Function of the kernel: what it does to each packet. Names as of Linux 6.18; one that a kernel
# does not have is left out of the result.
VETH_WORK = {"skb_pp_cow_data": "copying each packet for XDP",
             "veth_xdp_rcv_bulk_skb": "building an sk_buff anew after the redirect"}
PROGRAM = "petrel_balancer"


def parse_report(text):
    """{function: share of all samples in it or below it}, 0 to 1."""
    shares = {}
    for line in text.splitlines():
        # "   8.54%     0.84%  [k] skb_pp_cow_data   -  -"; compilers append .isra.0 and the like.
        found = re.match(r"\s*([\d.]+)%\s+[\d.]+%\s+\[k\]\s+(\S+)", line)
        if found is None:
            continue
        name = re.sub(r"\.(isra|constprop|part)\..*", "", found[2])
        if name.startswith("bpf_prog_") and name.endswith(PROGRAM):
            name = PROGRAM
        if name in VETH_WORK or name == PROGRAM:
            shares[name] = max(shares.get(name, 0.0), float(found[1]) / 100)
    return shares


def profile(samples_path, seconds, load):
    """Runs load() with all CPUs sampled; the shares. OSError: perf is missing, or may not."""
    if shutil.which("perf") is None:
        raise OSError("perf is not installed")
    with subprocess.Popen(
            ["perf", "record", "--all-cpus", "-g", "--freq", "999", "--output", samples_path,
             "sleep", str(seconds)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as perf:
        try:
            load()
        finally:
            perf.terminate()
            perf.wait()
    done = subprocess.run(
        ["perf", "report", "--input", samples_path, "--children", "-g", "none", "--sort", "symbol"],
        capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"perf report: {done.stderr.strip()[-200:]}")
    return parse_report(done.stdout)
