"""The whole config of a campaign: all sections, and the rules that concern several sections."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from al_engine.config.base import Section, Seed
from al_engine.config.data import DataConfig
from al_engine.config.execution import ExecutionConfig
from al_engine.config.labels import LabelsConfig
from al_engine.config.model import ModelConfig, TrainingConfig
from al_engine.config.presets import merged
from al_engine.config.sampling import SamplingConfig
from al_engine.config.selection import SelectionConfig
from al_engine.config.stop import StopConfig
from al_engine.config.system import InitialConfig, SystemConfig
from al_engine.config.systems import NamedSystemConfig, StatePoint
from al_engine.seeds import derived_seed

ENERGY_WEIGHT_OF_SEVERAL = 1000.0
"""Default of `training.energy_weight` in a campaign of several systems."""
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
    inherited_iterations: int | None = Field(
        None,
        ge=0,
        description="For a campaign that `al-engine fork` made: number of iterations that it shares with the campaign "
        "it was made from. Their labels are in the data set, and the verdict does not judge them. Not to be changed.",
    )
    system: SystemConfig | None = Field(
        None, description="The system that the force field is trained for. Give exactly one of `system` and `systems`."
    )
    systems: list[NamedSystemConfig] = Field(
        default_factory=list,
        description=(
            "Several systems, for which one committee is trained: a list of the options of `system`, each with a "
            "`name`. Each system has its own initial set, test set, temperatures and acceptance, and every system must "
            "pass the verdict. Further keys of a system: `temperatures_kelvin`, `pressure_bar`, `cut_molecules`, and "
            "`initial` with the options of `initial` that differ for it."
        ),
    )
    data: list[DataConfig] = Field(
        default_factory=list,
        description=(
            "Labelled frames of your own that join the data set before iteration 0: a list of files with the options "
            "below, such as `[{file: frames.extxyz}]`."
        ),
    )
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
        """Whether whole periodic boxes of a system are labelled, instead of clusters."""
        return any(one.system.shape == "box" and one.selection.cut_molecules is None for one in self.by_system.values())

    @property
    def file_elements(self) -> dict[str, str]:
        """The elements of the atom names and types in the files of `data`, as the systems name them.

        A name that systems translate into different elements is left out: a file with such a name is refused.
        """
        pairs = {pair for own in self.by_system.values() for pair in own.system.elements.items()}
        count = Counter(name for name, _ in pairs)
        return {name: element for name, element in sorted(pairs) if count[name] == 1}

    @property
    def by_system(self) -> dict[str, "OneSystemConfig"]:
        """The config of each system, as of a campaign of this system alone, by name; the only system has no name."""
        if not self.systems:
            return {"": OneSystemConfig.model_construct(**dict(self))}
        return {named.name: self._of(named) for named in self.systems}

    @property
    def state_points(self) -> list[StatePoint]:
        """The state points that are simulated: the temperatures of each system, system after system."""
        if not self.systems:
            return [StatePoint("", kelvin) for kelvin in self.sampling.temperatures_kelvin]
        return [
            StatePoint(named.name, kelvin)
            for named in self.systems
            for kelvin in named.temperatures_kelvin or self.sampling.temperatures_kelvin
        ]

    def _of(self, named: NamedSystemConfig) -> "OneSystemConfig":
        """The config of one of several systems; each system has a seed of its own.

        Raises:
            ValidationError: If the options of the system do not fit together.
        """
        kelvins = named.temperatures_kelvin or self.sampling.temperatures_kelvin
        sampling = {**dict(self.sampling), "temperatures_kelvin": kelvins, "pressure_bar": named.pressure_bar}
        return OneSystemConfig(
            **{
                **dict(self),
                "seed": derived_seed(self.seed, f"system {named.name}") % 2**32,
                "system": named,
                "systems": [],
                "initial": InitialConfig.model_validate(merged(self.initial.model_dump(), named.initial)),
                "sampling": SamplingConfig.model_validate(sampling),
                "selection": self.selection.model_copy(update={"cut_molecules": named.cut_molecules}),
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _energies_of_several_systems(cls, values: Any) -> Any:
        """Give the energies of several systems the weight that their differences need, unless the user gives one."""
        if not isinstance(values, Mapping) or not values.get("systems"):
            return values
        training = values.get("training", {})
        if isinstance(training, TrainingConfig):
            training = {name: getattr(training, name) for name in training.model_fields_set}
        if not isinstance(training, Mapping) or "energy_weight" in training:
            return values
        return {**values, "training": {"energy_weight": ENERGY_WEIGHT_OF_SEVERAL, **training}}

    @model_validator(mode="after")
    def _isolated_atoms_have_their_spin(self) -> Self:
        fixed = self.labels.backend == "ase" and self.labels.ase_charge_and_spin == "parameters"
        if fixed and self.training.reference_energies == "isolated_atoms":
            raise ValueError(
                "`labels.ase_charge_and_spin: parameters` sets the same spin for all frames, but isolated atoms differ "
                "in theirs; set it to `auto` or `atoms`, or write `training.reference_energies: fitted`"
            )
        return self

    @model_validator(mode="after")
    def _system_or_systems(self) -> Self:
        if (self.system is None) == (not self.systems):
            raise ValueError("give exactly one of `system` and `systems`")
        if not self.systems:
            return self
        names = [named.name.lower() for named in self.systems]  # some file systems do not distinguish upper case
        if "data" in names:
            raise ValueError("`data` cannot be the name of a system: it is the name of the user's own frames")
        if len(set(names)) != len(names):
            raise ValueError("two of the `systems` have the same `name`")
        for option, value in (
            ("sampling.pressure_bar", self.sampling.pressure_bar),
            ("selection.cut_molecules", self.selection.cut_molecules),
            ("initial.file", self.initial.file),
        ):
            if value is not None:
                own = "initial: {file: ...}" if option == "initial.file" else option.partition(".")[2]
                raise ValueError(f"`{option}` is an option of each system if there are several: write `{own}` there")
        for index, named in enumerate(self.systems):
            try:
                self._of(named)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(["systems", str(index), *(["initial"] if error.title == "InitialConfig" else [])])
                key = ".".join([where, *map(str, first["loc"])])
                text = first["msg"].removeprefix("Value error, ")
                if first["type"] == "extra_forbidden":
                    close = difflib.get_close_matches(str(first["loc"][-1]), InitialConfig.model_fields, n=1)
                    text = f"unknown key{f'; did you mean `{close[0]}`?' if close else ''}"
                raise ValueError(f"`{key}`: {text}") from None
        return self

    @model_validator(mode="after")
    def _boxes_and_clusters(self) -> Self:
        if self.system is None:
            return self  # each system is checked on its own
        is_box, cut = self.system.shape == "box", self.selection.cut_molecules
        if self.sampling.pressure_bar is not None and not is_box:
            raise ValueError("`sampling.pressure_bar` is for `system.shape: box`; a cluster has no volume")
        if cut is not None and not is_box:
            raise ValueError("`selection.cut_molecules` cuts clusters from boxes: it needs `system.shape: box`")
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.system is None:
            return self
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


class OneSystemConfig(CampaignConfig):
    """The config of a campaign of one system, or of one of the systems of a campaign, as if it were the only one."""

    system: SystemConfig

    @property
    def system_name(self) -> str:
        """Name of the system among several systems; empty if it is the only one."""
        return self.system.name if isinstance(self.system, NamedSystemConfig) else ""

    @property
    def by_system(self) -> dict[str, "OneSystemConfig"]:
        """This config alone."""
        return {self.system_name: self}

    @property
    def state_points(self) -> list[StatePoint]:
        """The temperatures of the system."""
        return [StatePoint(self.system_name, kelvin) for kelvin in self.sampling.temperatures_kelvin]


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
    return is_within(key, MUTABLE)


def is_within(key: str, options: Sequence[str]) -> bool:
    """Whether a dotted key is one of some options, or an option inside one of these sections."""
    return any(key == option or key.startswith(f"{option}.") for option in options)
