# SPDX-License-Identifier: MIT
"""The tables of scripts/bench --packets and --ring: what was found, and what is to be reached."""

# What it is, the key of its figure, and what it may be at most (None: no limit is set).
PACKETS = [
    ("empty program", "empty_ns", None),
    ("one LRU look-up, hot", "lru_hot_ns", None),
    ("one LRU look-up, among 100,000", "lru_100k_ns", None),
    ("not ours", "not_ours_ns", 20),
    ("established, hot, nat, wire sensor on", "established_hot_ns", 61),
    ("the same, wire sensor off", "established_bare_ns", None),
    ("the sensor's share", "sensor_ns", 20),
    ("the same, among 100,000 flows", "established_100k_ns", 190),
    ("reply, hot", "reply_hot_ns", None),
    ("SYN, new flow, two choices", "syn_ns", 210),
    ("SYN under flood, table full", "syn_flood_ns", 250),
    ("retry shed", "shed_ns", 250),
    ("retry steered", "steered_ns", 250),
    ("established, hot, dsr", "dsr_hot_ns", None),
    ("scoring in XDP: the score alone", "score_ns", 25),
    ("the same with its features", "score_features_ns", None),
]
FLOOD_LIMIT = 1.5  # times a plain SYN
LIMITS_EMPTY = "4 to 5 ns"
LIMITS_LRU = "10 to 21 ns"

RING_MS = 1.0      # to build and publish
RING_BALANCE = 0.02
RING_CHURN = 1.05


def figure(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def aligned(rows):
    """Columns as wide as their widest cell; the first to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                      for at, (cell, width) in enumerate(zip(row, widths))).rstrip()
            for row in rows]


def verdict(value, limit):
    if value is None or limit is None:
        return ""
    return "good" if value <= limit else f"{value / limit:.1f} times"


def packet_table(packets, spread):
    rows = [("packet", "ns", "quartiles", "at most", "")]
    for name, key, limit in PACKETS:
        value = packets.get(key)
        around = spread.get(key)
        rows.append((name, figure(value),
                     f"{around['low']:.0f} to {around['high']:.0f}" if around else "",
                     figure(limit) if limit else "", verdict(value, limit)))
    calm, flood = packets.get("syn_ns"), packets.get("syn_flood_ns")
    if calm and flood:
        rows.append(("a flood's SYN to a plain one", f"{flood / calm:.2f}", "", f"{FLOOD_LIMIT}",
                     verdict(flood / calm, FLOOD_LIMIT)))
    return aligned(rows)


def where_limits_are_from(packets):
    """The limits are absolute, and processors are not alike: mitigations alone can cost a third."""
    return [f"The limits are from a machine with {LIMITS_EMPTY} for the empty program and "
            f"{LIMITS_LRU} for an LRU look-up; this one has {figure(packets['empty_ns'])} and "
            f"{figure(packets['lru_hot_ns'])}."]


def program_table(programs):
    rows = [("program", "instructions", "jited bytes", "stack bytes", "verified instructions")]
    rows += [(one["name"], figure(one["instructions"]), figure(one["jited_bytes"]),
              figure(one["stack_bytes"]), figure(one["verified_instructions"]))
             for one in programs]
    return aligned(rows)


def ring_is_good(row):
    if row["publish_ms"] is None or row["build_ms"] is None:
        return False
    one_slot = row["backends"] / row["slots"]
    return (row["build_ms"] + row["publish_ms"] <= RING_MS
            and row["balance_error"] <= max(RING_BALANCE, one_slot)
            and max(row["churn_reweigh"], row["churn_leave"]) <= RING_CHURN)


def ring_table(ring):
    rows = [("backends", "slots", "build ms", "publish ms", "reweigh ms", "balance error",
             "churn to 0.9", "to 0", "removed", "")]
    for row in ring:
        rows.append((figure(row["backends"]), figure(row["slots"]), figure(row["build_ms"], 3),
                     figure(row["publish_ms"], 3), figure(row["reweigh_ms"], 3),
                     f"{100 * row['balance_error']:.2f} %", figure(row["churn_reweigh"], 2),
                     figure(row["churn_leave"], 2), figure(row["churn_removal"], 2),
                     "good" if ring_is_good(row) else "over"))
    rows.append(("at most", "", "1, both", "", "", "2 % or a slot", figure(RING_CHURN, 2),
                 figure(RING_CHURN, 2), "", ""))
    return aligned(rows)


def tables(result):
    """Lists of lines, one for each table."""
    found = []
    if "packets" in result:
        found.append(packet_table(result["packets"], result["spread"])
                     + where_limits_are_from(result["packets"]))
        found.append(program_table(result["programs"]))
    if "ring" in result:
        found.append(ring_table(result["ring"]))
    return found
