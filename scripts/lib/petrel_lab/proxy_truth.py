# SPDX-License-Identifier: MIT
"""What a proxy did for each request: its own log says how many tries it made, a capture of its
packets says on which connections.

A try that sent its request is found by the request's id; one whose connection failed first carried
nothing, and is the first connection without a request to begin once the try before it had ended.
"""

from collections import defaultdict

from .truth import Attempt

# How long a proxy may take to begin a try, on a loaded machine. It takes one thing after the other,
# so the first that begins is the one.
MOST_DELAY_NS = 250_000_000
CLOCK_SLACK_NS = 1_000_000
CONNECT_TIMEOUT_NS = 600_000_000


class Try:
    """One use of a connection."""

    def __init__(self, connection, index):
        self.connection = connection
        self.index = index  # which request of it, from 0; -1: it never had one
        self.reused = index > 0
        self.start_ns = connection.requests[index][0] if self.reused else connection.syn_ns
        ends = [connection.end_ns or self.start_ns + CONNECT_TIMEOUT_NS]
        if index >= 0:
            ends += [at for at in (connection.answered_ns[index],) if at]
            ends += [at for at, _ in connection.requests[index + 1:index + 2]]
        self.end_ns = max(min(ends), self.start_ns)


def tries_of(connections):
    """Those with a request by its id, in order, and those without, in the order of their SYNs."""
    named, bare = defaultdict(list), []
    for connection in connections:
        for index, (_, request) in enumerate(connection.requests):
            named[request].append(Try(connection, index))
        if not connection.requests:
            bare.append(Try(connection, -1))
    for tries in named.values():
        tries.sort(key=lambda one: one.start_ns)
    return named, bare


def first_bare(bare, at_ns, before_ns):
    """The first connection without a request that begins from at_ns on, before the next try does."""
    for one in bare:
        since_ns = one.start_ns - at_ns
        if since_ns > MOST_DELAY_NS or (before_ns is not None and one.start_ns >= before_ns):
            return None
        if since_ns >= -CLOCK_SLACK_NS:
            return one
    return None


def follow(begin_ns, count, named, bare):
    """The tries of a request in order; connections taken leave `bare`. May find fewer than count."""
    tries, at_ns, named = [], begin_ns, list(named)
    while len(tries) < count:
        upcoming = named[0].start_ns if named else None
        found = None
        if count - len(tries) > len(named):
            found = first_bare(bare, at_ns, upcoming)
        if found is not None:
            bare.remove(found)
        elif named:
            found = named.pop(0)
        else:
            break
        tries.append(found)
        at_ns = found.end_ns
    return tries


def attempts_of(users, counts, connections, to_monotonic_ns):
    """`users`: attempts of those who asked the proxy, each a request; `counts`: request id to how
    many tries the proxy's log tells of; times of `connections` plus to_monotonic_ns are ours."""
    named, bare = tries_of(connections)
    attempts, lost = [], 0
    for user in sorted(users, key=lambda one: one.start_ns):
        count = counts.get(user.request, 0)
        tries = follow(user.start_ns - to_monotonic_ns, count, named[user.request], bare)
        lost += count - len(tries)
        for number, one in enumerate(tries, 1):
            attempts.append(Attempt(
                user=user.user, request=user.request, number=number,
                start_ns=one.start_ns + to_monotonic_ns, end_ns=one.end_ns + to_monotonic_ns,
                address=one.connection.address, port=one.connection.port, reused=one.reused))
    return attempts, lost
