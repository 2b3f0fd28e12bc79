"""The campaign config: one typed tree, the single source of defaults, validation and documentation.

Every field bears its unit in its name and its description in `Field(description=...)`; `config_text` writes the
commented YAML from those, `config_io` reads it back, `presets` has the starting points.
"""

import re
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Temperature = Annotated[float, Field(gt=0.0, le=20_000.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise ValueError("use 1-64 letters, digits, '.', '_' or '-', starting with a letter or digit")
    return value


class Section(BaseModel):
    """A part of the config: no unknown keys, no silent conversions, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class SystemConfig(Section):
    """What the force field is for."""

    smiles: str | None = Field(None, min_length=1, description="SMILES of one molecule. Give this or `structure`.")
    structure: str | None = Field(
        None, min_length=1, description="Structure file that ASE reads (xyz, pdb, cif, ...), relative to this file."
    )
    molecules: PositiveInt = Field(1, le=10_000, description="How many copies of the molecule make the system.")
    shape: Literal["cluster", "box"] = Field(
        "cluster", description="`cluster`: molecules in vacuum; `box`: a periodic box at `density_g_per_cm3`."
    )
    density_g_per_cm3: PositiveFloat | None = Field(
        None, le=30.0, description="Density of the periodic box; also of the box that clusters are cut from."
    )
    charge: int | None = Field(
        None,
        ge=-100,
        le=100,
        description="Total charge of the system in e; null: formal charges of the SMILES.",
    )
    unpaired_electrons: int | None = Field(
        None, ge=0, le=100, description="Unpaired electrons of the system; null: 0, refused if that can't be."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.smiles is None) == (self.structure is None):
            raise ValueError("give exactly one of `smiles` and `structure`")
        if self.shape == "box" and self.density_g_per_cm3 is None:
            raise ValueError("`shape: box` needs `density_g_per_cm3`")
        return self


class StretchConfig(Section):
    """Bond stretching of initial frames: one random bond's length times U(shortest, longest)."""

    share: Fraction = Field(0.0, description="Share of the initial frames in which a bond is stretched; 0: none.")
    shortest_factor: PositiveFloat = Field(0.85, le=1.0, description="Smallest factor on the bond length.")
    longest_factor: float = Field(2.0, ge=1.0, le=5.0, description="Largest factor on the bond length.")


class InitialConfig(Section):
    """Where the frames of iteration 0 come from, and the test set that is put aside."""

    source: Literal["anneal", "file"] = Field(
        "anneal", description="`anneal`: classical MD (MMFF94) from hot to cold; `file`: your own frames."
    )
    file: str | None = Field(None, description="Trajectory that ASE reads, for `source: file`, relative to this file.")
    frames: PositiveInt = Field(100, description="Frames of the initial set.")
    test_frames: PositiveInt = Field(
        40,
        description="Frames of the test set, spread over all temperatures; never trained on or selected from.",
    )
    hot_kelvin: Temperature = Field(1000.0, description="Where the anneal starts.")
    cold_kelvin: Temperature = Field(280.0, description="Where the anneal ends.")
    duration_ps: PositiveFloat = Field(20.0, description="Length of the anneal; the test set takes as much again.")
    timestep_fs: PositiveFloat = Field(0.5, le=5.0, description="Time step of the classical MD.")
    box_molecules: int = Field(
        0,
        ge=0,
        le=10_000,
        description=(
            "0: anneal the system itself. Else: anneal a periodic box of so many molecules at "
            "`system.density_g_per_cm3` and cut out the `system.molecules` nearest its centre."
        ),
    )
    stretch: StretchConfig = Field(default_factory=StretchConfig, description="Bond stretching (augmentation).")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "file" and self.file is None:
            raise ValueError("`source: file` needs `file`")
        if self.source == "anneal" and self.file is not None:
            raise ValueError("`file` is only read with `source: file`")
        if self.cold_kelvin > self.hot_kelvin:
            raise ValueError(f"cold_kelvin ({self.cold_kelvin:g}) is above hot_kelvin ({self.hot_kelvin:g}); swap them")
        return self


class LabelsConfig(Section):
    """Reference energies and forces: GFN2-xTB, or any ASE calculator."""

    backend: Literal["auto", "xtb", "tblite", "ase"] = Field(
        "auto",
        description=(
            "`xtb` (xtb-python), `tblite`, or `ase` (a calculator by name); `auto`: xtb where it installs, else tblite."
        ),
    )
    accuracy: PositiveFloat = Field(1.0, le=1000.0, description="Numerical accuracy of GFN2-xTB; smaller is tighter.")
    electronic_temperature_kelvin: PositiveFloat = Field(300.0, le=20_000.0, description="Fermi smearing of GFN2-xTB.")
    max_scf_iterations: PositiveInt = Field(250, description="SCF cycles before a frame counts as not converged.")
    ase_calculator: str | None = Field(
        None, description="For `backend: ase`: a name ASE knows (`emt`) or `package.module:Class`."
    )
    ase_parameters: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the ASE calculator."
    )
    max_force_ev_per_ang: PositiveFloat = Field(
        100.0, description="A label with a larger force component is a recorded failure."
    )
    time_limit_s: PositiveFloat = Field(300.0, description="Time one label may take before its worker is killed.")
    chunk_frames: PositiveInt = Field(60, description="Labels per task; each finished chunk is safe on disk.")
    max_failed_share: Fraction = Field(
        0.2,
        description="Share of failed labels in one iteration beyond which the campaign stops as `failed`.",
    )

    @model_validator(mode="after")
    def _calculator_named(self) -> Self:
        if (self.backend == "ase") != (self.ase_calculator is not None):
            raise ValueError("`backend: ase` and `ase_calculator` go together")
        return self


class PathConfig(Section):
    """One of the two interaction paths of a model."""

    cutoff_ang: PositiveFloat = Field(description="Cut-off radius.", le=50.0)
    channels: PositiveInt = Field(description="Channels of its features.", le=1024)
    l_max: int = Field(description="Highest degree of its spherical harmonics.", ge=0, le=4)
    radial_mlp: list[PositiveInt] = Field(
        description="Hidden layers of the radial network; empty: linear in the Bessel functions."
    )


Dtype = Literal["float32", "float64"]
ModelKind = Literal["ms-mace", "ms-nequip", "mace", "nequip"]
ONE_PATH_KINDS: tuple[ModelKind, ...] = ("mace", "nequip")
"""Kinds without the long path."""
GATED_KINDS: tuple[ModelKind, ...] = ("ms-nequip", "nequip")
"""Kinds whose layers end in a gate, not in a product basis."""


def _default_long_path(values: dict[str, Any]) -> PathConfig | None:
    """The long path where none is given, by the fields validated before it."""
    if values.get("kind") in ONE_PATH_KINDS:
        return None
    return PathConfig(cutoff_ang=8.0, channels=16, l_max=1, radial_mlp=[])


class ModelConfig(Section):
    """A family of four: MACE and NequIP, and both with a cheap long-range path beside the costly short-range one."""

    kind: ModelKind = Field(
        "ms-mace",
        description=(
            "`ms-mace`, `ms-nequip`: two paths, then MACE's product basis or NequIP's gate; "
            "`mace`, `nequip`: the same without the long path."
        ),
    )
    short: PathConfig = Field(
        default_factory=lambda: PathConfig(cutoff_ang=4.5, channels=32, l_max=3, radial_mlp=[]),
        description="Short path: many channels, high degree.",
    )
    long: PathConfig | None = Field(
        default_factory=_default_long_path,
        description="Long path: few channels, low degree; null for `mace` and `nequip`, which have none.",
    )
    layers: int = Field(2, ge=1, le=6, description="Interaction layers.")
    product: Literal["symmetric", "recursive"] = Field(
        "symmetric",
        description=(
            "Product basis of the MACE kinds. `symmetric`: every coupling of up to `correlation` factors has a weight, "
            "as in MACE; `recursive`: factors are coupled one after another, with weights at every step."
        ),
    )
    first_layer: Literal["residual", "species"] = Field(
        "residual",
        description=(
            "How the first layer of the MACE kinds knows an atom's own species. `residual`: by its skip connection; "
            "`species`: by a linear map of the message per species, without one (as `mace_run_train` has it)."
        ),
    )
    correlation: int = Field(
        3, ge=1, le=3, description="Correlation order nu of the product basis (body order - 1); MACE kinds only."
    )
    hidden_l_max: int = Field(
        1, ge=0, le=3, description="Highest degree of the features between layers, at most `short.l_max`."
    )
    bessel_functions: PositiveInt = Field(8, le=64, description="Radial Bessel functions per path.")
    envelope_power: int = Field(6, ge=3, le=20, description="Power p of the polynomial cut-off.")
    readout_hidden: PositiveInt = Field(
        16, le=1024, description="Width of the last, non-linear readout; MACE kinds only (NequIP's is linear)."
    )
    fusion: Literal["message", "energy"] = Field(
        "message",
        description=(
            "`message`: the paths' messages are averaged before the product basis or gate; "
            "`energy`: two towers, energies summed. For two paths."
        ),
    )
    zbl: bool = Field(
        default=False,
        description="Add the Ziegler-Biersack-Littmark repulsion of close nuclei; it is zero beyond bond lengths.",
    )
    dtype: Dtype = Field("float32", description="Precision of the network.")

    @model_validator(mode="after")
    def _paths_fit_the_kind(self) -> Self:
        if self.kind in ONE_PATH_KINDS:
            if self.long is not None:
                raise ValueError(f"`kind: {self.kind}` has no long path; remove `long`, or use `kind: ms-{self.kind}`")
        elif self.long is None:
            raise ValueError(
                f"`kind: {self.kind}` needs `long`; without it use `kind: {self.kind.removeprefix('ms-')}`"
            )
        elif self.long.cutoff_ang <= self.short.cutoff_ang:
            raise ValueError(
                f"long.cutoff_ang ({self.long.cutoff_ang:g}) must be above short.cutoff_ang ({self.short.cutoff_ang:g})"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        """A value that differs from the default but would do nothing is a misunderstanding."""
        without_effect = ["fusion"] if self.kind in ONE_PATH_KINDS else []
        if self.kind in GATED_KINDS:
            without_effect += ["product", "first_layer", "correlation", "readout_hidden"]
        for name in without_effect:
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                raise ValueError(f"`{name}: {value}` has no effect with `kind: {self.kind}`; remove it")
        return self


class TrainingConfig(Section):
    """The committee and how its members are trained."""

    members: int = Field(4, ge=2, le=32, description="Models in the committee; they differ in their seed alone.")
    updates: PositiveInt = Field(3000, description="Gradient updates per member in iteration 0.")
    updates_growth: float = Field(
        0.08,
        ge=0.0,
        le=10.0,
        description="Later iterations take (1 + growth x iteration) times as many updates.",
    )
    batch_size: PositiveInt = Field(8, description="Frames per update.")
    learning_rate: PositiveFloat = Field(0.01, le=1.0, description="Peak learning rate of Adam (amsgrad).")
    start: str | None = Field(
        None,
        min_length=1,
        description=(
            "Start iteration 0 from trained models, of which `model` must be the architecture: a campaign directory, "
            "or a file that `models.interop.convert` wrote from your MACE or NequIP models; relative to this file. "
            "Member k starts from number k of them, after the last comes the first again. Members that start from one "
            "model differ in their batches and held-out frames alone, so that at first their deviation may be too "
            "small to select by. null: random weights."
        ),
    )
    warm_start: bool = Field(
        default=True,
        description=(
            "Start from the previous iteration's weights, optimizer fresh; else every iteration starts like the first."
        ),
    )
    warm_learning_rate_factor: PositiveFloat = Field(
        0.5, le=1.0, description="On the peak rate where weights are not random at first."
    )
    energy_weight: float = Field(1.0, ge=0.0, description="Weight of the squared energy error per atom (eV²).")
    force_weight: PositiveFloat = Field(100.0, description="Weight of the squared force error (eV²/Å²).")
    gradient_clip: PositiveFloat = Field(10.0, description="Largest gradient norm.")
    ema_decay: float = Field(
        0.99, ge=0.0, lt=1.0, description="Decay of the exponential moving average of the weights."
    )
    validation_share: float = Field(
        0.1, gt=0.0, lt=0.9, description="Share of the training set each member holds out for early stopping."
    )
    validation_interval: PositiveInt = Field(200, description="Updates between two validations (and checkpoints).")
    patience: PositiveInt = Field(20, description="Validations without improvement before training stops early.")


class SamplingConfig(Section):
    """Langevin MD driven by the committee."""

    temperatures_kelvin: list[Temperature] = Field(
        default_factory=lambda: [300.0, 500.0, 700.0, 900.0],
        min_length=1,
        description="Temperatures of the replicas.",
    )
    replicas: PositiveInt = Field(8, le=4096, description="Replicas at each temperature, run as one batch.")
    steps: PositiveInt = Field(2000, description="MD steps of each replica per iteration.")
    timestep_fs: PositiveFloat = Field(0.5, le=5.0, description="MD time step.")
    friction_per_ps: PositiveFloat = Field(10.0, description="Langevin friction.")
    stride_steps: PositiveInt = Field(
        20, description="Steps between two sampled frames: the deviation is evaluated there."
    )
    stop_deviation_mev_per_ang: PositiveFloat = Field(
        1000.0, description="A replica whose deviation passes this is stopped; its sound frames are kept."
    )
    wall_radius_ang: PositiveFloat | None = Field(
        None, description="Radius of the spherical wall around clusters; null: from the initial frames."
    )
    wall_ev_per_ang2: PositiveFloat = Field(0.5, description="Force constant of the wall.")

    @model_validator(mode="after")
    def _at_least_one_frame(self) -> Self:
        if self.stride_steps > self.steps:
            raise ValueError(f"stride_steps ({self.stride_steps}) is above steps ({self.steps}): no frame is sampled")
        if len(set(self.temperatures_kelvin)) != len(self.temperatures_kelvin):
            raise ValueError("temperatures_kelvin names a temperature twice; use `replicas` for more trajectories")
        return self


class SelectionConfig(Section):
    """Which sampled frames are labelled."""

    deviation: Literal["norm", "component"] = Field(
        "norm",
        description="`norm`: standard deviation of the force vector; `component`: largest of a Cartesian component.",
    )
    lower_mev_per_ang: PositiveFloat = Field(100.0, description="Below: accurate, nothing to learn.")
    upper_mev_per_ang: PositiveFloat = Field(300.0, description="Above: rejected, not trusted.")
    max_labels: PositiveInt = Field(100, description="Labels per iteration; candidates beyond it are left by lot.")
    min_distance_ang: PositiveFloat = Field(0.6, le=3.0, description="A frame with closer atoms is never labelled.")

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.lower_mev_per_ang >= self.upper_mev_per_ang:
            raise ValueError(
                f"lower_mev_per_ang ({self.lower_mev_per_ang:g}) must be below upper_mev_per_ang "
                f"({self.upper_mev_per_ang:g}); the reference work uses 100 and 300"
            )
        return self


class StopConfig(Section):
    """When a campaign ends. May be changed later: `resume` goes on under the new rules."""

    acceptance: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.005, description="Converged when candidates / sampled falls below this, and the guards below hold."
    )
    max_rejected_share: Fraction = Field(0.005, description="Guard: more rejected frames than this is not converged.")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(
        0.95,
        description="Guard: so many decorrelated frames that, were none accepted, the claim held at this confidence.",
    )
    max_iterations: PositiveInt = Field(10, le=1000, description="Iterations before the verdict `max_iterations`.")
    max_labels: PositiveInt | None = Field(
        None, description="Labels in all before the verdict `budget`; null: no limit."
    )
    stall_iterations: PositiveInt = Field(
        4, description="Iterations without a new label or without a lower acceptance before `stalled`."
    )
    unstable_iterations: PositiveInt = Field(
        3,
        description="Iterations in a row with most frames rejected or trajectories stopped before `unstable`.",
    )


Acceleration: TypeAlias = Literal["auto", "kernels", "graph", "off"]


class ExecutionConfig(Section):
    """How the machine is used. May be changed at any time; results differ by no more than a device's rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models train and run; auto: a GPU if there is one."
    )
    workers: PositiveInt | None = Field(
        None, le=1024, description="Worker processes; null: one per core (one on a GPU)."
    )
    acceleration: Acceleration = Field(
        "auto",
        description=(
            "What makes models fast. `kernels`: C++ on a CPU, compiled for it in seconds (by g++ or clang++; if there "
            "is neither, a warning says so). `graph`: kernels, and energies and forces compiled as a whole by torch, "
            "in a minute. `auto`: kernels on a CPU, on a GPU the graph where a run is long enough. `off`: plain torch."
        ),
    )


class CampaignConfig(Section):
    """A campaign: everything about one force field."""

    name: Annotated[str, AfterValidator(_safe_name)] = Field(description="Name of the campaign: its tag in the UI.")
    seed: Seed = Field(0, description="Seed of all randomness.")
    system: SystemConfig = Field(description="What the force field is for.")
    initial: InitialConfig = Field(default_factory=InitialConfig, description="The initial set and the test set.")
    labels: LabelsConfig = Field(default_factory=LabelsConfig, description="Reference energies and forces.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The model.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The committee and its training.")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="Committee-driven MD.")
    selection: SelectionConfig = Field(default_factory=SelectionConfig, description="Which frames are labelled.")
    stop: StopConfig = Field(default_factory=StopConfig, description="When the campaign ends.")
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig, description="How the machine is used.")

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


MUTABLE_SECTIONS = ("stop", "execution")
"""Sections that may change in a campaign that has begun: they do not touch what was computed."""
