"""Committee health: planted rogue and collapsed members are named, and healthy random committees hardly ever."""

import numpy as np
import pytest

from al_engine.committee.health import COLLAPSED, LEAST_FRAMES, MemberForces, committee_health

NO_FRAMES: list[MemberForces] = []


def committee(
    seed: int,
    *,
    frames: int = 40,
    members: int = 4,
    atoms: int = 9,
    correlation: float = 0.4,
    factors=None,
) -> list[MemberForces]:
    """Members that err by Gaussians of a correlation among them, on frames some of which are ten times as hard.

    The error of a member is its factor (a random one within 15 %, unless given) x frame's difficulty x Gaussian.
    """
    rng = np.random.default_rng(seed)
    factors = rng.uniform(0.85, 1.15, members) if factors is None else np.asarray(factors)
    made = []
    for _ in range(frames):
        reference = rng.normal(size=(atoms, 3))
        difficulty = 0.03 * rng.lognormal(0.0, 0.8)
        own, common = rng.normal(size=(members, atoms, 3)), rng.normal(size=(atoms, 3))
        error = np.sqrt(1.0 - correlation) * own + np.sqrt(correlation) * common
        made.append(MemberForces(reference + difficulty * factors[:, None, None] * error, reference))
    return made


def edited(frames: list[MemberForces], edit) -> list[MemberForces]:
    return [MemberForces(edit(f.predicted.copy(), f.reference), f.reference) for f in frames]


def expected_ratio(correlation: float, members: int) -> float:
    """Krogh & Vedelsby, for errors of one size and one correlation."""
    return np.sqrt((correlation + (1 - correlation) / members) / ((1 - correlation) * (1 - 1 / members)))


# -- healthy ----------------------------------------------------------------------------------------------------


def test_a_healthy_committee_has_nothing_wrong():
    health = committee_health(committee(0), NO_FRAMES)
    assert (health.collapsed, health.rogue, health.identical, health.warnings()) == (False, None, (), [])
    assert health.frames == 40
    assert len(health.member_error_mev_per_ang) == len(health.deviation_without) == 4


@pytest.mark.parametrize(("frames", "atoms", "members"), [(40, 9, 4), (12, 3, 4), (40, 9, 3), (40, 9, 2), (15, 40, 8)])
def test_healthy_committees_are_hardly_ever_flagged(frames, atoms, members):
    """Members' errors within 15 % of each other and correlated by up to 0.7, on frames of very unlike difficulty.

    Of 1,000 such committees of each kind none is flagged.
    """
    flagged = 0
    for seed in range(40):
        correlation = np.random.default_rng(seed).uniform(0.0, 0.7)
        made = committee(seed, frames=frames, atoms=atoms, members=members, correlation=correlation)
        flagged += bool(committee_health(made, NO_FRAMES).warnings())
    assert flagged == 0


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_error_over_spread_is_what_the_members_correlation_makes_it(correlation):
    health = committee_health(committee(1, frames=100, atoms=30, correlation=correlation, factors=[1.0] * 4), NO_FRAMES)
    assert health.error_over_spread == pytest.approx(expected_ratio(correlation, 4), rel=0.05)


# -- collapsed --------------------------------------------------------------------------------------------------


def test_a_collapsed_committee_is_named_with_its_factor():
    made = committee(2, correlation=0.97, factors=[1.0] * 4)
    health = committee_health(made, NO_FRAMES)
    assert health.collapsed
    assert health.error_over_spread == pytest.approx(expected_ratio(0.97, 4), rel=0.15)
    (warning,) = health.warnings()
    assert f"{health.error_over_spread:.3g} times the spread of its members" in warning


def test_the_limit_of_collapse_is_a_correlation_of_seven_eighths():
    assert expected_ratio(0.86, 4) < COLLAPSED < expected_ratio(0.88, 4)
    for correlation, collapsed in ((0.8, False), (0.92, True)):
        found = [committee_health(committee(s, correlation=correlation), NO_FRAMES).collapsed for s in range(20)]
        assert np.mean(found) == pytest.approx(float(collapsed), abs=0.05)


def test_new_labels_do_not_hide_a_collapse():
    """They were chosen for a large spread: on them members do differ."""
    collapsed, chosen = committee(3, correlation=0.97), committee(4, frames=200, correlation=0.0)
    assert committee_health(collapsed, chosen).collapsed


