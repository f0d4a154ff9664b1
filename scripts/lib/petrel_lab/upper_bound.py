# SPDX-License-Identifier: MIT
"""What other learners reach with the model's features on the model's own split by run.

Gradient boosting is the upper bound that the model is held against. How long it learns, and with how
large trees, is decided on whole runs held out of the training ones; the runs that it is tested on
have no part in that. A logistic regression by another library checks that the model's fit is as
good as its form allows, and permuted labels that the measuring itself is right."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import sklearn

from .facts import header
from .lab import ROOT, progress
from .upper_bound_rows import (POINTS, InputError, feature_names, figures, log_loss,
                               model_probability, read_model, read_rows)

AIM = 0.01  # how far below the bound's AUC the model may be
MOST_ROUNDS = 500
PATIENCE = 30     # rounds without a gain
EVERY = 10        # rounds between looks
LEAVES = (15, 31)
VALIDATED = 0.25  # of the training runs


def validation_runs(names, seed):
    order = sorted(names)
    np.random.default_rng(seed).shuffle(order)
    return set(order[:max(1, round(VALIDATED * len(order)))])


class SklearnBoosting:
    """Histogram gradient boosting. Its own early stopping would hold out rows; this holds out
    runs."""
    name = f"gradient boosting (scikit-learn {sklearn.__version__})"

    def __init__(self, seed):
        self.seed = seed

    def _new(self, leaves, rounds):
        return HistGradientBoostingClassifier(
            learning_rate=0.06, max_iter=rounds, max_leaf_nodes=leaves, min_samples_leaf=100,
            l2_regularization=1.0, early_stopping=False, warm_start=True, random_state=self.seed)

    def fit(self, training, fitted, validated):
        best = (np.inf, LEAVES[0], EVERY)
        for leaves in LEAVES:
            learner, least, at = self._new(leaves, EVERY), np.inf, EVERY
            for rounds in range(EVERY, MOST_ROUNDS + 1, EVERY):
                learner.set_params(max_iter=rounds)
                learner.fit(fitted.features, fitted.retried)
                loss = log_loss(learner.predict_proba(validated.features)[:, 1],
                                validated.retried)
                if loss < least:
                    least, at = loss, rounds
                elif rounds - at >= PATIENCE:
                    break
            progress(f"  {leaves} leaves: log loss {least:.5f} on runs held out of training, "
                     f"after {at} rounds")
            best = min(best, (least, leaves, at))
        self.learner = self._new(best[1], best[2]).fit(training.features, training.retried)
        return {"leaves": best[1], "rounds": best[2], "validation_log_loss": best[0]}

    def predict(self, rows):
        return self.learner.predict_proba(rows.features)[:, 1]


class XgboostBoosting:
    def __init__(self, seed, xgboost):
        self.seed, self.xgboost = seed, xgboost
        self.name = f"gradient boosting (XGBoost {xgboost.__version__})"

    def _train(self, rows, leaves, rounds, **more):
        settings = {"objective": "binary:logistic", "eval_metric": "logloss", "eta": 0.06,
                    "tree_method": "hist", "grow_policy": "lossguide", "max_leaves": leaves,
                    "max_depth": 0, "min_child_weight": 10, "lambda": 1.0, "seed": self.seed}
        matrix = self.xgboost.DMatrix(rows.features, rows.retried)
        return self.xgboost.train(settings, matrix, rounds, verbose_eval=False, **more)

    def fit(self, training, fitted, validated):
        best = (np.inf, LEAVES[0], 1)
        watched = self.xgboost.DMatrix(validated.features, validated.retried)
        for leaves in LEAVES:
            learner = self._train(fitted, leaves, MOST_ROUNDS, evals=[(watched, "validated")],
                                  early_stopping_rounds=PATIENCE)
            progress(f"  {leaves} leaves: log loss {learner.best_score:.5f} on runs held out of "
                     f"training, after {learner.best_iteration + 1} rounds")
            best = min(best, (learner.best_score, leaves, learner.best_iteration + 1))
        self.learner = self._train(training, best[1], best[2])
        return {"leaves": best[1], "rounds": best[2], "validation_log_loss": best[0]}

    def predict(self, rows):
        return self.learner.predict(self.xgboost.DMatrix(rows.features)).astype(float)


class SklearnLogistic:
    name = f"logistic regression (scikit-learn {sklearn.__version__})"

    def fit(self, training, fitted, validated):
        best = (np.inf, 1.0)
        for c in (1e-4, 1e-3, 1e-2, 0.1, 1.0):
            learner = self._new(c).fit(fitted.features, fitted.retried)
            loss = log_loss(learner.predict_proba(validated.features)[:, 1], validated.retried)
            best = min(best, (loss, c))
        self.learner = self._new(best[1]).fit(training.features, training.retried)
        return {"c": best[1], "validation_log_loss": best[0]}

    @staticmethod
    def _new(c):
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))

    def predict(self, rows):
        return self.learner.predict_proba(rows.features)[:, 1]


def learners(seed):
    yield SklearnBoosting(seed)
    try:
        import xgboost  # pylint: disable=import-outside-toplevel  # may not be there
        yield XgboostBoosting(seed, xgboost)
    except ImportError:
        progress("no XGBoost here: scikit-learn's boosting alone")
    yield SklearnLogistic()


def all_figures(probability, rows, arguments):
    out = {"all": figures(probability, rows, arguments.resamples, arguments.seed), "by_point": {}}
    for i, point in enumerate(POINTS):
        here = rows.point == i
        out["by_point"][point] = figures(probability[here], rows.part(here),
                                         arguments.resamples, arguments.seed)
    return out


def shuffled_auc(boosting, training, test, arguments):
    """With labels in random order nothing can be learned, and 0.5 is what comes of it."""
    random = np.random.default_rng(arguments.seed)
    learner = boosting._new(LEAVES[0], 50)  # pylint: disable=protected-access
    learner.fit(training.features, random.permutation(training.retried))
    permuted = test.part(np.ones(len(test.retried), bool))
    permuted.retried = random.permutation(test.retried)
    return figures(learner.predict_proba(test.features)[:, 1], permuted, 0, 0)["auc"]


def study(arguments):
    model = read_model(arguments.model)
    names = feature_names(model)
    rows = read_rows(arguments.captures, names)
    training = rows.of_runs(set(model["training"]["runs"]))
    test = rows.of_runs(set(model["training"]["held_out_runs"]))
    for what, part in (("trained on", training), ("held out", test)):
        if len(np.unique(part.retried)) < 2:
            raise InputError(f"expected rows of both labels in runs that {arguments.model} names "
                             f"as {what}, found {len(part.retried)} rows")
    trained_names = {rows.runs[i] for i in np.unique(training.run)}
    if len(trained_names) < 2:
        raise InputError("expected 2 training runs or more, found 1")
    kept = validation_runs(trained_names, arguments.seed)
    fitted, validated = training.of_runs(trained_names - kept), training.of_runs(kept)
    progress(f"{len(training.retried)} rows of {len(trained_names)} runs to train on "
             f"({len(kept)} of them to stop by), {len(test.retried)} held out, "
             f"{len(names)} features")
    models = [{"name": f"petrel {model['name']} v{model['version']}, in floating point",
               **all_figures(model_probability(model, test, names), test, arguments)}]
    boosting = None
    for learner in learners(arguments.seed):
        progress(learner.name)
        settings = learner.fit(training, fitted, validated)
        models.append({"name": learner.name, "settings": settings,
                       **all_figures(learner.predict(test), test, arguments)})
        boosting = boosting or learner
    bound = max((each for each in models[1:] if each["name"].startswith("gradient")),
                key=lambda each: each["all"]["auc"])
    return {"schema": "petrel/upper-bound/v1", **header(arguments.bin, arguments.seed),
            "model": bound["name"], "auc": bound["all"]["auc"],
            "auc_interval": bound["all"]["auc_interval"], "checksum": model["checksum"],
            "training_rows": len(training.retried), "features": names, "models": models,
            "shuffled_label_auc": shuffled_auc(boosting, training, test, arguments)}


def show(result):
    def cell(figure, name):
        value, interval = figure.get(name), figure.get(f"{name}_interval")
        if value is None:
            return "-"
        return f"{value:.4f}" + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")

    for where in ["all", *POINTS]:
        print(f"\n{where:<44} {'rows':>8} {'AUC':>22} {'log loss':>22} {'ECE':>22}")
        for each in result["models"]:
            figure = each["all"] if where == "all" else each["by_point"][where]
            print(f"{each['name']:<44} {figure['rows']:>8} {cell(figure, 'auc'):>22} "
                  f"{cell(figure, 'log_loss'):>22} {cell(figure, 'ece'):>22}")
    below = result["auc"] - result["models"][0]["all"]["auc"]
    print(f"\nthe model is {below:.4f} below {result['model']} (aim: at most {AIM})")
    print(f"labels permuted: AUC {result['shuffled_label_auc']:.4f}")


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="upper-bound", description="What gradient boosting and another library's logistic "
        "regression reach with the model's features, on the model's own split by run.",
        epilog="Exit codes: 0 good, whatever the figures; 1 run-time error, 2 usage, 3 a file is "
        "wrong, 5 a package is missing (scripts/setup --upper-bound). `petrel evaluate "
        "--upper-bound FILE` holds its figures against the bound.")
    parser.add_argument("captures", nargs="+", help="the captures that the model was trained on: "
                        "SQLite, directories of CSV, or CSV of rows")
    parser.add_argument("--model", type=Path, default=ROOT / "model/retry.json",
                        help="names the runs of either side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes petrel/upper-bound/v1")
    parser.add_argument("--resamples", type=int, default=200, help="of runs, for the intervals")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=Path, default=ROOT / "build/release/bin",
                        help="where petrel is, for its version")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse(argv)
    try:
        result = study(arguments)
    except InputError as error:
        progress(f"upper-bound: {error}")
        return 3
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
