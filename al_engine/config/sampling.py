"""Config section `sampling`: MD driven by the committee."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Section, Temperature


class SamplingConfig(Section):
    """Langevin MD driven by the committee."""

    temperatures_kelvin: list[Temperature] = Field(
        default_factory=lambda: [300.0, 500.0, 700.0, 900.0],
        min_length=1,
        description="Temperatures of the MD.",
    )
    replicas: PositiveInt = Field(
        8, le=4096, description="Number of replicas at each temperature; they run as one batch."
    )
    steps: PositiveInt = Field(
        2000,
        description=(
            "Smallest number of MD steps of each replica per iteration. `cost_share` says how far the MD goes on in "
            "search of candidates. Near convergence, an iteration takes up to `stop.max_extension` times this number, "
            "to gather the evidence that `stop` requires."
        ),
    )
    cost_share: float = Field(
        1.0,
        ge=0.0,
        le=100.0,
        description=(
            "Largest cost of the MD of an iteration in search of candidates, as a share of the cost of its training. "
            "At temperatures whose acceptance was above the limit (in iteration 0: at the hotter half of the "
            "temperatures), the MD goes on until it has found enough different candidates for `selection.max_labels`, "
            "or until this cost is reached. While it does, a trajectory with ten candidates in a row is ended, and "
            "another starts from an accurate frame. Costs are counted in evaluations of the models. 0: the MD does not "
            "go on after `steps`."
        ),
    )
    timestep_fs: PositiveFloat = Field(0.5, le=5.0, description="MD time step.")
    friction_per_ps: PositiveFloat = Field(10.0, description="Friction of the Langevin thermostat.")
    stride_steps: PositiveInt = Field(
        20, description="MD steps between two sampled frames. The deviation is computed for sampled frames only."
    )
    driver: Literal["rotate", "mean"] = Field(
        "rotate",
        description=(
            "Whose forces drive the MD. `rotate`: the forces of one member, another member in every iteration and at "
            "every temperature. `mean`: the mean of the committee, which evaluates all members at every step."
        ),
    )
    start: Literal["continue", "labelled"] = Field(
        "continue",
        description=(
            "Starting frames of the trajectories in later iterations. `continue`: the last frames of the previous "
            "iteration's trajectories, or an initial frame where a trajectory was stopped or ended among candidates. "
            "`labelled`: frames that "
            "the previous iteration labelled, first frames of the same temperature."
        ),
    )
    stop_deviation_mev_per_ang: PositiveFloat = Field(
        1000.0, description="A trajectory whose deviation exceeds this is stopped at once; its sound frames are kept."
    )
    stop_strides: PositiveInt = Field(
        5,
        description=(
            "A trajectory whose deviation is above `selection.upper_mev_per_ang` at this number of consecutive "
            "strides is stopped."
        ),
    )
    refill: bool = Field(
        default=True,
        description=(
            "Whether another trajectory takes over the replica slot of a stopped trajectory. It starts from a sound "
            "frame of the same temperature with a deviation below the upper threshold (below the lower threshold while "
            "the MD searches for candidates). After 8 replacements of stopped trajectories the slot stays empty. "
            "false: no trajectory is ended among candidates either."
        ),
    )
    pressure_bar: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description=(
            "Pressure of a Monte Carlo barostat; for boxes only. null: constant volume. The volume is kept between "
            "half the smallest and twice the largest volume among the packed box and the initial frames."
        ),
    )
    wall_radius_ang: PositiveFloat | None = Field(
        None, description="Radius of the spherical wall around a cluster. null: derived from the initial frames."
    )
    wall_ev_per_ang2: PositiveFloat = Field(0.5, description="Force constant of the wall.")

    @property
    def trajectory_frames(self) -> int:
        """Sampled frames of a trajectory of `steps`."""
        return self.steps // self.stride_steps

    @model_validator(mode="after")
    def _at_least_one_frame(self) -> Self:
        if self.stride_steps > self.steps:
            raise ValueError(
                f"stride_steps ({self.stride_steps}) is above steps ({self.steps}), so no frame would be sampled"
            )
        # parts are named after the temperature in this form
        if len({f"{kelvin:g}" for kelvin in self.temperatures_kelvin}) != len(self.temperatures_kelvin):
            raise ValueError("temperatures_kelvin names a temperature twice; use `replicas` for more trajectories")
        return self
