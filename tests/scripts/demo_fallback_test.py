#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""When scripts/demo simulates: not for what this host's own configuration lacks."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "scripts/demo"

CONFIGURATION = """\
  interface.exists      to-b1      there is none of this name
      -> the agent does not start: see agent.interfaces and `ip link`
  bpf.bpffs             -          /sys/fs/bpf/petrel is not on one
"""
KERNEL = """\
  kernel.btf            -          /sys/kernel/btf/vmlinux cannot be read
      -> programs are not fitted to this kernel
"""
DEGRADED = """
DEGRADED
  bpf.jit               -          off

1 fatal, 1 degraded, 8 good
"""


def why_not(output, code):
    """What the function of that name in the script says of a petrel that checks like this."""
    with tempfile.TemporaryDirectory() as folder:
        petrel = Path(folder) / "petrel"
        petrel.write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\nexit {code}\n", encoding="utf-8")
        petrel.chmod(0o755)
        script = 'exit_missing=5; eval "$(sed -n "/^why_not()/,/^}/p" "$DEMO")"; why_not "$FAKE"'
        return subprocess.run(["bash", "-euc", script], check=True, capture_output=True, text=True,
                              env={**os.environ, "DEMO": str(DEMO), "FAKE": folder}).stdout.strip()


class Fallback(unittest.TestCase):
    def test_a_host_without_btf_simulates(self):
        self.assertEqual(why_not("FATAL\n" + CONFIGURATION + KERNEL + DEGRADED, 5),
                         "The lab cannot be had here: "
                         "kernel.btf - /sys/kernel/btf/vmlinux cannot be read.")

    def test_an_installed_configuration_without_its_interfaces_does_not(self):
        self.assertEqual(why_not("FATAL\n" + CONFIGURATION + DEGRADED, 5), "")

    def test_what_is_degraded_does_not(self):
        self.assertEqual(why_not(DEGRADED, 4), "")


if __name__ == "__main__":
    unittest.main()
