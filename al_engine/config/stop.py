"""Config section `stop`: when a campaign stops."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from al_engine.config.base import Fraction, Section


class StopConfig(Section):
    """When a campaign stops. These options may change later: `resume` continues under the new rules."""

    added_fields: ClassVar[Mapping[str, object]] = {"judge_first": True, "verdicts": 5}

    acceptance: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.005,
        description=(
            "Limit of the acceptance (candidates / sampled frames). The campaign has converged when the acceptance is "
            "below the limit, the conditions that follow hold, no judged trajectory was ended among candidates, and "
            "the committee has not collapsed."
        ),
    )
    iterations: PositiveInt = Field(
        2,
        description=(
            "Condition: the acceptance is below the limit in this number of consecutive iterations, which are judged "
            "together."
        ),
    )
    judge_first: bool = Field(
        default=False,
        description=(
            "Whether iteration 0 is judged together with the later iterations, once there are more than `iterations`. "
            "Its committee has seen the initial set only, and its acceptance is usually higher than that of the later "
            "ones: the later iterations alone prove a low acceptance with less MD."
        ),
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(
        0.95,
        description=(
            "Condition: the upper bound on the acceptance is below the limit at every temperature. The bound is "
            "computed from the number of decorrelated frames. This is the confidence of `verdicts` verdicts together."
        ),
    )
    verdicts: PositiveInt = Field(
        10,
        le=1000,
        description=(
            "Number of verdicts that hold together at `confidence`: a campaign is judged after every iteration, and "
            "ends at the first favourable verdict. The confidence of each verdict is 1 - (1 - confidence) / verdicts, "
            "which is 99.5 % by default."
        ),
    )
    fresh_share: Fraction = Field(
        0.5,
        description=(
            "Once the acceptance is below the limit: the share of the replicas whose trajectories start afresh from "
            "initial frames, so that the evidence does not come from one basin alone."
        ),
    )
    max_extension: PositiveInt = Field(
        64,
        description=(
            "Once the acceptance is below the limit, trajectories are lengthened at the temperatures that need more "
            "frames as evidence: at most to this multiple of sampling.steps, and to four times the length of the "
            "iteration before."
        ),
    )
    max_rejected_share: Fraction = Field(
        0.005, description="Condition: the share of rejected frames is at most this at every temperature."
    )
    max_stopped_share: Fraction = Field(
        0.001,
        description=(
            "Condition: the share of trajectories stopped early is at most this at every temperature. A trajectory "
            "counts as often as it is longer than sampling.steps; so with the default, a stopped one is accepted only "
            "where the length of a thousand trajectories was sampled."
        ),
    )
    audit_labels: Annotated[int, Field(ge=0, le=10_000)] = Field(
        60,
        description=(
            "Number of audit labels: before a campaign counts as converged, this number of accurate frames of the "
            "judged iterations is drawn at random, the same number at every temperature, and labelled. With 59 labels "
            "or more, the largest error is an upper bound on the error of 95 % of the accurate frames, at 95 % "
            "confidence. 0: no audit. An audit that has begun keeps its number."
        ),
    )
    audit_bad_share: Fraction = Field(
        0.05,
        description=(
            "Condition: at most this share of the audited frames has a true force error above the window's lower end, "
            "on its worst atom; and at no temperature is the share above this at `confidence`. Otherwise the audited "
            "frames join the data set, and the campaign goes on; the iterations so far are not judged again. An audit "
            "that is finished keeps its rule."
        ),
    )
    max_iterations: PositiveInt = Field(
        10,
        le=1000,
        description="Number of iterations after which the campaign stops with the verdict `max_iterations`.",
    )
    max_labels: PositiveInt | None = Field(
        None,
        description=(
            "Number of labels, without the initial set, after which the campaign stops with the verdict "
            "`budget`. null: no limit."
        ),
    )
    stall_iterations: PositiveInt = Field(
        4,
        description=(
            "Number of iterations without a new label, or without a rise of the share of accurate frames, after which "
            "the campaign stops with the verdict `stalled`."
        ),
    )
    unstable_iterations: PositiveInt = Field(
        3,
        description=(
            "Number of consecutive iterations in which most frames were rejected, or most trajectories stopped, at "
            "some temperature. After them the campaign stops with the verdict `unstable`, unless the MD is "
            "recovering."
        ),
    )
