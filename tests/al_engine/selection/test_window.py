"""The window: both its ends, net forces, quantiles of known deviations, storing it."""

import numpy as np
import pytest

from al_engine.config import AdaptiveConfig, SelectionConfig
from al_engine.selection.window import Window, adaptive_ends, window_of

NO_FRAMES = np.empty(0)


@pytest.mark.parametrize(("lower", "upper"), [(100.0, 300.0), (9.0, 13.0), (18.0, 26.0), (36.0, 43.0), (115.0, 359.0)])
def test_both_ends_belong_to_the_window(lower, upper):
    """Also where lower x 1e-3 is not the float nearest the decimal number."""
    low, high = lower / 1000.0, upper / 1000.0
    deviation = np.array([np.nextafter(low, 0.0), low, high, np.nextafter(high, 1.0)])
    window = window_of(SelectionConfig(lower_mev_per_ang=lower, upper_mev_per_ang=upper), NO_FRAMES)
    assert window.accurate(deviation, np.zeros(4)).tolist() == [True, False, False, False]
    assert window.trusted(deviation, np.zeros(4)).tolist() == [True, True, True, False]
    net = Window(1e6, 1e7, lower, upper)
    assert net.accurate(np.zeros(4), deviation).tolist() == [True, False, False, False]
    assert net.trusted(np.zeros(4), deviation).tolist() == [True, True, True, False]


def test_excess_is_how_far_into_its_window_a_frame_is():
    window = Window(100.0, 300.0, 20.0, 60.0)
    np.testing.assert_allclose(window.excess(np.array([0.2, 0.01, 0.2]), np.array([0.0, 0.05, 0.05])), [2.0, 2.5, 2.5])
    np.testing.assert_allclose(Window(100.0, 300.0).excess(np.array([0.2]), np.array([9.0])), [2.0])


def test_adaptive_ends_of_known_quantiles():
    """Deviations 0, 1, ..., 100 meV/Å in any order and shape: the quantile q is 100 q."""
    deviation = np.random.default_rng(0).permutation(np.arange(101.0)).reshape(101, 1) / 1000.0
    config = AdaptiveConfig(enabled=True, lower_quantile=0.9, upper_factor=3.0, floor_mev_per_ang=50.0)
    assert adaptive_ends(config, deviation) == pytest.approx((90.0, 270.0))
    lower_half = config.model_copy(update={"lower_quantile": 0.75})
    assert adaptive_ends(lower_half, deviation) == pytest.approx((75.0, 225.0))


def test_adaptive_lower_end_stays_above_its_floor():
    config = AdaptiveConfig(enabled=True, lower_quantile=0.9, upper_factor=2.0, floor_mev_per_ang=50.0)
    assert adaptive_ends(config, np.full(10, 0.01)) == (50.0, 100.0)
    assert adaptive_ends(config, NO_FRAMES) == (50.0, 100.0)


def test_adaptive_ends_take_no_notice_of_what_is_not_finite():
    config = AdaptiveConfig(enabled=True, lower_quantile=0.5)
    assert adaptive_ends(config, np.array([0.1, 0.2, 0.3, np.nan, np.inf, np.inf])) == pytest.approx((200.0, 600.0))


def test_the_share_of_frames_above_an_adaptive_lower_end_is_what_was_asked_for():
    deviation = np.random.default_rng(1).gamma(2.0, 0.05, size=5000)
    config = SelectionConfig(adaptive=AdaptiveConfig(enabled=True, lower_quantile=0.8, floor_mev_per_ang=1.0))
    window = window_of(config, deviation)
    assert window.accurate(deviation, np.zeros(5000)).mean() == pytest.approx(0.8, abs=1 / 5000)


def test_a_fixed_window_does_not_follow():
    config = SelectionConfig(net_force_lower_mev_per_ang=20.0, net_force_upper_mev_per_ang=60.0)
    assert window_of(config, np.full(100, 5.0)) == Window(100.0, 300.0, 20.0, 60.0)


@pytest.mark.parametrize("window", [Window(100.0, 300.0), Window(123.456, 370.368, 20.0, 60.0)])
def test_a_stored_window_is_the_same_window(window):
    attributes = window.to_attributes()
    assert Window.from_attributes({**attributes, "seconds": 1.0}) == window
    assert all(isinstance(value, float) for value in attributes.values())


@pytest.mark.parametrize("ends", [(300.0, 100.0), (-1.0, 100.0), (100.0, 300.0, 20.0), (np.nan, 300.0)])
def test_ends_that_make_no_window_are_refused(ends):
    with pytest.raises(ValueError, match="window"):
        Window(*ends)
