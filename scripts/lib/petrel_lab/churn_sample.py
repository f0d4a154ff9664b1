# SPDX-License-Identifier: MIT
"""What scripts/churn reads of a running agent: its process, its maps, and what it says itself.

The maps are read beside the agent, so that what it says can be held against them."""

import contextlib
import os
import subprocess
import time
from array import array
from pathlib import Path

from .bpf_map import Map, layout, possible_cpus
from .lab import BACKEND_PORT, SERVICE_PORT, LabError

# bpf/enums.h
WAITING = 1 << 0
WAITING_SYN = 1 << 1
ESTABLISHED = 3
WAITING_SLOTS = 512
# The audit has large tables for some ms every 5 s; the lowest of some readings has none of them.
RSS_READINGS = 6
RSS_PAUSE_S = 0.01
LOSSES = ("events_lost", "records_lost", "half_open_evicted", "table_full", "adopted", "evicted",
          "waits_leaked")
ENDS = ("status_2xx", "refused", "masked", "handshake_timeouts", "failovers", "resets", "abandoned",
        "empty", "overloads", "server_errors", "client_resets", "closes")


def memory_of(pid):
    """VmRSS and RssAnon in KiB: the lowest of some readings."""
    found = []
    for reading in range(RSS_READINGS):
        if reading:
            time.sleep(RSS_PAUSE_S)
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status if ":" in line)
        found.append([int(fields[name].split()[0]) for name in ("VmRSS", "RssAnon")])
    return [min(of) for of in zip(*found)]


def descriptors_of(pid):
    """How many there are, and the KiB of kernel memory of the maps and programs among them."""
    maps, programs = {}, {}
    names = os.listdir(f"/proc/{pid}/fdinfo")
    for name in names:
        try:
            text = Path(f"/proc/{pid}/fdinfo/{name}").read_text(encoding="ascii")
        except OSError:
            continue  # closed by now
        facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        if "memlock" not in facts:
            continue
        kind, key = (maps, "map_id") if "map_id" in facts else (programs, "prog_id")
        kind[facts.get(key)] = int(facts["memlock"])
    return len(names), sum(maps.values()) // 1024, sum(programs.values()) // 1024


