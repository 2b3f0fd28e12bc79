"""The campaign config: a typed tree, the single source of defaults, validation and documentation.

A field with a unit bears it in its name. Its meaning is in `Field(description=...)`. `writer` writes a config as
commented YAML, `reader` reads and validates it, `presets` contains starting points.
"""

from al_engine.config.base import Section
from al_engine.config.campaign import MUTABLE, CampaignConfig, OneSystemConfig, is_mutable, is_within, name_from
from al_engine.config.data import DataConfig, EnergyUnit, ForcesUnit
from al_engine.config.execution import Acceleration, ClusterConfig, ExecutionConfig, Resources, StageKind
from al_engine.config.labels import CellCheckConfig, ForceCheckConfig, LabelBackend, LabelsConfig
from al_engine.config.model import (
    GATED_KINDS,
    ONE_PATH_KINDS,
    Dtype,
    ModelConfig,
    ModelKind,
    PathConfig,
    TrainingConfig,
)
from al_engine.config.sampling import SamplingConfig
from al_engine.config.selection import AdaptiveConfig, SelectionConfig
from al_engine.config.stop import StopConfig
from al_engine.config.system import InitialConfig, InitialSource, SpeciesConfig, StretchConfig, SystemConfig
from al_engine.config.systems import NamedSystemConfig, StatePoint, hotter_half

__all__ = [
    "GATED_KINDS",
    "MUTABLE",
    "ONE_PATH_KINDS",
    "Acceleration",
    "AdaptiveConfig",
    "CampaignConfig",
    "CellCheckConfig",
    "ClusterConfig",
    "DataConfig",
    "Dtype",
    "EnergyUnit",
    "ExecutionConfig",
    "ForceCheckConfig",
    "ForcesUnit",
    "InitialConfig",
    "InitialSource",
    "LabelBackend",
    "LabelsConfig",
    "ModelConfig",
    "ModelKind",
    "NamedSystemConfig",
    "OneSystemConfig",
    "PathConfig",
    "Resources",
    "SamplingConfig",
    "Section",
    "SelectionConfig",
    "SpeciesConfig",
    "StageKind",
    "StatePoint",
    "StopConfig",
    "StretchConfig",
    "SystemConfig",
    "TrainingConfig",
    "hotter_half",
    "is_mutable",
    "is_within",
    "name_from",
]
