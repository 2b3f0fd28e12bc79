"""Reference energies and forces: GFN2-xTB (xtb-python, tblite), any ASE calculator; the worker pool.

Importing this package loads no quantum-chemistry code: the backends are imported where labels are computed.
"""

from labelers.chunk import label_chunk
from labelers.pool import LabelPool
from labelers.protocol import Labeler, LabelError, LabelOutcome, LabelReason, LevelOfTheory
from labelers.registry import create_labeler, level_of_theory, resolve_backend
from labelers.screen import screen_frame, screen_label

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
