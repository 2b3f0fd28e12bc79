"""Seeds of all random numbers: derived from campaign seed, purpose and numbers such as iteration, never the clock."""

import hashlib

import numpy as np


def derived_seed(campaign_seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed for a purpose; equal arguments give equal seeds on every machine."""
    text = "|".join([str(campaign_seed), purpose, *(str(n) for n in numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def derived_rng(campaign_seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A random number generator seeded by `derived_seed`."""
    return np.random.default_rng(derived_seed(campaign_seed, purpose, *numbers))