def test_members_that_are_the_same_have_collapsed_without_dividing_by_zero():
    made = edited(committee(5), lambda predicted, _: np.repeat(predicted[:1], 4, axis=0))
    health = committee_health(made, NO_FRAMES)
    assert health.collapsed
    assert health.error_over_spread == pytest.approx(1000.0)
    assert len(health.identical) == 6


@pytest.mark.parametrize("members", [2, 4, 6])
def test_two_members_that_are_nearly_the_same_are_named(members):
    def twin(predicted, _):
        predicted[1] = predicted[0] + 0.1 * (predicted[1] - predicted[0])
        return predicted

    health = committee_health(edited(committee(6, members=members), twin), NO_FRAMES)
    assert health.identical == ((0, 1),)
    assert health.collapsed
    assert "members 0 and 1 are nearly identical" in health.warnings()[0]


def test_two_pairs_of_twins_are_both_named():
    def twins(predicted, _):
        predicted[2:] = predicted[:2]
        return predicted

    assert committee_health(edited(committee(7), twins), NO_FRAMES).identical == ((0, 2), (1, 3))


# -- rogue ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rogue", [0, 2, 3])
def test_a_rogue_member_is_named(rogue):
    factors = np.ones(4)
    factors[rogue] = 3.0
    for seed in range(20):
        health = committee_health(committee(seed, factors=factors, correlation=0.2), NO_FRAMES)
        assert health.rogue == rogue
        assert health.member_error_ratio[rogue] == pytest.approx(3.0, rel=0.15)
        assert np.argmin(health.deviation_without) == rogue
        (warning,) = health.warnings()
        assert f"member {rogue} is rogue: its force error is {health.member_error_ratio[rogue]:.1f} times" in warning


def test_what_is_left_of_the_deviation_without_a_rogue_member():
    """Independent errors of 1, 1, 1 and 3: variances 3/4 x mean of (1, 1, 1, 9), and 2/3 without the last."""
    health = committee_health(committee(8, atoms=200, frames=20, correlation=0.0, factors=[1, 1, 1, 3.0]), NO_FRAMES)
    # the largest deviation over many atoms stands in for the mean: the same share up to the tails
    assert health.deviation_without[3] == pytest.approx(np.sqrt((2 / 3) / (0.75 * 3.0)), rel=0.15)


def test_a_member_somewhat_worse_is_not_rogue():
    found = [committee_health(committee(s, factors=[1, 1, 1, 1.4]), NO_FRAMES).rogue for s in range(40)]
    assert found == [None] * 40


def test_one_frame_on_which_a_member_fails_does_not_make_it_rogue():
    made = committee(9)
    made[3] = edited(made[3:4], lambda predicted, _: predicted + np.array([0, 0, 50.0, 0])[:, None, None])[0]
    assert committee_health(made, NO_FRAMES).rogue is None


def test_a_member_that_gives_no_numbers_is_named():
    def broken(predicted, _):
        predicted[1] = np.nan
        return predicted

    health = committee_health(edited(committee(10), broken), NO_FRAMES)
    assert health.rogue == 1
    assert health.member_error_mev_per_ang[1] is None
    assert "member 1 is rogue: its forces are not finite" in health.warnings()[0]
    assert all(error is not None for m, error in enumerate(health.member_error_mev_per_ang) if m != 1)


# -- too little to tell -----------------------------------------------------------------------------------------


def test_too_few_frames_or_members_say_nothing():
    assert committee_health(NO_FRAMES, NO_FRAMES) is None
    assert committee_health(committee(0, frames=LEAST_FRAMES - 1), NO_FRAMES) is None
    assert committee_health(committee(0, members=1), NO_FRAMES) is None


def test_without_a_test_set_collapse_is_not_judged():
    health = committee_health(NO_FRAMES, committee(11, correlation=0.97))
    assert health.error_over_spread is None
    assert not health.collapsed


def test_perfect_members_are_no_crash():
    exact = edited(committee(12), lambda _, reference: np.repeat(reference[None], 4, axis=0))
    health = committee_health(exact, NO_FRAMES)
    assert health.error_over_spread == 0.0
    assert health.rogue is None
