# SPDX-License-Identifier: MIT
"""The weather of a run of the dataset: all that is drawn of it, from its seed and its number.

What a run is does not depend on how many others there are. Each axis is cut into a few cells, and
each block of as many consecutive runs has every cell once, in an order of its own for each axis:
a set of a few dozen runs has no gaps, and two axes do not go together.
"""

import random

FAULTS = ("hang", "refuse", "reset", "blackhole", "errors", "slow")
STATUSES = (500, 502, 503, 503, 504, 429)
NEAR, FAR = "near", "far"
# Of twelve runs: one without a fault, two with several kinds, nine with one. Two such blocks have
# each kind three times.
SHAPE_CELLS, FAULTLESS, MIXED = 12, 1, 2
SINGLE = SHAPE_CELLS - FAULTLESS - MIXED


class Axes:
    """Draws of one run."""

    def __init__(self, seed, number):
        self.seed = seed
        self.number = number
        self.rng = random.Random(f"{seed}/{number}")

    def cell(self, axis, cells, number=None):
        """Which of `cells` this run (or the `number`-th of its kind) is in."""
        block, place = divmod(self.number if number is None else number, cells)
        order = list(range(cells))
        random.Random(f"{self.seed}/{axis}/{block}").shuffle(order)
        return order[place]

    def share(self, axis, cells=12):
        """From 0 to 1, even over the cells."""
        return (self.cell(axis, cells) + self.rng.random()) / cells

    def pick(self, axis, values):
        return values[self.cell(axis, len(values))]


def log_between(least, most, share):
    return least * (most / least) ** share


def fault_kinds(axes):
    """The kinds of the episodes, and which one of its kind this run is."""
    cell = axes.cell("shape", SHAPE_CELLS)
    if cell < FAULTLESS:
        return [], 0
    if cell < FAULTLESS + MIXED:
        kinds = axes.rng.sample(FAULTS, axes.rng.choice([2, 3, 3]))
        if len(kinds) == 2 and axes.rng.random() < 0.5:
            kinds.append(axes.rng.choice(kinds))
        return kinds, axes.number
    single = axes.number // SHAPE_CELLS * SINGLE + cell - FAULTLESS - MIXED
    occurrence, place = divmod(single, len(FAULTS))
    return [FAULTS[place]] * axes.pick("episodes", (1, 2, 3, 3)), occurrence


def strength_of(axes, kind, share):
    """The parameters of `petrel-traffic fault`."""
    if kind == "errors":
        return {"rate": round(log_between(0.05, 1.0, share), 3),
                "status": axes.rng.choice(STATUSES), "quick": axes.rng.random() < 0.5}
    if kind == "slow":
        return {"factor": round(log_between(2, 60, share), 1)}
    return {}


def struck(axes, backends, breadth):
    """One, several or all of the backends."""
    count = (1, axes.rng.randint(2, backends - 1) if backends > 3 else backends - 1,
             backends)[breadth]
    return sorted(axes.rng.sample(range(1, backends + 1), count))


