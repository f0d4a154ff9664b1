# SPDX-License-Identifier: MIT
"""Medians and intervals over seeds, and each policy against static of the same seed. Pure."""

import functools
import random
import statistics

RESAMPLES = 1000
COVERAGE = 0.95


def middle(ordered):
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@functools.lru_cache(maxsize=4096)
def resampled(values, seed):
    rng = random.Random(seed)
    medians = sorted(middle(sorted(rng.choices(values, k=len(values)))) for _ in range(RESAMPLES))
    tail = (1 - COVERAGE) / 2
    return medians[round(tail * (RESAMPLES - 1))], medians[round((1 - tail) * (RESAMPLES - 1))]


def interval(values, seed=1):
    """[low, high] of the median at 95 %, by bootstrap over the seeds; None of fewer than two. With
    few seeds it is close to their range, which says what few seeds say."""
    return list(resampled(tuple(values), seed)) if len(values) > 1 else None


def summarised(by_seed, never=None):
    """{"median", "interval"} of one figure; by_seed: seed -> value or None. `never`: what a missing
    value stands for in order of size (a recovery that did not come is longer than any)."""
    values = [never if value is None else value for value in by_seed.values()]
    if not values or any(value is None for value in values):
        known = [value for value in values if value is not None]
        return {"median": statistics.median(known) if known else None, "interval": interval(known),
                "missing": len(values) - len(known)}
    median, around = statistics.median(values), interval(values)
    if never is None:
        return {"median": median, "interval": around}
    # A median of two is between them: between a time and never there is none.
    return {"median": finite(median), "interval": around and [finite(v) for v in around],
            "missing": sum(value == never for value in values)}


def finite(value):
    return None if value == float("inf") else value


def ratios(by_seed, base_by_seed):
    """Of the seeds that both have, this to the base. Where the base is 0, so that there is no
    ratio: 1 if this is 0 too, else none."""
    found = {}
    for seed in by_seed.keys() & base_by_seed.keys():
        value, base = by_seed[seed], base_by_seed[seed]
        if value is None or base is None:
            continue
        if base:
            found[seed] = value / base
        elif value == base:
            found[seed] = 1.0
    return {seed: found[seed] for seed in sorted(found)}


def against(cell, base, key):
    """The paired ratio of a figure: {"median", "interval", "seeds"}; None without a common seed."""
    found = ratios(figure_by_seed(cell, key), figure_by_seed(base, key))
    if not found:
        return None
    values = list(found.values())
    return {"median": statistics.median(values), "interval": interval(values),
            "seeds": len(values)}


def figure_by_seed(cell, key):
    return {seed: outcome.get(key) for seed, outcome in sorted(cell.items())}
