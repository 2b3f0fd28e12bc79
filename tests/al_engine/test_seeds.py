"""Seeds: equal everywhere, different for every purpose."""

import numpy as np

from al_engine.seeds import derived_rng, derived_seed


def test_seeds_are_the_same_on_every_machine():
    assert derived_seed(0, "train", 3, 1) == 4915738172882557997
    assert derived_rng(7, "sample", 0).integers(2**31) == np.random.default_rng(derived_seed(7, "sample", 0)).integers(
        2**31
    )


def test_seeds_differ_in_every_argument():
    seeds = {
        derived_seed(campaign, purpose, *numbers)
        for campaign in (0, 1, 11)
        for purpose in ("train", "sample")
        for numbers in ((), (1,), (1, 1), (11,), (0, 11), (1, 2), (2, 1))
    }
    assert len(seeds) == 3 * 2 * 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_of_neighbours_are_unrelated():
    """Bits of consecutive seeds are set half of the time and independent of each other: no pattern to correlate MD."""
    seeds = np.array([derived_seed(0, "sample", i) for i in range(2000)], dtype=np.uint64)
    bits = (seeds[:, None] >> np.arange(63, dtype=np.uint64)) & np.uint64(1)
    np.testing.assert_allclose(bits.mean(axis=0), 0.5, atol=0.06)
    np.testing.assert_allclose((bits[1:] ^ bits[:-1]).mean(axis=0), 0.5, atol=0.06)
