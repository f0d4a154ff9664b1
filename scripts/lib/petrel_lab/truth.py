# SPDX-License-Identifier: MIT
"""What clients did, by their own logs: each attempt, whose it was and whether it was a retry."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One attempt of one request. Times: CLOCK_MONOTONIC."""
    user: str           # whose: figures are resampled by it
    request: str        # unique within a run
    number: int         # 1 = first attempt, more = a retry
    start_ns: int
    end_ns: int
    address: str = ""   # source as the balancer sees it; empty: another one, behind NAT
    port: int = 0       # source port as the client has it; 0: its log does not tell
    reused: bool = False  # on a connection that had a request before
    kind: str = "user"
    sent: bool = True   # False: its client could not even open a socket

    @property
    def is_retry(self):
        return self.number > 1


def read_traffic_log(path, behind_nat=False):
    """Attempts of petrel-traffic client --log."""
    attempts = []
    with open(path, encoding="utf-8") as lines:
        for text in lines:
            line = json.loads(text)
            if "attempt" not in line:
                continue
            attempts.append(Attempt(
                user=line["client"], request=str(line["request"]), number=line["attempt"],
                start_ns=line["start_ns"], end_ns=line["end_ns"],
                address="" if behind_nat else line["client"], port=line["port"],
                reused=line["reused"], kind=line["kind"], sent=line["port"] != 0))
    return attempts
