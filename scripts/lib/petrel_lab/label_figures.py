# SPDX-License-Identifier: MIT
"""Precision and recall of the label, with intervals: 95 %, by a bootstrap over users."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

RESAMPLES = 1000
LEAST_USERS = 2


@dataclass
class Cell:
    """What one scenario and client came to; runs are added one by one."""
    scenario: str
    client: str
    attempts: int = 0
    not_reached: int = 0       # attempts that no record tells of
    retries_not_reached: int = 0
    blind: int = 0             # retries that came, after an attempt of which no record tells
    unexplained: int = 0       # records of no attempt
    unexplained_retries: int = 0
    lost: int = 0              # records that a capture knows it has lost
    runs: int = 0
    # (seed, user): of the attempts that were joined, by (true, labelled)
    users: dict = field(default_factory=lambda: defaultdict(Counter))
    confidence: dict = field(default_factory=lambda: {True: [0, 0.0], False: [0, 0.0]})

    def add_run(self, seed, joined):
        self.runs += 1
        self.attempts += len(joined.pairs) + len(joined.attempts_left)
        self.not_reached += len(joined.attempts_left)
        self.retries_not_reached += sum(a.is_retry for a in joined.attempts_left)
        self.unexplained += len(joined.records_left)
        self.unexplained_retries += sum(r.is_retry for r in joined.records_left)
        self.lost += joined.lost
        seen = {(attempt.request, attempt.number) for attempt, _ in joined.pairs}
        for attempt, record in joined.pairs:
            self.users[seed, attempt.user][attempt.is_retry, record.is_retry] += 1
            if attempt.is_retry and (attempt.request, attempt.number - 1) not in seen:
                self.blind += 1
            if record.is_retry:
                sums = self.confidence[attempt.is_retry]
                sums[0] += 1
                sums[1] += record.confidence

    def figures(self, seed):
        """The cell as the result file has it."""
        total = sum(self.users.values(), Counter())
        precision, recall = precision_of(total), recall_of(total)
        intervals = bootstrap(list(self.users.values()), seed)
        mean = {right: sums[1] / sums[0] if sums[0] else None
                for right, sums in self.confidence.items()}
        return {
            "scenario": self.scenario, "client": self.client, "attempts": self.attempts,
            "retries_true": total[True, True] + total[True, False],
            "precision": precision, "precision_interval": intervals[0],
            "recall": recall, "recall_interval": intervals[1],
            "retries_labelled": total[True, True] + total[False, True],
            "runs": self.runs, "users": len(self.users),
            "attempts_not_reached": self.not_reached,
            "retries_not_reached": self.retries_not_reached,
            "retries_after_unseen": self.blind,
            "records_unexplained": self.unexplained,
            "records_unexplained_retries": self.unexplained_retries,
            "records_lost": self.lost,
            "confidence_right": mean[True], "confidence_wrong": mean[False],
        }


def ratio(part, whole):
    return part / whole if whole else None


def precision_of(counts):
    return ratio(counts[True, True], counts[True, True] + counts[False, True])


def recall_of(counts):
    return ratio(counts[True, True], counts[True, True] + counts[True, False])


def interval_of(values):
    """The 2.5th and 97.5th percentile; None where the figure does not exist in most resamples."""
    values = sorted(value for value in values if value is not None)
    if len(values) < RESAMPLES / 2:
        return None
    last = len(values) - 1
    return [values[round(0.025 * last)], values[round(0.975 * last)]]


def bootstrap(users, seed):
    """Users are drawn again, with replacement: a user's attempts are not independent of each other.
    The same seed, the same interval."""
    if len(users) < LEAST_USERS:
        return None, None
    rng = random.Random(f"bootstrap/{seed}")
    # Those without retries, true or labelled, are all alike and change neither figure.
    telling = [(u[True, True], u[False, True], u[True, False]) for u in users
               if u[True, True] or u[False, True] or u[True, False]]
    share = len(telling) / len(users)
    precisions, recalls = [], []
    for _ in range(RESAMPLES):
        drawn = binomial(rng, len(users), share)
        right = wrong = missed = 0
        for user in rng.choices(telling, k=drawn) if telling else ():
            right, wrong, missed = right + user[0], wrong + user[1], missed + user[2]
        precisions.append(ratio(right, right + wrong))
        recalls.append(ratio(right, right + missed))
    return interval_of(precisions), interval_of(recalls)


def binomial(rng, count, share):
    """How many of `count` draws are among a `share`."""
    return sum(rng.random() < share for _ in range(count))
