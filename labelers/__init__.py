"""Labels: reference energies and forces from GFN2-xTB (xtb-python, tblite) or any ASE calculator; the worker pool.

Importing this package loads no quantum-chemistry code: a backend is imported only when its labeler is built.
"""

from al_engine.campaign.labels import LabelOutcome, LabelReason, LevelOfTheory
from al_engine.structures.sanity import screen_frame
from labelers.backends.protocol import Labeler, LabelError
from labelers.backends.registry import create_labeler, level_of_theory, resolve_backend
from labelers.pool.chunk import label_chunk
from labelers.pool.label_check import screen_label
from labelers.pool.pool import LabelPool

__all__ = [
    "LabelError",
    "LabelOutcome",
    "LabelPool",
    "LabelReason",
    "Labeler",
    "LevelOfTheory",
    "create_labeler",
    "label_chunk",
    "level_of_theory",
    "resolve_backend",
    "screen_frame",
    "screen_label",
]
