# SPDX-License-Identifier: MIT
"""Tables and bars for a terminal, made of what outcome and timeline found. Measures nothing."""

import os
import shutil

BAR_CELLS = 8
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"

# Key of OUTCOME, what it is called, decimals.
FIGURES = (
    ("requests", "requests", 0),
    ("first_attempt_failures", "first attempts that failed", 0),
    ("retries", "retries", 0),
    ("amplification", "attempts per request", 3),
    ("backend_amplification", "  of which reached a backend", 3),
    ("never_served", "requests never served", 0),
    ("p50_ms", "whole request, p50 ms", 1),
    ("p99_ms", "whole request, p99 ms", 1),
    ("p999_ms", "whole request, p99.9 ms", 1),
    ("moved_90_ms", "fault to 90 % moved away, ms", 0),
    ("recovered_ms", "fault's end to goodput back, ms", 0),
)


class Style:
    """What the stream can show: colour only on a terminal, block characters only in UTF-8."""

    def __init__(self, stream, no_color=False):
        self.terminal = stream.isatty()
        self.color = self.terminal and not no_color and not os.environ.get("NO_COLOR")
        self.blocks = (stream.encoding or "").lower().replace("-", "") == "utf8"
        self.columns = shutil.get_terminal_size((100, 24)).columns if self.terminal else 100

    def paint(self, text, code):
        return f"\x1b[{code}m{text}\x1b[0m" if self.color else text

    def red(self, text):
        return self.paint(text, "31")

    def yellow(self, text):
        return self.paint(text, "33")

    def bold(self, text):
        return self.paint(text, "1")

    def bar(self, part):
        """`part` of BAR_CELLS, 0 to 1."""
        eighths = round(min(max(part, 0.0), 1.0) * BAR_CELLS * 8)
        if not self.blocks:
            return ("#" * round(eighths / 8)).ljust(BAR_CELLS)
        rest = EIGHTHS[eighths % 8] if eighths % 8 else ""
        return ("█" * (eighths // 8) + rest).ljust(BAR_CELLS)

    def level(self, part):
        """`part`, 0 to 1, as one character."""
        index = min(int(min(max(part, 0.0), 1.0) * 8), 7)
        return LEVELS[index] if self.blocks else "_.:-=+*#"[index]


def number(value, decimals):
    return "-" if value is None else f"{value:,.{decimals}f}"


def percent(share):
    return "-" if share is None else f"{share * 100:.0f}%"


def change(before, after):
    """`after` against `before`, as text."""
    if before is None or after is None:
        return ""
    if before == after:
        return "="
    if before == 0:
        return f"+{after:,.4g}"
    return f"{(after - before) / before * 100:+,.1f} %"


def outcome_table(outcomes, style):
    """Lines of static | petrel | change, or of the one policy that ran."""
    policies = [policy for policy in ("static", "petrel") if outcomes[policy] is not None]
    both = len(policies) == 2
    heading = " " * 32 + "".join(f"{policy:>12}" for policy in policies)
    lines = [style.bold(heading + (f"{'change':>12}" if both else ""))]
    for key, name, decimals in FIGURES:
        values = [outcomes[policy][key] for policy in policies]
        line = f"{name:<32}" + "".join(f"{number(value, decimals):>12}" for value in values)
        lines.append((line + (f"{change(*values):>12}" if both else "")).rstrip())
    return lines


def share_cell(style, share, largest, wide):
    if share is None:
        return "-".ljust(BAR_CELLS + 5) if wide else " "
    if not wide:
        return style.level(share / largest)
    return f"{style.bar(share / largest)} {percent(share):>4}"


def timeline_table(rows, fault, faulty, largest, style):
    """Lines, one a second: each backend's weight as a bar (or one character where they are many).

    Beside it the faulty one's share of the new connections, which falls before its weight does:
    the balancer's two choices avoid a backend whose requests wait.
    """
    names = list(next((row["weights"] for row in rows if row["weights"]), {}))
    wide = len(names) * (BAR_CELLS + 6) + 44 <= style.columns
    gap = " " if wide else ""
    cell_width = BAR_CELLS + 5
    heading = gap.join(f"{name:<{cell_width}}" for name in names) if wide else \
        "weights".ljust(len(names))
    lines = [style.bold(f"{'s':>4}  {heading} {f'new to {faulty}':>10} {'failures':>9} "
                        f"{'retries':>8}")]
    for row in rows:
        cells = []
        for name in names:
            cell = share_cell(style, (row["weights"] or {}).get(name), largest, wide)
            cells.append(style.red(cell) if row["fault"] and name == faulty else cell)
        counts = [number(row[key], 0).rjust(width) if row[key] else "·".rjust(width)
                  for key, width in (("failures", 9), ("retries", 8))]
        counts = [style.yellow(text) if "·" not in text else text for text in counts]
        mark = style.red(f"  {fault} on {faulty}") if row["fault"] else ""
        shown = gap.join(cells) if wide else "".join(cells).ljust(len("weights"))
        new = percent((row["connections"] or {}).get(faulty)).rjust(10)
        line = f"{row['t_s']:>4}  {shown} {new} {counts[0]} {counts[1]}{mark}"
        lines.append(line if style.blocks else line.replace("·", "0"))
    return lines


class Progress:
    """What goes on now: one line that is rewritten on a terminal, else one every 5 s."""

    PLAIN_PERIOD_S = 5

    def __init__(self, stream):
        self.stream = stream
        self.terminal = stream.isatty()
        self.drawn = False

    def say(self, text):
        """A line that stays."""
        self.clear()
        print(text, file=self.stream, flush=True)

    def second(self, number_s, text):
        if self.terminal:
            columns = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{text[:columns - 1]}", end="", file=self.stream, flush=True)
            self.drawn = True
        elif number_s % self.PLAIN_PERIOD_S == 0:
            print(text, file=self.stream, flush=True)

    def clear(self):
        if self.drawn:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
            self.drawn = False
