# SPDX-License-Identifier: MIT
"""The result files of scripts/compare: one a run, each whole or not there.

    DIR/SCENARIO/POLICY-SEED.json, and DIR/quick/… of quick runs

A result is of what made it: the programs, the model, the scenario and the policy as they were. One
that was made by others is stale: it is said, measured anew, and never mixed with the fresh ones.
"""

import hashlib
import inspect
import json
import os
from pathlib import Path

from .compare_scenario import described, fingerprint

SCHEMA = "petrel/compare-run/v1"
METHOD = 2  # how figures are made of a run: a change makes earlier results stale


def hash_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def bearing(description):
    """What of a scenario bears on a run: not how it is told, nor what it is held against."""
    told = ("about", "scaling", "aim", "capacity_during", "offered_during")
    return {key: value for key, value in description.items() if key not in told}


class Store:
    """The results in a directory, and what is fresh of them."""

    def __init__(self, directory, quick, bin_dir, model):
        self.directory = directory / "quick" if quick else directory
        self.quick = quick
        self.traffic = hash_of(bin_dir / "petrel-traffic")
        self.petrel = hash_of(bin_dir / "petrel")
        self.model = hash_of(model)
        self._versions = {}

    def path(self, scenario, policy, seed):
        return self.directory / scenario.name / f"{policy.name}-{seed}.json"

    def identity(self, scenario, policy):
        """What made it, as far as it bears on the result."""
        found = {"method": METHOD, "traffic": self.traffic,
                 "scenario": fingerprint(bearing(described(scenario, self.quick)))}
        if policy.proxy is None:
            found |= {"petrel": self.petrel, "model": self.model,
                      "policy": fingerprint([policy.mode, policy.service, policy.control])}
        else:
            if policy.name not in self._versions:
                self._versions[policy.name] = policy.proxy.version()
            found |= {"proxy": self._versions[policy.name],
                      "policy": hash_of(inspect.getsourcefile(policy.proxy))}
        return found

    def read(self, scenario, policy, seed):
        """(result or None, why it is stale or None). ValueError: it is no result."""
        path = self.path(scenario, policy, seed)
        if not path.exists():
            return None, None
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            made_by, schema = result["identity"], result["schema"]
            result["outcome"]["requests"], result["petrel"]["commit"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected a result of scripts/compare ({SCHEMA}), found "
                             f"something else: {type(error).__name__} {error}: remove it, or "
                             "--force measures anew") from None
        if schema != SCHEMA:
            return None, f"schema {schema}"
        wanted = self.identity(scenario, policy)
        differ = sorted(key for key in wanted.keys() | made_by.keys()
                        if wanted.get(key) != made_by.get(key))
        if differ:
            return None, f"another {', '.join(differ)} (commit {result['petrel']['commit']})"
        return result, None

    def write(self, scenario, policy, seed, result):
        path = self.path(scenario, policy, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new{os.getpid()}")
        new.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(new, path)
