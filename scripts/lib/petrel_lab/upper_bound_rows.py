# SPDX-License-Identifier: MIT
"""Labelled rows of captures and a model file, as arrays; what a probability is worth, with
intervals over runs."""

import csv
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Q16_ONE = 65536
POINTS = ["waiting_syn", "waiting_response", "answer", "end"]
BINS = 10
LEAST_PROBABILITY = 2.0 ** -17  # as in petrel's own log loss


class InputError(Exception):
    """A file that is not what it should be: message for the user."""


@dataclass
class Rows:
    features: np.ndarray  # in their units
    retried: np.ndarray   # bool
    run: np.ndarray       # index into runs
    point: np.ndarray     # index into POINTS
    runs: list

    def part(self, keep):
        """The rows of a mask; runs keep their numbers."""
        return Rows(self.features[keep], self.retried[keep], self.run[keep], self.point[keep],
                    self.runs)

    def of_runs(self, names):
        wanted = [i for i, name in enumerate(self.runs) if name in names]
        return self.part(np.isin(self.run, wanted))


def read_model(path):
    try:
        model = json.loads(Path(path).read_text(encoding="utf-8"))
        if model["schema"] != "petrel/model/v1":
            raise InputError(f"{path}: schema: expected petrel/model/v1, found {model['schema']}")
        return model
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a model file, found {error!r}") from error


def feature_names(model):
    """Those that the model may use: what it was told to leave out, others may not use either."""
    without = model["training"].get("fit", {}).get("without", [])
    return [feature["name"] for feature in model["features"] if feature["name"] not in without]


def _sqlite_rows(path, columns):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        names = ", ".join(f'"{name}"' for name in columns)
        return connection.execute(f"SELECT {names} FROM rows").fetchall()


def _csv_rows(path, columns):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise InputError(f"{path}: line 1: expected a column {missing[0]}, found none")
        at = [header.index(name) for name in columns]
        return [[line[i] for i in at] for line in reader]


def read_rows(paths, features):
    """SQLite captures, CSV of rows, or directories that have a rows.csv."""
    columns = ["run", "point", "retried", *features]
    runs, parts = {}, []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            path = path / "rows.csv"
        try:
            sqlite = path.open("rb").read(15) == b"SQLite format 3"
            rows = (_sqlite_rows if sqlite else _csv_rows)(path, columns)
            if not rows:
                continue
            run = np.array([runs.setdefault(row[0], len(runs)) for row in rows])
            point = np.array([POINTS.index(row[1]) for row in rows])
            numbers = np.array([row[2:] for row in rows], dtype=np.int64)
        except (OSError, sqlite3.Error, ValueError, IndexError) as error:
            raise InputError(f"{path}: expected labelled rows, found {error}") from error
        parts.append((numbers[:, 1:] / Q16_ONE, numbers[:, 0] != 0, run, point))
    if not parts:
        raise InputError("expected labelled rows, found none")
    joined = [np.concatenate([part[i] for part in parts]) for i in range(4)]
    return Rows(*joined, list(runs))


def sigmoid(log_odds):
    return 1 / (1 + np.exp(-log_odds))


def model_probability(model, rows, names):
    """The model file's own probabilities in floating point, written down a second time: what
    petrel computes is checked by it."""
    log_odds = np.full(len(rows.retried), model["bias"])
    for feature in model["features"]:
        if feature["name"] not in names:
            continue  # was left out: its coefficient is 0
        value = np.clip(rows.features[:, names.index(feature["name"])],
                        feature["min_q16"] / Q16_ONE, feature["max_q16"] / Q16_ONE)
        log_odds += feature["coefficient"] * (value - feature["mean"]) / feature["scale"]
    calibration = model.get("calibration")
    if calibration:
        knots = np.array(calibration["knots_q16"]) / Q16_ONE
        at = np.linspace(-8, 8, len(knots))
        beyond = log_odds - np.clip(log_odds, -8, 8)
        log_odds = np.interp(log_odds, at, knots) + beyond
    return sigmoid(log_odds)


def auc(probability, retried, weight=None):
    """Weighted area under the ROC curve; ties count half. None of one class."""
    weight = np.ones(len(retried)) if weight is None else weight
    order = np.argsort(probability, kind="stable")
    ordered = probability[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    positive = np.add.reduceat((weight * retried)[order], starts)
    negative = np.add.reduceat((weight * ~retried)[order], starts)
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return None
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def log_loss(probability, retried, weight=None):
    happened = np.where(retried, probability, 1 - probability)
    return float(np.average(-np.log(np.clip(happened, LEAST_PROBABILITY, 1)), weights=weight))


def ece(probability, retried, weight=None):
    """Mean distance of predicted and retried share over bins of equal mass."""
    weight = np.ones(len(retried)) if weight is None else weight
    order = np.argsort(probability, kind="stable")
    mass = weight[order]
    middle = np.cumsum(mass) - mass / 2
    of_bin = np.minimum((BINS * middle / mass.sum()).astype(int), BINS - 1)
    gap = np.bincount(of_bin, mass * (probability[order] - retried[order]), minlength=BINS)
    return float(np.abs(gap).sum() / mass.sum())


def _interval(values):
    known = [value for value in values if value is not None]
    if len(known) * 2 < max(len(values), 1):
        return None
    return [float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))]


def figures(probability, rows, resamples, seed):
    """AUC, log loss and ECE, with 95 % intervals by a bootstrap over runs."""
    here = np.unique(rows.run)
    if not len(here):
        return {"rows": 0, "runs": 0, "auc": None, "log_loss": None, "ece": None}
    measures = {"auc": auc, "log_loss": log_loss, "ece": ece}
    out = {"rows": len(rows.retried), "runs": len(here),
           "retry_share": float(rows.retried.mean())}
    drawn = {name: [] for name in measures}
    random = np.random.default_rng(seed)
    number = np.searchsorted(here, rows.run)
    for _ in range(resamples if len(here) > 1 else 0):
        counts = np.bincount(random.integers(len(here), size=len(here)), minlength=len(here))
        weight = counts[number].astype(float)
        if weight.sum() == 0:
            continue
        for name, measure in measures.items():
            drawn[name].append(measure(probability, rows.retried, weight))
    for name, measure in measures.items():
        out[name] = measure(probability, rows.retried)
        out[f"{name}_interval"] = _interval(drawn[name]) if drawn[name] else None
    return out
