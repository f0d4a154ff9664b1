# SPDX-License-Identifier: MIT
"""What of a comparison this host cannot run: said, and left out unless it was asked for by name."""

from . import netem
from .compare_policies import missing_tools

NEEDS = {"netem": netem.lacking}


def missing_needs(scenarios):
    """{scenario's name: why it cannot run here}."""
    why = {need: NEEDS[need]() for need in {scenario.needs for scenario in scenarios} - {None}}
    return {scenario.name: why[scenario.needs] for scenario in scenarios
            if scenario.needs and why[scenario.needs]}


def all_missing(options):
    return missing_tools(options.policies) | missing_needs(options.scenarios)


def split(options):
    """(what cannot run and was asked for, what cannot and was not), each {name: why}. The latter
    is taken out of the options."""
    tools, needs = missing_tools(options.policies), missing_needs(options.scenarios)
    asked = {policy.name: tools[policy.name] for policy in options.policies
             if policy.name in tools and (options.policy or not policy.optional)}
    asked |= needs if options.scenario else {}
    left_out = {name: why for name, why in (tools | needs).items() if name not in asked}
    options.policies = [policy for policy in options.policies if policy.name not in left_out]
    options.scenarios = [one for one in options.scenarios if one.name not in left_out]
    return asked, left_out
