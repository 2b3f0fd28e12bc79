"""Frames and labels for caches, and the function of a process that fills a cache (it imports this module by name)."""

import numpy as np

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.config import LabelsConfig
from al_engine.structures.frames import Frame, LabelledFrame
from labelers.backends.registry import level_of_theory
from labelers.pool.cache import LabelCache

LEVEL = level_of_theory(LabelsConfig(backend="tblite"))


def frame(seed=0, **others):
    rng = np.random.default_rng(seed)
    return Frame(numbers=[8, 1, 1], positions=rng.normal(size=(3, 3)), **others)


def outcome(of, seed=0, rescue=""):
    rng = np.random.default_rng(seed)
    label = LabelledFrame(of, rng.normal() * 1e3, rng.normal(size=(3, 3)))
    return LabelOutcome(LabelReason.OK, "", label, 1.0, rescue=rescue)


def fill(path, first):
    with LabelCache(path, LEVEL) as cache:
        for seed in range(first, first + 30):
            cache.keep([outcome(frame(seed), seed)])
