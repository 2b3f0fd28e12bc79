"""Config section `stop`: when a campaign ends."""

from typing import Annotated

from pydantic import Field, PositiveInt

from al_engine.config.base import Fraction, Section


class StopConfig(Section):
    """When a campaign ends. The section may change later: `resume` continues under the new rules."""

    acceptance: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.005, description="Converged when candidates / sampled is below this, and the guards below hold."
    )
    iterations: PositiveInt = Field(
        2, description="Guard: it must be below in so many iterations in a row, which are judged together."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(
        0.95,
        description=(
            "Guard: the upper bound on the acceptance at this confidence, from decorrelated frames, must be below too; "
            "and at no temperature may the lower bound be above."
        ),
    )
    max_rejected_share: Fraction = Field(
        0.005, description="Guard: a larger share of frames rejected, at any temperature, is not converged."
    )
    max_stopped_share: Fraction = Field(
        0.0, description="Guard: a larger share of trajectories stopped early, at any temperature, is not converged."
    )
    max_iterations: PositiveInt = Field(10, le=1000, description="Iterations before the verdict `max_iterations`.")
    max_labels: PositiveInt | None = Field(
        None, description="Labels in all before the verdict `budget`; null: no limit."
    )
    stall_iterations: PositiveInt = Field(
        4, description="Iterations without a new label, or without more frames accurate, before `stalled`."
    )
    unstable_iterations: PositiveInt = Field(
        3,
        description=(
            "Iterations in a row with most frames rejected or most trajectories stopped at some temperature, and no "
            "fewer in the last of them, before `unstable`."
        ),
    )