def episodes_of(axes, backends, seconds):
    """Episodes that do not overlap: each has its part of the time to itself."""
    kinds, occurrence = fault_kinds(axes)
    lead_s = min(2.0, seconds / 8)
    part_s = (seconds - lead_s) / max(1, len(kinds))
    # Weak, middling, strong; short to long; one to all: from each episode of a run to the next and
    # from each run of a kind to the next, each at its own pace.
    shift = axes.rng.randrange(3)
    episodes = []
    for i, kind in enumerate(kinds):
        strength = ((occurrence + i) % 3 + axes.rng.random()) / 3
        length = ((occurrence // 3 + 2 * i + shift) % 3 + axes.rng.random()) / 3
        most_s = min(5.0, 0.85 * part_s)
        length_s = log_between(min(0.5, most_s / 2), most_s, length)
        spare_s = 0.95 * part_s - length_s
        breadth = 2 if axes.rng.random() < 0.15 else (occurrence + i + shift) % 2
        episodes.append({
            "begin_s": round(lead_s + i * part_s + axes.rng.random() * spare_s, 2),
            "seconds": round(length_s, 2), "kind": kind,
            "parameters": strength_of(axes, kind, strength),
            "backends": struck(axes, backends, breadth)})
    return episodes


def service_of(axes, timeout_ms):
    """Backends, how they serve, and how much is asked of them."""
    backends = axes.pick("backends", (2, 3, 4, 5, 6, 7, 8))
    load = 0.2 + 0.9 * axes.share("load")
    # No backend may be so idle that its share of the load takes it more than 60 ms a request.
    least = max(50.0, load * backends * 1000 / 60)
    rate = log_between(least, 450, axes.share("rate"))
    each_per_s = rate / load / backends  # what a backend can do
    wanted_ms = log_between(4, 60, axes.share("service_time"))
    concurrency = max(1, min(64, round(each_per_s * wanted_ms / 1000)))
    distribution = axes.pick("distribution",
                             ("exponential", "lognormal", "lognormal", "constant"))
    # What may wait, in seconds of work. A queue longer than its clients wait is full of requests
    # whose clients have left, and retries keep it so: such a run is of nothing else from its first
    # fault on, and has more rows than any other. A few are enough.
    queue_s = timeout_ms / 1000 * log_between(0.1, 1.2, axes.share("queue"))
    return {"backends": backends, "load": round(load, 3), "rate": round(rate, 1),
            "concurrency": concurrency,
            "service_time_ms": round(concurrency / each_per_s * 1000, 3),
            "distribution": distribution,
            "sigma": round(0.3 + 0.9 * axes.share("sigma"), 2)
            if distribution == "lognormal" else None,
            "queue": max(4, round(each_per_s * queue_s))}


def zones_of(axes, backends):
    """In a third of the runs some backends are further away: by their number, the added delay."""
    if axes.cell("zones", 3) != 0:
        return {}
    far = axes.rng.sample(range(1, backends + 1), axes.rng.randint(1, backends - 1))
    return {str(i): round(log_between(2, 40, axes.rng.random()), 1) for i in sorted(far)}


def clients_of(axes):
    """Who asks, how long they wait, and what they do when they fail."""
    rng = axes.rng
    timeout_ms = round(log_between(300, 3000, axes.share("timeout")))
    clients = round(log_between(20, 8000, axes.share("clients")))
    own_connect = axes.cell("connect_timeout", 3) == 0
    polls = axes.cell("pollers", 4) == 0
    posts = axes.cell("posts", 2) == 0
    return {
        "clients": clients, "timeout_ms": timeout_ms,
        "connect_timeout_ms": max(100, round(timeout_ms * rng.uniform(0.2, 0.8)))
        if own_connect else timeout_ms,
        "retry": axes.pick("retry", ("none", "immediate", "immediate", "fixed", "fixed",
                                     "exponential", "exponential", "exponential")),
        "retry_delay_ms": round(log_between(20, 500, axes.share("retry_delay"))),
        "retry_cap_ms": rng.choice([1000, 2000, 4000]),
        "max_attempts": axes.pick("max_attempts", (2, 3, 4, 5)),
        "keep_alive": axes.cell("keep_alive", 5) < 2,
        "pollers": min(clients, rng.randint(5, 40)) if polls else 0,
        "poll_interval_ms": rng.choice([200, 500, 1000]),
        "paths": round(log_between(1, 50, axes.share("paths"))),
        "post_share": round(rng.uniform(0.05, 0.4), 2) if posts else 0.0,
        "post_bytes": round(log_between(100, 20000, rng.random())),
        "retry_posts": axes.cell("retry_posts", 2) == 0}


def name_of(seed, number):
    return f"ds{seed}-{number:03d}"


def draw(seed, number, seconds=20):
    """All that there is to know of a run before it is made; plain JSON."""
    axes = Axes(seed, number)
    clients = clients_of(axes)
    service = service_of(axes, clients["timeout_ms"])
    return {"run": name_of(seed, number), "number": number, "seed": axes.rng.randrange(1 << 31),
            "seconds": seconds, "family": axes.pick("family", (4, 4, 6)), **service,
            "far_ms": zones_of(axes, service["backends"]), **clients,
            "episodes": episodes_of(axes, service["backends"], seconds)}


def kinds_of(weather):
    """Its faults in order of their first appearance, each once."""
    return list(dict.fromkeys(episode["kind"] for episode in weather["episodes"]))


def line_of(weather):
    """For people, in one line."""
    faults = " ".join(
        f"{e['kind']}" + "".join(f"({e['parameters'][p]})" for p in ("rate", "factor")
                                 if p in e["parameters"]) +
        f"@{e['begin_s']:g}+{e['seconds']:g}s/{len(e['backends'])}"
        for e in weather["episodes"]) or "none"
    sigma = "" if weather["sigma"] is None else f"({weather['sigma']})"
    return (f"{weather['run']}  v{weather['family']} {weather['backends']} backends"
            f" ({len(weather['far_ms'])} far) x{weather['concurrency']},"
            f" {weather['service_time_ms']:.1f} ms {weather['distribution']}{sigma},"
            f" {weather['rate']:.0f}/s = {weather['load']:.0%}; {weather['clients']} clients"
            f"{' keep-alive' if weather['keep_alive'] else ''}, {weather['timeout_ms']} ms,"
            f" {weather['retry']} {weather['retry_delay_ms']} ms x{weather['max_attempts']},"
            f" POST {weather['post_share']:.0%}; {faults}")
