# SPDX-License-Identifier: MIT
"""Joins what clients did with what petrel said of it: which record is which attempt.

An attempt's record begins while the attempt lasts, on its port where the log tells it, and from its
address where no NAT stands between. First by port; what is left (a NAT took another port, the log
has none) by time alone, where the nearest wins. Each record is joined to at most one attempt.
"""

import itertools
from collections import defaultdict
from dataclasses import dataclass

# The clocks are one, but a log's time may be rounded to this.
CLOCK_SLACK_NS = 1_000_000
# By time, a record may begin at most so long after its attempt did: by time alone, and where the
# address is known as well.
MOST_DELAY_NS = 20_000_000
MOST_DELAY_AT_ADDRESS_NS = 1_000_000_000


@dataclass
class Joined:
    pairs: list             # (attempt, record)
    attempts_left: list     # attempts that no record tells of
    records_left: list      # records of no attempt
    lost: int = 0           # records that the capture knows it has lost


def may_be(attempt, record):
    """Whether the record can tell of the attempt, ports aside."""
    return (attempt.sent and (record.request > 1) == attempt.reused
            and (not attempt.address or attempt.address == record.client)
            and attempt.start_ns - CLOCK_SLACK_NS <= record.begin_ns
            <= attempt.end_ns + CLOCK_SLACK_NS)


def candidates_by_port(attempts, records):
    by_port = defaultdict(list)
    for record in records:
        by_port[record.client_port].append(record)
    for attempt in attempts:
        if attempt.port:
            for record in by_port[attempt.port]:
                if may_be(attempt, record):
                    yield abs(record.begin_ns - attempt.start_ns), attempt, record


def candidates_by_time(attempts, records, nat):
    """Both ascend in time. Where an address is seen, its port is what the log says."""
    begin = 0
    for attempt in attempts:
        if attempt.port and not nat:
            continue
        while begin < len(records) and \
                records[begin].begin_ns < attempt.start_ns - CLOCK_SLACK_NS:
            begin += 1
        most_ns = MOST_DELAY_AT_ADDRESS_NS if attempt.address else MOST_DELAY_NS
        for record in itertools.islice(records, begin, None):
            if record.begin_ns > attempt.start_ns + most_ns:
                break
            if may_be(attempt, record):
                yield abs(record.begin_ns - attempt.start_ns), attempt, record


def take_nearest(candidates, joined):
    """Pairs, nearest first; each attempt and record once. `joined`: ids taken, added to."""
    pairs = []
    for _, attempt, record in sorted(candidates, key=lambda found: found[0]):
        if id(attempt) not in joined and id(record) not in joined:
            joined.update((id(attempt), id(record)))
            pairs.append((attempt, record))
    return pairs


def join(attempts, records, nat=False):
    attempts = sorted(attempts, key=lambda attempt: attempt.start_ns)
    records = sorted(records, key=lambda record: record.begin_ns)
    joined = set()
    pairs = take_nearest(candidates_by_port(attempts, records), joined)
    attempts_left = [attempt for attempt in attempts if id(attempt) not in joined]
    records_left = [record for record in records if id(record) not in joined]
    pairs += take_nearest(candidates_by_time(attempts_left, records_left, nat), joined)
    return Joined(pairs,
                  [attempt for attempt in attempts_left if id(attempt) not in joined],
                  [record for record in records_left if id(record) not in joined])
