"""Config sections `model` and `training`: the architecture, the committee and its training."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from al_engine.config.base import Section


class PathConfig(Section):
    """One of the two interaction paths of a model."""

    cutoff_ang: PositiveFloat = Field(description="Cut-off radius.", le=50.0)
    channels: PositiveInt = Field(description="Number of feature channels.", le=1024)
    l_max: int = Field(description="Highest degree of the spherical harmonics.", ge=0, le=4)
    radial_mlp: list[PositiveInt] = Field(
        description="Widths of the hidden layers of the radial network; empty: a linear map of the Bessel functions."
    )


Dtype = Literal["float32", "float64"]
ModelKind = Literal["ms-mace", "ms-nequip", "mace", "nequip"]
ONE_PATH_KINDS: tuple[ModelKind, ...] = ("mace", "nequip")
"""Kinds of models without the long path."""
GATED_KINDS: tuple[ModelKind, ...] = ("ms-nequip", "nequip")
"""Kinds of models whose layers end in a gate instead of a product basis."""


def _default_long_path(values: dict[str, Any]) -> PathConfig | None:
    """Default of `long`, which depends on `kind`; `values` contains the fields validated before `long`."""
    if values.get("kind") in ONE_PATH_KINDS:
        return None
    return PathConfig(cutoff_ang=8.0, channels=16, l_max=1, radial_mlp=[])


class ModelConfig(Section):
    """The architecture: MACE or NequIP, with or without a second interaction path of long range and low cost."""

    kind: ModelKind = Field(
        "ms-mace",
        description=(
            "`ms-mace`, `ms-nequip`: two interaction paths, then MACE's product basis or NequIP's gate. `mace`, "
            "`nequip`: the same without the long path."
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
    layers: int = Field(2, ge=1, le=6, description="Number of interaction layers.")
    first_layer: Literal["residual", "species"] = Field(
        "residual",
        description=(
            "For `ms-mace` and `mace`: how the first layer depends on an atom's own species. `residual`: through a "
            "skip connection. `species`: through a linear map of the message for each species, without a skip "
            "connection (as in `mace_run_train`)."
        ),
    )
    correlation: int = Field(
        3, ge=1, le=3, description="Correlation order nu of the product basis (body order minus 1); MACE kinds only."
    )
    hidden_l_max: int = Field(
        1, ge=0, le=3, description="Highest degree of the features between layers, at most `short.l_max`."
    )
    bessel_functions: PositiveInt = Field(8, le=64, description="Number of radial Bessel functions of each path.")
    envelope_power: int = Field(6, ge=3, le=20, description="Power p of the polynomial cut-off function.")
    readout_hidden: PositiveInt = Field(
        16,
        le=1024,
        description=(
            "Width of the hidden layer of the last readout, which is non-linear; MACE kinds only (NequIP's readout is "
            "linear)."
        ),
    )
    fusion: Literal["message", "energy"] = Field(
        "message",
        description=(
            "How the two paths are combined. `message`: their messages are averaged before the product basis or gate. "
            "`energy`: each path is a separate network, and the energies of the two networks are added."
        ),
    )
    zbl: bool = Field(
        default=False,
        description=(
            "Whether the Ziegler-Biersack-Littmark repulsion between close nuclei is added. It is zero at bond "
            "lengths and beyond."
        ),
    )
    dtype: Dtype = Field("float32", description="Floating-point precision of the network.")

    @model_validator(mode="before")
    @classmethod
    def _without_removed_options(cls, values: Any) -> Any:
        """Accept `product: symmetric`, an option of earlier configs and member files, now the only product basis."""
        if not isinstance(values, Mapping) or "product" not in values:
            return values
        if values["product"] != "symmetric":
            raise ValueError(
                f"`product: {values['product']}` was removed: the recursive product basis had the errors and the cost "
                "of MACE's own; write `product: symmetric` or remove the line, and train such models again"
            )
        return {name: value for name, value in values.items() if name != "product"}

    @model_serializer(mode="wrap")
    def _with_removed_options(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Keep `product` in JSON, because keys of parts hash it: campaigns begun with the option can go on."""
        values: dict[str, Any] = handler(self)
        return values | {"product": "symmetric"} if info.mode == "json" else values

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
        """Refuse a value that differs from the default but has no effect with this kind of model."""
        without_effect = ["fusion"] if self.kind in ONE_PATH_KINDS else []
        if self.kind in GATED_KINDS:
            without_effect += ["first_layer", "correlation", "readout_hidden"]
        for name in without_effect:
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                raise ValueError(f"`{name}: {value}` has no effect with `kind: {self.kind}`; remove it")
        return self


