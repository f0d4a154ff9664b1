# SPDX-License-Identifier: MIT
"""The policy `threshold`: n failures within t take a backend out for a while."""

import http.client
import threading
import time

from .lab import UnixConnection

FAILURES = 5      # as petrel simulate has it
WINDOW_S = 1.0
OUT_S = 5.0
PERIOD_S = 0.1    # as often as petrel decides
KINDS = ("refused", "handshake_timeouts", "resets", "abandoned", "empty", "overloads",
         "server_errors")


class Threshold:
    """The rule alone: which backends to take out, from counters of failures and the time."""

    def __init__(self):
        self.before = {}   # failures ever, by backend
        self.recent = {}   # when they came
        self.out = {}      # until when

    def step(self, counters, now_s):
        """Backends to take out now. The last one stays."""
        self.out = {name: until for name, until in self.out.items() if until > now_s}
        taken = []
        for name, count in counters.items():
            more = max(0, count - self.before.get(name, count))
            self.before[name] = count
            if name in self.out:
                self.recent[name] = []
                continue
            recent = [at for at in self.recent.get(name, []) if at > now_s - WINDOW_S]
            self.recent[name] = recent + [now_s] * min(more, FAILURES)
            if len(self.recent[name]) < FAILURES or len(self.out) + 1 >= len(counters):
                continue
            self.out[name] = now_s + OUT_S
            self.recent[name] = []
            taken.append(name)
        return taken


class ThresholdKeeper:
    """Applies the rule to a petrel in mode neutral: its XDP program counts the failures, and a weight
    of 0 by hand, which runs out, takes a backend out."""

    def __init__(self, lab):
        self.lab = lab
        self.rule = Threshold()
        self.ending = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()

    def stop(self):
        self.ending.set()
        self.thread.join()

    def _run(self):
        due = time.monotonic()
        while not self.ending.wait(max(0.0, due - time.monotonic())):
            due += PERIOD_S
            try:
                service = self.lab.status()["services"][0]
                counters = {backend["name"]: sum(backend["wire"][kind] for kind in KINDS)
                            for backend in service["backends"]}
                for name in self.rule.step(counters, time.monotonic()):
                    if not self._take_out(service["name"], name):
                        del self.rule.out[name]
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                if not self.ending.is_set():
                    self.failure = f"threshold: {error}"
                return

    def _take_out(self, service, backend):
        connection = UnixConnection(self.lab.socket)
        try:
            connection.request("POST", f"/v1/weight?service={service}&backend={backend}"
                                       f"&percent=0&for_s={OUT_S:g}&by=compare&reason=threshold")
            answer = connection.getresponse()
            # Refused where it is the last one: an earlier one's time is over for us, not yet there.
            return answer.status == 200
        finally:
            connection.close()
