# SPDX-License-Identifier: MIT
"""What petrel said of each request: the `requests` of a capture (docs/capture.md), as far as the
label is concerned. All that knows how a capture is stored is here."""

import ipaddress
import sqlite3
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Record:
    """One request, or one connection attempt that never had a request. Times: CLOCK_MONOTONIC."""
    client: str         # address, as the balancer saw it
    client_port: int
    syn_ns: int         # names the connection, with the port
    request_ns: int     # first byte of the request; 0: none came
    request: int        # which of its connection, from 1; 0: none came
    attempt: int        # the label: 1 = first attempt, more = a retry
    evidence: int       # enum label_evidence
    confidence: float   # 0 to 1
    failure: str
    previous_failure: str

    @property
    def begin_ns(self):
        """When the attempt began: a connection's first one with its SYN."""
        return self.request_ns if self.request > 1 else self.syn_ns

    @property
    def is_retry(self):
        return self.attempt > 1


def plain(address):
    """10.1.0.2 for ::ffff:10.1.0.2; one spelling for each IPv6 address."""
    parsed = ipaddress.ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


COLUMNS = ("client", "client_port", "syn_ns", "request_ns", "request", "attempt", "evidence",
           "confidence", "failure", "previous_failure")


# A label is withdrawn when a later request is likelier the retry; a request's row may be written by
# then. What was withdrawn before that is in the row itself.
WITHDRAWN = """EXISTS (SELECT 1 FROM withdrawn AS w
    WHERE w.syn_ns = r.syn_ns AND w.client = r.client AND w.client_port = r.client_port
      AND w.request = MAX(r.request, 1) AND w.time_ns >= r.time_ns)"""


def read_labels(path):
    """All records of a capture, in the order in which their attempts began."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        names = ", ".join(f"r.{name}" for name in COLUMNS)
        rows = connection.execute(f"SELECT {WITHDRAWN}, {names} FROM requests AS r").fetchall()
    finally:
        connection.close()
    records = [Record(plain(row[1]), *row[2:]) for row in rows]
    records = [replace(record, attempt=1) if row[0] else record
               for row, record in zip(rows, records)]
    return sorted(records, key=lambda record: record.begin_ns)


def count_lost(path):
    """Events and records that should be in the capture and are not."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT COALESCE(SUM(lost), 0) FROM losses").fetchone()[0]
    finally:
        connection.close()