class TrainingConfig(Section):
    """The committee and how its members are trained."""

    added_fields: ClassVar[Mapping[str, object]] = {
        "optimizer": "adam",
        "least_updates_share": 1.0,
        "stress_weight": 0.0,
        "reference_energies": "fitted",
    }

    members: int = Field(
        4, ge=2, le=32, description="Number of models in the committee. They differ only in their random seed."
    )
    updates: PositiveInt = Field(3000, description="Gradient updates per member in iteration 0.")
    updates_growth: float = Field(
        0.08,
        ge=0.0,
        le=10.0,
        description=(
            "Growth of the number of updates: iteration k takes `updates` x (1 + `updates_growth` x k) gradient "
            "updates."
        ),
    )
    least_updates_share: float = Field(
        0.5,
        gt=0.0,
        le=1.0,
        description=(
            "With `warm_start`, an iteration takes all of these updates if the labels of the iteration before have "
            "enlarged the data set by a tenth or more. After fewer labels it takes proportionally fewer, but at least "
            "this share. 1: it always takes all."
        ),
    )
    batch_size: PositiveInt = Field(8, description="Number of frames per gradient update.")
    optimizer: Literal["muon", "adam"] = Field(
        "muon",
        description=(
            "`muon`: Muon on the weight matrices, with steps of the size of Adam's, and Adam on the other weights. "
            "`adam`: Adam with AMSGrad on all weights, as MACE is trained; it needs about twice as many updates."
        ),
    )
    learning_rate: PositiveFloat = Field(0.01, le=1.0, description="Peak learning rate of the optimizer.")
    start: str | None = Field(
        None,
        min_length=1,
        description=(
            "Trained models from which iteration 0 starts: a campaign directory, or a file that "
            "`models.interop.convert` wrote from your MACE or NequIP models. A relative path starts at the folder of "
            "this config file. `model` must be their architecture. Member k starts from model k modulo the number of "
            "models. Members that start from the same model differ only in their batches and held-out frames, so that "
            "at first their deviation may be too small to select by. null: random weights."
        ),
    )
    warm_start: bool = Field(
        default=True,
        description=(
            "true: later iterations start from the weights of the iteration before, with a fresh optimizer. false: "
            "every iteration starts as iteration 0 does."
        ),
    )
    warm_learning_rate_factor: PositiveFloat = Field(
        0.25, le=1.0, description="Factor on the peak learning rate where training starts from trained weights."
    )
    energy_weight: float = Field(
        1.0,
        ge=0.0,
        description=(
            "Weight of the squared energy error per atom (eV²). Default: 1; in campaigns of several systems "
            "(`systems`) 1000, so that the differences of their energies are learned too (benchmarks/s22x5.md)."
        ),
    )
    force_weight: PositiveFloat = Field(100.0, description="Weight of the squared force error (eV²/Å²).")
    stress_weight: float = Field(
        10.0,
        ge=0.0,
        description=(
            "Weight of the squared error of the stress, multiplied by the volume per atom (eV²). Only labels of whole "
            "periodic boxes have a stress (`labels.stress`)."
        ),
    )
    reference_energies: Literal["fitted", "isolated_atoms"] = Field(
        "fitted",
        description=(
            "Energy of an isolated atom of each element (E0). `fitted`: by least squares to the labels; for frames of "
            "one composition only the sum is known. `isolated_atoms`: the campaign's method labels a neutral atom of "
            "each element in its ground state, and the model reproduces these energies."
        ),
    )
    gradient_clip: PositiveFloat = Field(
        10.0, description="Largest norm of the gradient; a larger gradient is scaled down to it."
    )
    ema_decay: float = Field(
        0.99, ge=0.0, lt=1.0, description="Decay of the exponential moving average of the weights."
    )
    validation_share: float = Field(
        0.1,
        gt=0.0,
        lt=0.9,
        description=(
            "Share of the training set that each member holds out for validation and early stopping. It is drawn anew "
            "in every iteration, so that no label is lost to a member; after a warm start, the member has seen most of "
            "these frames before. The errors on the test set are independent."
        ),
    )
    validation_interval: PositiveInt = Field(
        200, description="Number of updates between two validations. A checkpoint is written at each validation."
    )
    patience: PositiveInt = Field(
        10, description="Number of validations without improvement after which training stops early."
    )
