# SPDX-License-Identifier: MIT
"""What the samples of scripts/churn say: whether memory grows, and what still waits. Pure."""

import operator
import random
import statistics

RESAMPLES = 1000
# Of the second half: fewer tell no slope.
LEAST_SAMPLES = 8
# One arena more of the allocator is no leak, and some kernels tell VmRSS to 32 pages a CPU. Less
# than this in the second half of a run is not growth, however surely it is above 0.
NOISE_KIB = 256


def slope(points):
    """By least squares, of (x, y), and the intercept."""
    fit = statistics.linear_regression(*zip(*points))
    return fit.slope, fit.intercept


def slope_interval(points, seed=1):
    """[low, high] at 95 %: residuals are drawn anew in blocks, as neighbours are alike."""
    rng = random.Random(seed)
    steepness, begin = slope(points)
    residuals = [y - (begin + steepness * x) for x, y in points]
    block = max(1, round(len(points) ** 0.5))
    mean = statistics.fmean(x for x, _ in points)
    weights = [x - mean for x, _ in points]
    scale = sum(weight * weight for weight in weights)
    found = []
    for _ in range(RESAMPLES):
        drawn = []
        while len(drawn) < len(points):
            at = rng.randrange(len(points) - block + 1)
            drawn += residuals[at:at + block]
        # The slope of fit + residuals is the fit's and theirs.
        found.append(steepness + sum(map(operator.mul, weights, drawn)) / scale)
    found.sort()
    return [found[round(0.025 * (RESAMPLES - 1))], found[round(0.975 * (RESAMPLES - 1))]]


def halves(samples):
    """By time, of what was sampled under traffic."""
    middle = samples[-1]["t_s"] / 2 if samples else 0
    return ([sample for sample in samples if sample["t_s"] < middle],
            [sample for sample in samples if sample["t_s"] >= middle])


def median(samples, key):
    return statistics.median(sample[key] for sample in samples) if samples else None


def memory(samples, key, seed=1):
    """How `key` (KiB) moves: the slope of its second half, and the halves' medians."""
    first, second = halves(samples)
    figures = {"first_half_median_kib": median(first, key),
               "second_half_median_kib": median(second, key), "slope_kib_per_h": None,
               "slope_interval_kib_per_h": None, "second_half_growth_kib": None}
    if len(second) >= LEAST_SAMPLES:
        points = [(sample["t_s"] / 3600, sample[key]) for sample in second]
        steepness = slope(points)[0]
        figures.update(slope_kib_per_h=steepness,
                       slope_interval_kib_per_h=slope_interval(points, seed),
                       second_half_growth_kib=steepness * (points[-1][0] - points[0][0]))
    return figures


def grows(figures):
    return (figures["slope_kib_per_h"] is not None and
            figures["slope_interval_kib_per_h"][0] > 0 and
            figures["second_half_growth_kib"] > NOISE_KIB and
            figures["second_half_median_kib"] > figures["first_half_median_kib"])


def drift_of(end):
    """What is not as it should be once nothing is under way. `end`: as churn_sample.at_end()."""
    found = []
    for backend in end["backends"]:
        for gauge in ("waiting", "waiting_syn", "inflight", "inflight_map"):
            if backend[gauge] != 0:
                found.append(f"{backend['name']}: {gauge} is {backend[gauge]} and nothing is "
                             "under way")
    if end["service_inflight_map"] != 0:
        found.append(f"svc_inflight is {end['service_inflight_map']} and nothing is under way")
    if end["waiting_unexplained"] != 0:
        found.append(f"waiting[] holds {end['waiting_unexplained']} that neither ended, nor were "
                     "swept, nor healed")
    if end["waiting_flows"] != 0:
        found.append(f"{end['waiting_flows']} requests wait by their flows, and nothing is under "
                     "way")
    if end["unclosed"] != 0:
        found.append(f"{end['unclosed']} more flows are established than the client has sockets")
    # What the audit gave back had drifted until then.
    if end["waits_leaked"] != 0:
        found.append(f"the audit had to give back {end['waits_leaked']} requests that had leaked "
                     f"({end['evicted']} as of evicted flows)")
    if end["unaccounted"] != 0:
        found.append(f"{end['unaccounted']} sockets' requests are unaccounted")
    return found


def growth_of(memory_figures, idle, end):
    """idle: the sample before the traffic."""
    found = []
    if grows(memory_figures):
        low, high = memory_figures["slope_interval_kib_per_h"]
        found.append(f"RSS grows by {memory_figures['slope_kib_per_h']:,.0f} KiB an hour "
                     f"({low:,.0f} to {high:,.0f})")
    for key, name in (("fds", "open file descriptors"), ("maps_kib", "KiB of maps"),
                      ("programs_kib", "KiB of programs")):
        if end[key] > idle[key]:
            found.append(f"{name}: {idle[key]:,} before the traffic, {end[key]:,} after it")
    return found


def problems_of(samples, idle, end, seed=1):
    """Empty: no drift and no growth."""
    return drift_of(end) + growth_of(memory(samples, "rss_kib", seed), idle, end)
