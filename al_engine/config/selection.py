"""Config section `selection`: which sampled frames are labelled."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Fraction, Section


class AdaptiveConfig(Section):
    """A window that is computed from the deviations of the last iterations, instead of a fixed window."""

    enabled: bool = Field(default=False, description="Whether this window is used instead of the fixed one.")
    lower_quantile: Fraction = Field(
        0.9,
        description=(
            "Lower end: this quantile of the deviations of all sound frames, never below `floor_mev_per_ang`. Above "
            "the floor, (1 - this) of the frames are candidates however good the models are: a campaign converges "
            "once the floor is reached."
        ),
    )
    upper_factor: float = Field(
        3.0, gt=1.0, le=100.0, description="Upper end of the window, in units of the lower end."
    )
    iterations: PositiveInt = Field(2, description="Last iterations whose deviations count, this one among them.")
    floor_mev_per_ang: PositiveFloat = Field(50.0, description="The lower end falls no further than this.")


class SelectionConfig(Section):
    """Which sampled frames are labelled."""

    deviation: Literal["norm", "component"] = Field(
        "norm",
        description="`norm`: standard deviation of the force vector; `component`: largest of a Cartesian component.",
    )
    lower_mev_per_ang: PositiveFloat = Field(100.0, description="Below: accurate, nothing to learn.")
    upper_mev_per_ang: PositiveFloat = Field(300.0, description="Above: rejected, not trusted.")
    adaptive: AdaptiveConfig = Field(
        default_factory=AdaptiveConfig, description="A window that follows the deviations of the last iterations."
    )
    net_force_lower_mev_per_ang: PositiveFloat | None = Field(
        None,
        description=(
            "A window of its own for the deviation of the net force on each molecule, where stiff bonds do not drown "
            "the forces between molecules: an accurate frame within it is a candidate too. null: none."
        ),
    )
    net_force_upper_mev_per_ang: PositiveFloat | None = Field(
        None, description="The upper end of that window: any frame above it is rejected."
    )
    max_labels: PositiveInt = Field(100, description="Labels per iteration.")
    diversity: Literal["farthest_point", "random"] = Field(
        "farthest_point",
        description=(
            "Which candidates are labelled when there are more than `max_labels`. `farthest_point`: those least like "
            "the data set and each other, by the model's own features of the atom that the committee is least sure "
            "of; `random`: by lot."
        ),
    )
    min_separation_strides: PositiveInt | None = Field(
        None,
        description=(
            "Candidates of one trajectory closer in time than this are thinned, also where there are fewer than "
            "`max_labels`: a label next to another one teaches little, and candidates are counted before. null: the "
            "statistical inefficiency of the deviation within a trajectory, 1 + 2 correlation times; 1: none."
        ),
    )
    min_distance_ang: PositiveFloat = Field(0.6, le=3.0, description="A frame with closer atoms is never labelled.")
    min_contact_factor: PositiveFloat = Field(
        0.5, le=1.0, description="Nor one with two atoms closer than this times the sum of their covalent radii."
    )
    max_bond_factor: float = Field(
        2.5,
        gt=1.0,
        le=100.0,
        description=(
            "No sampled frame that has come apart is labelled: with a bond longer than this times its equilibrium "
            "length."
        ),
    )
    cut_molecules: PositiveInt | None = Field(
        None,
        le=10_000,
        description=(
            "For boxes: label clusters of so many molecules, cut from the box, in the initial set and the test set too "
            "(there around any molecule); null: label the whole box."
        ),
    )
    cut_centre: Literal["least_sure", "random"] = Field(
        "least_sure",
        description=(
            "Around what they are cut from sampled boxes. `least_sure`: the molecule whose forces, or net force, the "
            "committee agrees on least; `random`: any molecule."
        ),
    )

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.lower_mev_per_ang >= self.upper_mev_per_ang:
            raise ValueError(
                f"lower_mev_per_ang ({self.lower_mev_per_ang:g}) must be below upper_mev_per_ang "
                f"({self.upper_mev_per_ang:g}); the reference work uses 100 and 300"
            )
        lower, upper = self.net_force_lower_mev_per_ang, self.net_force_upper_mev_per_ang
        if (lower is None) != (upper is None):
            raise ValueError("`net_force_lower_mev_per_ang` and `net_force_upper_mev_per_ang` go together")
        if lower is not None and upper is not None and lower >= upper:
            raise ValueError(
                f"net_force_lower_mev_per_ang ({lower:g}) must be below net_force_upper_mev_per_ang ({upper:g})"
            )
        return self
