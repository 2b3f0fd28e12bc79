"""Config section `selection`: which sampled frames are labelled."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Fraction, Section


class AdaptiveConfig(Section):
    """A window that is computed from the deviations of the last iterations, instead of a fixed window."""

    enabled: bool = Field(default=False, description="Whether this window is used instead of the fixed window.")
    lower_quantile: Fraction = Field(
        0.9,
        description=(
            "Lower end of the window: this quantile of the deviations of all sound frames, but at least "
            "`floor_mev_per_ang`. While the quantile is above the floor, a share of 1 - `lower_quantile` of the "
            "frames lies above the lower end, however good the models are. So a campaign converges only after the "
            "quantile has fallen to the floor."
        ),
    )
    upper_factor: float = Field(3.0, gt=1.0, le=100.0, description="Upper end of the window divided by the lower end.")
    iterations: PositiveInt = Field(
        2, description="Number of iterations whose deviations are used: the current iteration and those before it."
    )
    floor_mev_per_ang: PositiveFloat = Field(50.0, description="Smallest value of the lower end.")


class SelectionConfig(Section):
    """Which sampled frames are labelled."""

    added_fields: ClassVar[Mapping[str, object]] = {"cut_charge": 0}

    deviation: Literal["norm", "component"] = Field(
        "norm",
        description=(
            "Definition of the force deviation of an atom. `norm`: standard deviation of the force vector over the "
            "members. `component`: largest standard deviation of a Cartesian component of the force."
        ),
    )
    lower_mev_per_ang: PositiveFloat = Field(
        100.0, description="Lower threshold: a frame with a deviation below it is accurate, and is not labelled."
    )
    upper_mev_per_ang: PositiveFloat = Field(
        300.0, description="Upper threshold: a frame with a deviation above it is rejected, because it is not trusted."
    )
    adaptive: AdaptiveConfig = Field(
        default_factory=AdaptiveConfig,
        description="A window computed from the deviations of the last iterations, in place of the fixed window.",
    )
    net_force_lower_mev_per_ang: PositiveFloat | None = Field(
        None,
        description=(
            "Lower threshold of a second window, on the deviation of the net force on each molecule. It shows "
            "disagreement on the forces between molecules, which is small beside that on the forces in stiff bonds. A "
            "frame that the first window counts as accurate is a candidate if it lies within the second window. null: "
            "no second window."
        ),
    )
    net_force_upper_mev_per_ang: PositiveFloat | None = Field(
        None, description="Upper threshold of the second window: a frame above it is rejected."
    )
    max_labels: PositiveInt = Field(100, description="Largest number of labels per iteration.")
    diversity: Literal["farthest_point", "random"] = Field(
        "farthest_point",
        description=(
            "Which candidates are labelled if there are more than `max_labels`. `farthest_point`: those least similar "
            "to the data set and to each other, compared by the model's features of the atom with the largest "
            "deviation. `random`: a random choice."
        ),
    )
    min_separation_strides: PositiveInt | None = Field(
        None,
        description=(
            "Smallest time in strides between two candidates of the same trajectory that are labelled. Candidates "
            "closer in time than this are thinned, even if there are fewer than `max_labels`, because their labels "
            "would be nearly redundant; the acceptance counts them all the same. null: the statistical inefficiency "
            "of the deviation within a trajectory, 1 + 2 correlation times. 1: no thinning."
        ),
    )
    min_distance_ang: PositiveFloat = Field(
        0.6, le=3.0, description="A frame with two atoms closer than this is never labelled."
    )
    min_contact_factor: PositiveFloat = Field(
        0.5,
        le=1.0,
        description="A frame with two atoms closer than this times the sum of their covalent radii is never labelled.",
    )
    max_bond_factor: float = Field(
        2.5,
        gt=1.0,
        le=100.0,
        description=(
            "A sampled frame with a bond longer than this times its equilibrium length is not labelled: the molecule "
            "has come apart. Hydrogen atoms may change places between molecules of the same formulas."
        ),
    )
    cut_molecules: PositiveInt | None = Field(
        None,
        le=10_000,
        description=(
            "For boxes: clusters of this number of molecules are cut from the box and labelled. In the initial "
            "set and the test set they are cut around random molecules. null: the whole box is labelled."
        ),
    )
    cut_charge: int = Field(
        0,
        ge=0,
        le=100,
        description=(
            "For boxes of mixtures with ions: largest charge of a cluster in e, positive or negative. A cluster with a "
            "larger charge gets the nearest ions of opposite charge in addition to its molecules."
        ),
    )
    cut_centre: Literal["least_sure", "random"] = Field(
        "least_sure",
        description=(
            "Molecule around which a cluster is cut from a sampled box. `least_sure`: the molecule with the largest "
            "deviation of a force or of the net force. `random`: a random molecule."
        ),
    )

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.lower_mev_per_ang >= self.upper_mev_per_ang:
            raise ValueError(
                f"lower_mev_per_ang ({self.lower_mev_per_ang:g}) must be below upper_mev_per_ang "
                f"({self.upper_mev_per_ang:g}); the reference work uses 100 and 300"
            )
        if self.adaptive.enabled and self.adaptive.floor_mev_per_ang > self.lower_mev_per_ang:
            raise ValueError(
                f"adaptive.floor_mev_per_ang ({self.adaptive.floor_mev_per_ang:g}) is above lower_mev_per_ang "
                f"({self.lower_mev_per_ang:g}), the accuracy that the campaign is to reach, so that it could never "
                "converge; lower the floor"
            )
        lower, upper = self.net_force_lower_mev_per_ang, self.net_force_upper_mev_per_ang
        if (lower is None) != (upper is None):
            raise ValueError("give both `net_force_lower_mev_per_ang` and `net_force_upper_mev_per_ang`, or neither")
        if lower is not None and upper is not None and lower >= upper:
            raise ValueError(
                f"net_force_lower_mev_per_ang ({lower:g}) must be below net_force_upper_mev_per_ang ({upper:g})"
            )
        return self
