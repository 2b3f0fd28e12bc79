"""Struck at commit points and inside stages, then resumed: what comes out is what an undisturbed campaign gives."""

import itertools
import random

import pytest
from flow_runs import CommandLine
from kills import WAYS, Trial, compare, strike_all

BLOWS = 6
POINTS = 9
"""Some of many: `make faults` strikes 200 times. A campaign passes some of its points: a blow was late, or two of them
fell together."""
SEED = 20


@pytest.mark.timeout(900)
def test_a_campaign_struck_again_and_again_ends_as_one_left_alone(prefect_server, alone, tmp_path):
    assert any("audited" in event for event, _ in alone.points)  # audits are struck too
    command_line = CommandLine(prefect_server, tmp_path)
    rng, ways, struck = random.Random(SEED), itertools.cycle(WAYS), []
    for number in range(3):  # a campaign may end before it has met enough of its points
        trial = Trial(command_line, command_line.directory / f"struck{number}", overlap=True)
        points = rng.sample(alone.points, POINTS - len(struck))
        struck += strike_all(trial, points, ways, rng)
        assert compare(trial, alone) == []
        if len(struck) >= BLOWS:
            break
    assert [(blow.point, blow.way, blow.wrong) for blow in struck if blow.wrong] == []
    assert len(struck) >= BLOWS / 2
    assert {blow.way for blow in struck} == set(WAYS)
