"""The whole config of a campaign: all sections, and the rules that concern several sections."""

import re
import unicodedata
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from al_engine.config.base import Section, Seed
from al_engine.config.execution import ExecutionConfig
from al_engine.config.labels import LabelsConfig
from al_engine.config.model import ModelConfig, TrainingConfig
from al_engine.config.sampling import SamplingConfig
from al_engine.config.selection import SelectionConfig
from al_engine.config.stop import StopConfig
from al_engine.config.system import InitialConfig, SystemConfig

MARKS = "._,+=@() -"
"""Characters that a campaign's name may contain besides letters and digits; it serves as folder name and UI tag."""
NAME = re.compile(rf"[^\W_][\w{re.escape(MARKS)}]{{0,63}}(?<! )")


def _checked_name(value: str) -> str:
    value = unicodedata.normalize("NFC", value)
    if not NAME.fullmatch(value):
        raise ValueError(
            "use 1-64 letters, digits, spaces or any of '._,+=@()-', starting with a letter or digit and not ending "
            "with a space"
        )
    return value


def name_from(folder: str) -> str:
    """Make a campaign's name from the name of its folder: characters that are not allowed become dashes."""
    text = re.sub(rf"[^\w{re.escape(MARKS)}]+", "-", unicodedata.normalize("NFC", folder))
    return re.sub(r"^[\W_]+", "", text)[:64].rstrip(" -") or "campaign"


class CampaignConfig(Section):
    """A campaign: everything about one force field."""

    name: Annotated[str, AfterValidator(_checked_name)] = Field(
        description="Name of the campaign; in the UI its runs have this tag."
    )
    seed: Seed = Field(0, description="Seed of all random numbers.")
    system: SystemConfig = Field(description="The system that the force field is trained for.")
    initial: InitialConfig = Field(
        default_factory=InitialConfig, description="Source of the initial set and of the test set."
    )
    labels: LabelsConfig = Field(default_factory=LabelsConfig, description="Reference energies and forces.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The architecture of the models.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The committee and its training.")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="MD driven by the committee.")
    selection: SelectionConfig = Field(default_factory=SelectionConfig, description="Which frames are labelled.")
    stop: StopConfig = Field(default_factory=StopConfig, description="When the campaign stops.")
    execution: ExecutionConfig = Field(
        default_factory=ExecutionConfig,
        description=(
            "How the machine is used. These options may change at any time: they change results by no more than "
            "rounding."
        ),
    )

    @property
    def labels_boxes(self) -> bool:
        """Whether whole periodic boxes are labelled, instead of clusters."""
        return self.system.shape == "box" and self.selection.cut_molecules is None

    @model_validator(mode="after")
    def _boxes_and_clusters(self) -> Self:
        is_box, cut = self.system.shape == "box", self.selection.cut_molecules
        if self.sampling.pressure_bar is not None and not is_box:
            raise ValueError("`sampling.pressure_bar` is for `system.shape: box`; a cluster has no volume")
        if cut is not None and not is_box:
            raise ValueError("`selection.cut_molecules` cuts clusters from boxes: it needs `system.shape: box`")
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        box = self.initial.box_molecules
        if box and self.system.shape == "box":
            raise ValueError("`initial.box_molecules` cuts clusters: it needs `system.shape: cluster`")
        if box and box < self.system.molecules:
            raise ValueError(
                f"initial.box_molecules ({box}) must be at least system.molecules ({self.system.molecules})"
            )
        if box and self.system.density_g_per_cm3 is None:
            raise ValueError("`initial.box_molecules` needs `system.density_g_per_cm3`")
        return self


MUTABLE = (
    "stop",
    "execution",
    "sampling.cost_share",
    "labels.force_check",
    "labels.cell_check",
    "labels.time_limit_s",
    "labels.memory_limit_mib",
    "labels.max_failed_share",
)
"""Sections and fields that may change in a campaign that has begun, because no key of a part hashes them."""


def is_mutable(key: str) -> bool:
    """Whether the value at a dotted key may change in a campaign that has begun."""
    return any(key == free or key.startswith(f"{free}.") for free in MUTABLE)
