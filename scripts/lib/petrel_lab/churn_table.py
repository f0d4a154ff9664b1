# SPDX-License-Identifier: MIT
"""The tables of scripts/churn."""

from .bench_tables import aligned, figure
from .churn_figures import halves, median

ROWS = (("RSS, KiB", "rss_kib"), ("  anonymous", "anon_kib"), ("file descriptors", "fds"),
        ("maps, KiB", "maps_kib"), ("programs, KiB", "programs_kib"),
        ("entries: connections", "connections"), ("  established", "established"),
        ("  by ss", "sockets"), ("  half-open", "half_open"), ("  clients", "clients"),
        ("waiting: waiting[]", "waiting_slots"), ("  by the flows", "waiting_flows"),
        ("  by status", "waiting_status"), ("inflight, map", "inflight_map"),
        ("inflight, status", "inflight_status"), ("SYNs swept", "expired_handshakes"),
        ("leaks healed", "waits_leaked"), ("flows evicted waiting", "evicted"),
        ("half-open evicted", "half_open_evicted"), ("events lost", "events_lost"),
        ("records lost", "records_lost"))


def samples_table(churn):
    first, second = halves(churn["samples"])
    rows = [("", "idle", "1st half", "2nd half", "most", "end")]
    for name, key in ROWS:
        rows.append((name, figure(churn["idle"][key]), figure(median(first, key)),
                     figure(median(second, key)),
                     figure(max((sample[key] for sample in churn["samples"]), default=None)),
                     figure(churn["end"][key])))
    return aligned(rows)


def ends_table(churn):
    names = list(churn["ends"])
    rows = [("ends", *(backend["name"] for backend in churn["end"]["backends"]), "all")]
    rows += [(name, *(figure(backend["ends"][name]) for backend in churn["end"]["backends"]),
              figure(churn["ends"][name])) for name in names]
    for gauge in ("waiting", "waiting_syn", "inflight", "waits_leaked"):
        values = [backend[gauge] for backend in churn["end"]["backends"]]
        rows.append((f"{gauge} at the end", *map(figure, values), figure(sum(values))))
    return aligned(rows)


def slope_line(name, memory):
    if memory["slope_kib_per_h"] is None:
        return f"{name} in the second half: too few samples for a slope"
    low, high = memory["slope_interval_kib_per_h"]
    return (f"{name} in the second half: {memory['slope_kib_per_h']:+,.0f} KiB an hour "
            f"({low:+,.0f} to {high:+,.0f}), {memory['second_half_growth_kib']:+,.0f} KiB in all")


def lines(churn):
    found = [f"{churn['requests']:,} requests, {churn['attempts']:,} attempts in "
             f"{churn['seconds']:,} s; medians of the halves:", *samples_table(churn), "",
             *ends_table(churn), "", slope_line("RSS", churn["memory"]),
             slope_line("anonymous", churn["anonymous"])]
    found.append("no drift, no growth" if not churn["problems"] else
                 f"{len(churn['problems'])} problems: " + "; ".join(churn["problems"]))
    return found
