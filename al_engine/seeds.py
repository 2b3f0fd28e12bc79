"""Seeds of all random numbers: derived from the campaign's seed, a purpose and numbers, never from the clock."""

import hashlib

import numpy as np


def derived_seed(campaign_seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed for a purpose; equal arguments give equal seeds on every machine.

    Args:
        campaign_seed: Seed of the campaign, or of one of its systems.
        purpose: Name of the purpose, such as `start`.
        numbers: Numbers that distinguish the seeds of a purpose, such as the iteration.
    """
    text = "|".join([str(campaign_seed), purpose, *(str(n) for n in numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def derived_rng(campaign_seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A random number generator seeded by `derived_seed`, with the same arguments."""
    return np.random.default_rng(derived_seed(campaign_seed, purpose, *numbers))