class Flow:
    """Where what is needed lies in a table's values, which are `stride` bytes apart."""

    def __init__(self, members, stride, *names):
        self.stride = stride
        self.at = {name: members[name] for name in names}

    def column(self, values, count, name, code):
        """The member of each of `count` values. code: of memoryview.cast, as wide as the member."""
        column = values.cast("B").cast(code)
        width = column.itemsize
        return column[self.at[name] // width:count * self.stride // width:
                      self.stride // width].tolist()


class Sampler:
    """Reads the agent of a lab. close() when done."""

    def __init__(self, lab):
        self.lab = lab
        pins = Path(lab.facts["pin_path"])
        self.kinds = layout(pins / "connections")  # each map's BTF has all of them
        self.cpus = possible_cpus()
        with contextlib.ExitStack() as opened:
            self.maps = {name: opened.enter_context(contextlib.closing(Map(pins / name)))
                         for name in ("connections", "half_open", "clients", "backend_stats",
                                      "inflight", "svc_inflight")}
            self.close = opened.pop_all().close
        half_open = {**self.kinds["half_open"],
                     "service_id": self.kinds["half_open"]["key"] +
                                   self.kinds["connection_key"]["service_id"]}
        self.half_open = Flow(half_open, self.maps["half_open"].value_stride, "service_id", "flags")
        self.connection = Flow(self.kinds["connection"], self.maps["connections"].value_stride,
                               "flags", "state", "queued")

    # --- maps ---------------------------------------------------------------------------------

    def flows(self):
        """Entries of the tables, and the requests that wait by what each flow says."""
        found = {"connections": 0, "established": 0, "half_open": 0, "clients": 0,
                 "waiting_flows": 0}
        for count, _, values in self.maps["connections"].batches():
            found["connections"] += count
            found["established"] += self.connection.column(values, count, "state", "B").count(
                ESTABLISHED)
            flags = self.connection.column(values, count, "flags", "I")
            queued = self.connection.column(values, count, "queued", "B")
            found["waiting_flows"] += sum(1 + behind for flag, behind in zip(flags, queued)
                                          if flag & WAITING)
        for count, _, values in self.maps["half_open"].batches():
            services = self.half_open.column(values, count, "service_id", "H")
            found["half_open"] += count - services.count(0)
            flags = self.half_open.column(values, count, "flags", "I")
            found["waiting_flows"] += sum(1 for flag, service in zip(flags, services)
                                          if service and flag & WAITING_SYN)
        found["clients"] = sum(count for count, _, _ in self.maps["clients"].batches())
        return found

    def slots_hold(self, backend_id):
        """waiting[] and waiting_syn[] over all CPUs, less what ended too old to be taken off."""
        stats, members = self.maps["backend_stats"], self.kinds["backend_stats"]
        value = stats.lookup(backend_id, self.cpus)
        held = 0
        for begin in range(0, len(value), stats.value_stride):
            for name in ("waiting_syn", "waiting"):
                at = begin + members[name]
                held += sum(array("i", value[at:at + 4 * WAITING_SLOTS]))
            at = begin + members["waited_out"]
            held -= array("q", value[at:at + 8])[0]
        return held

    def inflight(self, name, index):
        return array("q", self.maps[name].lookup(index)[:8])[0]

    # --- the whole ----------------------------------------------------------------------------

    def sockets(self):
        """Established connections by the client's own kernel."""
        port = SERVICE_PORT if self.lab.placement == "balancer" else BACKEND_PORT
        done = subprocess.run(
            self.lab.command("client", "ss", "-Htn", "state", "established", "dport", "=",
                             f":{port}"), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"ss: {done.stderr.strip()}")
        return len(done.stdout.splitlines())

    def status(self):
        try:
            return self.lab.status()
        except OSError as error:
            log = (self.lab.run_dir / "agent.log").read_text(encoding="utf-8").strip()
            raise LabError(f"the agent does not answer ({error}): {log[-2000:]}") from error

    def sample(self, t_s):
        pid = self.lab.agent.pid
        rss_kib, anon_kib = memory_of(pid)
        fds, maps_kib, programs_kib = descriptors_of(pid)
        status = self.status()
        service, = status["services"]
        backends = service["backends"]
        losses = status["losses"]
        return {"t_s": round(t_s, 1), "rss_kib": rss_kib, "anon_kib": anon_kib, "fds": fds,
                 "maps_kib": maps_kib, "programs_kib": programs_kib, **self.flows(),
                 "sockets": self.sockets(),
                 "waiting_slots": sum(self.slots_hold(one["id"]) for one in backends) -
                                  losses["waits_leaked"] - status["loop"]["expired_handshakes"],
                 "inflight_map": sum(self.inflight("inflight", one["id"]) for one in backends),
                 "waiting_status": sum(one["waiting"] + one["waiting_syn"] for one in backends),
                 "inflight_status": sum(one["inflight"] for one in backends),
                 "expired_handshakes": status["loop"]["expired_handshakes"],
                 "unaccounted": status["audit"]["unaccounted"],
                 "lost_events_share": losses["lost_events_share"],
                 **{name: losses[name] for name in LOSSES}}

    def at_end(self, t_s):
        """A last sample, and each backend's gauges: all of them are to be 0."""
        found = self.sample(t_s)
        service, = self.status()["services"]
        found["backends"] = [
            {"name": one["name"], "waiting": one["waiting"], "waiting_syn": one["waiting_syn"],
             "inflight": one["inflight"], "inflight_map": self.inflight("inflight", one["id"]),
             "waits_leaked": one["waits_leaked"],
             "ends": {name: one["wire"][name] for name in ENDS}}
            for one in service["backends"]]
        found["service_inflight_map"] = self.inflight("svc_inflight", service["id"])
        found["unclosed"] = found["established"] - found["sockets"]
        found["waiting_unexplained"] = found["waiting_slots"] - found["waiting_flows"]
        return found


def is_quiet(status):
    """Nothing is under way by the agent's own count."""
    return all(one[gauge] == 0 for service in status["services"] for one in service["backends"]
               for gauge in ("waiting", "waiting_syn", "inflight"))
