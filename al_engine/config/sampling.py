"""Config section `sampling`: MD driven by the committee."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Section, Temperature


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
    driver: Literal["rotate", "mean"] = Field(
        "rotate",
        description=(
            "Whose forces move the atoms. `rotate`: one member's, another one in every iteration and at every "
            "temperature; `mean`: the committee's mean, which costs as many evaluations as there are members."
        ),
    )
    start: Literal["continue", "labelled"] = Field(
        "continue",
        description=(
            "Where the trajectories of the next iteration begin. `continue`: at the last sound frames of this one; "
            "`labelled`: at frames that were labelled in this one, of the same temperature first."
        ),
    )
    stop_deviation_mev_per_ang: PositiveFloat = Field(
        1000.0, description="A replica whose deviation passes this is stopped; its sound frames are kept."
    )
    stop_strides: PositiveInt = Field(
        5,
        description=(
            "A replica whose deviation is above `selection.upper_mev_per_ang` at so many strides in a row is stopped."
        ),
    )
    refill: bool = Field(
        default=True,
        description=(
            "Fill the place of a stopped replica with a new one, from a sound and trusted frame of the same "
            "temperature; a place in which eight more were stopped stays empty."
        ),
    )
    pressure_bar: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description=(
            "Pressure of a Monte Carlo barostat, for boxes; null: the cell stays as it is. Volumes stay between half "
            "the smallest and twice the largest of the packed and the initial boxes."
        ),
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
